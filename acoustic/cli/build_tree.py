"""`acoustic build-tree`: a decision tree of context-dependent states, and its transition model."""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.cli.options import parse_share
from acoustic.cli.train_gmm import add_feature_options, check_output, speakers
from acoustic.decode.lang_match import check_same_phones
from acoustic.errors import ConfigError, DataError
from acoustic.fsio import write_text
from acoustic.kaldi.alignments import read_alignments, read_model
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.kaldi.tree import read_phone_sets
from acoustic.log import Tally, get_logger, progress
from acoustic.states.build_tree import TreeOptions, build_tree, read_roots
from acoustic.states.cepstra import gaussian_features
from acoustic.states.questions import PhoneSet, automatic_questions, check_questions, read_questions
from acoustic.states.tree_stats import StatsAccumulator, TreeStats

HELP = "a decision tree of context-dependent states (acc-tree-stats, cluster-phones, build-tree)"
EXAMPLE = (
    "acoustic build-tree --num-leaves=2000 --utt2spk=ark:data/train/utt2spk data/lang exp/mono_ali "
    "scp:data/train/feats.scp exp/tri"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments; the tree's options have the names of Kaldi's build-tree."""
    defaults = TreeOptions()
    parser.add_argument("--num-leaves", type=int, default=defaults.num_leaves, help="no more pdfs than this (2000)")
    parser.add_argument("--thresh", type=float, default=defaults.thresh, help="least gain of a split (300)")
    parser.add_argument(
        "--cluster-thresh",
        type=float,
        default=defaults.cluster_thresh,
        help="merge below it; -1: last split's gain (-1)",
    )
    parser.add_argument("--context-width", type=int, default=3, help="phones in a window (3)")
    parser.add_argument("--central-position", type=int, default=1, help="of the phone itself, from 0 (1)")
    parser.add_argument("--questions", help="file of sets of phone ids (default: by clustering, and lang's own)")
    add_feature_options(parser)
    parser.add_argument("--max-skip-fraction", type=parse_share, default=0.05, help="fail if more are of no use (0.05)")
    parser.add_argument("lang_dir", help="its topo, phones/roots.int, sets.int, extra_questions.int, context_indep.int")
    parser.add_argument("ali_dir", help="alignments and their final.mdl")
    parser.add_argument("features_rspecifier", help="filter banks; all are held in memory")
    parser.add_argument("tree_dir", help="where tree, final.mdl (the transition model alone) and questions.int go")


def run(args: argparse.Namespace) -> None:
    """Accumulate, grow and write."""
    if not 0 <= args.central_position < args.context_width:
        raise ConfigError("--central-position must be in the window of --context-width phones")
    if args.num_leaves < 1 or not args.thresh >= 0.0:
        raise ConfigError("need --num-leaves of at least 1 and --thresh not negative")
    lang_dir, tree_dir = Path(args.lang_dir), Path(args.tree_dir)
    check_output(args.tree_dir)
    check_same_phones(lang_dir, args.ali_dir)
    topology, roots = Topology.read(lang_dir / "topo"), read_roots(lang_dir / "phones" / "roots.int")
    stats = accumulate(args)
    if args.questions:
        questions = read_questions(args.questions)
    else:
        questions = lang_questions(lang_dir, stats)
    check_questions(questions, topology.phones)
    options = TreeOptions(args.num_leaves, args.thresh, args.cluster_thresh)
    grown = build_tree(stats, roots, questions, topology, options)
    model = TransitionModel.from_tree(grown.tree, topology)
    grown.tree.write(tree_dir / "tree")
    write_model(tree_dir / "final.mdl", model)
    write_text(tree_dir / "questions.int", "".join(" ".join(map(str, phones)) + "\n" for phones in questions))
    logger.info(
        f"{grown.num_roots} roots, {len(grown.gains)} splits, {grown.num_merged} leaves merged: "
        f"{model.num_pdfs} pdfs, {model.num_transition_ids} transition_ids; "
        f"{sum(grown.gains) / grown.num_frames:.4g} log-likelihood gained per frame"
    )


def accumulate(args: argparse.Namespace) -> TreeStats:
    """The tree statistics of all utterances that have both features and an alignment."""
    features = dict(progress(read_table(args.features_rspecifier, "matrix"), "read"))
    features = gaussian_features(features, speakers(args.utt2spk, features), args.num_ceps)
    alone = [
        phone for phones in read_phone_sets(Path(args.lang_dir) / "phones" / "context_indep.int") for phone in phones
    ]
    accumulator = StatsAccumulator(read_model(args.ali_dir), args.context_width, args.central_position, alone)
    tally = Tally()
    for utt, alignment in read_alignments(args.ali_dir):
        if utt not in features:  # alignments may be of more than the training data
            continue
        try:
            accumulator.add(utt, alignment, features.pop(utt))
        except DataError as error:
            tally.skip("not_usable", utt, error.problem)
            continue
        tally.done()
    for utt in features:
        tally.skip("no_alignment", utt)
    tally.check(args.max_skip_fraction, args.ali_dir)
    stats = accumulator.stats()
    logger.info(tally.summary(f"{len(stats.events)} states in context"))
    return stats


def lang_questions(lang_dir: Path, stats: TreeStats) -> list[PhoneSet]:
    """Questions by clustering, then those of the lang directory."""
    phones = lang_dir / "phones"
    extra = read_questions(phones / "extra_questions.int") if (phones / "extra_questions.int").exists() else []
    return list(dict.fromkeys([*automatic_questions(stats, read_phone_sets(phones / "sets.int")), *extra]))
