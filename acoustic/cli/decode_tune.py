"""`acoustic decode-tune`: acoustic scale, insertion penalty and prior scale from development data."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.cli.decode import check_models
from acoustic.cli.options import add_dataclass_options, dataclass_from_args
from acoustic.decode.decoder import SearchOptions
from acoustic.decode.graph import read_graph, read_words
from acoustic.decode.jobs import num_cores
from acoustic.decode.tune import Grid, Trial, tune
from acoustic.decode.wer import read_transcripts
from acoustic.errors import ConfigError
from acoustic.fsio import check_writable
from acoustic.kaldi.matrix import read_vector
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import get_logger, progress

HELP = "choose acoustic scale and insertion penalty on development data, for decode --tuned"
EXAMPLE = (
    "acoustic decode-tune --acoustic-scales=0.06,0.08,0.1 --insertion-penalties=0,0.5,1 exp/tri1/final.mdl "
    "graph/HCLG.fst ark:dev.ark data/dev/text tuned.json"
)
# The reciprocals of Kaldi's customary language-model weights 5..20, in even ratios.
ACOUSTIC_SCALES = "0.05,0.06,0.07,0.085,0.1,0.12,0.14,0.17,0.2"
INSERTION_PENALTIES = "0,0.5,1"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument(
        "--acoustic-scales", default=ACOUSTIC_SCALES, help=f"values to try (default: {ACOUSTIC_SCALES})"
    )
    parser.add_argument(
        "--insertion-penalties", default=INSERTION_PENALTIES, help=f"values to try (default: {INSERTION_PENALTIES})"
    )
    parser.add_argument("--prior-scales", default="1", help="values to try; needs --class-frame-counts (default: 1)")
    parser.add_argument("--class-frame-counts", help="vector of pdf counts, from which the priors were made")
    add_dataclass_options(parser, SearchOptions)
    parser.add_argument("--word-symbol-table", help="default: words.txt beside the graph")
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="worker processes (default: the cores)")
    parser.add_argument("model", help="final.mdl")
    parser.add_argument("graph", help="HCLG.fst made for that model")
    parser.add_argument("loglikes_rspecifier", help="of the development data")
    parser.add_argument("ref", help="reference text of the development data")
    parser.add_argument("out_json", help="the best values and all trials")


def run(args: argparse.Namespace) -> None:
    """Tune and write."""
    grid = Grid(
        parse_floats("--acoustic-scales", args.acoustic_scales),
        parse_floats("--insertion-penalties", args.insertion_penalties),
        parse_floats("--prior-scales", args.prior_scales),
    )
    start = time.monotonic()
    check_writable(args.out_json)
    made_with = check_models(args.model, args.loglikes_rspecifier)
    model = TransitionModel.read(args.model)
    graph = read_graph(args.graph, model, made_with)
    result = tune(
        model,
        graph,
        progress(read_table(args.loglikes_rspecifier, "matrix"), "tune"),
        read_transcripts(args.ref),
        read_words(args.word_symbol_table or Path(args.graph).parent / "words.txt", graph, args.graph).id_of,
        grid,
        dataclass_from_args(SearchOptions, args),
        read_log_priors(args.class_frame_counts) if args.class_frame_counts else None,
        args.num_jobs,
    )
    result.write(args.out_json)
    warn_at_edge(result.best.acoustic_scale, grid.acoustic_scales)
    logger.info("%s of %d trials, %.1f s", describe(result.best), len(result.trials), time.monotonic() - start)


def describe(trial: Trial) -> str:
    """One line on a trial."""
    prior = f"prior scale {trial.prior_scale:g}, " if trial.prior_scale != 1.0 else ""
    return (
        f"{prior}acoustic scale {trial.acoustic_scale:g}, insertion penalty {trial.insertion_penalty:g}: "
        f"WER {trial.wer:.2f} is the best"
    )


def warn_at_edge(scale: float, tried: tuple[float, ...]) -> None:
    """Say so when the best acoustic scale is the least or the largest one tried: there may be better ones beyond."""
    if len(set(tried)) > 2 and scale in (min(tried), max(tried)):
        logger.warning(
            "the best acoustic scale, %g, is the %s of those tried; look beyond it, as by --acoustic-scales=%s",
            scale,
            "least" if scale == min(tried) else "largest",
            ",".join(f"{value:.3g}" for value in beyond(scale, tried)),
        )


def beyond(edge: float, tried: tuple[float, ...]) -> list[float]:
    """Scales to try where the best one is the least or the largest: it, four beyond it and the one before, rising.

    They are as far apart as it is from the one before, so that none of them is an edge again if it stays the best.
    """
    before = min((value for value in tried if value != edge), key=lambda value: abs(value - edge))
    return sorted([before, *(edge * (edge / before) ** step for step in range(5))])


def parse_floats(option: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas.

    Raises:
        ConfigError: anything else.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option}={text}: expected numbers separated by commas") from error
    if not np.isfinite(values).all():
        raise ConfigError(f"{option}={text}: expected finite numbers")
    return values


def read_log_priors(path: str) -> NDArray[np.float32]:
    """Log priors from a file of pdf counts, as Kaldi's analyze-counts writes it."""
    import torch  # here, because only prior scales need it and loading it takes seconds

    from acoustic.decode.priors import log_priors

    with open_reader(path) as reader:
        reader.read_binary_header()
        counts = read_vector(reader)
    return log_priors(torch.from_numpy(counts)).numpy()
