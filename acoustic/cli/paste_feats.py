"""`acoustic paste-feats`: features of several streams side by side, as one table."""

from __future__ import annotations

import argparse
import sys

from acoustic import log
from acoustic.cli.options import parse_share
from acoustic.errors import ConfigError
from acoustic.features.paste import paste_tables
from acoustic.kaldi.tables import TableWriter

HELP = "put features of several streams side by side, frame by frame (paste-feats)"
EXAMPLE = "acoustic paste-feats scp:mfcc/feats.scp scp:pitch/feats.scp ark,scp:feats.ark,data/train/feats.scp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Kaldi's options and arguments."""
    parser.add_argument("feats", nargs="+", help="rspecifiers of two or more streams")
    parser.add_argument("out", help="wspecifier of the pasted features")
    parser.add_argument(
        "--length-tolerance", type=int, default=0, help="frames by which streams may differ; the longer are cut"
    )
    parser.add_argument(
        "--compression-method", type=int, help="1..7, as copy-feats; 2 is Kaldi's usual (default: none)"
    )
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail when more utterances are skipped"
    )


def run(args: argparse.Namespace) -> None:
    """Paste and write every utterance that all streams have."""
    if len(args.feats) < 2:
        raise ConfigError("acoustic paste-feats: give two or more streams, then the output")
    if args.length_tolerance < 0:
        raise ConfigError(f"--length-tolerance={args.length_tolerance}: must not be negative")
    tally = log.Tally()
    with TableWriter(args.out, "matrix", args.compression_method) as writer:
        for utt, pasted in log.progress(paste_tables(args.feats, tally, args.length_tolerance), "paste-feats"):
            writer.write(utt, pasted)
        tally.check(args.max_skip_fraction, args.feats[0])
    print(f"acoustic paste-feats: {tally.summary()}", file=sys.stderr)
