"""The training loop: batches in, weights out, a checkpoint whenever one is due, and the best weights at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from acoustic import log
from acoustic.data.batches import Store
from acoustic.errors import PreemptedError, TrainingError
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.average import make_average
from acoustic.train.batch_size import with_batches_chosen
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.compiled import Trial, UpdateLoss
from acoustic.train.config import TrainConfig
from acoustic.train.draws import seed_draws
from acoustic.train.guard import Interrupt, NonFinite, RisingLoss, checksum
from acoustic.train.kernels import cross_entropy
from acoustic.train.masking import InputMasking
from acoustic.train.observe import Observer, Progress
from acoustic.train.optim import make_optimizer, set_rates
from acoustic.train.position import Position
from acoustic.train.post_mortem import examine
from acoustic.train.ranks import Ranks
from acoustic.train.same_data import check_same_data, data_fingerprints
from acoustic.train.schedule import make_schedule
from acoustic.train.weights import Weights, make_weights

logger = log.get_logger(__name__)
# How often the host asks a GPU whether an update was bad; between, the device itself keeps the weights still.
GUARD_STEPS = 100


class Trainer:
    """One run: the network, its data and everything the loop keeps.

    Args:
        config: the whole configuration; `exp_dir` receives checkpoints, metrics and curves.
        classifier: the network, on `device`, initialised.
        train_store: training frames.
        dev_store: dev frames.
        device: where to compute.
        dtype: float32, or bfloat16 for autocast with float32 master weights.
        ranks: the processes that train together.
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
        self.device, self.dtype, self.ranks = device, dtype, ranks or Ranks()
        config, batch_size = with_batches_chosen(config, device, train_store.num_frames, self.ranks)
        self.config, self.classifier, self.train_store, self.dev_store = config, classifier, train_store, dev_store
        self.set_batch_size(batch_size * self.ranks.world_size)
        hidden_weights = [affine.weight for affine in classifier.hidden_affines]
        self.optimizer = make_optimizer(config.optim, classifier.parameters(), hidden_weights)
        self.weights = make_weights(classifier, self.optimizer, dtype, self.ranks.adds_gradients)
        self.average = make_average(config.average, classifier)
        self.masking = InputMasking(config.masking, train_store.frontend)
        self.update_loss = UpdateLoss(self.batch_loss, config.compile_setting, device, self.ranks)
        self.position, self.interrupt = Position(), Interrupt()
        self.totals = torch.zeros(2, dtype=torch.float64, device=device)  # loss sum, correct frames
        self.guard, self.rising = NonFinite(device), RisingLoss(config.guard)
        self.exp_dir, num_kept = Path(config.exp_dir), config.runtime.keep_checkpoints
        self.checkpoints = Checkpoints(self.exp_dir / "checkpoints", num_kept, self.ranks.is_first)
        self.observer = Observer(config, dev_store, self.ranks)
        self.metrics = self.observer.metrics

    def set_batch_size(self, batch_size: int) -> None:
        """Set the frames of an update, over all ranks, and what depends on them."""
        self.batch_size = batch_size
        self.steps_per_epoch = self.train_store.num_batches(batch_size)
        rate = self.config.optim.rate_for(batch_size)
        self.schedule = make_schedule(self.config.schedule, rate, self.steps_per_epoch)

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
            self.update_loss.choose(self.trial, self.schedule.most_steps - self.position.step)
            while not self.position.finished:
                start, first_step = time.monotonic(), self.position.step
                self.run_interval()
                self.stop_if_bad()
                self.end_interval(time.monotonic() - start, self.position.step - first_step)
        self.restore(self.checkpoints.load(self.position.best_step), weights_only=True)
        self.classifier.load_state_dict(self.average.network.state_dict())

    def run_interval(self) -> None:
        """Train to the next dev evaluation."""
        self.weights.refresh()
        for inputs, targets in self.interval_batches():
            self.update(inputs, targets)
            if self.rising.window_is_full():
                self.end_window()
            self.leave_or_save()

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """One update from network inputs [B, input_dim] and pdf ids [B]."""
        step = self.position.step
        seed_draws(self.ranks.seed(self.config.seed, step), self.device)  # masks depend on nothing else
        set_rates(self.optimizer, self.schedule.rate(step), self.config.optim.momentum_at(step))
        num_frames = self.frames_of_update()
        loss, totals = self.update_loss(self.masking(inputs), targets, self.ranks.divisor(len(targets), num_frames))
        with self.ranks.adding_gradients(self.weights.leaves):
            loss.backward()
        self.ranks.share_moments(self.classifier.buffers())
        gradient_norm = self.weights.clip(self.config.optim.clip_norm)
        self.guard.update(step, loss, gradient_norm, checksum(self.weights.leaves))
        self.weights.step(self.guard.found_inf)
        self.average.after_update()
        self.totals += totals
        self.position.num_frames += num_frames
        self.position.step += 1
        if self.ranks.is_time_to_average(self.position.step):
            self.average_ranks()
        if self.device.type == "cpu" or self.position.step % GUARD_STEPS == 0:
            self.stop_if_bad()

    def batch_loss(self, inputs: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        """As `training_loss`, of masked inputs [B, input_dim]."""
        return self.training_loss(self.forward(self.weights, inputs), targets, divisor)

    def training_loss(self, logits: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        """What the update minimises, and the sums of loss and right frames of this rank."""
        loss_sum, num_right = cross_entropy(logits, targets, self.config.optim.label_smoothing)
        return loss_sum / divisor, torch.stack([loss_sum.detach(), num_right])

    def frames_of_update(self) -> int:
        """The frames of the next update, over all ranks."""
        step = self.position.step % self.steps_per_epoch
        return min(self.batch_size, self.train_store.num_frames - step * self.batch_size)

    def forward(self, network: SenoneClassifier | Weights, inputs: Tensor) -> Tensor:
        """Logits [B, num_pdfs] of inputs [B, input_dim], under autocast when the run computes in bfloat16."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return network(inputs)

    def trial(self) -> Trial:
        """The network on the first batch, to try on how it computes."""
        return Trial.on_first_batch(self.classifier, self.weights.leaves, self.train_store, self.batch_size, self.ranks)

    def interval_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from where the run stands to the next dev evaluation."""
        self.classifier.train()
        config = self.config
        epoch, first, end = self.position.interval_batches(self.steps_per_epoch, config.schedule.evals_per_epoch)
        batches = self.train_store.batches(
            self.batch_size, seed=config.seed, epoch=epoch, first_batch=first, end_batch=end,
            workers=config.runtime.workers, rank=self.ranks.rank, world_size=self.ranks.world_size,
        )  # fmt: skip
        return self.observer.watch(batches, end - first, f"epoch {epoch + 1}", self.progress)

    def progress(self) -> Progress:
        """How the interval goes, by what this rank has seen of it."""
        loss_sum, num_correct = self.totals.tolist()
        num_frames = self.position.num_frames / self.ranks.world_size
        return Progress(loss_sum, num_correct, num_frames, self.schedule.rate(self.position.step))

    def average_ranks(self) -> None:
        """Give all ranks the mean of their weights and of all that goes with them."""
        states = [self.classifier.state_dict(), *self.optimizer.state_dict()["state"].values()]
        states += [self.average.network.state_dict()] if self.average.network is not self.classifier else []
        self.ranks.mean(value for state in states for value in state.values() if isinstance(value, Tensor))
        self.weights.refresh()

    def totals_of_ranks(self) -> Tensor:
        """Loss sum and correct frames since the interval began, float64 [2], over all ranks."""
        totals = self.totals.clone()
        self.ranks.sum([totals])
        return totals

    def end_window(self) -> None:
        """Look at the training loss of the last updates, and go back to the best checkpoint when it has risen."""
        loss = self.rising.observe(float(self.totals_of_ranks()[0]), self.position.num_frames)
        if loss is None:
            return
        self.stop_if_bad()
        self.roll_back(f"training loss rose to {loss:.4g}")
        step, rate = self.position.step, self.schedule.rate(self.position.step)
        went_back = {"learning_rate": rate, "rolled_back_to": self.position.best_step}
        self.metrics.append({"step": step, "epoch": step / self.steps_per_epoch, **went_back})
        self.save()

    def end_interval(self, seconds: float, num_steps: int) -> None:
        """Evaluate on dev, keep or reject the interval, write metrics and a checkpoint."""
        position = self.position
        if self.ranks.average_steps is not None:
            self.average_ranks()
        self.average.after_interval()
        dev_loss, dev_accuracy = self.evaluate()
        rate = self.schedule.rate(max(0, position.step - 1))  # of the last update
        probe = self.observer.probe(self.classifier, self.optimizer, position.step, rate)
        train_loss, train_accuracy = (self.totals_of_ranks() / max(1, position.num_frames)).tolist()
        rate, lowest = self.schedule.rate(position.step), self.schedule.best_loss
        position.interval += 1
        verdict = self.schedule.observe(dev_loss)
        diverged = self.rising.has_risen(dev_loss, lowest)
        if verdict.accepted and dev_loss < lowest:
            position.best_step = position.step
        elif diverged:
            self.roll_back(f"dev loss rose to {dev_loss:.4g}")
        elif verdict.accepted and position.best_step == 0 and self.config.init_from is None:
            position.best_step, self.schedule.best_loss = position.step, dev_loss  # never random weights
        elif not verdict.accepted:
            self.restore(self.checkpoints.load(position.best_step), weights_only=True)
        position.finished = verdict.finished
        self.start_totals()
        record = {
            "step": position.step, "epoch": position.step / self.steps_per_epoch, "learning_rate": rate,
            "train_loss": train_loss, "train_accuracy": train_accuracy,
            "dev_loss": dev_loss if math.isfinite(dev_loss) else None, "dev_accuracy": dev_accuracy,
            "accepted": verdict.accepted and not diverged, "probe": probe,
        } | ({"rolled_back_to": position.best_step} if diverged else {})  # fmt: skip
        num_frames = num_steps * self.train_store.num_frames / self.steps_per_epoch
        self.observer.end_interval(record, seconds, num_steps, num_frames)
        self.save()
        self.observer.draw()

    @torch.inference_mode()
    def evaluate(self) -> tuple[float, float]:
        """Mean loss [nats per frame] and frame accuracy on the dev set, dropout off, of the averaged weights.

        A loss that is not finite counts as infinite where the guard can go back to better weights.

        Raises:
            PreemptedError: asked to leave meanwhile.
            TrainingError: the loss is not finite, and there is nothing to go back to.
        """
        network = self.average.network.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        batch_size, ranks = self.config.data.eval_batch_size, self.ranks
        batches = self.dev_store.batches(batch_size, rank=ranks.rank, world_size=ranks.world_size)
        for number, (inputs, targets) in enumerate(batches):
            logits = self.forward(network, inputs).float()
            totals += torch.stack([self.dev_loss(number, logits, targets), (logits.argmax(1) == targets).sum()])
            if self.ranks.largest([self.interrupt.requested])[0]:
                self.leave()
        self.ranks.sum([totals])
        dev_loss, accuracy = (totals / self.dev_store.num_frames).tolist()
        if math.isfinite(dev_loss):
            return dev_loss, accuracy
        if self.position.step == 0 or self.config.guard.max_rise is None:
            raise TrainingError(f"dev loss is {dev_loss}: lower optim.learning_rate or set optim.clip_norm")
        return math.inf, accuracy

    def dev_loss(self, number: int, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the loss over the frames of dev batch `number`."""
        return functional.cross_entropy(logits, targets, reduction="sum")

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
        index = self.train_store.batch_index(self.batch_size, self.config.seed, epoch, batch)

        def frame_losses(inputs: Tensor, targets: Tensor) -> Tensor:
            seed_draws(self.ranks.seed(self.config.seed, step), self.device)
            logits = self.forward(self.classifier, self.masking(inputs)).float()
            return functional.cross_entropy(logits, targets, reduction="none")

        writes = self.ranks.is_first or self.ranks.average_steps is not None
        raise examine(step, epoch, self.train_store, index, self.classifier, frame_losses, self.exp_dir, writes)

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

    def leave_or_save(self) -> None:
        """Save when a checkpoint is due, and leave when a signal asked for it, all ranks together.

        Raises:
            PreemptedError: asked to leave.
        """
        if not self.ranks.is_time_to_talk(self.position.step):
            return
        is_due = self.checkpoints.is_due(self.config.runtime.checkpoint_minutes)
        leave, save = self.ranks.largest([self.interrupt.requested, is_due])
        if leave:
            self.leave()
        if save:
            self.save()

    def leave(self) -> NoReturn:
        """Save and stop, as a signal asked.

        Raises:
            PreemptedError: always.
        """
        self.save()
        raise PreemptedError(f"asked to stop: saved after step {self.position.step}; the same command resumes")

    def save(self) -> None:
        """Write a checkpoint of everything the loop keeps."""
        self.stop_if_bad()
        self.position.loss_sum, self.position.num_correct = self.totals_of_ranks().tolist()
        self.position.metrics_size = self.metrics.size()
        state = {
            "model": self.classifier.state_dict(), "average": self.average.state_dict(), "dtype": str(self.dtype),
            "optimizer": self.optimizer.state_dict(), "frontend": self.train_store.frontend.state_dict(),
            "schedule": self.schedule.state_dict(), "data": data_fingerprints(self.train_store, self.dev_store),
            "rising": self.rising.state_dict(), "best_step": self.position.best_step,
            "compiled": self.update_loss.choice, "batch_size": self.batch_size, "position": asdict(self.position),
        }  # fmt: skip
        self.checkpoints.save(self.position.step, state, self.position.best_step)
        self.ranks.meet()

    def resume_or_start(self) -> None:
        """Continue from the newest valid checkpoint, or evaluate the initial network and write the first one."""
        for module in (self.classifier, self.train_store.frontend):
            self.ranks.copy_first(module.state_dict().values())
        with self.ranks.first_goes_ahead():
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
        self.weights.refresh()
        if weights_only:
            return
        check_same_data(data_fingerprints(self.train_store, self.dev_store), state["data"], self.checkpoints.directory)
        if state.get("batch_size", self.batch_size) != self.batch_size:
            logger.warning("going on with %d frames an update, as the run began", state["batch_size"])
            self.set_batch_size(state["batch_size"])
        if state["dtype"] != str(self.dtype):
            logger.warning("going on in %s, as the run began, not in %s", state["dtype"], self.dtype)
            self.dtype = getattr(torch, state["dtype"].removeprefix("torch."))
            self.weights = make_weights(self.classifier, self.optimizer, self.dtype, self.ranks.adds_gradients)
        self.update_loss.choice = state.get("compiled", False)  # none in checkpoints older than compiling
        self.train_store.frontend.load_state_dict(state["frontend"])
        self.schedule.load_state_dict(state["schedule"])
        self.rising.load_state_dict(state["rising"])
        self.position = Position(**{field.name: state["position"][field.name] for field in fields(Position)})
        totals = torch.tensor([self.position.loss_sum, self.position.num_correct], dtype=torch.float64)
        self.totals.copy_(self.ranks.share_of(totals))
        self.metrics.truncate(self.position.metrics_size)
