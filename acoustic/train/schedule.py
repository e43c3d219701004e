"""Learning-rate schedules: what the rate is, when a pass is rejected, when training ends.

A schedule is asked for `rate(step)` before each update and told the dev loss at the end of each interval (an epoch, or
a part of one), which it answers with a Verdict. Its state is a handful of numbers, saved in every checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from acoustic import log

logger = log.get_logger(__name__)


@dataclass(kw_only=True)
class ScheduleConfig:
    """The schedule and its options; the defaults of newbob are those of Kaldi's steps/nnet/train_scheduler.sh."""

    name: str = "newbob"  # newbob, constant, exponential, cosine, anneal
    max_epochs: int = 20
    evals_per_epoch: int = 1  # dev evaluations an epoch; Dahl et al. 2013 use 2
    warmup_steps: int = 0  # the rate grows linearly from zero over these updates (constant, exponential, cosine)
    # newbob
    keep_epochs: int = 0  # intervals at the start that are always accepted, at the full rate
    start_halving: float = 0.01  # relative improvement of dev loss below which halving starts
    end_halving: float = 0.001  # ... below which, once halving, training ends
    factor: float = 0.5  # newbob: at each halving; exponential: after each epoch
    # anneal
    gamma: float = 2.0  # the rate is divided by this
    min_improvement: float = 0.01  # ... when dev loss improves by less than this (absolute, nats)
    max_annealings: int = 5  # ... and training ends after so many divisions
    # cosine
    final_rate: float = 0.0  # fraction of the learning rate reached at the end

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ValueError(f"schedule.name={self.name!r}: choose one of {', '.join(SCHEDULES)}")
        if self.max_epochs < 1 or self.evals_per_epoch < 1:
            raise ValueError("schedule.max_epochs and schedule.evals_per_epoch must be at least 1")
        if min(self.warmup_steps, self.keep_epochs) < 0 or not 0 <= self.final_rate <= 1:
            raise ValueError(
                "schedule.warmup_steps and schedule.keep_epochs must not be negative, schedule.final_rate lie in [0, 1]"
            )
        if not 0 < self.factor <= 1 or self.gamma <= 1:
            raise ValueError("schedule.factor must lie in (0, 1] and schedule.gamma above 1")


@dataclass
class Verdict:
    """What follows from a dev loss.

    Attributes:
        accepted: keep the weights; otherwise go back to the best ones.
        finished: training ends here.
    """

    accepted: bool
    finished: bool


