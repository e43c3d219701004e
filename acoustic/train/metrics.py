"""`metrics.jsonl`, one line per dev evaluation, and the learning curves drawn from it."""

from __future__ import annotations

import functools
import io
import json
import os
from pathlib import Path
from typing import Any

from acoustic import fsio
from acoustic.errors import DataError

QUANTITIES = (("loss", "cross-entropy [nats per frame]", 1.0), ("accuracy", "frame accuracy [%]", 100.0))


class Metrics:
    """An append-only file of JSON lines that a resumed run can cut back to where its checkpoint stood.

    Nothing that differs between two equal runs (times, speeds) belongs here: a resumed run must leave the same bytes as
    an unbroken one. Speeds go to a file of their own.

    Args:
        path: of the file.
        writes: false in ranks that leave it as it is.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes

    def append(self, record: dict[str, Any]) -> None:
        """Add one line, flushed to the disk.

        Raises:
            DataError: the disk is full or fails.
        """
        if not self.writes:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise fsio.write_failed(self.path, error) from error

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int) -> None:
        """Drop what came after the checkpoint.

        Raises:
            DataError: the file is shorter than the checkpoint says, or cannot be written.
        """
        if not self.writes:
            return
        if self.size() < size:
            raise DataError(f"is shorter than its checkpoint says ({self.size()} < {size} bytes)", path=self.path)
        if self.size() > size:
            try:
                os.truncate(self.path, size)
            except OSError as error:
                raise fsio.write_failed(self.path, error) from error

    def read(self) -> list[dict[str, Any]]:
        """All lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def draw_curves(records: list[dict[str, Any]], path: str | Path) -> None:
    """Draw cross-entropy and frame accuracy of train and dev over epochs into a PNG."""
    figure, lines = _blank_curves()
    for key, (line, factor) in lines.items():
        points = [(record["epoch"], factor * record[key]) for record in records if record.get(key) is not None]
        line.set_data(*(zip(*points, strict=True) if points else ([], [])))
    for axis in figure.axes:
        axis.relim()
        axis.autoscale_view()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    with fsio.atomic_write(path) as file:
        file.write(buffer.getvalue())


@functools.cache
def _blank_curves() -> tuple[Any, dict[str, tuple[Any, float]]]:
    """The one figure of the process, and by key of the records the line that shows it and the factor of its axis.

    It is drawn into again and again, since a new figure each time leaves megabytes that wait long for Python's
    collection of cyclic garbage.
    """
    # Only here, since matplotlib takes longer to import than a small net to train for an epoch.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    lines = {}
    for axis, (quantity, label, factor) in zip(figure.subplots(1, 2), QUANTITIES, strict=True):
        for name in ("train", "dev"):
            (line,) = axis.plot([], [], marker="o", markersize=3, label=name)
            lines[f"{name}_{quantity}"] = line, factor
        axis.set(xlabel="epoch", ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure, lines
