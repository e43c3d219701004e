"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass


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

    def interval_batches(self, steps_per_epoch: int, evals_per_epoch: int) -> tuple[int, int, int]:
        """The batches from here to the next dev evaluation: their epoch, the first's number in it, the end."""
        epoch, part = divmod(self.interval, evals_per_epoch)
        return epoch, self.step - epoch * steps_per_epoch, -(-steps_per_epoch * (part + 1) // evals_per_epoch)
