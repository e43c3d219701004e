"""Asynchronous SGD with processes: the strategy `async_sgd`, and replicas that join a run from another machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from acoustic.asynchronous.beginning import Beginning
from acoustic.asynchronous.coordinator import REPLICA, Coordinator
from acoustic.asynchronous.dispatch import Dispatcher
from acoustic.asynchronous.processes import Processes
from acoustic.asynchronous.replica_process import run_replica
from acoustic.asynchronous.simulation import Finished
from acoustic.asynchronous.talk import Control, RunOverError
from acoustic.asynchronous.trainer import AsynchronousTrainer
from acoustic.data.batches import Store
from acoustic.errors import ConfigError
from acoustic.log import get_logger
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig
from acoustic.train.ranks import Ranks

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
        self.coordinator = Coordinator(config, Path(config.exp_dir) / "asynchronous")

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

    def gather(self) -> None:
        """As AsynchronousTrainer.gather."""
        self.take_states(self.coordinator.save())

    def work(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        """As AsynchronousTrainer.work."""
        yield from self.coordinator.work(dispatcher)


def join_run(config: TrainConfig) -> None:
    """Add replicas on this machine to a run on another one, until it ends. Both see the same files.

    Raises:
        ConfigError: there is no such run, or it is of another configuration.
        TrainingError: a replica ended by itself, or too many were killed.
    """
    options = config.asynchronous
    host, _, port = str(options.join).rpartition(":")
    try:
        control = Control.join(host, int(port))
        fingerprint, _, folder = control.store.get("run").decode().partition(" ")
    except (RunOverError, dist.DistError) as error:
        raise ConfigError(f"async.join={options.join}: no run is to be found there") from error
    if fingerprint != config.fingerprint():
        raise ConfigError(f"async.join={options.join}: that run has another configuration; see {folder}/../config.yaml")
    processes = Processes(options.max_restarts)
    arguments = (run_joined, host, int(port), folder, config)
    try:
        for number in range(options.replicas):
            processes.start(REPLICA, number, *arguments)
        while processes.num_left():
            for post in processes.dead(REPLICA):
                processes.start(REPLICA, post.number, *arguments)
            time.sleep(1.0)
    finally:
        processes.end()
    logger.info("the run at %s has ended", options.join)


def run_joined(number: int, host: str, port: int, folder: str, config: TrainConfig) -> None:
    """As `run_replica`, for a replica whose number the coordinator chooses."""
    run_replica(None, host, port, folder, config)
