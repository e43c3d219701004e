"""Figures 2 and 3 of Zeiler et al. 2013: frame accuracy over time in asynchronous SGD, simulated.

A simulation has the replicas that a small machine has not: the real network on the real frames, gradients as stale as P
replicas make them, and time as they would take it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from acoustic.asynchronous.dispatch import Dispatcher
from acoustic.asynchronous.trainer import SimulatedTrainer
from acoustic.study.claims import ABOVE_ZERO, BELOW_ZERO, SAME_ACCURACY
from acoustic.train.config import TrainConfig
from acoustic.train.optim import RATE_FRAMES
from acoustic.train.run import make_trainer, prepare

ACTIVATIONS = ("relu", "sigmoid")
OPTIMIZERS = {"sgd": "sgd_plain", "adagrad": "adagrad", "momentum": "momentum"}
DEV_FRAMES = 8192  # on which accuracy is measured
REACHED = 0.9  # share of the best final accuracy that counts as having got somewhere


@dataclass(frozen=True)
class Setting:
    """A line of the figures."""

    activation: str
    optimizer: str
    replicas: int

    def __str__(self) -> str:
        return f"{self.activation} {self.optimizer} P={self.replicas}"


@dataclass(frozen=True)
class Curve:
    """How a training went.

    Attributes:
        rate: learning rate.
        frames: seen at each measurement.
        seconds: simulated, at each; infinite from where it diverged.
        accuracies: on dev [%]; 0 from where it diverged.
        staleness: mean of all pushes.
    """

    rate: float
    frames: list[int]
    seconds: list[float]
    accuracies: list[float]
    staleness: float

    @property
    def final(self) -> float:
        """Frame accuracy at the end [%]."""
        return self.accuracies[-1]

    @property
    def last_seconds(self) -> float:
        """Simulated time of the last measurement before it diverged, if it did; 0 if that was before the first."""
        return max((t for t in self.seconds if math.isfinite(t)), default=0.0)

    def seconds_to(self, accuracy: float) -> float:
        """Simulated time until an accuracy [%] is reached; infinite if it is not."""
        return next((t for t, a in zip(self.seconds, self.accuracies, strict=True) if a >= accuracy), math.inf)


@dataclass(frozen=True)
class Sizes:
    """How large the trainings are.

    Attributes:
        width, layers, batch_size: of network and batches.
        updates: of each training.
        measurements: of accuracy, spread over them.
        replicas: the numbers P.
        rates: of activation and optimizer, at one replica.
        shards: of the server.
        network_seconds, apply_seconds, fetch_seconds: as of DelaysConfig, where a gradient takes one second.
    """

    width: int = 128
    layers: int = 4
    batch_size: int = 64
    updates: int = 2000
    measurements: int = 10
    replicas: tuple[int, ...] = (1, 10, 100)
    rates: dict[str, float] = dataclasses.field(
        default_factory=lambda: {
            "relu sgd": 0.1,
            "relu adagrad": 0.003,
            "relu momentum": 0.01,
            "sigmoid sgd": 1.0,
            "sigmoid adagrad": 0.01,
            "sigmoid momentum": 0.1,
        }
    )
    shards: int = 4
    network_seconds: float = 0.01
    apply_seconds: float = 0.004
    fetch_seconds: float = 0.002

    def overrides(self, setting: Setting, rate: float) -> list[str]:
        """hydra's, of one training."""
        return [
            f"model={setting.activation}", f"model.hidden_layers={self.layers}", f"model.hidden_dim={self.width}",
            f"optim={OPTIMIZERS[setting.optimizer]}", f"optim.learning_rate={rate:g}", "schedule=constant",
            f"data.batch_size={self.batch_size}", "train.strategy=async_simulation",
            f"async.replicas={setting.replicas}", f"async.shards={self.shards}", "async.delays.compute=exponential",
            "async.delays.compute_seconds=1", f"async.delays.network_seconds={self.network_seconds}",
            f"async.delays.apply_seconds={self.apply_seconds}", f"async.delays.fetch_seconds={self.fetch_seconds}",
        ]  # fmt: skip

    def candidates(self, setting: Setting) -> tuple[float, float]:
        """Learning rates to choose from: the largest that is stable falls with the staleness of gradients."""
        rate, replicas = self.rates[f"{setting.activation} {setting.optimizer}"], setting.replicas
        return (rate, rate / 3) if replicas == 1 else (rate / math.sqrt(replicas), rate / replicas)

    def settings(self) -> list[Setting]:
        """All lines of the figures."""
        return [Setting(a, o, p) for a in ACTIVATIONS for o in OPTIMIZERS for p in self.replicas]


