"""Parts of matrices and vectors as scp files ask for them: `[first:last]`, `[first:last,first:last]`, ends included."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from acoustic.errors import DataError
from acoustic.log import get_logger

LENGTH_TOLERANCE = 3
"""A range may end this many rows (less one) behind the end: segment times are rounded (kaldi-holder.cc)."""

_INTERVAL = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")
_logger = get_logger(__name__)


def extract_range(value: np.ndarray[Any, Any], text: str) -> np.ndarray[Any, Any]:
    """The part of a matrix or vector that `text` (between the brackets) asks for, as a new array.

    Raises:
        DataError: the text is no range, or goes beyond the value.
    """
    intervals = text.split(",")
    if len(intervals) > value.ndim:
        raise DataError(f"range [{text}] has more parts than the value has dimensions")
    slices = [_slice(interval, text, value.shape, axis) for axis, interval in enumerate(intervals)]
    return value[tuple(slices)].copy()


def _slice(interval: str, text: str, shape: tuple[int, ...], axis: int) -> slice:
    if interval == ":":
        return slice(None)
    match = _INTERVAL.fullmatch(interval)
    if not match:
        raise DataError(f"[{text}] is no range", remedy="a range looks like [0:9] or [0:9,2:5]")
    first, last, length = int(match[1]), int(match[2]), shape[axis]
    tolerance = LENGTH_TOLERANCE if axis == 0 else 0
    if first > last or first >= length or last >= length + tolerance:
        raise DataError(f"range [{text}] does not fit a value of shape {shape}", remedy="rebuild the scp")
    if last >= length:
        _logger.warning("range [%s] ends behind a value of shape %s: cut", text, shape)
    return slice(first, last + 1)
