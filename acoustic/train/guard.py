"""What stops a run in time: numbers that are not finite, a loss that climbs, a signal that asks to leave."""

from __future__ import annotations

import io
import os
import signal
import types
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from acoustic import fsio


class NonFinite:
    """Keeps the weights still from the first update whose loss or gradient is not finite.

    The decision is a flag on the device, handed to the fused optimizer as `found_inf`, so no update waits for the
    host; the flag stays up, so that whenever the host looks, the weights are those before the bad update.

    Attributes:
        found_inf: float32 scalar, 0 or 1.
        first_step: int64 scalar, the first bad update, -1 for none.
    """

    def __init__(self, device: torch.device) -> None:
        self.found_inf = torch.zeros((), device=device)
        self.first_step = torch.full((), -1, dtype=torch.int64, device=device)

    def update(self, loss: Tensor, gradient_norm: Tensor, step: int) -> None:
        """Look at update `step` before it happens."""
        bad = ~(torch.isfinite(loss.detach()) & torch.isfinite(gradient_norm))
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
    """While active, SIGTERM and SIGUSR1 only raise a flag; a second signal ends the process at once with 143.

    Slurm sends either before it takes a job back; the loop saves a checkpoint when it sees the flag.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interrupt:
        self.previous = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self.requested:
            os._exit(143)
        self.requested = True
