"""Damage done to files on purpose: seeded mutations that know what lengths and numbers look like."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]

INTERESTING_BYTES = (0, 1, 2, 4, 8, 0x0A, 0x20, 0x2D, 0x3C, 0x5B, 0x5D, 0x7F, 0x80, 0xF8, 0xFC, 0xFF)
INTERESTING_INTEGERS = (0, 1, -1, 2, 255, 256, 65535, 65536, 2**24, 2**30, 2**31 - 1, -(2**31), 2**31 // 40)
INTERESTING_NUMBERS = (
    b"0", b"-1", b"1", b"255", b"65536", b"1073741824", b"2147483647", b"2147483648", b"-2147483648",
    b"18446744073709551616", b"1e39", b"-1e39", b"nan", b"inf", b"-inf", b"1e-50", b"9" * 400, b"0x10", b"+", b"1.5",
    b"",
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")


def mutated(generator: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with one to four mutations, most often one."""
    data = bytearray(generator.choice(seeds))
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        generator.choice(MUTATIONS)(generator, data, seeds)
    return bytes(data)


def _flip_bit(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _set_byte(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[generator.randrange(len(data))] = generator.choice(INTERESTING_BYTES)


def _set_head_byte(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Headers are where the lengths are."""
    if data:
        data[generator.randrange(min(64, len(data)))] = generator.randrange(256)


def _set_int32(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    r"""A little-endian number, best where Kaldi writes one: behind a `\4`."""
    marks = [at + 1 for at, byte in enumerate(data[:100_000]) if byte == 4 and at + 5 <= len(data)]
    if len(data) < 4:
        return
    at = generator.choice(marks) if marks and generator.random() < 0.7 else generator.randrange(len(data) - 3)
    data[at : at + 4] = struct.pack("<i", generator.choice(INTERESTING_INTEGERS))


def _set_int64(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if len(data) >= 8:
        at = generator.randrange(min(len(data) - 7, 80))
        data[at : at + 8] = struct.pack("<q", generator.choice(INTERESTING_INTEGERS) << generator.choice((0, 8, 31)))


def _set_number(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A number in text."""
    matches = list(NUMBER.finditer(data, generator.randrange(len(data) + 1)))[:50]
    if matches:
        match = generator.choice(matches)
        data[match.start() : match.end()] = generator.choice(INTERESTING_NUMBERS)


def _truncate(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[generator.randrange(len(data) + 1) :]


def _delete(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = generator.randrange(len(data) + 1)
    del data[at : at + generator.choice((1, 1, 2, 4, 5, 16, 200))]


def _insert(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = generator.randrange(len(data) + 1)
    data[at:at] = generator.choice((b"\0", b"\0B", b" ", b"\n", b"[", b"]", b"\xff\xfe", b"</", generator.randbytes(4)))


def _repeat(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = generator.randrange(len(data) + 1)
    data[at:at] = data[at : at + generator.choice((1, 5, 30, 300))] * generator.choice((1, 2, 50))


def _splice(generator: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """The front of this file, the back of another."""
    other = generator.choice(seeds)
    data[generator.randrange(len(data) + 1) :] = other[generator.randrange(len(other) + 1) :]


def _swap_lines(generator: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    lines = bytes(data).split(b"\n")
    one, other = generator.randrange(len(lines)), generator.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"\n".join(lines)


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit, _flip_bit, _set_byte, _set_head_byte, _set_int32, _set_int32, _set_int64, _set_number, _set_number,
    _truncate, _delete, _insert, _repeat, _splice, _swap_lines,
)  # fmt: skip
