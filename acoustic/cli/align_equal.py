"""`acoustic align-equal`: alignments to start from when there is no model yet."""

from __future__ import annotations

import argparse

from acoustic.cli.options import parse_share
from acoustic.decode.align_equal import align_equally
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.tables import RandomAccessTable, TableWriter, read_table
from acoustic.log import Tally, get_logger, progress

HELP = "alignments of equally long states, to start from without a model (align-equal-compiled)"
EXAMPLE = "acoustic align-equal ark:graphs.fsts scp:data/train/feats.scp ark:exp/equal_ali/ali.1.gz"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in Kaldi's order."""
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pronunciations and silences (default: 0)")
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail if more cannot be aligned (0.05)"
    )
    parser.add_argument("graphs_rspecifier", help="graphs of compile-train-graphs")
    parser.add_argument("features_rspecifier", help="features, for their lengths")
    parser.add_argument("ali_wspecifier", help="where the alignments go")


def run(args: argparse.Namespace) -> None:
    """Align and write."""
    if args.seed < 0:
        raise ConfigError("--seed must not be negative")
    tally = Tally()
    with (
        TableWriter(args.ali_wspecifier, "int_vector") as writer,
        RandomAccessTable(args.graphs_rspecifier, "fst") as graphs,
    ):
        for utt, features in progress(read_table(args.features_rspecifier, "matrix"), "align"):
            if utt not in graphs:
                tally.skip("no_graph", utt)
                continue
            try:
                alignment = align_equally(graphs[utt], utt, len(features), args.seed)
            except DataError as error:
                tally.skip("too_short", utt, error.problem)
                continue
            writer.write(utt, alignment)
            tally.done()
        for utt in graphs.unasked():
            tally.skip("no_features", utt)
        tally.check(args.max_skip_fraction)
    logger.info(tally.summary())
