"""`acoustic fbank`: log mel filter-bank features of a table of audio or a data directory."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator

import torch

from acoustic import log
from acoustic.cli.options import add_dataclass_options, dataclass_from_args, parse_share
from acoustic.decode.jobs import num_cores
from acoustic.errors import ConfigError
from acoustic.features.audio import Utterance, utterances_of_dir, utterances_of_table
from acoustic.features.extract import extract
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.specifiers import is_folder
from acoustic.kaldi.tables import TableWriter
from acoustic.train.precision import choose_device, keep_freed_memory

HELP = "compute log mel filter-bank features (compute-fbank-feats)"
EXAMPLE = "acoustic fbank --sample-frequency=8000 --num-mel-bins=40 --dither=0 data/train ark,scp:feats.ark,feats.scp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Kaldi's options by Kaldi's names, and those of running it."""
    add_dataclass_options(parser, FbankOptions, "features")
    parser.add_argument("audio", help="wav rspecifier (scp:wav.scp, ark:cmd |) or data directory; its segments are cut")
    parser.add_argument("feats", help="wspecifier of the features")
    parser.add_argument("--root", help="folder that the paths in the data directory are relative to (default: .)")
    parser.add_argument("--channel", type=int, help="channel, from 0; needed when the audio has several")
    parser.add_argument("--min-duration", type=float, default=0.0, help="leave out shorter utterances, seconds")
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="workers (default: one a core)")
    parser.add_argument(
        "--compression-method",
        type=int,
        choices=range(1, 8),
        metavar="METHOD",
        help="1..7, as copy-feats; 2 is Kaldi's usual (default: none)",
    )
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail if more utterances are left out (0.05)"
    )
    parser.add_argument("--write-utt2dur", help="wspecifier of the durations, in seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...; auto: cuda when there is one (default: cpu)")


def run(args: argparse.Namespace) -> None:
    """Compute and write the features of every utterance."""
    options = dataclass_from_args(FbankOptions, args)
    device = choose_device(args.device)
    if device.type == "cpu":
        keep_freed_memory()
    try:
        fbank = Fbank(options).to(device)
    except ValueError as error:
        raise ConfigError(f"acoustic fbank: {error}") from error
    if args.num_jobs < 1:
        raise ConfigError(f"--num-jobs must be at least 1, it is {args.num_jobs}")
    torch.set_num_threads(1)  # the workers are the parallelism
    tally, seconds = log.Tally(), 0.0
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(TableWriter(args.feats, "matrix", args.compression_method))
        durations = stack.enter_context(TableWriter(args.write_utt2dur, "float")) if args.write_utt2dur else None
        utterances = log.progress(audio_utterances(args.audio, args.root, args.channel), "fbank")
        for result in extract(utterances, fbank, args.num_jobs, args.min_duration):
            if result.feats is None:
                tally.skip(result.reason, result.utt, result.detail)
                continue
            writer.write(result.utt, result.feats)
            if durations is not None:
                durations.write(result.utt, result.seconds)
            tally.done()
            seconds += result.seconds
        tally.check(args.max_skip_fraction, args.audio)
    print(f"acoustic fbank: {tally.summary(speed_line(seconds, time.monotonic() - tally.start))}", file=sys.stderr)


def audio_utterances(source: str, root: str | None, channel: int | None) -> Iterator[Utterance]:
    """The utterances of a data directory or of a wav rspecifier."""
    if is_folder(source):
        return utterances_of_dir(DataDir.read(source, root), channel)
    if root is not None:
        raise ConfigError(f"--root is for data directories; {source} is none")
    return utterances_of_table(source, channel)


def speed_line(seconds: float, elapsed: float) -> str:
    """How much audio was worked on, and the time that took as a fraction of its duration."""
    return f"{seconds:.1f} s of audio, real-time factor {elapsed / seconds:.5f}" if seconds else "no audio"
