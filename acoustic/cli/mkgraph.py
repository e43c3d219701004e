"""`acoustic mkgraph`: the decoding graph of a lang directory and a model."""

from __future__ import annotations

import argparse

from acoustic.cli.options import add_dataclass_options, dataclass_from_args
from acoustic.decode.graph import GraphOptions, make_graph

HELP = "build the decoding graph HCLG from a lang directory and a model directory"
EXAMPLE = "acoustic mkgraph --self-loop-scale=0.1 data/lang_test exp/tri1 exp/tri1/graph"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    add_dataclass_options(parser, GraphOptions)
    parser.add_argument("lang_dir", help="with L_disambig.fst, G.fst, words.txt, phones.txt, phones/disambig.int")
    parser.add_argument("model_dir", help="with tree and final.mdl")
    parser.add_argument("graph_dir", help="folder to make; an earlier graph directory there is replaced")


def run(args: argparse.Namespace) -> None:
    """Make the graph."""
    make_graph(args.lang_dir, args.model_dir, args.graph_dir, dataclass_from_args(GraphOptions, args))
