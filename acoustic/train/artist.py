"""Who draws the learning curves while a run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from acoustic import log

logger = log.get_logger(__name__)
PACKAGE_PARENT = Path(__file__).parents[2]


class CurveArtist:
    """Draws learning curves in a process of its own, one picture at a time, while training goes on.

    matplotlib takes a second to load and to draw, and what it keeps of each picture would let the memory of a long run
    creep up.

    Args:
        metrics_path: metrics.jsonl, read anew for each picture.
        picture_path: the PNG.
    """

    def __init__(self, metrics_path: Path, picture_path: Path) -> None:
        self.metrics_path, self.picture_path = metrics_path, picture_path
        self._process: subprocess.Popen[bytes] | None = None
        self._is_behind = False

    def draw(self) -> None:
        """Have the curves drawn as they are now; soon, if a picture is being drawn."""
        self._is_behind = True
        if self._process is None or self._process.poll() is not None:
            self._start()

    def close(self) -> None:
        """Wait until the picture shows all that was asked for."""
        while self._process is not None:
            self._check(self._process.wait())
            self._process = None
            if self._is_behind:
                self._start()

    def _start(self) -> None:
        if self._process is not None:
            self._check(self._process.returncode)
        self._is_behind = False
        path = os.pathsep.join(filter(None, [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH")]))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "acoustic.train.curves", self.metrics_path, self.picture_path],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt typed for the run is not for the picture
            )
        except OSError as error:
            self._process = None
            logger.warning("%s was not drawn: no process can be started: %s", self.picture_path, error.strerror)

    def _check(self, status: int) -> None:
        """A missing picture is no reason to end a run, but is told."""
        if status != 0:
            logger.warning(
                "%s was not drawn (exit status %d); `python -m acoustic.train.curves %s %s` tells why",
                self.picture_path, status, self.metrics_path, self.picture_path,
            )  # fmt: skip
