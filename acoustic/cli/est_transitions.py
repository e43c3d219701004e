"""`acoustic est-transitions`: transition probabilities from alignments."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from acoustic.cli.options import parse_bool
from acoustic.errors import ConfigError
from acoustic.kaldi.alignments import count_transitions, read_alignments_of
from acoustic.kaldi.steps import watched
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.log import Tally, get_logger, progress

HELP = "re-estimate transition probabilities from alignments (the transition part of gmm-est)"
EXAMPLE = "acoustic est-transitions exp/tri1/final.mdl exp/dnn_ali exp/dnn_ali/final.mdl"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments, with the names and defaults of Kaldi's MleTransitionUpdateConfig."""
    parser.add_argument("--transition-floor", type=float, default=0.01, help="least probability of an arc (0.01)")
    parser.add_argument("--transition-min-count", type=float, default=5.0, help="frames that a state needs (5)")
    parser.add_argument("--binary", type=parse_bool, default=True, help="how to write (default: true)")
    parser.add_argument("model", help="final.mdl of the alignments")
    parser.add_argument("alignments", help="alignment directory, or an rspecifier")
    parser.add_argument("out", help="final.mdl to write; it holds the transition model alone")


def run(args: argparse.Namespace) -> None:
    """Count, estimate and write."""
    if not 0.0 <= args.transition_floor < 0.5 or not args.transition_min_count >= 0.0:
        raise ConfigError("need 0 <= --transition-floor < 0.5 and --transition-min-count >= 0")
    model = TransitionModel.read(args.model)
    tally = Tally()
    alignments = watched(read_alignments_of(args.alignments), model, args.alignments, args.model)
    counts = count_transitions(model, progress(tallied(alignments, tally), "count"))
    tally.check()
    estimated = model.reestimated(counts, args.transition_floor, args.transition_min_count)
    write_model(args.out, estimated, args.binary)
    before, after = (float(np.dot(counts[1:], m.log_prob[1:]) / counts.sum()) for m in (model, estimated))
    logger.info(
        tally.summary(
            f"transition log-likelihood per frame from {before:.6g} to {after:.6g} over {int(counts.sum())} frames"
        )
    )


def tallied(
    alignments: Iterable[tuple[str, NDArray[np.int32]]], tally: Tally
) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Pass alignments through and count them."""
    for item in alignments:
        yield item
        tally.done()
