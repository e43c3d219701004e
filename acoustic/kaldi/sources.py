"""Where bytes come from: files, gzip files, standard input and the output of commands, behind one small interface.

A source hands out bytes and says how many are left when it can know; it turns nothing into values. The names
are Kaldi's rxfilenames (kaldi-io.h, ClassifyRxfilename): `path`, `path:offset`, `command |`, `-`; a path that
ends in `.gz` is decompressed on the fly, which Kaldi itself does not do.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import shutil
import signal
import stat
import subprocess
import zlib
from dataclasses import dataclass
from typing import IO, Protocol, cast

from acoustic.errors import DataError

READ_FAILURES = (OSError, EOFError, zlib.error)
"""What reading a source can raise: the reader turns each into a DataError with its name and byte."""

SECONDS_TO_END = 5.0
"""How long a command that was asked to end may take before it is killed."""

_OFFSET = re.compile(r"(.+):([0-9]+)")


class Source(Protocol):
    """A stream of bytes."""

    def readinto(self, view: memoryview) -> int:
        """Fill the front of `view`; the number of bytes put there, 0 at the end."""

    def num_left(self) -> int | None:
        """How many bytes are left, or None when that cannot be known."""

    def close(self) -> str | None:
        """Finish: None when all went well, otherwise what went wrong."""

    def abort(self) -> None:
        """Give up without asking how it ended."""


@dataclass(frozen=True)
class ReadName:
    """An rxfilename taken apart.

    Args:
        kind: "file", "pipe" or "stdin".
        target: the path or the command (without its `|`).
        offset: where in the file to begin, in bytes; None when the name gives none.
    """

    kind: str
    target: str
    offset: int | None = None


def parse_rxfilename(rxfilename: str) -> ReadName:
    """Take an rxfilename apart as Kaldi's ClassifyRxfilename does.

    Raises:
        DataError: it is no rxfilename: an output pipe, blanks at its ends, a `|` or NUL in its middle.
    """
    if rxfilename in ("", "-"):
        return ReadName("stdin", "-")
    if "\0" in rxfilename:
        raise DataError("a file name cannot hold a NUL byte", path=rxfilename.replace("\0", "\\0"))
    if rxfilename.startswith("|"):
        remedy = "put the | at the end"
        raise DataError("is a command to write to, not one to read from", path=rxfilename, remedy=remedy)
    if rxfilename.endswith("|"):
        return ReadName("pipe", rxfilename[:-1])
    if rxfilename != rxfilename.strip():
        raise DataError("a file name to read cannot begin or end with blanks", path=repr(rxfilename))
    if "|" in rxfilename:
        raise DataError("has a | in the middle", path=rxfilename, remedy="a command to read from ends with |")
    match = _OFFSET.fullmatch(rxfilename)
    return ReadName("file", match[1], int(match[2])) if match else ReadName("file", rxfilename)


class FileSource:
    """A regular file. Reads by position, so that processes forked from one reader do not disturb each other."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by close and abort)
        self._position = 0

    def readinto(self, view: memoryview) -> int:
        """Fill the front of `view`; the number of bytes put there, 0 at the end."""
        count = os.preadv(self._file.fileno(), [view], self._position)
        self._position += count
        return count

    def num_left(self) -> int:
        """How many bytes lie behind the current position."""
        return max(0, os.fstat(self._file.fileno()).st_size - self._position)

    def seek(self, position: int) -> None:
        """Go to a byte position, which may lie behind the end."""
        self._position = position

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    abort = close


class StreamSource:
    """Standard input, a FIFO or a device: bytes come until they end."""

    def __init__(self, stream: io.RawIOBase | gzip.GzipFile) -> None:
        self._stream = stream

    def readinto(self, view: memoryview) -> int:
        """Fill the front of `view`; the number of bytes put there, 0 at the end."""
        return self._stream.readinto(view) or 0

    def num_left(self) -> None:
        """Unknown."""
        return None

    def close(self) -> str | None:
        """Close the stream."""
        self._stream.close()
        return None

    def abort(self) -> None:
        """Close the stream."""
        self._stream.close()


class GzipSource(StreamSource):
    """A gzip file, several members in a row allowed. Damage, a missing end and trailing garbage raise when met."""

    def __init__(self, path: str) -> None:
        self._is_empty = os.path.getsize(path) == 0
        super().__init__(gzip.GzipFile(path, "rb"))

    def readinto(self, view: memoryview) -> int:
        """Fill the front of `view`; the number of bytes put there, 0 at the end."""
        if self._is_empty:
            raise EOFError("a gzip file has at least 18 bytes, this one has none")
        return super().readinto(view)

    def close(self) -> str | None:
        """Read to the end, so that damage behind the last value wanted is found, and close."""
        drain(self._stream)
        return super().close()


class PipeSource:
    """What a command writes to its standard output. Its exit status is part of the data: nonzero is a failure."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._process = subprocess.Popen(shell_command(command), stdout=subprocess.PIPE, bufsize=0)
        self._stream = cast(io.FileIO, self._process.stdout)

    def readinto(self, view: memoryview) -> int:
        """Fill the front of `view`; the number of bytes put there, 0 at the end."""
        return self._stream.readinto(view) or 0

    def num_left(self) -> None:
        """Unknown."""
        return None

    def close(self) -> str | None:
        """Read to the end, so that the command is not cut off and its status is its own; then judge the status."""
        drain(self._stream)
        self._stream.close()
        return describe_status(self._command, self._process.wait())

    def abort(self) -> None:
        """Stop the command."""
        stop_command(self._process, self._stream)


def drain(stream: io.RawIOBase | gzip.GzipFile) -> None:
    """Read a stream to its end and forget it; one that is closed already is at its end."""
    view = memoryview(bytearray(1 << 16))
    while not stream.closed and stream.readinto(view):
        pass


def stop_command(process: subprocess.Popen[bytes], stream: io.IOBase | IO[bytes]) -> None:
    """End a command whose input or output nobody wants any more, whatever its status."""
    process.terminate()
    with contextlib.suppress(OSError):
        stream.close()
    try:
        process.wait(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def shell_command(command: str) -> list[str]:
    """The argument list that runs a command line the user wrote, with failures inside a pipeline not lost."""
    bash = shutil.which("bash")
    return [bash, "-o", "pipefail", "-c", command] if bash else ["/bin/sh", "-c", command]


def describe_status(command: str, status: int) -> str | None:
    """None when a command ended well, otherwise how it failed.

    A command that was stopped inside a pipeline because the next one had read enough (`cat x | head -1`) is well.
    """
    if status == 0 or (status == 128 + signal.SIGPIPE and "|" in command):
        return None
    if status < 0:
        return f"the command was killed by signal {-status}{_in_brackets(-status)}"
    return f"the command failed with exit status {status}{_in_brackets(status - 128, 'signal ')}"


def _in_brackets(number: int, before: str = "") -> str:
    """The name of a signal; nothing where the number is that of none, or of one without a name (SIGRTMIN + 1)."""
    names = {item.value: item.name for item in signal.Signals}
    return f" ({before}{names[number]})" if number in names else ""


def open_source(name: ReadName) -> Source:
    """Open a parsed rxfilename, at its offset.

    Raises:
        OSError: the file or the command cannot be opened.
    """
    if name.kind == "stdin":
        return StreamSource(io.FileIO(0, closefd=False))
    if name.kind == "pipe":
        return PipeSource(name.target)
    if name.target.endswith(".gz"):
        return GzipSource(name.target)
    if stat.S_ISREG(os.stat(name.target).st_mode):
        return FileSource(name.target)
    return StreamSource(io.FileIO(name.target))
