"""The training loop with asynchronous updates: between dev evaluations replicas work, at them everything is at rest.

What is at rest is a run like any other: weights and optimizer lie in the trainer's own network, so evaluation,
schedule, checkpoints, resuming (with any number of replicas and shards) and `final.pt` are those of `Trainer`.
"""

from __future__ import annotations

import abc
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import torch

from acoustic.asynchronous.arithmetic import Shard
from acoustic.asynchronous.dispatch import Dispatcher, Lease
from acoustic.asynchronous.layout import join_optimizers, split_layers, split_optimizer
from acoustic.asynchronous.simulation import Finished, Simulation
from acoustic.asynchronous.staleness import summary
from acoustic.data.batches import Store
from acoustic.errors import ConfigError, PreemptedError
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig
from acoustic.train.loop import Trainer
from acoustic.train.observe import Observer, Progress
from acoustic.train.ranks import Ranks


class Tally:
    """What became of the leases since the last evaluation.

    Attributes:
        staleness: pushes, each counted at each shard, by the updates that they had missed.
        num_lost: leases that were lost.
        num_undone: pushes that shards had applied and forgot when they were killed, each counted at each shard.
        num_frames: whose gradients were pushed.
        began: when this tally did.
        seconds: of simulated time, or None.
    """

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.staleness: Counter[int] = Counter()
        self.num_lost = self.num_undone = self.num_frames = 0
        self.began = time.monotonic()
        self.seconds: float | None = None

    def add(self, finished: Finished) -> None:
        """Count a lease."""
        self.staleness.update(finished.staleness)
        self.num_lost += finished.was_lost
        self.num_frames += finished.num_frames

    def record(self) -> dict[str, Any]:
        """For metrics.jsonl or speed.jsonl."""
        time = {} if self.seconds is None else {"simulated_seconds": self.seconds}
        lost = {"lost_pushes": self.num_lost, "undone_pushes": self.num_undone}
        return {"staleness": summary(self.staleness), **lost, **time}


class AsynchronousObserver(Observer):
    """Tells of staleness and lost pushes too."""

    def __init__(self, config: TrainConfig, dev_store: Store, ranks: Ranks, tally: Tally) -> None:
        super().__init__(config, dev_store, ranks)
        self.tally = tally

    def describe(self, progress: Progress) -> str:
        """As Observer.describe, and what the replicas do together: frames per second, staleness, lost pushes."""
        told, speed = self.tally.record(), self.tally.num_frames / (time.monotonic() - self.tally.began)
        histogram = ", ".join(f"{name}: {count}" for name, count in told["staleness"]["histogram"].items())
        lost = f"{told['lost_pushes']} pushes lost, {told['undone_pushes']} undone"
        return f"{super().describe(progress)}, {speed:.0f} frames/s, staleness {{{histogram}}}, {lost}"

    def end_interval(self, record: dict[str, Any], seconds: float, num_steps: int, num_frames: float) -> None:
        """As Observer.end_interval; the record tells of the tally, which then begins anew."""
        super().end_interval(record | self.tally.record(), seconds, num_steps, num_frames)
        self.tally.start()


