"""Numbers between text and arrays, strictly: no `1_000`, no hexadecimal, nothing that would be cut or wrapped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from acoustic.errors import DataError

IntArray = np.ndarray[Any, np.dtype[np.int32]]
FloatArray = np.ndarray[Any, np.dtype[np.float32]]

_WORD = re.compile(rb"[^ \t\n\v\f\r]+")
_INTEGER_BYTES = b"0123456789+- \t\n\v\f\r"
_FLOAT_BYTES = b"0123456789+-.eEinfatyINFATY \t\n\v\f\r"


def parse_integers(text: bytes) -> IntArray | None:
    """The int32s that `text` holds between white space, or None when something in it is none."""
    if text.translate(None, _INTEGER_BYTES):
        return None
    try:
        return np.array([int(word) for word in text.split()], dtype=np.int32)
    except (ValueError, OverflowError):
        return None


def find_bad_integer(text: bytes) -> tuple[int, str]:
    """Where the first word of `text` that is no int32 begins, and the word."""
    for match in _WORD.finditer(text):
        if parse_integers(match[0]) is None:
            return match.start(), match[0].decode("utf-8", "backslashreplace")
    return 0, ""


def parse_floats(text: bytes) -> FloatArray | None:
    """The floats that `text` holds between white space, or None when something in it is none or too large for one."""
    if text.translate(None, _FLOAT_BYTES):
        return None
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        return None
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float32)
    num_spelled = text.lower().count(b"inf")
    return array if np.count_nonzero(np.isinf(array)) == num_spelled else None


def find_bad_float(text: bytes) -> tuple[int, str]:
    """Where the first word of `text` that is no float begins, and the word."""
    for match in _WORD.finditer(text):
        if parse_floats(match[0]) is None:
            return match.start(), match[0].decode("utf-8", "backslashreplace")
    return 0, ""


def as_int32(values: Iterable[int] | np.ndarray[Any, Any]) -> IntArray:
    """Values as a one-dimensional int32 array.

    Raises:
        DataError: they are no integers, not one-dimensional, or do not fit.
    """
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.size == 0:
        return np.zeros(0, np.int32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"expected a vector of integers, got {array.dtype} of shape {array.shape}")
    if array.min() < -(2**31) or array.max() >= 2**31:
        raise DataError(f"integers from {array.min()} to {array.max()} do not fit an int32")
    return array.astype(np.int32)
