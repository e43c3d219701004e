"""The coordinator by itself: what it does about reports, deaths and silence, without processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acoustic.asynchronous import coordinator as coordinator_module
from acoustic.asynchronous.coordinator import Coordinator
from acoustic.asynchronous.dispatch import Dispatcher
from acoustic.asynchronous.processes import Post
from acoustic.asynchronous.simulation import Finished
from acoustic.train.asynchronous_config import AsynchronousConfig
from acoustic.train.config import TrainConfig, TrainData

Report = dict[str, Any] | None


class Queues:
    """As Control: the reports are given, and what is sent is kept."""

    def __init__(self, *reports: Report | Callable[[], Report]) -> None:
        self.reports, self.sent = deque(reports), list[tuple[str, int]]()

    def send(self, queue: str, message: dict[str, Any]) -> None:
        self.sent.append((queue.removeprefix("leases-"), message["first"]))

    def receive(self, queue: str) -> Report:
        report = self.reports.popleft()
        return report() if callable(report) else report


class Posts:
    """As Processes, of replicas with process ids 100, 101, ..., later 200, ..., that are killed by being told so."""

    def __init__(self, replicas: int) -> None:
        self.posts, self.num_started = dict[tuple[str, int], Post](), 0
        for number in range(replicas):
            self.posts["replica", number] = self.post(number, 100 + number)

    def post(self, number: int, pid: int) -> Post:
        process: Any = SimpleNamespace(pid=pid, exitcode=None)
        return Post("replica", number, process, 0.0)

    def start(self, what: str, number: int, *_: object) -> None:
        self.num_started += 1
        self.posts[what, number] = self.post(number, 100 * (1 + self.num_started) + number)

    def kill(self, what: str, number: int) -> None:
        process: Any = self.posts[what, number].process
        process.exitcode = -9

    def dead(self, *kinds: str) -> list[Post]:
        return [post for post in self.posts.values() if post.process.exitcode is not None]


def ask(name: str, slot: int | None, process: int, done: bool = True) -> Report:
    """What a replica reports: that it is there, or what it has done."""
    finished = {"totals": [2.0, 1.0], "num_frames": 8, "bad_step": None, "staleness": [0], "was_lost": False}
    return {"from": {"name": name, "slot": slot, "process": process}, "finished": finished if done else None}


def make(
    num_updates: int, replicas: int, *reports: Report | Callable[[], Report], max_staleness: int | None = None
) -> tuple[Any, Queues, Dispatcher]:
    """A coordinator of so many replicas that will get some reports, and so many updates to be done."""
    options = AsynchronousConfig(replicas=replicas, lease_seconds=60, max_staleness=max_staleness)
    config = TrainConfig(exp_dir="exp", train=TrainData(data_dir="data", ali_dir="ali"), asynchronous=options)
    coordinator: Any = Coordinator(config, Path("nowhere"))
    coordinator.control, coordinator.processes = Queues(*reports), Posts(replicas)
    coordinator.control.port = 1
    return coordinator, coordinator.control, Dispatcher(options, lambda step: (0.1, 0.0), 0, num_updates)


def outcome(found: list[Finished]) -> list[tuple[int, int, bool]]:
    """Replica, update, and whether it was lost."""
    return [(finished.lease.replica, finished.lease.first, finished.was_lost) for finished in found]


def test_what_a_dead_replica_was_at_is_lost_and_its_successor_goes_on() -> None:
    def die() -> Report:
        coordinator.processes.kill("replica", 1)
        return None

    coordinator, queues, dispatcher = make(
        5, 2,
        ask("a", 0, 100, done=False), ask("b", 1, 101, done=False), ask("a", 0, 100),
        die, ask("c", 1, 201, done=False),
        ask("b", 1, 101),  # which it had sent before it died
        ask("a", 0, 100), ask("c", 1, 201), ask("a", 0, 100),
    )  # fmt: skip
    found = list(coordinator.work(dispatcher))
    assert outcome(found) == [(0, 0, False), (1, 1, True), (0, 2, False), (1, 3, False), (0, 4, False)]
    assert queues.sent == [("a", 0), ("b", 1), ("a", 2), ("c", 3), ("a", 4)]
    assert found[0].totals.tolist() == [2.0, 1.0] and found[0].num_frames == 8 and found[0].staleness == (0,)
    assert found[1].num_frames == 0 and not queues.reports and coordinator.processes.num_started == 1
    # Both wait for the next part of the epoch, the one that has waited longest first.
    queues.reports.extend([ask("c", 1, 201), ask("a", 0, 100)])
    more = Dispatcher(coordinator.options, lambda step: (0.1, 0.0), 5, 7)
    assert outcome(list(coordinator.work(more))) == [(1, 5, False), (0, 6, False)]
    assert queues.sent[-2:] == [("c", 5), ("a", 6)]


def test_guests_come_leave_and_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(coordinator_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def silence() -> Report:
        clock[0] += 61.0
        return None

    coordinator, queues, dispatcher = make(
        6, 1,
        ask("a", 0, 100, done=False), ask("guest", None, 100, done=False), ask("other", None, 7, done=False),
        ask("a", 0, 100), {"gone": "guest"}, {"gone": "nobody"},
        ask("a", 0, 100),
        silence,  # of replica 0, which is killed, and of the other guest
        ask("other", None, 7),  # which comes back
        ask("b", 0, 200, done=False),
        ask("other", None, 7), {"gone": "other"},
    )  # fmt: skip
    found = list(coordinator.work(dispatcher))
    # When all fall silent "a" is at 4 and the other guest at 2; who comes back is taken for another.
    assert outcome(found) == [
        (0, 0, False), (1, 1, True), (0, 3, False), (2, 2, True), (0, 4, True), (1, 5, False),
    ]  # fmt: skip
    assert queues.sent == [("a", 0), ("guest", 1), ("other", 2), ("a", 3), ("a", 4), ("other", 5)]
    assert coordinator.processes.num_started == 1


def test_a_guest_may_be_the_first_to_ask() -> None:
    coordinator, _, dispatcher = make(1, 2, ask("guest", None, 7, done=False), ask("guest", None, 7))
    assert outcome(list(coordinator.work(dispatcher))) == [(2, 0, False)]


def test_a_replica_that_dies_while_it_waits_loses_nothing_and_gets_nothing() -> None:
    def die() -> Report:
        coordinator.processes.kill("replica", 1)
        return None

    coordinator, queues, dispatcher = make(
        2, 2, ask("a", 0, 100, done=False), ask("b", 1, 101, done=False), die, ask("a", 0, 100), ask("a", 0, 100),
        max_staleness=0,
    )  # fmt: skip
    assert outcome(list(coordinator.work(dispatcher))) == [(0, 0, False), (0, 1, False)]
    assert queues.sent == [("a", 0), ("a", 1)] and coordinator.processes.num_started == 1
