"""Counts of how many updates the parameters of a pushed gradient had missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


def bins(staleness: Mapping[int, int]) -> dict[str, int]:
    """A histogram over 0, 1, 2-3, 4-7, 8-15, ...: pushes in each bin that is not empty."""
    found: Counter[int] = Counter()
    for missed, count in staleness.items():
        found[missed.bit_length()] += count
    return {_name(bits): found[bits] for bits in sorted(found)}


def _name(bits: int) -> str:
    low, high = (1 << bits) >> 1, (1 << bits) - 1
    return str(low) if low == high else f"{low}-{high}"


def summary(staleness: Mapping[int, int]) -> dict[str, Any]:
    """Mean, largest, and histogram."""
    pushes = sum(staleness.values())
    mean = sum(missed * count for missed, count in staleness.items()) / pushes if pushes else 0.0
    return {"mean": mean, "max": max(staleness, default=0), "histogram": bins(staleness)}
