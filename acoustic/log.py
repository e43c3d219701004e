"""What a run tells its user: log lines, a progress bar on terminals, and the count of what was done and skipped."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from acoustic.errors import DataError

T = TypeVar("T")
# tqdm's own lock is shared with forked processes: one that is killed while it holds it would stop all others for good.
tqdm.set_lock(threading.RLock())
# So many skipped items are named in warnings; the summary counts all.
MAX_NAMED_SKIPS = 10


def get_logger(name: str) -> logging.Logger:
    """The logger of one module, a child of `acoustic`."""
    return logging.getLogger(name if name.startswith("acoustic") else f"acoustic.{name}")


class _BesideBars(logging.StreamHandler[TextIO]):
    """Writes lines so that a progress bar on the same terminal stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            if self.stream.isatty():
                tqdm.write(self.format(record), file=self.stream)
                return
        except (OSError, ValueError):
            self.handleError(record)
            return
        super().emit(record)


def set_up(level: int = logging.INFO, file: str | Path | None = None) -> None:
    """Send log lines to stderr and, when given, append them to `file`. Called once, by the command line."""
    logger = logging.getLogger("acoustic")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    handlers: list[logging.Handler] = [_BesideBars(sys.stderr)]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = "utt") -> Iterator[T]:
    """Pass `items` through, with a progress bar when stderr is a terminal and nothing otherwise."""
    yield from tqdm(items, desc=description, total=total, unit=unit, disable=not sys.stderr.isatty(), leave=False)


def bar(total: int, description: str, unit: str) -> Any:
    """A progress bar to be updated by hand; silent when stderr is not a terminal."""
    return tqdm(desc=description, total=total, unit=unit, unit_scale=True, disable=not sys.stderr.isatty(), leave=False)


def real_time_factor(seconds: float, num_frames: int, frame_shift: float = 10.0) -> str:
    """For a summary: the time that frames took as a fraction of the speech's duration.

    Args:
        seconds: that they took.
        num_frames: how many they are, at least 1.
        frame_shift: milliseconds from one to the next; Kaldi's default where the frames alone are known.
    """
    return f"real-time factor {1000 * seconds / (num_frames * frame_shift):.4g} (frames of {frame_shift:g} ms)"


class Tally:
    """Counts what was done and what was skipped by reason, and fails when too much was skipped.

    Args:
        what: what is counted, in the plural ("utterances").
    """

    def __init__(self, what: str = "utterances") -> None:
        self.what = what
        self.num_done = 0
        self.skipped: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.skips: list[tuple[str, str, str]] = []
        self.start = time.monotonic()

    def done(self, count: int = 1) -> None:
        """Count items that went through."""
        self.num_done += count

    def skip(self, reason: str, key: str, detail: str = "") -> None:
        """Count an item left out, under a short `reason`; `key` names it, `detail` says what exactly was wrong."""
        self.skipped[reason] += 1
        self.skips.append((reason, key, detail))
        self.examples.setdefault(reason, f"{key}: {detail}" if detail else key)

    @property
    def num_skipped(self) -> int:
        """How many items were skipped, over all reasons."""
        return sum(self.skipped.values())

    def summary(self, extra: str = "") -> str:
        """One line: done, skipped by reason, seconds."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.skipped.items()))
        parts = [
            f"done {self.num_done} {self.what}",
            f"skipped {self.num_skipped}" + (f" ({reasons})" if reasons else ""),
        ]
        if extra:
            parts.append(extra)
        parts.append(f"{time.monotonic() - self.start:.1f} s")
        return ", ".join(parts)

    def check(self, max_skip_fraction: float = 0.05, path: str | Path | None = None) -> None:
        """Fail when nothing was done or more than `max_skip_fraction` of the items were skipped; else warn of these.

        Args:
            max_skip_fraction: share of the items that may be skipped.
            path: where the items came from, for the message.

        Raises:
            DataError: with the count and one example for each reason.
        """
        total = self.num_done + self.num_skipped
        examples = "; ".join(f"{reason} (e.g. {example})" for reason, example in sorted(self.examples.items()))
        if total == 0:
            raise DataError(f"holds no {self.what}", path=path, remedy="check what should have written it")
        if self.num_done == 0:
            raise DataError(
                f"none of {total} {self.what} could be used: {examples}",
                path=path,
                remedy="mend the data (acoustic doctor lists every fault)",
            )
        if self.num_skipped > max_skip_fraction * total:
            raise DataError(
                f"{self.num_skipped} of {total} {self.what} skipped, more than {max_skip_fraction:.1%}: {examples}",
                path=path,
                remedy="mend the data (acoustic doctor lists every fault) or raise max_skip_fraction",
            )
        self._warn_of_skips()

    def _warn_of_skips(self) -> None:
        """Name what was left out, the first few of it."""
        logger = get_logger(__name__)
        for reason, key, detail in self.skips[:MAX_NAMED_SKIPS]:
            logger.warning("skipped %s (%s)%s", key, reason, f": {detail}" if detail else "")
        if self.num_skipped > MAX_NAMED_SKIPS:
            logger.warning("... and %d more skipped", self.num_skipped - MAX_NAMED_SKIPS)
