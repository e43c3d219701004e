"""When things happen in asynchronous SGD, by imagined delays: a simulation of discrete events, without any arithmetic.

A replica asks the coordinator for a lease, and waits its turn there; its request for parameters travels to every shard,
waits its turn there, and is answered; the gradient takes its time; the push travels to every shard, waits its turn, is
applied and acknowledged; then the replica asks again. Everything random is a function of the seed, the replica and the
lease.
"""

from __future__ import annotations

import functools
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from acoustic.asynchronous.cores import Cores
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
    """

    def __init__(self, delays: DelaysConfig, num_replicas: int, num_shards: int, seed: int) -> None:
        self.delays, self.num_replicas, self.num_shards, self.seed = delays, num_replicas, num_shards, seed
        self._start()

    def _start(self) -> None:
        """Begin at time zero, everybody at rest."""
        self.seconds = 0.0
        self._cores: Cores[Action] = Cores(self.delays.cores, self.delays.contention)
        self._queues: dict[Hashable, deque[tuple[float, Action]]] = {}  # of whoever does one thing at a time
        self._agenda: list[tuple[float, int, Action]] = []
        self._count = 0
        self._waiting = list(range(self.num_replicas))
        self._answers: dict[int, int] = {}  # replica -> answers it still waits for

    def run(self, dispatcher: Dispatcher) -> Iterator[Event]:
        """All events until the dispatcher's batches are done, in the order of time, which begins at zero."""
        self._start()
        self._ask(dispatcher)
        while (action := self._next()) is not None:
            for event in action():
                yield event
                if event.kind == DONE:
                    dispatcher.done(event.lease.replica)
                    self._waiting.append(event.lease.replica)
                    self._ask(dispatcher)

    def _next(self) -> Action | None:
        """Go on to the next action, if there is one."""
        end_of_work = self._cores.next_end()
        if self._agenda and self._agenda[0][0] <= end_of_work:
            self.seconds, _, action = heapq.heappop(self._agenda)
            return action
        if end_of_work == math.inf:
            return None
        self.seconds = end_of_work
        return self._cores.end()

    def _ask(self, dispatcher: Dispatcher) -> None:
        """Have the waiting replicas ask for work, the one that has waited longest first."""
        still_waiting = []
        for replica in self._waiting:
            lease = dispatcher.ask(replica)
            if lease is None:
                still_waiting.append(replica)
            else:
                self._in_turn("coordinator", self.delays.word_seconds, functools.partial(self._begin, lease))
        self._waiting = still_waiting

    # -- one after the other ------------------------------------------------------------------------------------------

    def _begin(self, lease: Lease) -> Iterator[Event]:
        """A replica has a lease."""
        if lease.fetches:
            yield from self._send_to_shards(FETCH, lease)
        else:
            yield from self._compute(lease)

    def _send_to_shards(self, kind: str, lease: Lease) -> Iterator[Event]:
        """Send a message to every shard, once the replica has made them."""
        own_work = self.num_shards * self.delays.message_seconds
        return self._work(own_work, functools.partial(self._send, kind, lease))

    def _send(self, kind: str, lease: Lease) -> Iterator[Event]:
        """Messages to every shard are on their way."""
        self._answers[lease.replica] = self.num_shards
        for shard in range(self.num_shards):
            arrival = self.seconds + self._network_seconds(f"{kind} {shard}", lease)
            self._at(arrival, functools.partial(self._arrive, kind, lease, shard))
        yield from ()

    def _arrive(self, kind: str, lease: Lease, shard: int) -> Iterator[Event]:
        """A message has come to a shard, which serves one at a time."""
        seconds = self.delays.fetch_seconds if kind == FETCH else self.delays.apply_seconds
        self._in_turn(shard, seconds, functools.partial(self._serve, kind, lease, shard))
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
                yield from self._compute(lease)

    def _compute(self, lease: Lease) -> Iterator[Event]:
        seconds = sum(self._compute_seconds(lease, step) for step in range(lease.first, lease.end))
        return self._work(seconds, functools.partial(self._computed, lease))

    def _computed(self, lease: Lease) -> Iterator[Event]:
        yield Event(self.seconds, COMPUTE, lease)
        yield from self._send_to_shards(PUSH, lease)

    # -- what is done when --------------------------------------------------------------------------------------------

    def _at(self, seconds: float, action: Action) -> None:
        """Note an action; of several at one time the one noted first comes first."""
        self._count += 1
        heapq.heappush(self._agenda, (seconds, self._count, action))

    def _work(self, seconds: float, action: Action) -> Iterator[Event]:
        """Have a core do so many seconds of work, then the action; that at once if there is no work."""
        if seconds == 0.0:
            return action()
        self._cores.start(self.seconds, seconds, action)
        return iter(())

    def _in_turn(self, who: Hashable, seconds: float, action: Action) -> None:
        """As `_work`, when `who` has done what it was given before."""
        queue = self._queues.setdefault(who, deque())
        queue.append((seconds, action))
        if len(queue) == 1:
            self._start_first(who)

    def _start_first(self, who: Hashable) -> None:
        seconds, action = self._queues[who][0]
        self._cores.start(self.seconds, seconds, functools.partial(self._end_first, who, action))

    def _end_first(self, who: Hashable, action: Action) -> Iterator[Event]:
        self._queues[who].popleft()
        if self._queues[who]:
            self._start_first(who)
        yield from action()

    # -- how long -----------------------------------------------------------------------------------------------------

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
