"""`acoustic flat-start`: first alignments, of training graphs and features alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.cli.options import add_dataclass_options, dataclass_from_args
from acoustic.decode.jobs import num_cores
from acoustic.kaldi.alignments import write_alignments
from acoustic.kaldi.tables import RandomAccessTable, read_table
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.log import Tally, get_logger, progress
from acoustic.states.cepstra import gaussian_features
from acoustic.states.flat_start import FlatStartOptions, Round, flat_start

HELP = "first alignments: equally long states, then mixtures of Gaussians that grow (train_mono.sh)"
EXAMPLE = (
    "acoustic flat-start --utt2spk=ark:data/train/utt2spk exp/mono/final.mdl ark:graphs.fsts "
    "scp:data/train/feats.scp exp/mono_ali"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in the order of Kaldi's programs."""
    add_dataclass_options(parser, FlatStartOptions)
    add_feature_options(parser)
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="worker processes (default: the cores)")
    parser.add_argument("--max-skip-fraction", type=float, default=0.05, help="fail if more cannot be aligned (0.05)")
    parser.add_argument("model", help="final.mdl of init-mono")
    parser.add_argument("graphs_rspecifier", help="graphs of compile-train-graphs with that model")
    parser.add_argument("features_rspecifier", help="filter banks; all are held in memory")
    parser.add_argument("ali_dir", help="where alignments and final.mdl (transition model, re-estimated) go")


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """The options of features for Gaussians."""
    parser.add_argument("--utt2spk", help="rspecifier of speakers, whose means are subtracted (default: utterances')")
    parser.add_argument(
        "--num-ceps", type=int, default=13, help="cepstra of filter banks; 0: features as they are (13)"
    )


def speakers(utt2spk: str | None) -> dict[str, str]:
    """Each utterance's speaker; empty without a table."""
    return {utt: tokens[0] for utt, tokens in read_table(utt2spk, "tokens") if tokens} if utt2spk else {}


def run(args: argparse.Namespace) -> None:
    """Align and write."""
    options = dataclass_from_args(FlatStartOptions, args)
    tally = Tally()
    graphs, features = {}, {}
    with RandomAccessTable(args.graphs_rspecifier, "fst") as table:
        for utt, matrix in progress(read_table(args.features_rspecifier, "matrix"), "read"):
            if utt in table:
                graphs[utt], features[utt] = table[utt], matrix
            else:
                tally.skip("no_graph", utt)
    last: list[Round] = []

    def report(done: Round) -> None:
        last[:] = [done]
        logger.info(
            f"{done.num_gauss} Gaussians, log-likelihood per frame {done.likelihood:.6g}, "
            f"{100.0 * done.num_moved / done.num_frames:.2f} % of frames moved to another pdf"
        )

    model, alignments = flat_start(
        TransitionModel.read(args.model),
        graphs,
        gaussian_features(features, speakers(args.utt2spk), args.num_ceps),
        options,
        args.num_jobs,
        report,
    )
    for utt, problem in last[0].skipped.items():
        tally.skip("not_aligned", utt, problem)
    for _ in alignments:
        tally.done()
    tally.check(args.max_skip_fraction, args.features_rspecifier)
    write_alignments(args.ali_dir, sorted(alignments.items()))
    write_model(Path(args.ali_dir) / "final.mdl", model)
    logger.info(tally.summary())
