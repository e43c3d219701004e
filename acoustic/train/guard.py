"""What stops a run in time: numbers that are not finite, a loss that climbs, a signal that asks to leave."""

from __future__ import annotations

import io
import math
import os
import signal
import types
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acoustic import fsio
from acoustic.errors import PreemptedError


@dataclass(kw_only=True)
class GuardConfig:
    """When a climbing loss is taken for divergence, and what is done about it."""

    max_rise: float | None = 0.5  # share by which a loss may exceed the lowest so far; null: it may climb as it likes
    window_steps: int = 1000  # updates over which training loss is averaged for that comparison
    factor: float = 0.5  # what the learning rate is multiplied by when the run goes back to its best checkpoint
    max_rollbacks: int = 3  # how often it may go back; after that it stops

    def __post_init__(self) -> None:
        if self.max_rise is not None and self.max_rise <= 0:
            raise ValueError("guard.max_rise must be positive, or null")
        if self.window_steps < 1 or self.max_rollbacks < 0:
            raise ValueError("guard.window_steps must be at least 1 and guard.max_rollbacks not negative")
        if not 0 < self.factor < 1:
            raise ValueError("guard.factor must lie between 0 and 1")


@dataclass
class LossWindow:
    """Where the mean training loss of the current window of updates stands; saved in every checkpoint.

    Attributes:
        lowest: the lowest mean of a window so far [nats per frame].
        loss_sum, num_frames: the run's totals when the window began.
        num_steps: updates since then.
        num_rollbacks: how often the run went back.
    """

    lowest: float = math.inf
    loss_sum: float = 0.0
    num_frames: int = 0
    num_steps: int = 0
    num_rollbacks: int = 0


class RisingLoss:
    """Tells when a loss has climbed so far that training must have diverged.

    Training loss is compared window by window, dev loss at each evaluation, each with its lowest value so far.

    Attributes:
        window: what a checkpoint must hold.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.window = LossWindow()

    def has_risen(self, loss: float, lowest: float) -> bool:
        """Whether a loss lies too far above the lowest so far, or is not finite."""
        if self.config.max_rise is None:
            return False
        return not loss <= lowest + self.config.max_rise * abs(lowest)

    def window_is_full(self) -> bool:
        """Count an update; whether `observe` is due."""
        self.window.num_steps += 1
        return self.config.max_rise is not None and self.window.num_steps >= self.config.window_steps

    def observe(self, loss_sum: float, num_frames: int) -> float | None:
        """Close a window, given the run's totals since the interval began: its mean loss if it has risen, else None."""
        mean = (loss_sum - self.window.loss_sum) / (num_frames - self.window.num_frames)
        risen = self.has_risen(mean, self.window.lowest)
        self.window.lowest = min(self.window.lowest, mean)
        self.window.loss_sum, self.window.num_frames, self.window.num_steps = loss_sum, num_frames, 0
        return mean if risen else None

    def start_interval(self) -> None:
        """The run's totals begin at zero again; a window that was under way is given up."""
        self.window.loss_sum, self.window.num_frames, self.window.num_steps = 0.0, 0, 0

    def roll_back(self) -> bool:
        """Note that the run goes back to its best checkpoint; False when it has done so often enough."""
        if self.window.num_rollbacks >= self.config.max_rollbacks:
            return False
        self.window = LossWindow(num_rollbacks=self.window.num_rollbacks + 1)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.window)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's values."""
        self.window = LossWindow(**state)


@torch.no_grad()
def total_norm(tensors: Iterable[Tensor | None]) -> Tensor:
    """The Euclidean norm of all values of some tensors; not finite when one of them is not, or from about 1e19 on.

    On the CPU by dot products, which read at the speed of memory; torch's own norm takes twice as long, every update.
    On a GPU by what torch.nn.utils.get_total_norm calls, which takes a third of its time on the host.
    """
    present = [tensor.detach() for tensor in tensors if tensor is not None]
    if present and present[0].device.type != "cpu":
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)))
    return torch.stack([torch.dot(tensor.view(-1), tensor.view(-1)) for tensor in present]).sum().sqrt()


