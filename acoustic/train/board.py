"""TensorBoard, for those who have it (the extra `tensorboard`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acoustic.errors import ConfigError


class Board:
    """Writes a run's numbers as TensorBoard's events.

    Args:
        folder: of the events.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "runtime.tensorboard=true needs tensorboard: pip install 'acoustic[tensorboard]'"
            ) from error
        self._make, self._folder = SummaryWriter, folder
        self._writer: Any = None

    def write(self, record: dict[str, Any], prefix: str = "") -> None:
        """Write the numbers of a record of metrics.jsonl or speed.jsonl; lists are numbered by layer, from 1.

        What an earlier, broken off process wrote after this step is hidden.
        """
        step = int(record["step"])
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=step)
        for name, value in flat(record, prefix):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


def flat(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of a record by their tags: `train_loss` becomes `loss/train`, so that train and dev share a chart."""
    found: list[tuple[str, float]] = []
    for name, value in record.items():
        part, _, quantity = name.partition("_")
        tag = f"{quantity}/{part}" if part in ("train", "dev") else f"{prefix}{name}"
        if isinstance(value, dict):
            found += flat(value, f"{name}/")
        elif isinstance(value, list):
            found += [(f"{tag}/{number}", float(item)) for number, item in enumerate(value, 1) if item is not None]
        elif isinstance(value, bool | int | float) and name != "step":
            found.append((tag, float(value)))
    return found
