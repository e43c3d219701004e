"""`acoustic perturb`: a data directory with speed-perturbed copies of its audio, and alignments to match."""

from __future__ import annotations

import argparse
import os
import sys
import time
from fractions import Fraction

import torch

from acoustic import log
from acoustic.cli.fbank import speed_line
from acoustic.cli.options import parse_bool
from acoustic.decode.jobs import num_cores
from acoustic.errors import ConfigError
from acoustic.features.fbank import FbankOptions
from acoustic.features.perturb import parse_speed
from acoustic.features.perturb_dir import AUDIO_FORMATS, perturb_ali_dir, perturb_data_dir
from acoustic.kaldi.datadir import DataDir

HELP = "copy a data directory at other speeds (perturb_data_dir_speed.sh), its alignments too"
EXAMPLE = "acoustic perturb --speeds=0.9,1.0,1.1 --ali-dir=exp/ali --out-ali-dir=exp/ali_sp data/train data/train_sp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument("--speeds", default="0.9,1.1", help="factors, comma separated; 1.0 keeps (default: 0.9,1.1)")
    parser.add_argument("--root", help="folder that the paths in the data directory are relative to (default: .)")
    parser.add_argument("--channel", type=int, help="channel, from 0; needed when the audio has several")
    parser.add_argument("--format", choices=AUDIO_FORMATS, default="flac", help="of the audio written (default: flac)")
    parser.add_argument("--ali-dir", help="alignments of the data directory")
    parser.add_argument(
        "--out-ali-dir",
        help="where to write alignments of the new utterances, frames repeated or dropped: labels for training, "
        "no valid paths through the HMMs",
    )
    parser.add_argument("--frame-length", type=float, default=25.0, help="of the features, milliseconds (default: 25)")
    parser.add_argument("--frame-shift", type=float, default=10.0, help="of the features, milliseconds (default: 10)")
    parser.add_argument("--snip-edges", type=parse_bool, default=True, help="of the features (default: true)")
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="workers (default: one a core)")
    parser.add_argument("data_dir", help="directory with wav.scp and utt2spk")
    parser.add_argument("out_dir", help="directory to make; the audio goes into its subdirectory audio")


def run(args: argparse.Namespace) -> None:
    """Write the data directory and the alignments."""
    speeds = parse_speeds(args.speeds)
    if (args.ali_dir is None) != (args.out_ali_dir is None):
        raise ConfigError("--ali-dir and --out-ali-dir belong together")
    if args.num_jobs < 1:
        raise ConfigError(f"--num-jobs must be at least 1, it is {args.num_jobs}")
    if os.path.realpath(args.data_dir) == os.path.realpath(args.out_dir):
        raise ConfigError(f"{args.out_dir} is the directory to be read; choose another for the copy")
    try:
        framing = FbankOptions(
            frame_length=args.frame_length, frame_shift=args.frame_shift, snip_edges=args.snip_edges
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
    torch.set_num_threads(1)  # the workers are the parallelism
    tally = log.Tally()
    data_dir = DataDir.read(args.data_dir, args.root)
    written = perturb_data_dir(
        data_dir,
        args.out_dir,
        speeds,
        tally,
        channel=args.channel,
        audio_format=args.format,
        num_jobs=args.num_jobs,
    )
    seconds = sum(item.num_samples / item.rate for item in written)
    report = f"wrote {len(written)}, {speed_line(seconds, time.monotonic() - tally.start)}"
    if args.ali_dir is not None:
        alignments = log.Tally("alignments")
        perturb_ali_dir(args.ali_dir, args.out_ali_dir, written, framing, alignments)
        report += f", {alignments.num_done} alignments ({alignments.num_skipped} skipped)"
    print(f"acoustic perturb: {tally.summary(report)}", file=sys.stderr)


def parse_speeds(text: str) -> dict[str, Fraction]:
    """Comma-separated factors, by the names they have in ids.

    Raises:
        ConfigError: not numbers in range, or one twice.
    """
    names = text.split(",")
    try:
        speeds = {name: parse_speed(name) for name in names}
    except ValueError as error:
        raise ConfigError(f"--speeds={text}: {error}") from error
    if len(set(speeds.values())) < len(names):
        raise ConfigError(f"--speeds={text}: a speed comes twice")
    return speeds
