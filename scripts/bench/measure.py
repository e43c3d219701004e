"""How the benchmarks measure: ways to do the same work in turns, medians, ratios of the same round."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Setting:
    """What a benchmark is run with.

    Attributes:
        directory: for what it writes; removed afterwards.
        device: where networks compute.
        quick: smaller sizes and fewer rounds.
        num_rounds: how often each way is measured.
        pause: seconds between measurements, for others on a shared machine where we have priority.
        decode: final.mdl, HCLG.fst and an rspecifier of loglikes to decode.
    """

    directory: Path
    device: torch.device
    quick: bool
    num_rounds: int
    pause: float
    decode: tuple[str, str, str]

    @property
    def on_gpu(self) -> bool:
        """Whether networks compute on a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


@dataclass
class Comparison:
    """How fast we are beside something else: `ratio` above 1 means faster."""

    against: str
    value: float
    ratio: float


@dataclass
class Result:
    """A figure of ours and what it is compared with; the first comparison is the one that counts."""

    name: str
    value: float
    unit: str
    comparisons: list[Comparison] = field(default_factory=list)
    remarks: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What --json writes for it."""
        first = asdict(self.comparisons[0]) if self.comparisons else {"against": "", "value": None, "ratio": None}
        return {
            "value": self.value,
            "unit": self.unit,
            "against": first["against"],
            "ratio": first["ratio"],
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            **self.remarks,
        }

    def lines(self) -> list[str]:
        """Its rows of the table."""
        rows = [f"{self.name:18s} {self.value:12.5g} {self.unit:10s} {'':44s} {'':9s}"]
        rows += [f"{'':18s} {c.value:12.5g} {self.unit:10s} {c.against:44s} {c.ratio:8.3f}x" for c in self.comparisons]
        rows += [f"{'':18s} {value:12.5g} {what}" for what, value in self.remarks.items()]
        return [row.rstrip() for row in rows]


class NotMeasuredError(Exception):
    """A benchmark that cannot be run here; says why."""


Way = Callable[[], float]  # does some work and gives its rate, in units of work a second


def compare(
    name: str, unit: str, ours: Way, others: dict[str, Way], setting: Setting, fixed: dict[str, float] | None = None
) -> Result:
    """Measure ways to do the same, one after the other in every round, after a round that does not count.

    Args:
        name, unit: of the result.
        ours: our way.
        others: what it is compared with, the most important first.
        setting: how many rounds, and the pause between measurements.
        fixed: rates known beforehand, the most important of all, compared with the median.
    """
    ways = {"": ours, **others}

    def measured(way: Way) -> float:
        time.sleep(setting.pause)
        return way()

    for way in ways.values():
        measured(way)
    rounds = [{against: measured(way) for against, way in ways.items()} for _ in range(setting.num_rounds)]
    value = statistics.median(rates[""] for rates in rounds)
    comparisons = [Comparison(against, rate, value / rate) for against, rate in (fixed or {}).items()]
    comparisons += [
        Comparison(
            against,
            statistics.median(rates[against] for rates in rounds),
            statistics.median(rates[""] / rates[against] for rates in rounds),
        )
        for against in others
    ]
    return Result(name, value, unit, comparisons)


def rate_of(work: Callable[[], Any], amount: float) -> Way:
    """The rate of doing `amount` of work by a call."""

    def way() -> float:
        start = time.perf_counter()
        work()
        return amount / (time.perf_counter() - start)

    return way


def on_path(*programs: str) -> bool:
    """Whether programs of Kaldi are there to be compared with."""
    return all(shutil.which(program) is not None for program in programs)


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """What this thread does, and threads and programs that it starts, share one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def run_program(command: Sequence[str | Path]) -> str:
    """Run a program and give what it said on stderr.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-500:]}")
    return done.stderr
