"""`acoustic lattices`: lattices from log likelihoods and a graph."""

from __future__ import annotations

import argparse
import contextlib

from acoustic.cli.decode import check_models
from acoustic.cli.options import add_dataclass_options, dataclass_from_args, parse_share
from acoustic.decode.decoder import NoPathError, decode_utterances
from acoustic.decode.graph import read_graph
from acoustic.decode.jobs import num_cores
from acoustic.decode.lattices import LatticeDecoder, LatticeOptions
from acoustic.decode.provenance import remove_notes, write_notes
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally, get_logger, progress

HELP = "state-level lattices from log likelihoods over a decoding graph, for sequence training"
EXAMPLE = (
    "acoustic lattices --acoustic-scale=0.1 --lattice-beam=6 exp/tri1/final.mdl graph/HCLG.fst ark:loglikes.ark "
    "ark:exp/denlats/lat.1.gz"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in latgen-faster-mapped's order."""
    add_dataclass_options(parser, LatticeOptions)
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="worker processes (default: the cores)")
    parser.add_argument(
        "--max-skip-fraction",
        type=parse_share,
        default=0.05,
        help="fail if more utterances have no path (default: 0.05)",
    )
    parser.add_argument("model", help="final.mdl, of which only the transition model is read")
    parser.add_argument("graph", help="HCLG.fst made for that model, for training best with a weak language model")
    parser.add_argument("loglikes_rspecifier", help="matrices, frames x pdfs, log posterior minus log prior")
    parser.add_argument("lattice_wspecifier", help="where the lattices go")


def run(args: argparse.Namespace) -> None:
    """Decode and write."""
    options = dataclass_from_args(LatticeOptions, args)
    made_with = check_models(args.model, args.loglikes_rspecifier)
    model = TransitionModel.read(args.model)
    decoder = LatticeDecoder(model, read_graph(args.graph, model, made_with), options)
    tally = Tally()
    num_arcs = num_frames = 0
    with contextlib.ExitStack() as stack:
        remove_notes(args.lattice_wspecifier)
        writer = stack.enter_context(TableWriter(args.lattice_wspecifier, "lattice"))
        loglikes = read_table(args.loglikes_rspecifier, "matrix")
        made = stack.enter_context(contextlib.closing(decode_utterances(decoder, loglikes, args.num_jobs)))
        for utt, length, lattice in progress(made, "lattices"):
            if isinstance(lattice, NoPathError):
                tally.skip(lattice.reason, utt, lattice.problem)
                continue
            writer.write(utt, lattice)
            tally.done()
            num_arcs += int((lattice.arcs["ilabel"] > 0).sum())
            num_frames += length
        tally.check(args.max_skip_fraction, args.loglikes_rspecifier)
    write_notes(args.lattice_wspecifier, made_with)
    logger.info(tally.summary(f"{num_arcs / num_frames:.1f} arcs per frame"))
