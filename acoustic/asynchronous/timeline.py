"""When things happen in asynchronous SGD, by imagined delays: a simulation of discrete events, without any arithmetic.

A replica asks for a lease; its request for parameters travels to every shard, waits its turn there, and is answered;
the gradient takes its time; the push travels to every shard, waits its turn, is applied and acknowledged; then the
replica asks again. Everything random is a function of the seed, the replica and the lease.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from acoustic.asynchronous.dispatch import Dispatcher, Lease
from acoustic.train.asynchronous_config import DelaysConfig

FETCH, COMPUTE, PUSH, DONE = "fetch", "compute", "push", "done"


@dataclass(frozen=True)
class Event:
    """Something has happened.

    Attributes:
        seconds: when.
        kind: FETCH, a shard has read its parameters for a replica; COMPUTE, a replica has its gradient; PUSH, a shard
            has applied one; DONE, the replica knows that all have.
        lease: whose.
        shard: which, of FETCH and PUSH; else -1.
    """

    seconds: float
    kind: str
    lease: Lease
    shard: int = -1


Action = Callable[[], Iterator[Event]]


class Timeline:
    """Replicas and shards as they would act one after the other.

    Args:
        delays: what takes how long.
        num_replicas, num_shards: how many there are.
        seed: of everything random.

    Attributes:
        seconds: the time since the run began.
        busy_seconds: that each shard has worked since.
    """

    def __init__(self, delays: DelaysConfig, num_replicas: int, num_shards: int, seed: int) -> None:
        self.delays, self.num_replicas, self.num_shards, self.seed = delays, num_replicas, num_shards, seed
        self._start()

    def _start(self) -> None:
        """Begin at time zero, everybody at rest."""
        self.seconds = 0.0
        self.busy_seconds = [0.0] * self.num_shards
        self._shard_free = [0.0] * self.num_shards
        self._core_free = [0.0] * (self.delays.cores or 0)
        self._agenda: list[tuple[float, int, Action]] = []
        self._count = 0
        self._waiting = list(range(self.num_replicas))
        self._answers: dict[int, int] = {}  # replica -> answers it still waits for

    def run(self, dispatcher: Dispatcher) -> Iterator[Event]:
        """All events until the dispatcher's batches are done, in the order of time, which begins at zero."""
        self._start()
        self._ask(dispatcher)
        while self._agenda:
            self.seconds, _, action = heapq.heappop(self._agenda)
            for event in action():
                yield event
                if event.kind == DONE:
                    dispatcher.done(event.lease.replica)
                    self._waiting.append(event.lease.replica)
                    self._ask(dispatcher)

    def _ask(self, dispatcher: Dispatcher) -> None:
        """Have the waiting replicas ask for work, the one that has waited longest first."""
        still_waiting = []
        for replica in self._waiting:
            lease = dispatcher.ask(replica)
            if lease is None:
                still_waiting.append(replica)
            elif lease.fetches:
                self._send_to_shards(FETCH, lease, self.delays.fetch_seconds)
            else:
                self._start_computing(lease)
        self._waiting = still_waiting

    # -- one after the other ------------------------------------------------------------------------------------------

    def _send_to_shards(self, kind: str, lease: Lease, seconds: float) -> None:
        """Send a message to every shard, which each takes so long to serve."""
        self._answers[lease.replica] = self.num_shards
        for shard in range(self.num_shards):
            arrival = self.seconds + self._network_seconds(f"{kind} {shard}", lease)
            self._at(arrival, functools.partial(self._arrive, kind, lease, shard, seconds))

    def _arrive(self, kind: str, lease: Lease, shard: int, seconds: float) -> Iterator[Event]:
        """A message has come to a shard, which serves one at a time."""
        start = max(self.seconds, self._shard_free[shard])
        self._shard_free[shard] = self._occupy_core(start, seconds)
        self.busy_seconds[shard] += seconds
        self._at(self._shard_free[shard], functools.partial(self._serve, kind, lease, shard))
        yield from ()

    def _serve(self, kind: str, lease: Lease, shard: int) -> Iterator[Event]:
        """A shard has served a message; the answer is on its way."""
        yield Event(self.seconds, kind, lease, shard)
        arrival = self.seconds + self._network_seconds(f"{kind} {shard} answer", lease)
        self._at(arrival, functools.partial(self._answer, kind, lease))

    def _answer(self, kind: str, lease: Lease) -> Iterator[Event]:
        """A replica has a shard's answer; the last one lets it go on."""
        self._answers[lease.replica] -= 1
        if self._answers[lease.replica] == 0:
            if kind == PUSH:
                yield Event(self.seconds, DONE, lease)
            else:
                self._start_computing(lease)

    def _start_computing(self, lease: Lease) -> None:
        seconds = sum(self._compute_seconds(lease, step) for step in range(lease.first, lease.end))
        self._at(self._occupy_core(self.seconds, seconds), functools.partial(self._computed, lease))

    def _computed(self, lease: Lease) -> Iterator[Event]:
        yield Event(self.seconds, COMPUTE, lease)
        self._send_to_shards(PUSH, lease, self.delays.apply_seconds)

    def _at(self, seconds: float, action: Action) -> None:
        """Note an action; of several at one time the one noted first comes first."""
        self._count += 1
        heapq.heappush(self._agenda, (seconds, self._count, action))

    # -- how long -----------------------------------------------------------------------------------------------------

    def _occupy_core(self, start: float, seconds: float) -> float:
        """When work that could begin at `start` ends, if it has to wait for a core."""
        if not self._core_free:
            return start + seconds
        end = max(start, heapq.heappop(self._core_free)) + seconds
        heapq.heappush(self._core_free, end)
        return end

    def _compute_seconds(self, lease: Lease, step: int) -> float:
        delays = self.delays
        return self._draw(delays.compute, delays.compute_seconds, f"compute {step}", lease.replica)

    def _network_seconds(self, what: str, lease: Lease) -> float:
        delays = self.delays
        return self._draw(delays.network, delays.network_seconds, f"{what} {lease.first}", lease.replica)

    def _draw(self, distribution: str, mean: float, what: str, replica: int) -> float:
        """A duration."""
        if distribution == "exponential":
            return mean * random.Random(f"{self.seed} {replica} {what}").expovariate(1.0)
        is_straggler = replica < round(self.delays.straggler_share * self.num_replicas)
        return mean * self.delays.straggler_factor if distribution == "stragglers" and is_straggler else mean
