"""The training loop: batches in, weights out, a checkpoint whenever one is due, and the best weights at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from acoustic import log
from acoustic.data.batches import Store
from acoustic.errors import CheckpointError, PreemptedError, TrainingError
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.average import make_average
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.config import TrainConfig
from acoustic.train.guard import Interrupt, NonFinite, RisingLoss, write_post_mortem
from acoustic.train.masking import InputMasking
from acoustic.train.metrics import Metrics, draw_curves
from acoustic.train.optim import make_optimizer, set_rates
from acoustic.train.schedule import make_schedule

logger = log.get_logger(__name__)
# How often the host asks a GPU whether an update was bad; between, the device itself keeps the weights still.
GUARD_STEPS = 100


@dataclass
class Position:
    """Where a run stands; with weights, optimizer and schedule it is all a checkpoint needs.

    The order of the frames and the dropout masks are functions of the seed and the step alone, so that no state of a
    random generator, loader or worker has to be saved for a resumed run to equal an unbroken one bit for bit.
    """

    step: int = 0  # updates done
    interval: int = 0  # dev evaluations done
    best_step: int = 0  # the checkpoint with the lowest dev loss
    finished: bool = False
    metrics_size: int = 0  # bytes of metrics.jsonl
    loss_sum: float = 0.0  # over the frames since the interval began [nats]
    num_correct: float = 0.0
    num_frames: int = 0


class Trainer:
    """One run: the network, its data and everything the loop keeps.

    Args:
        config: the whole configuration; `exp_dir` receives checkpoints, metrics and curves.
        classifier: the network, on `device`, initialised.
        train_store: training frames.
        dev_store: dev frames.
        device: where to compute.
        dtype: float32, or bfloat16 for autocast with float32 master weights.
    """

    def __init__(
        self,
        config: TrainConfig,
        classifier: SenoneClassifier,
        train_store: Store,
        dev_store: Store,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self.classifier, self.train_store, self.dev_store = classifier, train_store, dev_store
        self.steps_per_epoch = -(-train_store.num_frames // config.data.batch_size)
        hidden_weights = [affine.weight for affine in classifier.hidden_affines]
        self.optimizer = make_optimizer(config.optim, classifier.parameters(), hidden_weights)
        self.average = make_average(config.average, classifier)
        self.schedule = make_schedule(config.schedule, config.optim.learning_rate, self.steps_per_epoch)
        self.masking = InputMasking(config.masking, train_store.frontend)
        self.position = Position()
        self.totals = torch.zeros(2, dtype=torch.float64, device=device)  # loss sum, correct frames
        self.guard = NonFinite(device)
        self.rising = RisingLoss(config.guard)
        self.interrupt = Interrupt()
        exp_dir = Path(config.exp_dir)
        self.checkpoints = Checkpoints(exp_dir / "checkpoints", config.runtime.keep_checkpoints)
        self.metrics = Metrics(exp_dir / "metrics.jsonl")
        self.speeds = Metrics(exp_dir / "speed.jsonl")
        self.last_save = time.monotonic()

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end of the schedule and leave the best weights in the classifier.

        Raises:
            PreemptedError: SIGTERM or SIGUSR1 came; a checkpoint was saved.
            TrainingError: a loss or gradient was not finite, or dev loss diverged.
        """
        with Interrupt(at_once=True):
            self.resume_or_start()
        with self.interrupt:
            while not self.position.finished:
                start, first_step = time.monotonic(), self.position.step
                for inputs, targets in self.interval_batches():
                    self.update(inputs, targets)
                    if self.rising.window_is_full():
                        self.end_window()
                    if self.interrupt.requested:
                        self.leave()
                    if self.checkpoint_due():
                        self.save()
                self.stop_if_bad()
                self.end_interval(time.monotonic() - start, self.position.step - first_step)
        self.restore(self.checkpoints.load(self.position.best_step), weights_only=True)
        self.classifier.load_state_dict(self.average.network.state_dict())

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """One update from network inputs [B, input_dim] and pdf ids [B]."""
        step = self.position.step
        torch.manual_seed((self.config.seed << 32) + step)  # masks depend on nothing else
        set_rates(self.optimizer, self.schedule.rate(step), self.config.optim.momentum_at(step))
        logits = self.forward(self.classifier, inputs)
        loss = functional.cross_entropy(logits.float(), targets, label_smoothing=self.config.optim.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(
            self.classifier.parameters(), self.config.optim.clip_norm or float("inf")
        )
        weight_norm = torch.nn.utils.get_total_norm(parameter.detach() for parameter in self.classifier.parameters())
        self.guard.update(step, loss, gradient_norm, weight_norm)
        self.optimizer.found_inf = self.guard.found_inf  # type: ignore[attr-defined]
        self.optimizer.step()
        self.average.after_update()
        self.totals += torch.stack([loss.detach() * len(targets), (logits.argmax(1) == targets).sum()])
        self.position.num_frames += len(targets)
        self.position.step += 1
        if self.device.type == "cpu" or self.position.step % GUARD_STEPS == 0:
            self.stop_if_bad()

    def forward(self, network: SenoneClassifier, inputs: Tensor) -> Tensor:
        """Logits [B, num_pdfs] of inputs, masked in training; under autocast when the run computes in bfloat16."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return network(self.masking(inputs) if network.training else inputs)

    def interval_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from where the run stands to the next dev evaluation."""
        self.classifier.train()
        config, position = self.config, self.position
        epoch, part = divmod(position.interval, config.schedule.evals_per_epoch)
        first = position.step - epoch * self.steps_per_epoch
        end = -(-self.steps_per_epoch * (part + 1) // config.schedule.evals_per_epoch)
        with log.bar(end - first, f"epoch {epoch + 1}", "batch") as bar:
            for inputs, targets in self.train_store.batches(
                config.data.batch_size, seed=config.seed, epoch=epoch, first_batch=first, end_batch=end,
                workers=config.runtime.workers,
            ):  # fmt: skip
                yield inputs, targets
                bar.update()

    def end_window(self) -> None:
        """Look at the training loss of the last updates, and go back to the best checkpoint when it has risen."""
        loss = self.rising.observe(float(self.totals[0]), self.position.num_frames)
        if loss is None:
            return
        self.stop_if_bad()
        self.roll_back(f"training loss rose to {loss:.4g}")
        self.metrics.append(
            {
                "step": self.position.step,
                "epoch": self.position.step / self.steps_per_epoch,
                "learning_rate": self.schedule.rate(self.position.step),
                "rolled_back_to": self.position.best_step,
            }
        )
        self.save()

    def end_interval(self, seconds: float, num_steps: int) -> None:
        """Evaluate on dev, keep or reject the interval, write metrics and a checkpoint."""
        position = self.position
        self.average.after_interval()
        dev_loss, dev_accuracy = self.evaluate()
        train_loss, train_accuracy = (self.totals / max(1, position.num_frames)).tolist()
        rate, lowest = self.schedule.rate(position.step), self.schedule.best_loss
        position.interval += 1
        verdict = self.schedule.observe(dev_loss)
        diverged = self.rising.has_risen(dev_loss, lowest)
        if verdict.accepted and dev_loss < lowest:
            position.best_step = position.step
        elif diverged:
            self.roll_back(f"dev loss rose to {dev_loss:.4g}")
        elif not verdict.accepted:
            self.restore(self.checkpoints.load(position.best_step), weights_only=True)
        position.finished = verdict.finished
        self.start_totals()
        record = {
            "step": position.step,
            "epoch": position.step / self.steps_per_epoch,
            "learning_rate": rate,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "dev_loss": dev_loss if math.isfinite(dev_loss) else None,
            "dev_accuracy": dev_accuracy,
            "accepted": verdict.accepted and not diverged,
        }
        if diverged:
            record["rolled_back_to"] = position.best_step
        self.metrics.append(record)
        self.speeds.append({"step": position.step, "seconds": seconds, "steps_per_second": num_steps / seconds})
        self.save()
        draw_curves(self.metrics.read(), Path(self.config.exp_dir) / "curves.png")
        logger.info(
            "epoch %.4g: train %.4f (%.2f %%), dev %.4f (%.2f %%), rate %.4g, %.0f frames/s%s",
            record["epoch"], train_loss, 100 * train_accuracy, dev_loss, 100 * dev_accuracy, rate,
            num_steps * self.config.data.batch_size / seconds, "" if record["accepted"] else ", rejected",
        )  # fmt: skip

    @torch.inference_mode()
    def evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy [nats per frame] and frame accuracy on the dev set, dropout off, of the averaged weights.

        A cross-entropy that is not finite counts as infinite where the guard can go back to better weights.

        Raises:
            PreemptedError: asked to leave meanwhile.
            TrainingError: the cross-entropy is not finite, and there is nothing to go back to.
        """
        network = self.average.network.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for inputs, targets in self.dev_store.batches(self.config.data.eval_batch_size):
            logits = self.forward(network, inputs).float()
            loss = functional.cross_entropy(logits, targets, reduction="sum")
            totals += torch.stack([loss, (logits.argmax(1) == targets).sum()])
            if self.interrupt.requested:
                self.leave()
        dev_loss, accuracy = (totals / self.dev_store.num_frames).tolist()
        if math.isfinite(dev_loss):
            return dev_loss, accuracy
        if self.position.step == 0 or self.config.guard.max_rise is None:
            raise TrainingError(f"dev cross-entropy is {dev_loss}: lower optim.learning_rate or set optim.clip_norm")
        return math.inf, accuracy

    # -- stopping, saving, resuming -------------------------------------------------------------------------------

    def stop_if_bad(self) -> None:
        """Stop when an update met a number that is not finite, leaving its batch for a post-mortem.

        Raises:
            TrainingError: naming the update, the utterances and what to try.
        """
        step = self.guard.bad_step()
        if step is None:
            return
        epoch, batch = divmod(step, self.steps_per_epoch)
        index = self.train_store.batch_index(self.config.data.batch_size, self.config.seed, epoch, batch)
        inputs, targets = self.train_store.batch(index)
        where, frames = self.find_culprits(inputs, targets, step)
        utterances = self.train_store.utterances(index)
        culprits = sorted({utterances[frame] for frame in frames})
        folder = Path(self.config.exp_dir) / "nonfinite" / f"step-{step:09d}"
        note = f"update {step} of epoch {epoch}: the {where} is not finite; frames {frames}, utterances {culprits}"
        write_post_mortem(folder, inputs, targets, utterances, note)
        more = f" and {len(culprits) - 3} more" if len(culprits) > 3 else ""
        raise TrainingError(
            f"the {where} of update {step} is not finite (utterances {', '.join(culprits[:3])}{more}); "
            f"the weights were not moved. The batch is in {folder}. Try a lower optim.learning_rate, "
            "optim.clip_norm=1 or runtime.precision=fp32; acoustic doctor checks the features"
        )

    @torch.no_grad()
    def find_culprits(self, inputs: Tensor, targets: Tensor, step: int) -> tuple[str, list[int]]:
        """Where numbers that are not finite come from in the batch of update `step`, and in which of its frames."""
        bad = ~inputs.isfinite().all(1)
        if bool(bad.any()):
            return "input", bad.nonzero().flatten().tolist()
        everywhere = list(range(len(inputs)))
        if not all(bool(parameter.isfinite().all()) for parameter in self.classifier.parameters()):
            return "network", everywhere
        torch.manual_seed((self.config.seed << 32) + step)
        bad = ~functional.cross_entropy(
            self.forward(self.classifier, inputs).float(), targets, reduction="none"
        ).isfinite()
        return ("loss", bad.nonzero().flatten().tolist()) if bool(bad.any()) else ("gradient", everywhere)

    def roll_back(self, reason: str) -> None:
        """Go back to the weights of the best checkpoint and go on from there with a lower rate, on the next frames.

        Raises:
            TrainingError: it has done so often enough.
        """
        guard, best = self.config.guard, self.position.best_step
        if not self.rising.roll_back():
            raise TrainingError(
                f"{reason} at step {self.position.step}, after {guard.max_rollbacks} returns to the best checkpoint: "
                "lower optim.learning_rate, set optim.clip_norm, or raise guard.max_rise if this is no divergence"
            )
        self.restore(self.checkpoints.load(best), weights_only=True)
        self.schedule.lower_rate(guard.factor)
        self.start_totals()
        logger.warning(
            "%s at step %d: back to the weights of step %d, learning rate times %g",
            reason, self.position.step, best, guard.factor,
        )  # fmt: skip

    def start_totals(self) -> None:
        """Begin to sum up training loss and accuracy anew."""
        self.totals.zero_()
        self.position.num_frames = 0
        self.rising.start_interval()

    def leave(self) -> NoReturn:
        """Save and stop, as a signal asked.

        Raises:
            PreemptedError: always.
        """
        self.save()
        raise PreemptedError(f"asked to stop: saved after step {self.position.step}; the same command resumes")

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is older than `runtime.checkpoint_minutes`."""
        return time.monotonic() - self.last_save > 60 * self.config.runtime.checkpoint_minutes

    def save(self) -> None:
        """Write a checkpoint of everything the loop keeps."""
        self.stop_if_bad()
        self.position.loss_sum, self.position.num_correct = self.totals.tolist()
        self.position.metrics_size = self.metrics.size()
        state = {
            "model": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rising": self.rising.state_dict(),
            "dtype": str(self.dtype),
            "data": self.data_fingerprints(),
            "frontend": self.train_store.frontend.state_dict(),
            "position": asdict(self.position),
            "best_step": self.position.best_step,
        }
        self.checkpoints.save(self.position.step, state, self.position.best_step)
        self.last_save = time.monotonic()

    def resume_or_start(self) -> None:
        """Continue from the newest valid checkpoint, or evaluate the initial network and write the first one."""
        self.checkpoints.clear_unfinished()
        state = self.checkpoints.load_newest()
        if state is None:
            self.metrics.truncate(0)
            self.schedule.best_loss, accuracy = self.evaluate()
            logger.info("initial network: dev %.4f (%.2f %%)", self.schedule.best_loss, 100 * accuracy)
            self.save()
            return
        self.restore(state)
        logger.info("resumed after step %d", self.position.step)

    def restore(self, state: dict[str, Any], weights_only: bool = False) -> None:
        """Take over a checkpoint: weights and optimizer, and unless `weights_only` the run's position too."""
        self.classifier.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state.get("average", {}))  # none in checkpoints older than averaging
        if weights_only:
            return
        self.check_same_data(state["data"])
        if state["dtype"] != str(self.dtype):
            logger.warning("going on in %s, as the run began, not in %s", state["dtype"], self.dtype)
            self.dtype = getattr(torch, state["dtype"].removeprefix("torch."))
        self.train_store.frontend.load_state_dict(state["frontend"])
        self.schedule.load_state_dict(state["schedule"])
        self.rising.load_state_dict(state["rising"])
        self.position = Position(**{field.name: state["position"][field.name] for field in fields(Position)})
        self.totals.copy_(torch.tensor([self.position.loss_sum, self.position.num_correct], dtype=torch.float64))
        self.metrics.truncate(self.position.metrics_size)

    def data_fingerprints(self) -> dict[str, str]:
        """What the run's data are: alignments, transition model, front end, frames, of train and dev."""
        stores = {"train": self.train_store, "dev": self.dev_store}
        return {
            f"{name} {what}": value
            for name, store in stores.items()
            for what, value in store.cache.meta.content_fingerprints().items()
        }

    def check_same_data(self, there: dict[str, str]) -> None:
        """Refuse a checkpoint of other data than these.

        Raises:
            CheckpointError: naming what differs.
        """
        here = self.data_fingerprints()
        differing = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        if differing:
            raise CheckpointError(
                f"{self.checkpoints.directory}: the run began with other data ({', '.join(differing)} differ); "
                "bring those back, or choose another exp_dir"
            )
