"""Features of several streams side by side, frame by frame (featbin/paste-feats.cc)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from acoustic.kaldi.tables import RandomAccessTable, read_table
from acoustic.log import Tally

Matrix = np.ndarray[Any, Any]


def paste(streams: Sequence[Matrix], length_tolerance: int = 0) -> Matrix | None:
    """Streams [T_i, dim_i] of one utterance as one matrix [min T_i, sum of dim_i].

    Returns None where their lengths differ by more than `length_tolerance` frames or one has no frames.
    """
    lengths = [len(stream) for stream in streams]
    if min(lengths) == 0 or max(lengths) - min(lengths) > length_tolerance:
        return None
    return np.concatenate([stream[: min(lengths)] for stream in streams], axis=1)


def paste_tables(rspecifiers: Sequence[str], tally: Tally, length_tolerance: int = 0) -> Iterator[tuple[str, Matrix]]:
    """Pasted features of every utterance of the first table.

    Utterances that another table lacks, or whose lengths differ, are counted in `tally` (missing, length_mismatch).

    Args:
        rspecifiers: of the streams' features, two or more; all but the first are asked by utterance.
        tally: counts.
        length_tolerance: frames by which streams may differ; the longer are cut at their ends.

    Raises:
        DataError: a table that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(RandomAccessTable(rspecifier, "matrix")) for rspecifier in rspecifiers[1:]]
        for utt, first in read_table(rspecifiers[0], "matrix"):
            lacking = [name for name, table in zip(rspecifiers[1:], others, strict=True) if utt not in table]
            if lacking:
                tally.skip("missing", utt, f"not in {lacking[0]}")
                continue
            streams = [first, *(table[utt] for table in others)]
            pasted = paste(streams, length_tolerance)
            if pasted is None:
                lengths = ", ".join(str(len(stream)) for stream in streams)
                tally.skip("length_mismatch", utt, f"streams of {lengths} frames")
                continue
            tally.done()
            yield utt, pasted
