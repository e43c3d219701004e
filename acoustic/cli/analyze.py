"""`acoustic analyze`: what networks learnt and where they err, as a page to look at."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from acoustic.analysis.dataset import DataSet
from acoustic.analysis.examine import examine
from acoustic.analysis.phones import read_silence_phones
from acoustic.analysis.records import labels_of
from acoustic.analysis.report import REPORT, write_report
from acoustic.analysis.search import Recogniser, make_recognisers
from acoustic.cli.options import add_dataclass_options, dataclass_from_args
from acoustic.decode.decoder import DecoderOptions
from acoustic.decode.tune import read_tuned
from acoustic.errors import ConfigError, DataError
from acoustic.fsio import atomic_dir
from acoustic.log import get_logger
from acoustic.train.precision import choose_device

HELP = "one HTML page of what networks learnt and where they err: units, phones, calibration, worst utterances"
EXAMPLE = (
    "acoustic analyze --ali-dir=exp/tri3_ali_dev --graph-dir=exp/tri3/graph --also=exp/sigmoid \\\n"
    "    exp/relu data/dev exp/relu/analysis"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument("--also", action="append", default=[], metavar="EXP", help="another model beside (repeatable)")
    parser.add_argument("--ali-dir", required=True, help="alignments of the data, of the model the networks are for")
    parser.add_argument("--graph-dir", help="with HCLG.fst and words.txt: decode, for word errors")
    parser.add_argument(
        "--tuned", action="append", default=[], metavar="FILE",
        help="file of decode-tune: its scale and penalty are used; one for all models, or one for each in order",
    )  # fmt: skip
    parser.add_argument("--num-frames", type=int, default=10_000, help="sample for hidden units (default: 10000)")
    parser.add_argument("--num-worst", type=int, default=3, help="worst utterances shown of each model (default: 3)")
    parser.add_argument("--silence-phones", help="colon-separated ids (default: by graph-dir's list, or by name)")
    parser.add_argument("--fmllr", help="fMLLR transforms: an rspecifier, or a directory with trans.N")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto: cuda when there is one")
    parser.add_argument("--num-threads", type=int, help="of the CPU (default: all cores)")
    add_dataclass_options(parser, DecoderOptions, "decoding")
    parser.add_argument("exp_dir", help="training's exp_dir, or a final.pt")
    parser.add_argument("data_dir", help="data directory with feats.scp; with wav.scp sound is shown, with text words")
    parser.add_argument("out_dir", help="folder of report.html, figures/ and tables/")


def run(args: argparse.Namespace) -> None:
    """Examine every model, then write the report."""
    experiments = [args.exp_dir, *args.also]
    check_options(args, len(experiments))
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    device = choose_device(args.device)
    with atomic_dir(args.out_dir, marker=REPORT) as folder:
        silence = silence_phones(args.silence_phones, args.graph_dir)
        data = DataSet.read(args.data_dir, args.ali_dir, args.graph_dir, silence, args.fmllr)
        recognisers = recognisers_of(args, len(experiments), data)
        examined = [
            examine(label, path, data, args.num_frames, recogniser, device)
            for label, path, recogniser in zip(labels_of(experiments), experiments, recognisers, strict=True)
        ]
        write_report(examined, data, folder, args.num_worst)
    logger.info("wrote %s", Path(args.out_dir) / REPORT)


def check_options(args: argparse.Namespace, num_models: int) -> None:
    """Refuse values out of range before any work is done.

    Raises:
        ConfigError: naming the option.
    """
    if args.num_threads is not None and args.num_threads < 1:
        raise ConfigError(f"--num-threads={args.num_threads}: at least 1 is needed")
    if args.num_frames < 2 or args.num_worst < 0:
        raise ConfigError("--num-frames must be at least 2 and --num-worst not negative")
    if len(args.tuned) not in (0, 1, num_models):
        raise ConfigError(f"--tuned: {len(args.tuned)} files for {num_models} models; give one, or one for each")
    if args.tuned and not args.graph_dir:
        raise ConfigError("--tuned is for decoding: give --graph-dir too")


def silence_phones(option: str | None, graph_dir: str | None) -> set[int] | None:
    """The ids given, or those of the graph directory's phones/silence.csl; None if there is neither.

    Raises:
        ConfigError, DataError: what is there is no list of ids.
    """
    if option is not None:
        try:
            return read_silence_phones(option)
        except DataError as error:
            raise ConfigError(f"--silence-phones: {error.problem}") from error
    path = Path(graph_dir or "") / "phones" / "silence.csl"
    return read_silence_phones(path.read_text(encoding="utf-8")) if graph_dir and path.is_file() else None


def recognisers_of(args: argparse.Namespace, num_models: int, data: DataSet) -> list[Recogniser | None]:
    """A recogniser for each model; None where there is no graph.

    Raises:
        DataError: the graph does not belong to the alignments, or the data have no text.
    """
    if not args.graph_dir:
        return [None] * num_models
    if not data.data_dir.text:
        raise DataError("has no text to score words with", path=args.data_dir, remedy="leave --graph-dir away")
    options = dataclass_from_args(DecoderOptions, args)
    chosen = [
        dataclasses.replace(
            options, acoustic_scale=tuned.acoustic_scale, insertion_penalty=tuned.insertion_penalty
        )
        for tuned in map(read_tuned, args.tuned)
    ]  # fmt: skip
    of_models = chosen if len(chosen) == num_models else (chosen or [options]) * num_models
    return list(make_recognisers(args.graph_dir, data.transition_model, of_models))
