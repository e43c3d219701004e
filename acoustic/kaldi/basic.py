"""Writing Kaldi's basic types (base/io-funcs); ByteReader (stream.py) reads them.

 `file` is a binary file in text mode too: Kaldi's text is
ASCII or UTF-8 with `\\n` at line ends.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import IO

import numpy as np

from acoustic.errors import DataError
from acoustic.kaldi.numbers import IntArray, as_int32

CONTROL_CHARACTER = re.compile(r"[\0-\x1f\x7f]")
"""Kaldi refuses to write them in keys (IsToken); an archive that has one there is damaged."""

_WHITE_SPACE = re.compile(r"[ \t\n\v\f\r\0]")


def format_float(value: float) -> str:
    """A number as Kaldi prints it in text mode: seven significant digits."""
    return f"{value:.7g}"


def check_token(token: str) -> str:
    """Return `token` if it can be read back: not empty, without white space, UTF-8.

    Raises:
        DataError: it cannot.
    """
    if not token or _WHITE_SPACE.search(token) or any(0xD800 <= ord(letter) <= 0xDFFF for letter in token):
        raise DataError(f"{token!r} cannot be a key or word of a Kaldi file: it must be non-empty, without white space")
    return token


def check_key(key: str) -> str:
    """Return `key` if a table can have it: a token (see `check_token`) without control characters.

    Raises:
        DataError: it cannot.
    """
    if CONTROL_CHARACTER.search(check_token(key)):
        raise DataError(f"{key!r} cannot be a key of a table: it must be without control characters")
    return key


def write_binary_header(file: IO[bytes]) -> None:
    r"""Write the `\0B` that marks binary data."""
    file.write(b"\0B")


def write_token(file: IO[bytes], token: str, binary: bool = True) -> None:
    """Write a token and a space: the same in both modes, `binary` is there for symmetry with the other writers.

    Raises:
        DataError: it could not be read back.
    """
    file.write(check_token(token).encode() + b" ")


def write_int32(file: IO[bytes], value: int, binary: bool = True) -> None:
    """Write an int32.

    Raises:
        DataError: it does not fit.
    """
    if not -(2**31) <= value < 2**31:
        raise DataError(f"{value} does not fit an int32")
    file.write(struct.pack("<bi", 4, value) if binary else b"%d " % value)


def write_uint32(file: IO[bytes], value: int, binary: bool = True) -> None:
    """Write a uint32.

    Raises:
        DataError: it does not fit.
    """
    if not 0 <= value < 2**32:
        raise DataError(f"{value} does not fit a uint32")
    file.write(struct.pack("<bI", -4, value) if binary else b"%d " % value)


def write_float(file: IO[bytes], value: float, binary: bool = True) -> None:
    """Write a float (32 bits)."""
    file.write(b"\4" + np.float32(value).tobytes() if binary else format_float(value).encode() + b" ")


def write_double(file: IO[bytes], value: float, binary: bool = True) -> None:
    """Write a double (64 bits)."""
    file.write(struct.pack("<bd", 8, value) if binary else format_float(value).encode() + b" ")


def write_bool(file: IO[bytes], value: bool, binary: bool = True) -> None:
    """Write a bool as `T` or `F`."""
    file.write((b"T" if value else b"F") + (b"" if binary else b" "))


def write_int32_vector(file: IO[bytes], values: Sequence[int] | IntArray, binary: bool = True) -> None:
    """Write as WriteIntegerVector: plain int32s behind a size byte and a count, or `[ 1 2 3 ]` and a newline.

    Raises:
        DataError: a value does not fit an int32.
    """
    array = as_int32(values)
    if binary:
        file.write(struct.pack("<bi", 4, len(array)) + array.astype("<i4").tobytes())
    else:
        file.write(b"[ " + b"".join(b"%d " % value for value in array.tolist()) + b"]\n")


def write_int32_pairs(file: IO[bytes], pairs: IntArray, binary: bool = True) -> None:
    """Write int32s of shape [num_pairs, 2] as WriteIntegerPairVector does.

    Raises:
        DataError: a value does not fit an int32.
    """
    array = as_int32(np.asarray(pairs).reshape(-1)).reshape(-1, 2)
    if binary:
        file.write(struct.pack("<bi", 4, len(array)) + array.astype("<i4").tobytes())
    else:
        file.write(b"[ " + b"".join(b"%d,%d " % (first, second) for first, second in array.tolist()) + b"]\n")
