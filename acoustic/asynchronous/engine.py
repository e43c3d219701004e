"""Asynchronous SGD with processes: the strategy `async_sgd`, and replicas that join a run from another machine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from acoustic.asynchronous.beginning import Beginning
from acoustic.asynchronous.coordinator import REPLICA, Coordinator
from acoustic.asynchronous.dispatch import Dispatcher
from acoustic.asynchronous.lifeline import Lifeline, within
from acoustic.asynchronous.processes import LOOK_SECONDS, Processes
from acoustic.asynchronous.replica_process import run_replica
from acoustic.asynchronous.simulation import Finished
from acoustic.asynchronous.talk import ANSWER, REPORTS, Control, RunOverError
from acoustic.asynchronous.trainer import AsynchronousTrainer
from acoustic.data.batches import Store
from acoustic.errors import ConfigError, TrainingError
from acoustic.log import get_logger
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig
from acoustic.train.guard import Interrupt
from acoustic.train.ranks import Ranks
from acoustic.workers import exit_with_parent

logger = get_logger(__name__)


class EngineTrainer(AsynchronousTrainer):
    """As Trainer, with updates by processes. This process coordinates them and evaluates."""

    def __init__(
        self,
        config: TrainConfig,
        classifier: SenoneClassifier,
        train_store: Store,
        dev_store: Store,
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(config, classifier, train_store, dev_store, device, dtype, ranks)
        self.coordinator = Coordinator(self.config, Path(config.exp_dir) / "asynchronous")
        self.versions: list[int] = []  # of the shards, by the pushes that they have acknowledged

    def run(self) -> None:
        """As Trainer.run."""
        try:
            super().run()
        finally:
            self.coordinator.end()

    def scatter(self) -> None:
        """As AsynchronousTrainer.scatter; the first time the processes are started."""
        if self.coordinator.is_running:
            self.coordinator.load(self.shard_states())
        else:
            beginning = Beginning.of(self.classifier, self.train_store, self.dtype)
            self.coordinator.start(beginning, self.shard_states())
        self.versions = [self.position.step] * len(self.layouts)

    def gather(self) -> None:
        """As AsynchronousTrainer.gather."""
        states = self.coordinator.save()
        for shard, state in enumerate(states):
            # A shard that was not killed may have more: the pushes of replicas that died before they knew.
            if (num_undone := self.versions[shard] - state["version"]) > 0:
                logger.warning("shard %d has lost %d pushes that it had applied since its snapshot", shard, num_undone)
                self.tally.num_undone += num_undone
        self.versions = [state["version"] for state in states]
        self.take_states(states)

    def work(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        """As AsynchronousTrainer.work."""
        for finished in self.coordinator.work(dispatcher):
            if len(finished.staleness) == len(self.layouts):
                self.versions = [version + 1 for version in self.versions]
            yield finished


def join_run(config: TrainConfig) -> None:
    """Add replicas on this machine to a run on another one, until it ends. Both see the same files.

    Raises:
        ConfigError: there is no such run, or it is of another configuration.
        PreemptedError, TrainingError: as of Guests.run.
    """
    options = config.asynchronous
    host, _, port = str(options.join).rpartition(":")
    with contextlib.ExitStack() as stack:
        try:
            # First of all: torch would try for 20 s, and print where in itself it did so.
            lifeline = stack.enter_context(contextlib.closing(Lifeline(host, int(port))))
            control = within(ANSWER, lambda: Control.join(host, int(port)))
            control.store.wait(["run"], ANSWER)
            run = json.loads(control.store.get("run"))
        except (OSError, RunOverError, dist.DistError) as error:
            reason = f" ({error.strerror or error})" if isinstance(error, OSError) else ""
            raise ConfigError(f"async.join={options.join}: no run is to be found there{reason}") from error
        if config.optim.learning_rate is None:
            optim = dataclasses.replace(config.optim, learning_rate=run["learning_rate"])
            config = dataclasses.replace(config, optim=optim)
        if run["config"] != config.fingerprint():
            where = Path(run["folder"]).parent / "config.yaml"
            raise ConfigError(f"async.join={options.join}: that run has another configuration; see {where}")
        config = dataclasses.replace(config, asynchronous=dataclasses.replace(options, shards=run["shards"]))
        Guests(control, lifeline, (host, int(port), run["folder"], config)).run()
    logger.info("the run at %s has ended", options.join)


class Guests:
    """Replicas of this machine in a run of another one. Who dies here is replaced here; the coordinator is told.

    Args:
        control: the coordinator's queues.
        lifeline: to its machine.
        arguments: of `run_replica`, from the second on.
    """

    def __init__(self, control: Control, lifeline: Lifeline, arguments: tuple[str, int, str, TrainConfig]) -> None:
        self.control, self.lifeline = control, lifeline
        self.arguments, self.options = arguments, arguments[-1].asynchronous
        self.processes = Processes(self.options.max_restarts)
        self.names: dict[int, str] = {}

    def run(self) -> None:
        """Have them work until the run ends.

        Raises:
            PreemptedError: this machine is taken away.
            TrainingError: a replica ended by itself, too many were killed, or the coordinator's machine is gone.
        """
        try:
            with Interrupt(at_once=True), contextlib.suppress(RunOverError):
                for number in range(self.options.replicas):
                    self.start(number)
                while True:
                    time.sleep(LOOK_SECONDS)
                    self.lifeline.check()
                    for post in self.processes.dead(REPLICA):
                        self.tell_gone(post.number)
                        self.start(post.number)
            self.names.clear()  # nobody is there to be told
        finally:
            self.processes.end()
            with contextlib.suppress(RunOverError, TrainingError):
                self.lifeline.check()
                self.tell_gone(*self.names)

    def tell_gone(self, *numbers: int) -> None:
        """Tell the coordinator that replicas are gone. If it does not hear, their leases' time tells it later.

        Raises:
            RunOverError: it has ended.
        """
        names = [self.names[number] for number in numbers]

        def tell() -> None:
            for name in names:
                self.control.send(REPORTS, {"gone": name})

        with contextlib.suppress(TimeoutError):
            within(ANSWER, tell)

    def start(self, number: int) -> None:
        """Start a replica, whose number in the run the coordinator chooses."""
        self.names[number] = uuid.uuid4().hex
        self.processes.start(REPLICA, number, run_guest, *self.arguments, self.names[number])


def run_guest(number: int, *arguments: Any) -> None:
    """As `run_replica`, without a number that the coordinator would know, and no longer than the process that watches.

    Were that killed, nobody here would find out that the coordinator's machine is gone.
    """
    exit_with_parent()
    run_replica(None, *arguments)
