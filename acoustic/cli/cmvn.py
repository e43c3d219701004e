"""`acoustic cmvn`: CMVN statistics of a table of features, by utterance, by speaker or over everything."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from acoustic import log
from acoustic.errors import ConfigError, DataError
from acoustic.features.cmvn import cmvn_stats
from acoustic.kaldi.matrix import write_matrix_file
from acoustic.kaldi.tables import TableWriter, read_table

HELP = "accumulate CMVN statistics (compute-cmvn-stats)"
EXAMPLE = "acoustic cmvn --spk2utt=ark:data/train/spk2utt scp:data/train/feats.scp ark,scp:cmvn.ark,cmvn.scp"

Stats = NDArray[np.float64]

_WSPECIFIER = re.compile(r"[a-z, ]*\b(ark|scp)\b[a-z, ]*:")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Kaldi's options and arguments."""
    parser.add_argument("--spk2utt", help="rspecifier of each speaker's utterances: statistics by speaker")
    parser.add_argument("feats", help="rspecifier of the features")
    parser.add_argument("stats", help="wspecifier of the statistics; a plain file name: one matrix over all utterances")


def run(args: argparse.Namespace) -> None:
    """Accumulate and write."""
    tally = log.Tally()
    utterances = log.progress(utterance_stats(args.feats, tally), "cmvn")
    if not _WSPECIFIER.match(args.stats):
        if args.spk2utt:
            raise ConfigError(f"--spk2utt is for a table of statistics; {args.stats} is no wspecifier")
        write_global(utterances, args.stats, tally, args.feats)
    else:
        with TableWriter(args.stats, "matrix") as writer:
            owners = speaker_stats(utterances, args.spk2utt, tally) if args.spk2utt else utterances
            for owner, stats in owners:
                writer.write(owner, stats)
            tally.check(path=args.feats)
    print(f"acoustic cmvn: {tally.summary()}", file=sys.stderr)


def utterance_stats(feats: str, tally: log.Tally) -> Iterator[tuple[str, Stats]]:
    """Statistics [2, dim + 1] of each utterance with finite features; the others are counted."""
    for utt, matrix in read_table(feats, "matrix"):
        if matrix.size == 0:
            tally.skip("empty", utt, "no frames")
        elif not np.isfinite(matrix).all():
            tally.skip("non_finite", utt, "NaN or infinite values")
        else:
            tally.done()
            yield utt, cmvn_stats(torch.from_numpy(matrix)).numpy()


def speaker_stats(
    utterances: Iterator[tuple[str, Stats]], spk2utt: str, tally: log.Tally
) -> Iterator[tuple[str, Stats]]:
    """Sums over each speaker's utterances, in the order of `spk2utt`; speakers without features have none.

    Raises:
        DataError: an utterance of two speakers, or features of different dimensions.
    """
    speakers: dict[str, list[str]] = dict(read_table(spk2utt, "tokens"))
    speaker_of: dict[str, str] = {}
    for speaker, utts in speakers.items():
        for utt in utts:
            if speaker_of.setdefault(utt, speaker) != speaker:
                raise DataError(f"is of two speakers, {speaker_of[utt]} and {speaker}", path=spk2utt, utt=utt)
    sums: dict[str, Stats] = {}
    for utt, stats in utterances:
        speaker_name = speaker_of.pop(utt, None)
        if speaker_name is not None:
            sums[speaker_name] = add(sums.get(speaker_name), stats, utt)
    unusable = {utt for _, utt, _ in tally.skips}
    for utt in speaker_of.keys() - unusable:
        tally.skip("no_features", utt, f"in {spk2utt} only")
    for speaker in speakers:
        if speaker in sums:
            yield speaker, sums[speaker]


def write_global(utterances: Iterator[tuple[str, Stats]], path: str, tally: log.Tally, feats: str) -> None:
    """Write the sum over all utterances of `feats` as one matrix, single precision as Kaldi's."""
    total: Stats | None = None
    for utt, stats in utterances:
        total = add(total, stats, utt)
    tally.check(path=feats)
    if total is not None:
        write_matrix_file(path, total.astype(np.float32))


def add(total: Stats | None, stats: Stats, utt: str) -> Stats:
    """The sum of two statistics; None counts as zero.

    Raises:
        DataError: features of another dimension than those before.
    """
    if total is None:
        return stats
    if total.shape != stats.shape:
        raise DataError(f"{stats.shape[1] - 1} values in a frame, {total.shape[1] - 1} in those before", utt=utt)
    return total + stats
