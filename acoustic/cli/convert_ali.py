"""`acoustic convert-ali`: alignments of one tree as those of another."""

from __future__ import annotations

import argparse

from acoustic.cli.options import parse_share
from acoustic.errors import DataError
from acoustic.kaldi.alignments import read_alignments_of
from acoustic.kaldi.tables import TableWriter
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.log import Tally, get_logger, progress
from acoustic.states.convert import AlignmentConverter

HELP = "alignments of one tree as those of another, frames where they were (convert-ali)"
EXAMPLE = (
    "acoustic convert-ali exp/mono_ali/final.mdl exp/tri/final.mdl exp/tri/tree exp/mono_ali ark:exp/tri_ali/ali.1.gz"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in Kaldi's order."""
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail if more cannot be converted (0.05)"
    )
    parser.add_argument("old_model", help="final.mdl of the alignments")
    parser.add_argument("new_model", help="final.mdl of the other tree")
    parser.add_argument("new_tree", help="that tree")
    parser.add_argument("alignments", help="alignment directory, or an rspecifier")
    parser.add_argument("ali_wspecifier", help="where the alignments go")


def run(args: argparse.Namespace) -> None:
    """Convert and write."""
    converter = AlignmentConverter(
        TransitionModel.read(args.old_model), TransitionModel.read(args.new_model), DecisionTree.read(args.new_tree)
    )
    tally = Tally()
    with TableWriter(args.ali_wspecifier, "int_vector") as writer:
        for utt, alignment in progress(read_alignments_of(args.alignments), "convert"):
            try:
                converted = converter.convert(utt, alignment)
            except DataError as error:
                tally.skip("not_convertible", utt, error.problem)
                continue
            writer.write(utt, converted)
            tally.done()
        tally.check(args.max_skip_fraction, args.alignments)
    logger.info(tally.summary())
