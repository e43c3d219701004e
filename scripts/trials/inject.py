"""Kills and failures at the moments when a program writes to the disk, from outside the program.

Inside `WritePoints` every call that changes the disk is counted: opening for writing, each write, fsync, rename, mkdir,
unlink, rmdir, truncate. At the chosen one the process is killed or the call fails. Only for forked children: what
is replaced is not put back.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acoustic import fsio

WRITING_MODES = frozenset("wax+")


class WritePoints:
    """Counts the calls that change the disk.

    Args:
        at: the call, counted from 0, at which something happens; -1: never.
        action: what happens then: "kill", or the number of the error that is raised.
        forever: whether all later calls fail too, as on a disk that stays full.
        folder: only what happens below it counts; log files do not.

    Attributes:
        names: what was done to which file, call by call.
    """

    def __init__(self, folder: Path, at: int = -1, action: str | int = "kill", forever: bool = False) -> None:
        self.folder, self.at, self.action, self.forever = os.path.realpath(folder), at, action, forever
        self.names: list[str] = []

    def hit(self, name: str, path: Any, half: Callable[[], object] | None = None, dir_fd: int | None = None) -> None:
        """Count a call; at the chosen one do its first `half`, then kill or raise."""
        start = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        text = os.path.join(os.path.realpath(start), os.fsdecode(path))
        if not text.startswith(self.folder) or text.endswith(".log"):
            return
        number = len(self.names)
        self.names.append(f"{name} {os.path.relpath(text, self.folder)}")
        if not (number == self.at or (self.forever and 0 <= self.at < number)):
            return
        if half is not None:
            half()
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(int(self.action), os.strerror(int(self.action)), text)

    def install(self) -> WritePoints:
        """Put the counters in place."""
        for name in ("replace", "rename", "mkdir", "unlink", "remove", "rmdir", "truncate"):
            setattr(os, name, self._counting(name, getattr(os, name)))
        fsync, os_open = os.fsync, os.open

        def counted_fsync(fd: int) -> None:
            self.hit("fsync", os.readlink(f"/proc/self/fd/{fd}"))
            fsync(fd)

        def counted_os_open(path: Any, flags: int, *args: Any, **keywords: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.hit("open", path, dir_fd=keywords.get("dir_fd"))
            return os_open(path, flags, *args, **keywords)

        os.fsync, os.open = counted_fsync, counted_os_open
        fsio.exchange = self._exchanging(fsio.exchange)
        builtins.open = io.open = self._opening(io.open)  # type: ignore[assignment]
        return self

    def _counting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *args: Any, **keywords: Any) -> Any:
            self.hit(name, path, dir_fd=keywords.get("dir_fd"))
            return call(path, *args, **keywords)

        return counted

    def _exchanging(self, exchange: Callable[..., None]) -> Callable[..., None]:
        def counted(one: Any, other: Any) -> None:
            self.hit("exchange", other)
            exchange(one, other)

        return counted

    def _opening(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, mode: str = "r", *args: Any, **keywords: Any) -> Any:
            if isinstance(path, int) or not WRITING_MODES & set(mode):
                return original(path, mode, *args, **keywords)
            self.hit("open", path)
            return CountedFile(original(path, mode, *args, **keywords), os.fsdecode(path), self)

        return counted


class CountedFile:
    """A file whose writes are counted; at the chosen one half of the data reaches the disk."""

    def __init__(self, file: Any, path: str, points: WritePoints) -> None:
        self._file, self._path, self._points = file, path, points

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        if len(data):
            self._points.hit("write", self._path, half)
        return self._file.write(data)

    def __enter__(self) -> CountedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
