"""What a run tells while it goes on: a progress bar or lines in the log, metrics, curves, TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from acoustic import log
from acoustic.data.batches import Store
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.artist import CurveArtist
from acoustic.train.board import Board
from acoustic.train.config import TrainConfig
from acoustic.train.metrics import Metrics
from acoustic.train.probe import finite, next_update, probe_frames, unit_shares
from acoustic.train.ranks import Ranks
from acoustic.train.utilisation import make_utilisation

logger = log.get_logger(__name__)
Item = TypeVar("Item")
BAR_SECONDS = 2.0  # between looks at the loss, each of which waits for the device


@dataclass(frozen=True)
class Progress:
    """Where an interval stands: sums of loss and right frames over `num_frames`, and the learning rate."""

    loss_sum: float
    num_correct: float
    num_frames: float
    rate: float


class Observer:
    """Watches a run without taking part in it.

    Args:
        config: the whole configuration.
        dev_store: where the probe's frames come from.
        ranks: only the first one tells anything.

    Attributes:
        metrics: metrics.jsonl, numbers that equal runs share.
        speeds: speed.jsonl, numbers that differ from run to run.

    Raises:
        ConfigError: TensorBoard is wanted and not installed.
    """

    def __init__(self, config: TrainConfig, dev_store: Store, ranks: Ranks) -> None:
        self.config, self.dev_store, self.ranks = config, dev_store, ranks
        self.exp_dir = Path(config.exp_dir)
        self.metrics = Metrics(self.exp_dir / "metrics.jsonl", ranks.is_first)
        self.speeds = Metrics(self.exp_dir / "speed.jsonl", ranks.is_first)
        self.board = Board(self.exp_dir / "tensorboard") if config.runtime.tensorboard and ranks.is_first else None
        draws = config.runtime.curves and ranks.is_first
        self.artist = CurveArtist(self.metrics.path, self.exp_dir / "curves.png") if draws else None
        self.utilisation = make_utilisation(dev_store.device)
        self.wait_seconds = self.watched_seconds = 0.0
        self._frames: tuple[Tensor, Tensor] | None = None

    # -- while an interval runs -----------------------------------------------------------------------------------

    def watch(
        self,
        batches: Iterable[Item],
        num_batches: int,
        description: str,
        progress: Callable[[], Progress],
    ) -> Iterator[Item]:
        """Pass an interval's batches on, telling how it goes and measuring how long they are waited for.

        A terminal shows a bar. Log files get a line every `runtime.log_seconds`.

        Args:
            batches: what is passed on.
            num_batches: how many there will be.
            description: of the interval.
            progress: asked now and then; waits for the device.
        """
        start = told = logged = time.monotonic()
        self.wait_seconds = 0.0
        self.utilisation.look()
        with log.bar(num_batches, description, "batch") as bar:
            asked = time.monotonic()
            for number, batch in enumerate(batches):
                now = time.monotonic()
                self.wait_seconds += now - asked
                if not bar.disable and now - told > BAR_SECONDS:
                    told = now
                    bar.set_postfix_str(self.describe(progress()))
                if number and self.ranks.is_first and now - logged > self.config.runtime.log_seconds:
                    logged = now
                    left = duration((now - start) / number * (num_batches - number))
                    logger.info(
                        "%s, %d of %d batches: %s, %s left",
                        description, number, num_batches, self.describe(progress()), left,
                    )  # fmt: skip
                yield batch
                bar.update()
                asked = time.monotonic()
        self.watched_seconds = time.monotonic() - start

    def describe(self, progress: Progress) -> str:
        """Loss, accuracy, learning rate and utilisation in a few words; the bar itself tells speed and time left."""
        frames = max(1.0, progress.num_frames)
        parts = [
            f"loss {progress.loss_sum / frames:.4f}",
            f"accuracy {100 * progress.num_correct / frames:.2f} %",
            f"rate {progress.rate:.3g}",
        ]
        if (busy := self.utilisation.look()) is not None:
            parts.append(f"{self.dev_store.device.type} {100 * busy:.0f} %")
        return ", ".join(parts)

    # -- at its end -----------------------------------------------------------------------------------------------

    def probe(
        self, classifier: SenoneClassifier, optimizer: torch.optim.Optimizer, step: int, rate: float
    ) -> dict[str, Any]:
        """Gradient norm, update-to-weight ratios, dead and saturated shares on the same dev frames every time.

        The same in every run that is at the same weights; neither weights nor random generators are touched.

        Args:
            classifier, optimizer: the run's.
            step: updates done.
            rate: learning rate of the last one.
        """
        if not self.ranks.is_first:
            return {}
        if self._frames is None:
            self._frames = probe_frames(self.dev_store)
        inputs, targets = self._frames
        optim = self.config.optim
        with torch.random.fork_rng([inputs.device] if inputs.device.type == "cuda" else []):
            torch.manual_seed(self.config.seed)
            update = next_update(
                classifier, optimizer, optim, inputs, targets, rate, optim.momentum_at(max(0, step - 1))
            )  # fmt: skip
        return finite(update | unit_shares(classifier.eval(), inputs))

    def end_interval(self, record: dict[str, Any], seconds: float, num_steps: int, num_frames: float) -> None:
        """Write down an interval, for people and programs.

        Args:
            record: for metrics.jsonl.
            seconds: that its updates took.
            num_steps, num_frames: updates, and frames over all ranks.
        """
        speed = {
            "step": record["step"],
            "seconds": seconds,
            "steps_per_second": num_steps / seconds,
            "frames_per_second": num_frames / seconds,
            "data_wait_share": self.wait_seconds / self.watched_seconds if self.watched_seconds else 0.0,
            "device_utilisation": self.utilisation.look(),
        }
        self.metrics.append(record)
        self.speeds.append(speed)
        logger.info(
            "epoch %.4g: train %.4f (%.2f %%), dev %.4f (%.2f %%), rate %.4g, %.0f frames/s%s",
            record["epoch"], record["train_loss"], 100 * record["train_accuracy"],
            math.inf if record["dev_loss"] is None else record["dev_loss"], 100 * record["dev_accuracy"],
            record["learning_rate"], num_frames / seconds, "" if record["accepted"] else ", rejected",
        )  # fmt: skip
        if self.board:
            self.board.write(record)
            self.board.write(speed, "speed/")

    def draw(self) -> None:
        """Have the learning curves drawn anew."""
        if self.artist:
            self.artist.draw()

    def close(self) -> None:
        """Wait until the learning curves are drawn."""
        if self.artist:
            self.artist.close()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