def simulate(config: TrainConfig, updates: int, measurements: int) -> Curve:
    """Train, never coming to rest, and look at dev now and then."""
    device = torch.device("cpu")
    trainer = make_trainer(config, prepare(config), device, torch.float32, None, SimulatedTrainer)
    assert isinstance(trainer, SimulatedTrainer)
    dev = next(trainer.dev_store.batches(min(DEV_FRAMES, trainer.dev_store.num_frames), seed=0))
    simulation, frames, accuracies, seconds = trainer.simulation, [], [], []
    num_frames, is_alive = 0, True
    dispatcher = Dispatcher(config.asynchronous, trainer.rates, 0, updates)
    for number, finished in enumerate(simulation.run(dispatcher), 1):
        num_frames += finished.num_frames
        is_alive = is_alive and finished.bad_step is None
        if number % (updates // measurements) == 0:
            trainer.gather()
            frames.append(num_frames)
            seconds.append(simulation.timeline.seconds)
            accuracies.append(accuracy(trainer, *dev) if is_alive else 0.0)
        if not is_alive:
            dispatcher.stop()
    missing = measurements - len(accuracies)
    pushes = sum(simulation.staleness.values())
    staleness = sum(missed * count for missed, count in simulation.staleness.items()) / max(1, pushes)
    return Curve(
        config.optim.rate_for(RATE_FRAMES), frames + [num_frames] * missing, seconds + [math.inf] * missing,
        accuracies + [0.0] * missing, staleness,
    )  # fmt: skip


@torch.inference_mode()
def accuracy(trainer: SimulatedTrainer, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Frame accuracy [%] of the server's weights; 0 where they are not finite."""
    logits = trainer.classifier.eval()(inputs)
    if not math.isfinite(float(functional.cross_entropy(logits, targets))):
        return 0.0
    return 100 * float((logits.argmax(1) == targets).double().mean())


@dataclass(frozen=True)
class Statement:
    """What the paper says of its figures, as a quantity of the curves of one fold.

    Attributes:
        name, text: for the report.
        quantity, unit: what is measured.
        measure: it.
        bounds: where the paper puts it.
    """

    name: str
    text: str
    quantity: str
    unit: str
    measure: Callable[[dict[Setting, Curve]], float]
    bounds: tuple[float, float]


def statements(replicas: int) -> list[Statement]:
    """What section 5 says of Figures 2 and 3, at P replicas; theirs were 100."""

    def final(activation: str, optimizer: str) -> Callable[[dict[Setting, Curve]], float]:
        return lambda curves: curves[Setting(activation, optimizer, replicas)].final

    def gain(new: tuple[str, str], old: tuple[str, str]) -> Callable[[dict[Setting, Curve]], float]:
        return lambda curves: final(*new)(curves) - final(*old)(curves)

    def log_time_ratio(curves: dict[Setting, Curve]) -> float:
        fast, slow = (curves[Setting("relu", name, replicas)] for name in ("adagrad", "sgd"))
        wanted = REACHED * max(fast.final, slow.final)
        end = max(fast.last_seconds, slow.last_seconds) or 1.0
        times = [min(curve.seconds_to(wanted), 2 * end) for curve in (fast, slow)]
        return math.log(times[0] / times[1])

    at, relu, logistic = f", P={replicas}", "relu", "sigmoid"
    difference = "final frame accuracy on dev, {} minus {}" + at
    return [
        Statement(f"adagrad-starts-fastest-{replicas}", "Figure 2: Adagrad gets there first", f"ln of the ratio of "
                  f"simulated times to {100 * REACHED:.0f} % of the better end, Adagrad / SGD{at}", "", log_time_ratio,
                  BELOW_ZERO),
        Statement(f"sgd-catches-up-{replicas}", "Figure 2: plain SGD reaches the same accuracy in the end",
                  difference.format("SGD", "Adagrad"), "points", gain((relu, "sgd"), (relu, "adagrad")),
                  (-SAME_ACCURACY, math.inf)),
        Statement(f"momentum-is-worse-{replicas}", "Figure 2: momentum is slightly worse", difference.format(
                  "momentum", "SGD"), "points", gain((relu, "momentum"), (relu, "sgd")), BELOW_ZERO),
        Statement(f"logistic-needs-adagrad-{replicas}", "Figure 3: for logistic units Adagrad beats plain SGD",
                  difference.format("Adagrad", "SGD"), "points", gain((logistic, "adagrad"), (logistic, "sgd")),
                  ABOVE_ZERO),
        Statement(f"logistic-with-adagrad-keeps-up-{replicas}", "Figure 3: logistic units with Adagrad reach the "
                  "rectifiers' accuracy", "final frame accuracy on dev, logistic Adagrad minus relu SGD" + at, "points",
                  gain((logistic, "adagrad"), (relu, "sgd")), (-SAME_ACCURACY, math.inf)),
    ]  # fmt: skip


def speed_ups(curves: dict[Setting, Curve], replicas: Sequence[int]) -> dict[Setting, float]:
    """How much sooner each line comes to 90 % of the end that its optimizer has with one replica than with one.

    Args:
        curves: of one fold.
        replicas: the numbers P, one first.
    """
    found = {}
    for setting, curve in curves.items():
        alone = curves[dataclasses.replace(setting, replicas=replicas[0])]
        wanted = REACHED * alone.final
        found[setting] = alone.seconds_to(wanted) / curve.seconds_to(wanted)
    return found


def run_fold(
    compose: Callable[[Sequence[str]], TrainConfig],
    common: Sequence[str],
    sizes: Sizes,
    exp_dir: Path,
    chosen: dict[Setting, float] | None,
    tell: Callable[[str], None],
) -> dict[Setting, Curve]:
    """All curves of one fold.

    Args:
        compose: makes configurations of hydra's overrides.
        common: overrides that name the data.
        sizes: of the trainings.
        exp_dir: for the caches.
        chosen: the rate of each line; None: each takes the best of its rates by final dev accuracy.
        tell: is told a line on each.
    """
    curves = {}
    for setting in sizes.settings():
        rates = sizes.candidates(setting) if chosen is None else (chosen[setting],)
        tried = [
            simulate(
                compose([*common, *sizes.overrides(setting, rate), f"exp_dir='{exp_dir}'"]),
                sizes.updates, sizes.measurements,
            )
            for rate in rates
        ]  # fmt: skip
        curves[setting] = max(tried, key=lambda curve: (curve.final, float(np.mean(curve.accuracies))))
        told = ", ".join(f"{curve.rate:g}: {curve.final:.2f} %" for curve in tried)
        tell(f"{setting}: {told}; staleness {curves[setting].staleness:.1f}, {curves[setting].seconds[-1]:.0f} s")
    return curves
