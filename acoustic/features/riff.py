"""RIFF wave files: PCM of 8, 16, 24 and 32 bits and IEEE float, from files, pipes and archives.

Read here rather than by libsndfile, because a file that ends before its header says so must be refused, and because a
wave inside a stream must be consumed to exactly its last byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.stream import ByteReader

PCM, IEEE_FLOAT, EXTENSIBLE = 1, 3, 0xFFFE

# Sizes that programs writing to a pipe put where they cannot know the size (as Kaldi's wave-reader.cc lists them).
STREAMED_RIFF = (0, 0xFFFFFFFF)
STREAMED_DATA = (0, 0xFFFFFFFF, 0x7FFFF000)
PIECE_BYTES = 1 << 20

# What brings a sample type to the scale of 16-bit samples.
SCALE = {(PCM, 8): 2.0**8, (PCM, 16): 1.0, (PCM, 24): 2.0**-16, (PCM, 32): 2.0**-16}
SCALE |= {(IEEE_FLOAT, 32): 2.0**15, (IEEE_FLOAT, 64): 2.0**15}


@dataclass(frozen=True)
class WaveFormat:
    """The `fmt ` chunk: sample type (PCM or IEEE_FLOAT) and size, channels, rate in Hz."""

    kind: int
    bits: int
    num_channels: int
    rate: int

    @property
    def block_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.num_channels * self.bits // 8


def read_wave(reader: ByteReader, in_archive: bool = False) -> tuple[NDArray[np.float32], int]:
    """Read one wave file from `reader`, which is left right behind its samples.

    Args:
        reader: at the file's first byte.
        in_archive: whether something else may follow; then samples of unknown number have no end.

    Returns:
        Samples on int16 scale, float32 [num_channels, num_samples], and the rate in Hz.

    Raises:
        DataError: no wave file, an encoding we do not read, fewer bytes than the header says, or in an archive a
            header that does not say how many.
    """
    file_start = reader.offset
    riff_size = _expect_riff(reader)
    form: WaveFormat | None = None
    while True:
        chunk_start = reader.offset
        name, size = struct.unpack("<4sI", reader.read(8))
        if name == b"data":
            break
        body = reader.read(size + size % 2)
        if name == b"fmt ":
            form = _parse_format(reader, body, chunk_start)
    if form is None:
        raise reader.error("samples before the format", "the file is damaged", byte=chunk_start)
    holds_nothing = size == 0 and riff_size == reader.offset - file_start - 8
    if riff_size not in STREAMED_RIFF and (size not in STREAMED_DATA or (in_archive and holds_nothing)):
        data = reader.read(size)
    elif in_archive:
        remedy = "give it its length, or a file of its own and a wav.scp"
        raise reader.error("a wave file of unknown length in an archive", remedy, byte=file_start)
    else:
        data = _read_rest(reader)
    whole = len(data) - len(data) % form.block_bytes
    return _decode(data[:whole], form), form.rate


def _expect_riff(reader: ByteReader) -> int:
    """Consume the file's head; returns the size it announces."""
    riff, size, wave = struct.unpack("<4sI4s", reader.read(12))
    if riff != b"RIFF" or wave != b"WAVE":
        found = f"begins with {riff!r}" if riff != b"RIFF" else f"{wave!r} stands where WAVE should"
        raise reader.error(f"is no RIFF wave file ({found})", "convert it to wav or flac", byte=0)
    return int(size)


def _parse_format(reader: ByteReader, body: bytes, byte: int) -> WaveFormat:
    """Decode the `fmt ` chunk that began at `byte`."""
    if len(body) < 16:
        raise reader.error(f"a format chunk of {len(body)} bytes", "the file is damaged", byte=byte)
    kind, num_channels, rate, _, block_bytes, bits = struct.unpack_from("<HHIIHH", body)
    if kind == EXTENSIBLE and len(body) >= 26:
        (kind,) = struct.unpack_from("<H", body, 24)
    if (kind, bits) not in SCALE:
        remedy = "convert it to 16-bit PCM, or to flac"
        raise reader.error(f"samples of format {kind} with {bits} bits are not read", remedy, byte=byte)
    form = WaveFormat(kind, bits, num_channels, rate)
    if num_channels == 0 or rate == 0 or block_bytes != form.block_bytes:
        raise reader.error("the format chunk contradicts itself", "the file is damaged", byte=byte)
    return form


def _read_rest(reader: ByteReader) -> bytes:
    """Everything up to the end of the stream."""
    pieces = []
    while piece := reader.peek(PIECE_BYTES):
        pieces.append(reader.read(len(piece)))
    return b"".join(pieces)


def _decode(data: bytes, form: WaveFormat) -> NDArray[np.float32]:
    """Raw samples to float32 [num_channels, num_samples] on int16 scale."""
    values: NDArray[Any]
    if form.bits == 8:
        values = np.frombuffer(data, np.uint8).astype(np.float32) - 128
    elif form.bits == 24:
        # Three bytes become the upper three of four.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0]
    else:
        values = np.frombuffer(data, f"<{'i' if form.kind == PCM else 'f'}{form.bits // 8}")
    samples = values.astype(np.float32)
    scale = SCALE[form.kind, form.bits]
    if scale != 1.0:
        samples *= np.float32(scale)
    return np.ascontiguousarray(samples.reshape(-1, form.num_channels).T)


def check_is_wave(reader: ByteReader) -> bool:
    """Whether `reader` stands at the head of a wave file; nothing is consumed.

    Raises:
        DataError: a big-endian wave file, which we do not read.
    """
    head = reader.peek(4)
    if head == b"RIFX":
        raise DataError("is a big-endian wave file", path=reader.name, remedy="convert it to wav or flac")
    return head == b"RIFF"
