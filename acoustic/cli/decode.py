"""`acoustic decode`: words from log likelihoods and a graph."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time

from acoustic.cli.options import add_dataclass_options, dataclass_from_args, parse_share
from acoustic.decode.decoder import Decoder, DecoderOptions, NoPathError, decode_utterances
from acoustic.decode.graph import read_graph, read_words
from acoustic.decode.jobs import num_cores
from acoustic.decode.provenance import check_same_model, fingerprints_of, note_of_table, remove_notes, write_notes
from acoustic.decode.tune import read_tuned
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally, get_logger, progress, real_time_factor

HELP = "best word sequences from log likelihoods over a decoding graph, in worker processes"
EXAMPLE = (
    "acoustic decode --acoustic-scale=0.1 --word-symbol-table=graph/words.txt exp/tri1/final.mdl graph/HCLG.fst "
    "ark:loglikes.ark ark,t:text ark:ali.ark"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in latgen-faster-mapped's order, without lattices."""
    add_dataclass_options(parser, DecoderOptions)
    parser.add_argument("--tuned", help="file of decode-tune; its acoustic scale and insertion penalty are used")
    parser.add_argument("--word-symbol-table", help="words.txt: writes words instead of their ids")
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="worker processes (default: the cores)")
    parser.add_argument(
        "--max-skip-fraction",
        type=parse_share,
        default=0.05,
        help="fail if more utterances have no path (default: 0.05)",
    )
    parser.add_argument("model", help="final.mdl, of which only the transition model is read")
    parser.add_argument("graph", help="HCLG.fst made for that model")
    parser.add_argument("loglikes_rspecifier", help="matrices, frames x pdfs, log posterior minus log prior")
    parser.add_argument("words_wspecifier", help="where the words go")
    parser.add_argument("ali_wspecifier", nargs="?", help="where the best paths' transition_ids go")


def run(args: argparse.Namespace) -> None:
    """Decode and write."""
    options = dataclass_from_args(DecoderOptions, args)
    if args.tuned:
        options = apply_tuned(options, args.tuned)
    made_with = check_models(args.model, args.loglikes_rspecifier)
    model = TransitionModel.read(args.model)
    graph = read_graph(args.graph, model, made_with)
    words = read_words(args.word_symbol_table, graph, args.graph).symbol_of if args.word_symbol_table else None
    decoder = Decoder(model, graph, options)
    del graph  # the decoder has its own copy, and large ones take gigabytes
    tally, start = Tally(), time.monotonic()
    num_partial = num_frames = 0
    likelihood = 0.0
    with contextlib.ExitStack() as stack:
        kind = "int_vector" if words is None else "tokens"
        for wspecifier in filter(None, (args.words_wspecifier, args.ali_wspecifier)):
            remove_notes(wspecifier)
        words_writer = stack.enter_context(TableWriter(args.words_wspecifier, kind))
        ali_writer = (
            stack.enter_context(TableWriter(args.ali_wspecifier, "int_vector")) if args.ali_wspecifier else None
        )
        loglikes = read_table(args.loglikes_rspecifier, "matrix")
        decoded = stack.enter_context(contextlib.closing(decode_utterances(decoder, loglikes, args.num_jobs)))
        for utt, length, result in progress(decoded, "decode"):
            if isinstance(result, NoPathError):
                tally.skip(result.reason, utt, result.problem)
                continue
            words_writer.write(utt, result.words if words is None else [words[word_id] for word_id in result.words])
            if ali_writer:
                ali_writer.write(utt, result.transition_ids)
            tally.done()
            num_partial += not result.reached_final
            num_frames += length
            likelihood += result.likelihood
        tally.check(args.max_skip_fraction, args.loglikes_rspecifier)
    for wspecifier in filter(None, (args.words_wspecifier, args.ali_wspecifier)):
        write_notes(wspecifier, made_with)
    if num_partial:
        logger.warning("%d utterances got a partial path: none reached a final state", num_partial)
    speed = real_time_factor(time.monotonic() - start, num_frames)
    logger.info(
        tally.summary(
            f"partial {num_partial}, {speed} with {args.num_jobs} jobs, "
            f"log-likelihood per frame {likelihood / num_frames:.6g} over {num_frames} frames"
        )
    )


def check_models(model: str, loglikes_rspecifier: str) -> dict[str, str]:
    """What words will have been made with: fingerprints of the network, where known, of final.mdl and of its tree.

    Raises:
        DataError: the network was trained on alignments of another model or tree.
    """
    network, decoding = note_of_table(loglikes_rspecifier), fingerprints_of(model)
    check_same_model(network, decoding, loglikes_rspecifier, model)
    return network | decoding


def apply_tuned(options: DecoderOptions, path: str) -> DecoderOptions:
    """The options with the acoustic scale and insertion penalty that decode-tune chose."""
    tuned = read_tuned(path)
    if tuned.prior_scale != 1.0:
        logger.info("%s was tuned for loglikes made with --prior-scale=%g", path, tuned.prior_scale)
    return dataclasses.replace(options, acoustic_scale=tuned.acoustic_scale, insertion_penalty=tuned.insertion_penalty)
