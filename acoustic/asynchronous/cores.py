"""Cores that simulated processes share, as an operating system shares them out: evenly among all that have work."""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

T = TypeVar("T")


class Cores(Generic[T]):
    """Tasks that all go on at the same speed: that of a core to each while there are enough, an even share otherwise.

    Args:
        num_cores: that there are; None: one for every task.
        contention: times as long that a task takes on one of the cores when all of them work, for they share caches and
            the way to memory; in between for some of them.
    """

    def __init__(self, num_cores: int | None, contention: float) -> None:
        self.num_cores, self.contention = num_cores, contention
        self._now = self._done = 0.0  # seconds of work that a task under way since the beginning would have had
        self._tasks: list[tuple[float, int, T]] = []  # what `_done` is when the task ends, order, the task
        self._count = 0

    def start(self, now: float, seconds: float, task: T) -> None:
        """Begin a task of so many seconds of one core that works alone."""
        self._advance(now)
        self._count += 1
        heapq.heappush(self._tasks, (self._done + seconds, self._count, task))

    def next_end(self) -> float:
        """When the next task ends, if none is begun before; infinity if there is none."""
        return self._now + max(0.0, self._tasks[0][0] - self._done) / self._speed() if self._tasks else math.inf

    def end(self) -> T:
        """Go on to the end of the next task, and take it away."""
        self._advance(self.next_end())
        return heapq.heappop(self._tasks)[2]

    def _advance(self, now: float) -> None:
        self._done += (now - self._now) * self._speed()
        self._now = now

    def _speed(self) -> float:
        """Seconds of work of each task in a second."""
        if self.num_cores is None:
            return 1.0
        working = min(len(self._tasks), self.num_cores)
        others = (working - 1) / (self.num_cores - 1) if working > 1 else 0.0
        return min(1.0, self.num_cores / max(1, len(self._tasks))) / (1.0 + (self.contention - 1.0) * others)
