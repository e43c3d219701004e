"""`acoustic train-gmm`: alignments by mixtures of Gaussians, of alignments that are there."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.analysis.phones import read_silence_phones
from acoustic.cli.options import add_dataclass_options, dataclass_from_args, parse_share
from acoustic.decode.jobs import num_cores
from acoustic.errors import ConfigError, DataError
from acoustic.fsio import check_writable
from acoustic.kaldi.alignments import read_alignments_of, write_alignments
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.steps import GRAPHS_REMEDY, StepWatch, watched
from acoustic.kaldi.tables import RandomAccessTable, read_table
from acoustic.kaldi.transitions import TransitionModel, read_head, write_model
from acoustic.log import Tally, get_logger, progress
from acoustic.states.cepstra import gaussian_features
from acoustic.states.train_gmm import Alignments, GmmOptions, Round, train_gmm

HELP = "better alignments: mixtures of Gaussians that grow on given ones, and align anew (train_deltas.sh)"
EXAMPLE = (
    "acoustic train-gmm --utt2spk=ark:data/train/utt2spk exp/tri/final.mdl ark:graphs.fsts "
    "scp:data/train/feats.scp ark:converted.ali exp/tri_ali"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    add_training_options(parser, GmmOptions)
    parser.add_argument("model", help="final.mdl of the alignments, as of build-tree and convert-ali")
    add_data_arguments(parser)
    parser.add_argument(
        "alignments", help="alignment directory, or an rspecifier: what the first Gaussians are made of"
    )
    add_output_argument(parser)


def add_training_options(parser: argparse.ArgumentParser, owner: type[GmmOptions]) -> None:
    """The options of training, features and processes."""
    add_dataclass_options(parser, owner)
    parser.add_argument("--silence-phones", default="", help="colon-separated ids, for --boost-silence")
    add_feature_options(parser)
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="worker processes (default: the cores)")
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail if more cannot be aligned (0.05)"
    )


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """The options of features for Gaussians."""
    parser.add_argument("--utt2spk", help="rspecifier of speakers, whose means are subtracted (default: utterances')")
    parser.add_argument(
        "--num-ceps", type=int, default=13, help="cepstra of filter banks; 0: features as they are (13)"
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of graphs and features."""
    parser.add_argument("graphs_rspecifier", help="graphs of compile-train-graphs with that model")
    parser.add_argument("features_rspecifier", help="filter banks; all are held in memory")


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """The argument of what is written."""
    parser.add_argument("ali_dir", help="where alignments and final.mdl (transition model, re-estimated) go")


def check_output(folder: str) -> None:
    """Find out before hours of work whether a model can be written to a folder, and that none of Kaldi's is there.

    Raises:
        DataError: it cannot be written, or its final.mdl has Gaussians or a network, which would be lost.
    """
    path = Path(folder) / "final.mdl"
    check_writable(path)
    if path.exists() and (what := read_head(path)[1]) is not None:
        raise DataError(f"is {what}, which would be lost", path=path, remedy="give another name for the output folder")


def speakers(utt2spk: str | None, utts: Iterable[str]) -> dict[str, str]:
    """Each utterance's speaker; empty without a table.

    Raises:
        DataError: some of `utts` are not in the table.
    """
    if not utt2spk:
        return {}
    speaker_of = {utt: tokens[0] for utt, tokens in read_table(utt2spk, "tokens") if tokens}
    missing = [utt for utt in utts if utt not in speaker_of]
    if missing:
        problem = f"has no speaker for {len(missing)} utterances"
        raise DataError(problem, path=utt2spk, utt=missing[0], remedy="give the utt2spk of the features")
    return speaker_of


def run(args: argparse.Namespace) -> None:
    """Align and write."""
    options, silence_phones = dataclass_from_args(GmmOptions, args), silence_phones_of(args)
    check_output(args.ali_dir)
    tally = Tally()
    graphs, features = read_data(args, tally)
    report = Report()
    model = TransitionModel.read(args.model)
    given = watched(read_alignments_of(args.alignments), model, args.alignments, args.model)
    model, alignments = train_gmm(
        model,
        graphs,
        features,
        {utt: ids for utt, ids in given if utt in features},
        options,
        silence_phones=silence_phones,
        num_jobs=args.num_jobs,
        report=report,
    )
    write(args, model, alignments, report, tally)


def silence_phones_of(args: argparse.Namespace) -> set[int]:
    """The phones whose likelihoods are boosted.

    Raises:
        ConfigError: no list of ids, or silence is to be boosted and there is none.
    """
    try:
        silence_phones = read_silence_phones(args.silence_phones)
    except DataError as error:
        raise ConfigError(f"--silence-phones: {error.problem}") from error
    if args.boost_silence != 1.0 and not silence_phones:
        raise ConfigError("--boost-silence needs --silence-phones, as in phones/optional_silence.csl")
    return silence_phones


def read_data(
    args: argparse.Namespace, tally: Tally
) -> tuple[Mapping[str, FstArrays], Mapping[str, NDArray[np.float32]]]:
    """Graphs, and features for Gaussians, of all utterances that have both."""
    graphs, features = {}, {}
    with RandomAccessTable(args.graphs_rspecifier, "fst") as table:
        for utt, matrix in progress(read_table(args.features_rspecifier, "matrix"), "read"):
            if utt in table:
                graphs[utt], features[utt] = table[utt], matrix
            else:
                tally.skip("no_graph", utt)
        for utt in table.unasked():
            tally.skip("no_features", utt)
    return graphs, gaussian_features(features, speakers(args.utt2spk, features), args.num_ceps)


class Report:
    """Tells of each round.

    Attributes:
        skipped: utterances that the last one has not aligned, and why.
    """

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def __call__(self, done: Round) -> None:
        """Log one round."""
        self.skipped = done.skipped
        logger.info(
            f"{done.num_gauss} Gaussians, log-likelihood per frame {done.likelihood:.6g}, "
            f"{100.0 * done.num_moved / done.num_frames:.2f} % of frames moved to another pdf"
        )


def write(
    args: argparse.Namespace, model: TransitionModel, alignments: Alignments, report: Report, tally: Tally
) -> None:
    """Write alignments and model, unless too few utterances could be aligned."""
    for utt, problem in report.skipped.items():
        tally.skip("not_aligned", utt, problem)
    watch = StepWatch(model)
    for ids in alignments.values():
        watch.add(ids)
    watch.warn(args.graphs_rspecifier, args.model, GRAPHS_REMEDY, "graphs")
    tally.done(len(alignments))
    tally.check(args.max_skip_fraction, args.features_rspecifier)
    write_alignments(args.ali_dir, sorted(alignments.items()))
    write_model(Path(args.ali_dir) / "final.mdl", model)
    logger.info(tally.summary())