class Schedule:
    """Base: a constant rate (after the warm-up), every interval accepted, `max_epochs` epochs."""

    def __init__(self, config: ScheduleConfig, learning_rate: float, steps_per_epoch: int) -> None:
        self.config = config
        self.base_rate = learning_rate
        self.steps_per_epoch = steps_per_epoch
        self.num_intervals = 0
        self.best_loss = math.inf

    @property
    def most_steps(self) -> int:
        """Updates of `max_epochs`; it may end before."""
        return self.steps_per_epoch * self.config.max_epochs

    def warmup(self, step: int) -> float:
        """The factor of the linear warm-up at update `step` (from 0)."""
        return min(1.0, (step + 1) / self.config.warmup_steps) if self.config.warmup_steps else 1.0

    def rate(self, step: int) -> float:
        """Learning rate of update `step` (from 0)."""
        return self.base_rate * self.warmup(step)

    def observe(self, dev_loss: float) -> Verdict:
        """Take note of the dev loss [nats per frame] at the end of an interval."""
        self.num_intervals += 1
        accepted = self.judge(dev_loss)
        self.best_loss = min(self.best_loss, dev_loss)
        over = self.num_intervals >= self.config.max_epochs * self.config.evals_per_epoch
        return Verdict(accepted, over or self.converged())

    def judge(self, dev_loss: float) -> bool:
        """Whether the interval is accepted."""
        return True

    def converged(self) -> bool:
        """Whether training ends before `max_epochs`."""
        return False

    def lower_rate(self, factor: float) -> None:
        """Multiply the rate for the rest of the training, as the rising-loss guard does."""
        self.base_rate *= factor

    def state_dict(self) -> dict[str, Any]:
        """The numbers that change, for a checkpoint."""
        return {name: value for name, value in vars(self).items() if name not in ("config", "steps_per_epoch")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's numbers."""
        vars(self).update(state)


class Exponential(Schedule):
    """The rate is multiplied by `factor` after each epoch (Maas et al. 2014 halve it)."""

    def rate(self, step: int) -> float:
        """Learning rate of update `step`."""
        return super().rate(step) * self.config.factor ** (step // self.steps_per_epoch)


class Cosine(Schedule):
    """Linear warm-up, then half a cosine down to `final_rate` times the rate at the end of `max_epochs`."""

    def rate(self, step: int) -> float:
        """Learning rate of update `step`."""
        done = (step - self.config.warmup_steps) / max(1, self.most_steps - self.config.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        return super().rate(step) * (self.config.final_rate + (1 - self.config.final_rate) * cosine)


class Newbob(Schedule):
    """Kaldi's nnet1 schedule (steps/nnet/train_scheduler.sh).

    An interval that does not lower the dev loss is rejected. Once the relative improvement falls below
    `start_halving` the rate is halved after every interval; once halving, an improvement below `end_halving` ends it.
    """

    def __init__(self, config: ScheduleConfig, learning_rate: float, steps_per_epoch: int) -> None:
        super().__init__(config, learning_rate, steps_per_epoch)
        self.halving = False
        self.ended = False

    def judge(self, dev_loss: float) -> bool:
        """Whether the interval is accepted; also decides on halving and on the end."""
        kept = self.num_intervals <= self.config.keep_epochs
        accepted = kept or dev_loss < self.best_loss
        if kept:
            return True
        improvement = 1.0
        if math.isfinite(self.best_loss):
            improvement = (self.best_loss - min(dev_loss, self.best_loss)) / abs(self.best_loss)
        if self.halving and improvement < self.config.end_halving:
            self.ended = True
        if improvement < self.config.start_halving:
            self.halving = True
        if self.halving:
            self.base_rate *= self.config.factor
        return accepted

    def converged(self) -> bool:
        """Whether halving no longer helps."""
        return self.ended


class Anneal(Schedule):
    """Dahl, Sainath & Hinton 2013: divide the rate by `gamma` when dev loss improves too little, a few times.

    The paper checks every half epoch: set `evals_per_epoch=2`.
    """

    def __init__(self, config: ScheduleConfig, learning_rate: float, steps_per_epoch: int) -> None:
        super().__init__(config, learning_rate, steps_per_epoch)
        self.num_annealings = 0
        self.previous_loss = math.inf

    def judge(self, dev_loss: float) -> bool:
        """Every interval is accepted; a small improvement lowers the rate."""
        if self.previous_loss - dev_loss < self.config.min_improvement:
            self.base_rate /= self.config.gamma
            self.num_annealings += 1
        self.previous_loss = dev_loss
        return True

    def converged(self) -> bool:
        """Whether the allowed annealings are used up."""
        return self.num_annealings >= self.config.max_annealings


SCHEDULES: dict[str, type[Schedule]] = {
    "newbob": Newbob,
    "constant": Schedule,
    "exponential": Exponential,
    "cosine": Cosine,
    "anneal": Anneal,
}


def make_schedule(config: ScheduleConfig, learning_rate: float, steps_per_epoch: int) -> Schedule:
    """The schedule of `config`, starting from `learning_rate`."""
    if config.evals_per_epoch > steps_per_epoch:
        logger.warning(
            "schedule.evals_per_epoch=%d in an epoch of %d updates: after intervals without an update the dev loss "
            "stands still, which newbob and anneal take for the end of improvement",
            config.evals_per_epoch, steps_per_epoch,
        )  # fmt: skip
    return SCHEDULES[config.name](config, learning_rate, steps_per_epoch)
