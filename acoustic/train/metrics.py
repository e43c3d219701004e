"""`metrics.jsonl`, one line for each dev evaluation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from acoustic import fsio
from acoustic.errors import DataError


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