class AsynchronousTrainer(Trainer, abc.ABC):
    """As Trainer, with updates by replicas and shards.

    Raises:
        ConfigError: options that need all weights in one place at every update, or several ranks.
    """

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
        refuse_what_needs_all_weights(config, ranks or Ranks())
        super().__init__(config, classifier, train_store, dev_store, device, dtype, ranks)
        self.tally = Tally()
        self.observer = AsynchronousObserver(config, dev_store, self.ranks, self.tally)
        self.metrics = self.observer.metrics
        self.names = [name for name, _ in classifier.named_parameters()]
        self.layouts = split_layers(classifier, config.asynchronous.shards)
        self.is_scattered = False

    @abc.abstractmethod
    def scatter(self) -> None:
        """Give the shards the weights and the optimizer's state of this process."""

    @abc.abstractmethod
    def gather(self) -> None:
        """Take over weights and optimizer's state of the shards, which are at rest."""

    @abc.abstractmethod
    def work(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        """Have replicas do a dispatcher's batches."""

    def run_interval(self) -> None:
        """As Trainer.run_interval."""
        _, first, end = self.position.interval_batches(self.steps_per_epoch, self.config.schedule.evals_per_epoch)
        end += self.position.step - first
        num_left, described = end - self.position.step, self.describe_interval()
        batches = (step for lease in self.work_until(end) for step in range(lease.first, lease.end))
        for _ in self.observer.watch(batches, num_left, described, self.progress):
            pass

    def describe_interval(self) -> str:
        """For the progress bar."""
        return f"epoch {self.position.step // self.steps_per_epoch + 1}, {self.config.asynchronous.replicas} replicas"

    def work_until(self, end: int) -> Iterator[Lease]:
        """Do the updates up to `end`, telling of those that are over; now and then all comes to rest for a checkpoint.

        At rest the run has done all updates before `position.step`; in between it only tells how many are over.
        """
        while self.position.step < end:
            if not self.is_scattered:
                self.scatter()
                self.is_scattered = True
            dispatcher = Dispatcher(self.config.asynchronous, self.rates, self.position.step, end)
            for finished in self.work(dispatcher):
                self.account(finished)
                if finished.bad_step is not None or self.interrupt.requested or self.checkpoint_due():
                    dispatcher.stop()
                yield finished.lease
            self.gather()
            self.stop_if_bad()
            self.leave_or_save()

    def checkpoint_due(self) -> bool:
        """Whether everything is to come to rest for a checkpoint."""
        return self.checkpoints.is_due(self.config.runtime.checkpoint_minutes)

    def rates(self, step: int) -> tuple[float, float]:
        """Learning rate and momentum of an update."""
        return self.schedule.rate(step), self.config.optim.momentum_at(step)

    def account(self, finished: Finished) -> None:
        """Add a lease to what the interval's record tells."""
        self.tally.add(finished)
        self.position.step += finished.lease.end - finished.lease.first
        self.totals += finished.totals.to(self.device)
        self.position.num_frames += finished.num_frames
        if finished.bad_step is not None and self.guard.bad_step() is None:  # others may come to grief after it
            self.guard.first_step.fill_(finished.bad_step)

    def restore(self, state: dict[str, Any], weights_only: bool = False) -> None:
        """As Trainer.restore; the shards get it before the next update."""
        super().restore(state, weights_only)
        self.is_scattered = False

    # -- the states of shards -----------------------------------------------------------------------------------------

    def shard_states(self) -> list[dict[str, Any]]:
        """What each shard's state_dict is to be, by the weights and the optimizer of this process."""
        weights, optimizer = dict(self.classifier.named_parameters()), self.optimizer.state_dict()
        return [
            {
                "flat": layout.pack(weights),
                "optimizer": split_optimizer(optimizer, self.names, layout),
                "version": self.position.step,
            }
            for layout in self.layouts
        ]

    @torch.no_grad()
    def take_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Take over the shards' state_dicts."""
        weights = dict(self.classifier.named_parameters())
        for layout, state in zip(self.layouts, states, strict=True):
            for name, view in layout.views(state["flat"]).items():
                weights[name].copy_(view)
        optimizers = [state["optimizer"] for state in states]
        self.optimizer.load_state_dict(join_optimizers(optimizers, self.names, self.layouts))


class SimulatedTrainer(AsynchronousTrainer):
    """Asynchronous SGD in this process, deterministic by the seed (strategy `async_simulation`).

    Checkpoints are written at dev evaluations only, also when it is asked to stop: what replicas have in flight is not
    in them, and time would otherwise decide when it comes to rest.
    """

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
        self.simulation = Simulation(config, classifier, train_store, dtype)

    @property
    def shards(self) -> list[Shard]:
        """The parameter server's parts."""
        return self.simulation.world.shards

    def scatter(self) -> None:
        """As AsynchronousTrainer.scatter."""
        for shard, state in zip(self.shards, self.shard_states(), strict=True):
            shard.load_state_dict(state)

    def gather(self) -> None:
        """As AsynchronousTrainer.gather."""
        self.take_states([shard.state_dict() for shard in self.shards])

    def work(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        """As AsynchronousTrainer.work."""
        for finished in self.simulation.run(dispatcher):
            if self.interrupt.requested:
                self.leave()
            yield finished
        self.tally.seconds = self.simulation.timeline.seconds

    def checkpoint_due(self) -> bool:
        """Not between evaluations: as AsynchronousTrainer.checkpoint_due."""
        return False

    def leave(self) -> NoReturn:
        """As Trainer.leave, without saving."""
        raise PreemptedError(
            "asked to stop: the same command goes on after the last dev evaluation, of which there are "
            "schedule.evals_per_epoch in an epoch"
        )

    def restore(self, state: dict[str, Any], weights_only: bool = False) -> None:
        """As AsynchronousTrainer.restore."""
        super().restore(state, weights_only)
        for replica in self.simulation.world.replicas:
            replica.dtype = self.dtype  # that of the run, which may have begun on another machine


def refuse_what_needs_all_weights(config: TrainConfig, ranks: Ranks) -> None:
    """Check that a configuration can be trained asynchronously.

    Raises:
        ConfigError: it cannot.
    """
    strategy = f"train.strategy={config.train.strategy}"
    if ranks.world_size > 1:
        raise ConfigError(f"{strategy} starts its own processes: not under torchrun")
    if config.optim.name == "hessian_free":
        raise ConfigError(f"{strategy} needs an optimizer that looks at one parameter at a time, not hessian_free")
    if config.average.name == "ema":
        raise ConfigError(f"{strategy}: average=ema looks at all weights after every update; average=last does not")
    if config.model.norm == "batch":
        raise ConfigError(f"{strategy}: model.norm=batch keeps moments that replicas would not share; take layer")
