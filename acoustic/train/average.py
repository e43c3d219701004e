"""Averages of the weights over training, which often classify better than the last weights themselves.

The average is what is evaluated on dev, and so what the schedule and the choice of the best checkpoint look at; the
optimizer goes on from the weights themselves.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from acoustic.nn.classifier import SenoneClassifier


@dataclass(kw_only=True)
class AverageConfig:
    """Which average of the weights becomes the trained network."""

    name: str = "none"  # none: the weights themselves; ema: over updates; last: over the ends of intervals
    decay: float = 0.999  # ema: what is left of the average after each update
    num_last: int = 5  # last: how many ends of intervals (between dev evaluations)

    def __post_init__(self) -> None:
        if self.name not in AVERAGES:
            raise ValueError(f"average.name={self.name!r}: choose one of {', '.join(AVERAGES)}")
        if not 0 < self.decay < 1:
            raise ValueError("average.decay must lie between 0 and 1")
        if self.num_last < 1:
            raise ValueError("average.num_last must be at least 1")


class Average:
    """No average: the network in training is the one that is evaluated and kept.

    Attributes:
        network: what is evaluated on dev and ends up in final.pt.
    """

    def __init__(self, config: AverageConfig, classifier: SenoneClassifier) -> None:
        self.config, self.classifier = config, classifier
        self.network = classifier

    def after_update(self) -> None:
        """The weights of the network in training have changed."""

    def after_interval(self) -> None:
        """An interval has ended; its dev evaluation comes next."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's; the network in training has its weights already."""


class ExponentialAverage(Average):
    """average = decay * average + (1 - decay) * weights, from the weights after the first update on."""

    def __init__(self, config: AverageConfig, classifier: SenoneClassifier) -> None:
        super().__init__(config, classifier)
        self.move_towards = get_ema_multi_avg_fn(config.decay)
        # Buffers too: batch normalisation's moments.
        self.averaged = AveragedModel(classifier, multi_avg_fn=self.move_towards, use_buffers=True)
        self.network = cast(SenoneClassifier, self.averaged.module)

    def after_update(self) -> None:
        """As `Average.after_update`.

        AveragedModel takes the first weights; it would copy its count to the device in every update, for which the host
        waits until the device has done all it was given, so the rest is done here.
        """
        if self.averaged.n_averaged == 0:
            self.averaged.update_parameters(self.classifier)
            return
        pairs = list(zip(self.network.state_dict().values(), self.classifier.state_dict().values(), strict=True))
        for is_real in (True, False):  # whole numbers apart
            averages = [average for average, _ in pairs if average.is_floating_point() == is_real]
            values = [value for _, value in pairs if value.is_floating_point() == is_real]
            if averages:
                self.move_towards(averages, values, None)
        self.averaged.n_averaged += 1

    def state_dict(self) -> dict[str, Any]:
        """As `Average.state_dict`."""
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Average.load_state_dict`."""
        self.averaged.load_state_dict(state)


class LastAverage(Average):
    """The mean of the weights at the ends of the last intervals, fewer while there have not been so many."""

    def __init__(self, config: AverageConfig, classifier: SenoneClassifier) -> None:
        super().__init__(config, classifier)
        self.network = copy.deepcopy(classifier)
        self.snapshots: list[dict[str, Tensor]] = []

    def after_interval(self) -> None:
        """As `Average.after_interval`.

        A run broken off in the evaluation that follows comes here again with the same weights: they count once.
        """
        now = {name: tensor.detach().clone() for name, tensor in self.classifier.state_dict().items()}
        earlier = self.snapshots
        if earlier and all(torch.equal(tensor, now[name]) for name, tensor in earlier[-1].items()):
            earlier = earlier[:-1]
        self.snapshots = [*earlier, now][-self.config.num_last :]
        self._take_mean()

    def _take_mean(self) -> None:
        """Set the network to the mean of the snapshots; whole numbers (batches counted) are those of the last."""
        snapshots = self.snapshots or [self.classifier.state_dict()]
        mean = {}
        for name, last in snapshots[-1].items():
            tensors = [snapshot[name] for snapshot in snapshots]
            mean[name] = torch.stack(tensors).mean(0) if last.is_floating_point() else last
        self.network.load_state_dict(mean)

    def state_dict(self) -> dict[str, Any]:
        """As `Average.state_dict`."""
        return {"snapshots": self.snapshots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Average.load_state_dict`."""
        device = next(self.classifier.parameters()).device
        self.snapshots = [
            {name: tensor.to(device) for name, tensor in snapshot.items()} for snapshot in state["snapshots"]
        ]
        self._take_mean()


AVERAGES: dict[str, type[Average]] = {"none": Average, "ema": ExponentialAverage, "last": LastAverage}


def make_average(config: AverageConfig, classifier: SenoneClassifier) -> Average:
    """The average of `config` over the weights of `classifier`."""
    return AVERAGES[config.name](config, classifier)
