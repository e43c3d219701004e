"""The arithmetic of an update, compiled where that pays: forward pass and loss, and by them the backward pass.

torch.compile fuses what lies between the matrix products into kernels of its own, and on CUDA forward and backward pass
are replayed as graphs, each launched at once. Masks of dropout are drawn as without it, so that a compiled run differs
from the same run uncompiled by rounding alone. Where something cannot be compiled a run goes on without. Whether it
compiles is part of its checkpoints, so that a resumed run computes as it began.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acoustic import log
from acoustic.data.batches import Store
from acoustic.errors import ConfigError
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.draws import seed_draws
from acoustic.train.guard import total_norm
from acoustic.train.ranks import Ranks

logger = log.get_logger(__name__)
# inputs [B, input_dim], pdf ids [B], divisor -> loss to be minimised, sums of loss and right frames [2]
Compute = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]

WARM_UP = 4  # passes before any is looked at: the first compiles, the next ones record the device's graphs
ROUNDS, ROUND_PASSES = 5, 10  # of a measurement
GAIN = 1.02  # by which compiled passes must be faster: more than timing errs by, for rounding depends on the choice
WORTH_SECONDS = 300.0  # a run whose passes take less altogether would not win back the minute that compiling takes
MAX_DIFFERENCE = 0.1  # of loss or gradient, relative: far above bfloat16's rounding, below what is computed wrongly


class UpdateLoss:
    """What an update minimises, by torch's operations one after another or by code compiled of them.

    Args:
        compute: gives loss and sums; nothing that it looks at changes from update to update but its arguments.
        setting: runtime.compile.
        device: where it computes.
        ranks: the processes that train together, which choose together.

    Attributes:
        choice: whether this run compiles; None until that is decided. It belongs into every checkpoint.
    """

    def __init__(self, compute: Compute, setting: str, device: torch.device, ranks: Ranks) -> None:
        self.compute, self.setting, self.device, self.ranks = compute, setting, device, ranks
        self.choice: bool | None = None
        self.compiled: Compute | None = None
        self.compiled_for = (0, 0)  # frames and divisor; an epoch's last batch has others

    def __call__(self, inputs: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        """Loss, and sums of loss and right frames [2], of masked inputs [B, input_dim] and pdf ids [B].

        The next call may overwrite them.

        Raises:
            ConfigError: as `give_up`.
        """
        if self.compiled is not None and (len(targets), divisor) == self.compiled_for:
            try:  # what raises is compiling anew, before anything is drawn
                return self.compiled(inputs, targets, divisor)
            except Exception as error:  # the compiler may raise anything
                self.give_up(error)
        return self.compute(inputs, targets, divisor)

    def choose(self, make_trial: Callable[[], Trial], num_steps: int) -> None:
        """Decide whether to compile. `auto` measures on a GPU unless the run has chosen before; a CPU gains nothing.

        Args:
            make_trial: gives the run's network on one of its batches.
            num_steps: updates that lie ahead, at most.

        Raises:
            ConfigError: as `give_up`.
        """
        if self.setting == "true":
            self.choice = self.compile(make_trial())
        elif self.setting == "false":
            self.choice = False
        elif self.device.type == "cuda" and self.choice is None:
            self.choice = self.pays(make_trial(), num_steps)
        elif self.device.type == "cuda" and self.choice:
            self.choice = self.compile(make_trial())

    def compile(self, trial: Trial) -> bool:
        """Compile, and check on a batch that the gradient is the right one; whether that went well.

        What other runs of this process compiled is dropped: it would keep the memory of its graphs, and count against
        the eight times that torch compiles a function at most.
        """
        try:
            torch.compiler.reset()
            self.compiled = compiled(self.compute, self.device)
            self.compiled_for = len(trial.targets), trial.divisor
            trial.check(self.compiled, self.compute)
        except Exception as error:  # the compiler may raise anything
            self.give_up(error)
        return self.compiled is not None

    def give_up(self, error: Exception) -> None:
        """Go on without compiled code.

        Raises:
            ConfigError: runtime.compile=true asks for it.
        """
        self.drop_compiled()
        self.choice = False
        cause = getattr(error, "inner_exception", error)
        reason = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
        if self.setting == "true":
            remedy = "leave it at auto, or set it to false"
            raise ConfigError(f"runtime.compile=true cannot be done here ({reason}): {remedy}") from error
        logger.warning("updates are not compiled, since that cannot be done here: %s", reason)

    def pays(self, trial: Trial, num_steps: int) -> bool:
        """Measure whether compiled passes are faster, and keep them if so; the slowest rank decides."""
        seconds = self.ranks.largest(trial.seconds(self.compute))[0]
        if seconds * num_steps < WORTH_SECONDS:
            logger.info("updates are not compiled: all passes take %.0f s at most", seconds * num_steps)
            return False
        times = [math.inf, math.inf]
        if self.compile(trial):
            try:
                times = trial.seconds(self, self.compute)
            except Exception as error:  # the compiler may raise anything
                self.give_up(error)
        compiled_seconds, seconds = self.ranks.largest(times)
        is_faster = compiled_seconds * GAIN < seconds
        if math.isfinite(seconds):
            logger.info(
                "forward and backward pass of %d frames: %.2f ms compiled, %.2f ms as they are: updates are %scompiled",
                len(trial.targets), 1e3 * compiled_seconds, 1e3 * seconds, "" if is_faster else "not ",
            )  # fmt: skip
        if not is_faster:
            self.drop_compiled()
        return is_faster

    def drop_compiled(self) -> None:
        """Let go of compiled code and the memory of its graphs."""
        if self.compiled is not None:
            self.compiled = None
            torch.compiler.reset()


def compiled(compute: Compute, device: torch.device) -> Compute:
    """torch.compile of a loss, for one size of batches; `fallback_random` draws masks as torch's operations do."""
    on_gpu = device.type == "cuda"
    options: dict[str, Any] = {
        "fallback_random": True,
        "triton.cudagraphs": on_gpu,
        # Or the compiler lets timings decide what is rounded how: a resumed run might compute otherwise than it began.
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    program: Compute = torch.compile(compute, fullgraph=True, dynamic=False, options=options)

    def replay(inputs: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()  # nothing of the last update is needed any more
        return program(inputs, targets, divisor)

    return replay if on_gpu else program


@dataclass
class Trial:
    """Forward and backward passes on one batch, which leave everything as it was.

    Attributes:
        classifier: the network.
        leaves: the tensors that backward leaves its gradients in.
        inputs, targets, divisor: what a loss is computed of.
    """

    classifier: SenoneClassifier
    leaves: list[Tensor]
    inputs: Tensor
    targets: Tensor
    divisor: int

    @classmethod
    def on_first_batch(
        cls, classifier: SenoneClassifier, leaves: list[Tensor], store: Store, batch_size: int, ranks: Ranks
    ) -> Trial:
        """On this rank's part of the first frames of a store, as many as an update takes."""
        inputs, targets = store.batch(store.batch_index(batch_size, None, 0, 0, ranks.rank, ranks.world_size))
        return cls(classifier, leaves, inputs, targets, ranks.divisor(len(targets), min(batch_size, store.num_frames)))

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.inputs.device

    def check(self, compute: Compute, reference: Compute) -> None:
        """Compare two ways to compute the loss, after some passes of the first on other inputs.

        Raises:
            ArithmeticError: loss or gradient differ by more than MAX_DIFFERENCE.
        """
        with self.leaving_no_trace():
            expected = self.gradients(reference, self.inputs)
            for _ in range(WARM_UP):
                self.gradients(compute, self.inputs.flip(0))
            found = self.gradients(compute, self.inputs)
            for mine, other in ((found[:1], expected[:1]), (found[1:], expected[1:])):
                difference = total_norm(one - two for one, two in zip(mine, other, strict=True)) / total_norm(other)
                if not difference <= MAX_DIFFERENCE:
                    raise ArithmeticError(f"loss or gradient of compiled passes differ by {float(difference):.2g}")

    def gradients(self, compute: Compute, inputs: Tensor) -> list[Tensor]:
        """The loss and the gradients of all leaves, in float32."""
        loss = self.backward(compute, inputs)
        gradients = [leaf.grad.to(torch.float32, copy=True) for leaf in self.leaves if leaf.grad is not None]
        self.forget_gradients()
        return [loss.float(), *gradients]

    def seconds(self, *ways: Compute) -> list[float]:
        """The time that a pass takes by each of some ways, measured in turns: the shortest round's mean."""
        best = [math.inf] * len(ways)
        with self.leaving_no_trace():
            for _ in range(ROUNDS):
                for number, compute in enumerate(ways):
                    self.passes(compute, 1)
                    start = time.perf_counter()
                    self.passes(compute, ROUND_PASSES)
                    best[number] = min(best[number], (time.perf_counter() - start) / ROUND_PASSES)
        return best

    def passes(self, compute: Compute, count: int) -> None:
        """Some passes, to the end of the device's work."""
        for _ in range(count):
            self.backward(compute, self.inputs)
            self.forget_gradients()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def backward(self, compute: Compute, inputs: Tensor) -> Tensor:
        """One pass, with the same masks every time; the loss."""
        seed_draws(0, self.device)
        loss, _totals = compute(inputs, self.targets, self.divisor)  # the sums live on, as in an update
        loss.backward()
        return loss.detach().clone()

    def forget_gradients(self) -> None:
        """As after an update."""
        for leaf in self.leaves:
            leaf.grad = None

    @contextlib.contextmanager
    def leaving_no_trace(self) -> Iterator[None]:
        """Passes in training mode; afterwards generators, gradients, moments and mode are what they were."""
        was_training, gradients = self.classifier.training, [leaf.grad for leaf in self.leaves]
        moments = [buffer.clone() for buffer in self.classifier.buffers()]
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            self.classifier.train()
            self.forget_gradients()
            try:
                yield
            finally:
                self.classifier.train(was_training)
                for leaf, gradient in zip(self.leaves, gradients, strict=True):
                    leaf.grad = gradient
                for buffer, moment in zip(self.classifier.buffers(), moments, strict=True):
                    buffer.copy_(moment)
