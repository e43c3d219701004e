"""`acoustic align`: alignments from training graphs and log likelihoods."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from acoustic.cli.options import add_dataclass_options, dataclass_from_args, parse_share
from acoustic.decode.align import Aligner, AlignOptions, align_utterances
from acoustic.decode.jobs import num_cores
from acoustic.decode.search import NoPathError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.steps import GRAPHS_REMEDY, StepWatch
from acoustic.kaldi.tables import RandomAccessTable, TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally, get_logger, progress, real_time_factor

HELP = "align utterances to their training graphs by log likelihoods (align-compiled-mapped)"
EXAMPLE = (
    "acoustic align --beam=10 --retry-beam=40 exp/tri1/final.mdl ark:graphs.fsts ark:loglikes.ark "
    "'ark:| gzip -c > exp/ali/ali.1.gz'"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in Kaldi's order."""
    add_dataclass_options(parser, AlignOptions)
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="worker processes (default: the cores)")
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail if more cannot be aligned (0.05)"
    )
    parser.add_argument(
        "--scores-per-frame", action="store_true", help="scores are unscaled and divided by the frames, to be compared"
    )
    parser.add_argument("model", help="final.mdl, whose transition probabilities are used")
    parser.add_argument("graphs_rspecifier", help="graphs of compile-train-graphs")
    parser.add_argument("loglikes_rspecifier", help="matrices, frames x pdfs, log posterior minus log prior")
    parser.add_argument("ali_wspecifier", help="where the alignments go")
    parser.add_argument("scores_wspecifier", nargs="?", help="where each utterance's scaled log likelihood goes")


def run(args: argparse.Namespace) -> None:
    """Align and write."""
    options = dataclass_from_args(AlignOptions, args)
    model = TransitionModel.read(args.model)
    aligner, watch = Aligner(model, options), StepWatch(model)
    tally, start = Tally(), time.monotonic()
    num_retried = num_frames = 0
    likelihood = 0.0
    with contextlib.ExitStack() as stack:
        ali_writer = stack.enter_context(TableWriter(args.ali_wspecifier, "int_vector"))
        scores = args.scores_wspecifier
        scores_writer = stack.enter_context(TableWriter(scores, "float")) if scores else None
        graphs = stack.enter_context(RandomAccessTable(args.graphs_rspecifier, "fst"))
        utterances = with_graphs(graphs, read_table(args.loglikes_rspecifier, "matrix"), tally)
        aligned = stack.enter_context(contextlib.closing(align_utterances(aligner, utterances, args.num_jobs)))
        for utt, alignment in progress(aligned, "align"):
            if isinstance(alignment, NoPathError):
                tally.skip(alignment.reason, utt, alignment.problem)
                continue
            ali_writer.write(utt, alignment.path.transition_ids)
            watch.add(alignment.path.transition_ids)
            if scores_writer:
                unit = alignment.num_frames * options.acoustic_scale if args.scores_per_frame else 1.0
                scores_writer.write(utt, alignment.path.likelihood / unit)
            tally.done()
            num_retried += alignment.retried
            num_frames += alignment.num_frames
            likelihood += alignment.path.likelihood / options.acoustic_scale
        watch.warn(args.graphs_rspecifier, args.model, GRAPHS_REMEDY, "graphs")
        tally.check(args.max_skip_fraction, args.loglikes_rspecifier)
    speed = real_time_factor(time.monotonic() - start, num_frames)
    logger.info(
        tally.summary(
            f"retried {num_retried}, {speed} with {args.num_jobs} jobs, "
            f"log-likelihood per frame {likelihood / num_frames:.6g} over {num_frames} frames"
        )
    )


def with_graphs(
    graphs: RandomAccessTable, loglikes: Iterator[tuple[str, NDArray[np.float32]]], tally: Tally
) -> Iterator[tuple[str, FstArrays, NDArray[np.float32]]]:
    """Join loglikes with graphs; utterances without graph are counted, graphs without loglikes are warned of."""
    for utt, matrix in loglikes:
        if utt in graphs:
            yield utt, graphs[utt], matrix
        else:
            tally.skip("no_graph", utt)
    others = graphs.unasked()
    if others:  # no fault where each of several processes aligns a part, but perhaps the loglikes were cut short
        logger.warning("%d graphs had no log likelihoods (e.g. %s)", len(others), others[0])
