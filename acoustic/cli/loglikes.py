"""`acoustic loglikes`: a trained network's scaled likelihoods, for a WFST decoder."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch
from torch import Tensor

from acoustic.cli.options import parse_bool, parse_share
from acoustic.data.prefetch import prefetch
from acoustic.decode.forward import AcousticModel, by_frames
from acoustic.decode.priors import PRIOR_FLOOR
from acoustic.decode.provenance import check_same_model, fingerprints_of, remove_notes, write_notes
from acoustic.errors import ConfigError, DataError
from acoustic.features.base_frames import base_frames, base_frames_of_table
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.specifiers import is_folder, parse_rspecifier
from acoustic.kaldi.tables import TableWriter
from acoustic.log import Tally, get_logger, progress, real_time_factor
from acoustic.train.precision import choose_device, choose_dtype, keep_freed_memory

HELP = "write a network's scaled likelihoods, frames x pdfs (nnet-forward --no-softmax --class-frame-counts)"
EXAMPLE = "acoustic loglikes exp/relu data/test ark:- | latgen-faster-mapped ... final.mdl HCLG.fst ark:- ark:lat"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Kaldi's order: model, features, output."""
    parser.add_argument("exp_dir", help="training's exp_dir, or a final.pt")
    parser.add_argument("feats", help="a data directory, or an rspecifier of features")
    parser.add_argument("loglikes", help="wspecifier of the output")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto: cuda when there is one")
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=["auto", "fp32", "tf32", "bf16"],
        help="fp32 (default) gives Kaldi's values; bf16 is faster and rounds logits to 8 bits; auto: bf16 where fast",
    )
    parser.add_argument("--num-threads", type=int, help="of the CPU (default: all cores)")
    parser.add_argument("--prior-scale", type=float, default=1.0, help="factor on the log priors")
    parser.add_argument("--prior-floor", type=float, default=PRIOR_FLOOR, help="relative frequency that disables a pdf")
    parser.add_argument("--apply-priors", type=parse_bool, default=True, help="false: log posteriors")
    parser.add_argument("--cmvn", help="rspecifier of CMVN statistics, for features given as an rspecifier")
    parser.add_argument("--utt2spk", help="rspecifier of the speakers, for features given as an rspecifier")
    parser.add_argument("--fmllr", help="fMLLR transforms: an rspecifier, or a directory with trans.N")
    parser.add_argument("--for-model", help="final.mdl that will decode: refuse a network trained on another's tree")
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail when more utterances are skipped"
    )


def run(args: argparse.Namespace) -> None:
    """Write the loglikes of every utterance that can be used; the others are counted by reason."""
    check_options(args)
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    device = choose_device(args.device)
    if device.type == "cpu":
        keep_freed_memory()
    model = AcousticModel.load(
        args.exp_dir,
        device=device,
        dtype=choose_dtype(args.precision, device),
        prior_scale=args.prior_scale,
        prior_floor=args.prior_floor,
    )
    fingerprints = model.bundle.fingerprints
    if args.for_model:
        check_same_model(fingerprints, fingerprints_of(args.for_model), args.exp_dir, args.for_model)
    remove_notes(args.loglikes)
    forward = model.loglikes if args.apply_priors else model.log_posteriors
    tally, num_frames, start = Tally(), 0, time.monotonic()
    with TableWriter(args.loglikes, "matrix") as writer:
        # Reading, computing and writing go on at the same time, each in its thread.
        groups = prefetch(by_frames(progress(utterances(args, model, tally), "loglikes")), on_one_core=True)
        with contextlib.closing(prefetch(computed(groups, forward))) as results:
            for utt, matrix in itertools.chain.from_iterable(results):
                writer.write(utt, matrix)
                num_frames += len(matrix)
        tally.check(args.max_skip_fraction, args.feats)
    write_notes(args.loglikes, fingerprints)
    seconds = time.monotonic() - start
    shift = (model.bundle.fbank_options or {}).get("frame_shift", 10.0)
    speed = real_time_factor(seconds, num_frames, shift)
    logger.info("%s", tally.summary(f"{num_frames / seconds:.0f} frames/s, {speed}"))


def computed(
    groups: Generator[list[tuple[str, Tensor]], None, None], forward: Callable[[list[Tensor]], list[Tensor]]
) -> Generator[list[tuple[str, np.ndarray]], None, None]:
    """The utterances of each group with their outputs [T, num_pdfs]."""
    with contextlib.closing(groups):
        for group in groups:
            outputs = forward([base for _, base in group])
            yield [(utt, matrix.cpu().numpy()) for (utt, _), matrix in zip(group, outputs, strict=True)]


def check_options(args: argparse.Namespace) -> None:
    """Refuse values out of range, options without use, and an input that is neither directory nor table, at once.

    Raises:
        ConfigError: naming the option.
    """
    if args.num_threads is not None and args.num_threads < 1:
        raise ConfigError(f"--num-threads={args.num_threads}: at least 1 is needed")
    for option, value in (("--prior-scale", args.prior_scale), ("--prior-floor", args.prior_floor)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"{option}={value}: must be finite and not negative")
    if not is_folder(args.feats):
        parse_rspecifier(args.feats)
        return
    for option, table in (("--cmvn", args.cmvn), ("--utt2spk", args.utt2spk)):
        if table is not None:
            remedy = "leave it out, or give the features as an rspecifier"
            raise ConfigError(f"{option}={table}: {args.feats} is a data directory, whose own is used; {remedy}")


def utterances(args: argparse.Namespace, model: AcousticModel, tally: Tally) -> Iterator[tuple[str, Tensor]]:
    """Base frames of each utterance of a data directory or table."""
    if is_folder(args.feats):
        directory = DataDir.read(args.feats)
        if not directory.feats:
            raise DataError("has no feats.scp", path=args.feats, remedy="compute features first (acoustic fbank)")
        return base_frames(directory, model.frontend, tally, fmllr=args.fmllr)
    return base_frames_of_table(
        args.feats, model.frontend, tally, cmvn=args.cmvn, utt2spk=args.utt2spk, fmllr=args.fmllr
    )