@torch.no_grad()
def checksum(tensors: Iterable[Tensor | None]) -> Tensor:
    """A number that is not finite when one of the values is not: the cheapest there is, a norm or a sum."""
    present = [tensor.detach() for tensor in tensors if tensor is not None]
    if all(tensor.dtype == torch.float32 or tensor.device.type == "cuda" for tensor in present):
        return total_norm(present)
    return torch.stack([tensor.sum().float() for tensor in present]).sum()


def clip_gradients(parameters: Iterable[Tensor], clip_norm: float | None) -> Tensor:
    """Scale gradients, float32, down to `clip_norm` where their norm is longer; gives the norm they had.

    Without `clip_norm` gradients may be of other types, and what it gives is their checksum.
    """
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters]
    if clip_norm is None:
        return checksum(gradients)
    norm = total_norm(gradients)
    nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm


class NonFinite:
    """Keeps the weights still from the first update whose loss, gradient or weights are not finite.

    The weights are looked at themselves, since a rectifier hides a weight of minus infinity from loss and gradient.

    The decision is a flag on the device, handed to the fused optimizer as `found_inf`, so no update waits for the
    host; the flag stays up, so that whenever the host looks, the weights are those before the bad update.

    Attributes:
        found_inf: float32 scalar, 0 or 1.
        first_step: int64 scalar, the first bad update, -1 for none.
    """

    def __init__(self, device: torch.device) -> None:
        self.found_inf = torch.zeros((), device=device)
        self.first_step = torch.full((), -1, dtype=torch.int64, device=device)

    def update(self, step: int, loss: Tensor, *norms: Tensor) -> None:
        """Look at update `step` before it happens: its loss and the norms of gradient and weights (scalars)."""
        bad = ~torch.stack([loss.detach().float(), *norms]).isfinite().all()
        self.first_step = torch.where(bad & (self.first_step < 0), step, self.first_step)
        self.found_inf = torch.maximum(self.found_inf, bad.float())

    def bad_step(self) -> int | None:
        """The first bad update, or None. Waits for the device."""
        step = int(self.first_step.item())
        return None if step < 0 else step


def write_post_mortem(folder: Path, inputs: Tensor, targets: Tensor, utterances: Sequence[str], note: str) -> None:
    """Write the batch of a bad update and the utterances its frames come from, for someone to look at.

    `batch.pt` holds inputs [B, input_dim] and targets [B]; `utterances.txt` one utterance a line, as its frames stand
    in the batch; `note.txt` what happened.
    """
    buffer = io.BytesIO()
    torch.save({"inputs": inputs.cpu(), "targets": targets.cpu()}, buffer)
    with fsio.atomic_dir(folder) as temporary:
        (temporary / "batch.pt").write_bytes(buffer.getbuffer())
        (temporary / "utterances.txt").write_text("".join(f"{utt}\n" for utt in utterances), encoding="utf-8")
        (temporary / "note.txt").write_text(note + "\n", encoding="utf-8")


class Interrupt:
    """While active, SIGTERM and SIGUSR1 ask the run to leave; a second signal ends the process at once with 143.

    Slurm sends either before it takes a job back.

    Args:
        at_once: the first signal raises PreemptedError wherever the program is, since nothing has to be saved yet.
            Otherwise it only raises a flag: the loop saves a checkpoint when it sees it.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, at_once: bool = False) -> None:
        self.at_once = at_once
        self.requested = False

    def __enter__(self) -> Interrupt:
        # Python drops an exception that a handler raises within a destructor: the flag of an outer block still tells.
        around = [getattr(signal.getsignal(number), "__self__", None) for number in self.SIGNALS]
        self.requested |= any(isinstance(outer, Interrupt) and outer.requested for outer in around)
        if self.requested and self.at_once:
            raise self.preempted()
        self.previous = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self.requested:
            os._exit(143)
        self.requested = True
        if self.at_once:
            raise self.preempted()

    @staticmethod
    def preempted() -> PreemptedError:
        """What a block that leaves at once raises."""
        return PreemptedError("asked to stop while no update was under way; the same command goes on")
