"""Checkpoints: complete or absent, verified before they are believed.

A checkpoint is a folder `step-000001234` with `state.pt` and `manifest.json` (size and SHA-256 of every file, written
last). It is made under another name, flushed and renamed (fsio.atomic_dir), so a kill at any moment leaves either the
whole checkpoint or none.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from acoustic import fsio
from acoustic.errors import CheckpointError, DataError
from acoustic.log import get_logger
from acoustic.nn.bundle import load_weights_only
from acoustic.train.precision import release_free_memory

logger = get_logger(__name__)
NAME = re.compile(r"step-(\d{9})")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: where they lie; made when the first is saved.
        keep: how many of the newest are kept, each with the best of its time.
        writes: false in ranks that only read.
    """

    def __init__(self, directory: str | Path, keep: int = 3, writes: bool = True) -> None:
        self.directory = Path(directory)
        self.keep, self.writes = keep, writes
        self.last_save = time.monotonic()

    def path(self, step: int) -> Path:
        """The folder of the checkpoint saved after update `step`."""
        return self.directory / f"step-{step:09d}"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, valid or not, in rising order."""
        if not self.directory.is_dir():
            return []
        matches = (NAME.fullmatch(item.name) for item in self.directory.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def is_due(self, minutes: float) -> bool:
        """Whether the last checkpoint was saved so long ago; from the start where there is none."""
        return time.monotonic() - self.last_save > 60 * minutes

    def save(self, step: int, state: dict[str, Any], best_step: int | None) -> None:
        """Save `state` (tensors and plain values) as the checkpoint of `step`, then drop the old ones.

        Raises:
            DataError: the disk is full or fails; the earlier checkpoints are untouched.
        """
        if self.writes:
            self._save(step, state, best_step)
        self.last_save = time.monotonic()

    def _save(self, step: int, state: dict[str, Any], best_step: int | None) -> None:
        self._write(step, state, best_step)
        newest = self.steps()[-self.keep :]
        kept = {*newest, *map(self._best_step, newest)}
        for old in set(self.steps()) - kept:
            self._remove(old)
        self.clear_unfinished()  # once more, where a failing disk did not let the above
        release_free_memory()

    def _best_step(self, step: int) -> int | None:
        """The best checkpoint at the time of another, without which that one is of no use; None if it does not tell."""
        with contextlib.suppress(DataError, AttributeError):
            return fsio.read_json(self.path(step) / "manifest.json").get("best_step")
        return None

    def _write(self, step: int, state: dict[str, Any], best_step: int | None) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with fsio.atomic_dir(self.path(step)) as folder:
            (folder / "state.pt").write_bytes(buffer.getbuffer())
            files = {"state.pt": _digest(folder / "state.pt")}
            manifest = {"step": step, "best_step": best_step, "files": files}
            fsio.write_json(folder / "manifest.json", manifest)

    def _remove(self, step: int) -> None:
        """Remove a checkpoint, renamed first so that a kill leaves no half of it. Failing to is no reason to stop."""
        doomed = fsio.temporary_name(self.path(step))
        try:
            os.replace(self.path(step), doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            logger.warning("old checkpoint %s cannot be removed: %s", self.path(step), error.strerror)

    def load(self, step: int) -> dict[str, Any]:
        """Read the checkpoint of `step` after checking it against its manifest.

        Raises:
            CheckpointError: it is missing, incomplete or damaged.
        """
        folder = self.path(step)
        try:
            manifest = fsio.read_json(folder / "manifest.json")
            sound = all(_digest(folder / name) == digest for name, digest in manifest["files"].items())
        except (DataError, OSError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{folder}: the manifest or a file it names cannot be read ({error})") from error
        if not sound:
            raise CheckpointError(f"{folder}: a file's size or SHA-256 differs from the manifest")
        return load_weights_only(folder / "state.pt")

    def load_newest(self) -> dict[str, Any] | None:
        """The newest valid checkpoint; None when the run has none at all.

        Damaged ones are skipped with a warning and moved into the folder `damaged`: were they left in place, they would
        count among the newest that are kept, and a later resume might take one for the run's future.

        Raises:
            CheckpointError: there are checkpoints, and every one is damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                state = self.load(step)
                if state["best_step"] != step:
                    self.load(state["best_step"])  # a rejected interval goes back to it
            except CheckpointError as error:
                logger.warning("checkpoint skipped: %s", error)
                continue
            for later in steps[steps.index(step) + 1 :]:
                self._set_aside(later)
            return state
        if steps:
            raise CheckpointError(f"{self.directory}: every checkpoint is damaged; remove the folder to start anew")
        return None

    def _set_aside(self, step: int) -> None:
        """Move a checkpoint that cannot be used out of the way.

        Raises:
            DataError: the folder cannot be written.
        """
        aside = self.directory / "damaged" / self.path(step).name
        try:
            aside.parent.mkdir(exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(self.path(step), aside)
        except OSError as error:
            raise fsio.write_failed(aside, error) from error
        logger.warning("moved to %s", aside)

    def clear_unfinished(self) -> None:
        """Remove what a killed run left half written."""
        for item in self.directory.glob(".step-*") if self.writes else ():
            shutil.rmtree(item, ignore_errors=True)


def _digest(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": fsio.sha256_file(path)}
