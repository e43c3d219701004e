"""Posteriors: for each frame a few ids (of pdfs, phones or transitions) and their weights (hmm/posterior.cc)."""

from __future__ import annotations

import re
import struct
from typing import IO

import numpy as np

from acoustic.kaldi.numbers import find_bad_integer, parse_floats, parse_integers
from acoustic.kaldi.stream import ByteReader

Posterior = list[list[tuple[int, float]]]

_PAIR = np.dtype([("id_size", "u1"), ("id", "<i4"), ("weight_size", "u1"), ("weight", "<f4")])
_FRAME = re.compile(rb"[ \t\r\v\f]*\[([^\[\]]*)\]")


def read_posterior(reader: ByteReader) -> Posterior:
    """Read a posterior: for each frame its (id, weight) pairs; text is `[ 12 0.6 34 0.4 ] [ 12 1 ]` on a line.

    Raises:
        DataError: there is none, or it is cut or malformed.
    """
    if not reader.binary:
        return _read_text(reader)
    return [_read_frame(reader) for _ in range(reader.read_count("frames"))]


def _read_frame(reader: ByteReader) -> list[tuple[int, float]]:
    start = reader.offset
    pairs = reader.read_array(_PAIR, reader.read_count("pairs"))
    if (pairs["id_size"] != 4).any() or (pairs["weight_size"] != 4).any():
        raise reader.error("expected pairs of an int32 and a float", "the file is damaged", byte=start)
    return list(zip(pairs["id"].tolist(), pairs["weight"].tolist(), strict=True))


def _read_text(reader: ByteReader) -> Posterior:
    start = reader.offset
    line = reader.read_line()
    posterior: Posterior = []
    end = 0
    for match in _FRAME.finditer(line):
        if match.start() != end:
            break
        words = match[1].split()
        ids, weights = parse_integers(b" ".join(words[::2])), parse_floats(b" ".join(words[1::2]))
        if ids is None or weights is None or len(ids) != len(weights):
            raise reader.error("expected pairs of an id and a weight", byte=start + match.start(1))
        posterior.append(list(zip(ids.tolist(), weights.tolist(), strict=True)))
        end = match.end()
    if line[end:].strip():
        remedy = "these look like alignments" if find_bad_integer(line)[1] == "" else None
        raise reader.error("expected [ of a posterior", remedy, byte=start + end)
    return posterior


def write_posterior(file: IO[bytes], posterior: Posterior, binary: bool = True) -> None:
    """Write a posterior as Kaldi does, weights as floats."""
    if not binary:
        frames = ("[ " + "".join(f"{id_} {weight:.7g} " for id_, weight in frame) + "] " for frame in posterior)
        file.write(("".join(frames) + "\n").encode())
        return
    file.write(struct.pack("<bi", 4, len(posterior)))
    for frame in posterior:
        pairs = np.array([(4, id_, 4, weight) for id_, weight in frame], dtype=_PAIR)
        file.write(struct.pack("<bi", 4, len(frame)) + pairs.tobytes())
