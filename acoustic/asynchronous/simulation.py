"""Asynchronous SGD in one process: the arithmetic of `arithmetic.py` in the order of a timeline or of a journal."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from acoustic.asynchronous.arithmetic import Gradient, Replica, Shard, from_half, to_half
from acoustic.asynchronous.dispatch import Dispatcher, Lease
from acoustic.asynchronous.layout import split_layers
from acoustic.asynchronous.timeline import COMPUTE, DONE, FETCH, PUSH, Event, Timeline
from acoustic.data.batches import Store
from acoustic.errors import DataError
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig


@dataclass(frozen=True)
class Finished:
    """A lease that is over.

    Attributes:
        lease: which.
        totals: float64 [2], sum of losses and number of right frames; zero when lost.
        num_frames: in its batches; 0 when lost.
        bad_step: as of Gradient.
        staleness: of the push at each shard: updates that its parameters had missed.
        was_lost: the replica died over it.
    """

    lease: Lease
    totals: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    num_frames: int = 0
    bad_step: int | None = None
    staleness: tuple[int, ...] = ()
    was_lost: bool = False


class World:
    """Replicas and shards without a clock: each event is told to happen.

    Args:
        config: the whole configuration.
        classifier: the first weights; it is copied.
        store: training frames.
        dtype: as of Trainer.

    Attributes:
        shards, replicas: what they are called.
    """

    def __init__(self, config: TrainConfig, classifier: SenoneClassifier, store: Store, dtype: torch.dtype) -> None:
        self.config = config
        self.layouts = split_layers(classifier, config.asynchronous.shards)
        self.shards = [Shard(layout, config.optim, classifier) for layout in self.layouts]
        self.replicas = [
            Replica(config, copy.deepcopy(classifier), store, self.layouts, dtype)
            for _ in range(config.asynchronous.replicas)
        ]
        self._gradients: dict[int, Gradient] = {}
        self._staleness: dict[int, list[int]] = {}

    def fetch(self, lease: Lease, shard: int) -> None:
        """A replica takes the parameters of a shard."""
        self.replicas[lease.replica].take(shard, self.shards[shard].flat, self.shards[shard].version)

    def compute(self, lease: Lease) -> None:
        """A replica computes its gradient."""
        self._gradients[lease.first] = self.replicas[lease.replica].compute(lease)
        self._staleness[lease.first] = []

    def push(self, lease: Lease, shard: int) -> None:
        """A shard applies a replica's gradient, unless that is bad."""
        gradient, server = self._gradients[lease.first], self.shards[shard]
        if gradient.bad_step is not None:
            return
        self._staleness[lease.first].append(server.version - self.replicas[lease.replica].versions[shard])
        part = gradient.parts[shard]
        server.apply(
            from_half(*to_half(part)) if self.config.asynchronous.half_gradients else part, lease.rate, lease.momentum
        )

    def finish(self, lease: Lease) -> Finished:
        """The sum of a lease."""
        gradient, staleness = self._gradients.pop(lease.first), tuple(self._staleness.pop(lease.first))
        return Finished(lease, gradient.totals, gradient.num_frames, gradient.bad_step, staleness)


class Simulation:
    """A world with a clock: deterministic by the seed.

    Args:
        config, classifier, store, dtype: as of World.

    Attributes:
        world: the replicas and shards.
        timeline: their clock.
        staleness: pushes by the updates that they had missed.
    """

    def __init__(self, config: TrainConfig, classifier: SenoneClassifier, store: Store, dtype: torch.dtype) -> None:
        self.world = World(config, classifier, store, dtype)
        options = config.asynchronous
        self.timeline = Timeline(options.delays, options.replicas, options.shards, config.seed)
        self.staleness: Counter[int] = Counter()

    def run(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        """Work through a dispatcher's batches, telling of each lease when all shards have applied it."""
        for event in self.timeline.run(dispatcher):
            if event.kind == FETCH:
                self.world.fetch(event.lease, event.shard)
            elif event.kind == COMPUTE:
                self.world.compute(event.lease)
            elif event.kind == PUSH:
                self.world.push(event.lease, event.shard)
            elif event.kind == DONE:
                finished = self.world.finish(event.lease)
                self.staleness.update(finished.staleness)
                yield finished


def replay(world: World, journals: Sequence[Sequence[Event]]) -> None:
    """Do again what shards did: the weights are then those of the shards, bit for bit.

    Args:
        world: with the first weights.
        journals: of each shard, its fetches and pushes in the order in which it served them.

    Raises:
        DataError: no run can have left such journals.
    """
    ahead = [deque(journal) for journal in journals]
    fetched, pushed = Counter[int](), Counter[int]()
    while any(ahead):
        ready = [shard for shard, events in enumerate(ahead) if events and may_happen(events[0], fetched, len(ahead))]
        if not ready:
            raise DataError("journals in which every shard waits for another")
        for shard in ready:
            event = ahead[shard].popleft()
            lease = event.lease
            if event.kind == FETCH:
                world.fetch(lease, shard)
                fetched[lease.first] += 1
                continue
            if pushed[lease.first] == 0:
                world.compute(lease)
            world.push(lease, shard)
            pushed[lease.first] += 1
            if pushed[lease.first] == len(ahead):
                world.finish(lease)


def may_happen(event: Event, fetched: Counter[int], num_shards: int) -> bool:
    """Whether a replay has come to an event: a push whose lease fetched does so after the fetches at all shards."""
    return event.kind == FETCH or not event.lease.fetches or fetched[event.lease.first] == num_shards
