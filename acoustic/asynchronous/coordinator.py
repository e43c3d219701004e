"""The coordinator: it knows who is there, hands out leases, replaces the dead, and brings everything to rest."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from acoustic.asynchronous.beginning import Beginning, write_tensors
from acoustic.asynchronous.dispatch import Dispatcher
from acoustic.asynchronous.processes import Processes
from acoustic.asynchronous.replica_process import run_replica
from acoustic.asynchronous.shard_process import run_shard, snapshot_path
from acoustic.asynchronous.simulation import Finished
from acoustic.asynchronous.talk import ANSWER, LOAD, REPORTS, SAVE, Control, PeerGoneError, compose, leases, request
from acoustic.log import get_logger
from acoustic.nn.bundle import load_weights_only
from acoustic.train.config import TrainConfig

logger = get_logger(__name__)
REPLICA, SHARD = "replica", "shard"


class Coordinator:
    """Replicas and shards in processes of their own.

    Args:
        config: the whole configuration.
        folder: for what the processes share; it is made anew, and removed at the end unless there is a journal.

    Attributes:
        replica_work: what the processes of replicas do.
    """

    replica_work = staticmethod(run_replica)

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config, self.options, self.folder = config, config.asynchronous, folder
        self.processes = Processes(self.options.max_restarts)
        self.control: Control | None = None
        self.names: dict[int, str] = {}  # number of a replica -> name of its process
        self.leased: dict[int, float] = {}  # ... -> when it got its lease
        self.waiting: list[int] = []  # replicas that have asked for work

    @property
    def is_running(self) -> bool:
        """Whether there are processes."""
        return self.control is not None

    def start(self, beginning: Beginning, states: list[dict[str, Any]]) -> None:
        """Start all processes.

        Args:
            beginning: what they start from.
            states: the shards' first state_dicts.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        beginning.write(self.folder)
        self.write_states(states)
        self.control = Control.host(self.options.listen, self.options.port)
        run = {
            "config": self.config.fingerprint(), "learning_rate": self.config.optim.learning_rate,
            "shards": self.options.shards, "folder": str(self.folder.resolve()),
        }  # fmt: skip
        self.control.store.set("run", json.dumps(run))
        for shard in range(self.options.shards):
            self._start(SHARD, shard)
        for replica in range(self.options.replicas):
            self._start(REPLICA, replica)
        self.processes.watch(self.control.clone())
        logger.info(
            "%d replicas and %d shards; more replicas may join: async.join=%s:%d",
            self.options.replicas, self.options.shards, self.options.listen, self.control.port,
        )  # fmt: skip

    def _start(self, what: str, number: int) -> None:
        assert self.control is not None
        work = run_shard if what == SHARD else self.replica_work
        place = self.options.listen, self.control.port
        self.processes.start(what, number, work, *place, str(self.folder), self.config)

    def end(self) -> None:
        """End all processes."""
        self.processes.end()
        self.control = None
        if not self.options.journal:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- work ---------------------------------------------------------------------------------------------------------

    def work(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        """Have a dispatcher's batches done, telling of each lease that is done or lost.

        Raises:
            TrainingError: a process ended by itself, or too many were killed.
        """
        assert self.control is not None
        self._hand_out(dispatcher)
        while not dispatcher.finished:
            report = self.control.receive(REPORTS)
            if report is None:
                yield from self._look_after(dispatcher)
            elif "gone" in report:
                for number in [number for number, name in self.names.items() if name == report["gone"]]:
                    logger.info("replica %d has left", number)
                    yield from self._forget(number, dispatcher)
            else:
                yield from self._take_report(report, dispatcher)
            self._hand_out(dispatcher)

    def _take_report(self, report: dict[str, Any], dispatcher: Dispatcher) -> Iterator[Finished]:
        """A replica has done what it was given, if anything, and asks for more."""
        number = self._number_of(**report["from"])
        if number is None:
            return
        finished, lease = report["finished"], dispatcher.lease_of(number)
        if finished is not None and lease is not None:
            dispatcher.done(number)
            totals = torch.tensor(finished.pop("totals"), dtype=torch.float64)
            yield Finished(lease, totals, **finished | {"staleness": tuple(finished["staleness"])})
        self.leased.pop(number, None)
        self.waiting.append(number)

    def _number_of(self, name: str, slot: int | None, process: int) -> int | None:
        """The number of a replica, by the name it has chosen; None of one that was given up."""
        for number, known in self.names.items():
            if known == name:
                return number
        if slot is None:
            slot = max([self.options.replicas - 1, *self.names]) + 1
            logger.info("replica %d has joined", slot)
        elif process != self.processes.posts[REPLICA, slot].process.pid:
            return None
        self.names[slot] = name
        return slot

    def _hand_out(self, dispatcher: Dispatcher) -> None:
        """Give leases to the replicas that wait, the one that has waited longest first."""
        assert self.control is not None
        still_waiting = []
        for number in self.waiting:
            lease = dispatcher.ask(number)
            if lease is None:
                still_waiting.append(number)
            else:
                self.control.send(leases(self.names[number]), asdict(lease))
                self.leased[number] = time.monotonic()
        self.waiting = still_waiting

    # -- faults -------------------------------------------------------------------------------------------------------

    def _look_after(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        """Replace processes that died and replicas that take too long; what they were at is lost."""
        for number, since in list(self.leased.items()):
            if time.monotonic() - since > self.options.lease_seconds:
                logger.warning("replica %d has not answered for %.0f s", number, self.options.lease_seconds)
                if (REPLICA, number) in self.processes.posts:
                    self.processes.kill(REPLICA, number)
                else:
                    yield from self._forget(number, dispatcher)
        for post in self.processes.dead(REPLICA, SHARD):
            if post.what == REPLICA:
                yield from self._forget(post.number, dispatcher)
            self._start(post.what, post.number)

    def _forget(self, number: int, dispatcher: Dispatcher) -> Iterator[Finished]:
        """A replica is gone."""
        self.names.pop(number, None)
        self.leased.pop(number, None)
        self.waiting = [other for other in self.waiting if other != number]
        lease = dispatcher.lost(number)
        if lease is not None:
            yield Finished(lease, was_lost=True)

    # -- the shards' states, while all is at rest ---------------------------------------------------------------------

    def write_states(self, states: list[dict[str, Any]]) -> None:
        """Put down what the shards are to hold; one that is started later begins with it too."""
        for shard, state in enumerate(states):
            write_tensors(snapshot_path(self.folder, shard), state)

    def load(self, states: list[dict[str, Any]]) -> None:
        """Set the shards' states."""
        self.write_states(states)
        for shard in range(self.options.shards):
            self._command(LOAD, shard)

    def save(self) -> list[dict[str, Any]]:
        """The shards' states."""
        for shard in range(self.options.shards):
            self._command(SAVE, shard)
        return [load_weights_only(snapshot_path(self.folder, shard)) for shard in range(self.options.shards)]

    def _command(self, kind: int, shard: int) -> None:
        """Have a shard do something; if it dies over that, its successor."""
        assert self.control is not None
        patience = ANSWER
        while True:
            try:
                # A pair of this moment only: none lies idle that would break when its shard is killed.
                pair = self.control.connect(shard)
                pair.expect()
                pair.send(compose(request(kind)))
                pair.receive(patience)
                return
            except PeerGoneError:
                self.processes.wait_for_end(SHARD, shard)
                self.replace_shards()
                patience *= 2  # it may be alive, and its disk slow

    def replace_shards(self) -> None:
        """Start shards again that died; dead replicas are left to `work`."""
        for post in self.processes.dead(SHARD):
            self._start(SHARD, post.number)
