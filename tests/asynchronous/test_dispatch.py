from __future__ import annotations

import random
from typing import Any

import pytest

from acoustic.asynchronous.dispatch import Dispatcher, Lease
from acoustic.train.asynchronous_config import AsynchronousConfig


def make_dispatcher(num_updates: int, **options: Any) -> Dispatcher:
    """Of so many updates."""
    return Dispatcher(AsynchronousConfig(**options), lambda step: (0.1 * step, 0.9), 0, num_updates)


class Shard:
    """Replicas that fetch, push and die in any order; how stale a gradient gets at a shard.

    Attributes:
        staleness: updates that each gradient had missed.
        leases: in the order in which they were handed out.
    """

    def __init__(self, dispatcher: Dispatcher, replicas: int, death_rate: float, seed: int) -> None:
        self.dispatcher, self.generator = dispatcher, random.Random(seed)
        self.replicas, self.death_rate = replicas, death_rate
        self.version = 0
        self.fetched: dict[int, int] = {}
        self.staleness: list[int] = []
        self.leases: list[Lease] = []
        self.to_do: dict[int, list[str]] = {}

    def run(self) -> None:
        """Until all batches are done or lost."""
        while not self.dispatcher.finished:
            idle = [replica for replica in range(self.replicas) if replica not in self.to_do]
            self.generator.shuffle(idle)
            for replica in idle:
                if (lease := self.dispatcher.ask(replica)) is not None:
                    self.leases.append(lease)
                    self.to_do[replica] = [*(["fetch"] if lease.fetches else []), "push", "report"]
            assert self.to_do or self.dispatcher.finished, "everybody waits for nobody"
            if self.to_do:
                self.go_on(self.generator.choice(sorted(self.to_do)))

    def go_on(self, replica: int) -> None:
        """A replica does what comes next, or dies."""
        if self.generator.random() < self.death_rate:
            self.dispatcher.lost(replica)
            del self.to_do[replica]
            return
        doing = self.to_do[replica].pop(0)
        if doing == "fetch":
            self.fetched[replica] = self.version
        elif doing == "push":
            self.staleness.append(self.version - self.fetched[replica])
            self.version += 1
        else:
            del self.to_do[replica]
            self.dispatcher.done(replica)


@pytest.mark.parametrize("bound", [0, 1, 3])
@pytest.mark.parametrize("every", [{}, {"fetch_every": 7}, {"push_every": 2, "fetch_every": 4}])
def test_no_gradient_misses_more_updates_than_the_bound(bound: int, every: dict[str, int]) -> None:
    dispatcher = make_dispatcher(1000, replicas=5, max_staleness=bound, **every)
    shard = Shard(dispatcher, 5, 0.0, seed=1)
    shard.run()
    assert max(shard.staleness) == bound
    assert [lease.first for lease in shard.leases] == list(range(0, 1000, every.get("push_every", 1)))


def test_a_replica_that_dies_after_its_push_does_not_make_others_too_stale() -> None:
    for seed in range(20):
        shard = Shard(make_dispatcher(200, replicas=4, max_staleness=1), 4, 0.1, seed)
        shard.run()
        assert max(shard.staleness) == 1
        assert [lease.first for lease in shard.leases] == list(range(200))


@pytest.mark.parametrize("every", [{}, {"fetch_every": 7}, {"push_every": 3, "fetch_every": 9}])
def test_the_warm_up_is_done_by_one_replica_alone(every: dict[str, int]) -> None:
    shard = Shard(make_dispatcher(300, replicas=4, warmup_updates=150, **every), 4, 0.0, seed=1)
    shard.run()
    num_pushes = 150 // every.get("push_every", 1)
    assert max(shard.staleness[:num_pushes]) == 0 < max(shard.staleness[num_pushes:])
    assert all(lease.fetches for lease in shard.leases[:num_pushes])


def test_a_replica_fetches_when_it_has_done_so_many_batches() -> None:
    dispatcher = make_dispatcher(12, replicas=1, fetch_every=3, push_every=2)
    leases = []
    while (lease := dispatcher.ask(0)) is not None:
        leases.append(lease)
        dispatcher.done(0)
    assert [(lease.first, lease.end, lease.fetches) for lease in leases] == [
        (0, 2, True), (2, 4, False), (4, 6, True), (6, 8, False), (8, 10, True), (10, 12, False),
    ]  # fmt: skip
    assert [lease.rate for lease in leases] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_what_is_at_work_when_told_to_stop_is_finished() -> None:
    dispatcher = make_dispatcher(10, replicas=2)
    assert dispatcher.ask(0) and dispatcher.ask(1)
    dispatcher.stop()
    assert dispatcher.ask(2) is None and not dispatcher.finished
    dispatcher.done(0)
    assert not dispatcher.finished
    lost = dispatcher.lost(1)
    assert lost is not None and lost.first == 1 and dispatcher.finished and dispatcher.lost(1) is None
