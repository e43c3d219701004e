"""`acoustic init-mono`: tree and transition model of a monophone system."""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.kaldi.tree import DecisionTree, read_phone_sets
from acoustic.log import get_logger

HELP = "tree and transition model of a monophone system (gmm-init-mono, without Gaussians)"
EXAMPLE = "acoustic init-mono data/lang exp/mono"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("lang_dir", help="its topo; phones of one line of its phones/sets.int share their pdfs")
    parser.add_argument("model_dir", help="where tree and final.mdl (the transition model alone) go")


def run(args: argparse.Namespace) -> None:
    """Make and write."""
    lang_dir, model_dir = Path(args.lang_dir), Path(args.model_dir)
    topology = Topology.read(lang_dir / "topo")
    tree = DecisionTree.monophone(topology, read_phone_sets(lang_dir / "phones" / "sets.int"))
    model = TransitionModel.from_tree(tree, topology)
    tree.write(model_dir / "tree")
    write_model(model_dir / "final.mdl", model)
    logger.info(f"{len(topology.phones)} phones, {model.num_pdfs} pdfs, {model.num_transition_ids} transition_ids")
