"""Where bytes go: files that appear only when complete, gzip files, standard output and commands.

The names are Kaldi's wxfilenames (kaldi-io.h, ClassifyWxfilename): `path`, `| command`, `-`; a path that ends in
`.gz` is compressed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from acoustic.errors import DataError
from acoustic.fsio import atomic_write, write_failed
from acoustic.kaldi.sources import describe_status, shell_command, stop_command

_UNWRITABLE = re.compile(r"\0|^(?!\|)(.*\||\s.*|.*\s|.*:[0-9]+|(ark|scp)[,a-z]*:.*)$", re.DOTALL)
"""A NUL, an input command, blanks at an end, `file:123` (read back as an offset), or a table instead of a file."""


def is_plain_file(wxfilename: str) -> bool:
    """Whether a wxfilename names a file in which a byte offset can be found again: no command, gzip or device."""
    if wxfilename in ("", "-") or wxfilename.startswith("|") or wxfilename.endswith(".gz"):
        return False
    return not os.path.exists(wxfilename) or stat.S_ISREG(os.stat(wxfilename).st_mode)


@contextlib.contextmanager
def open_writer(wxfilename: str | Path) -> Iterator[IO[bytes]]:
    """Open a wxfilename for writing: `path`, `path.gz`, `| command` or `-` (standard output).

    A file appears only when the block ends without an exception; a symbolic link is followed, not replaced. When
    the block fails, a command is killed rather than left to make a complete-looking result of half the data.

    Raises:
        DataError: a full disk or another I/O error, a reader of ours that went away, a command that failed.
    """
    with _open(str(wxfilename)) as file:
        yield file


@contextlib.contextmanager
def _open(wxfilename: str) -> Iterator[IO[bytes]]:
    if _UNWRITABLE.search(wxfilename):
        raise DataError("is no name to write to", path=repr(wxfilename), remedy="use a path, `-` or `| command`")
    if wxfilename in ("", "-"):
        with _open_stdout() as file:
            yield file
    elif wxfilename.startswith("|"):
        with _open_command(wxfilename) as file:
            yield file
    elif os.path.exists(wxfilename) and not stat.S_ISREG(os.stat(wxfilename).st_mode):
        with _open_device(wxfilename) as file:
            yield file
    else:
        with atomic_write(os.path.realpath(wxfilename)) as file:
            if not wxfilename.endswith(".gz"):
                yield file
                return
            # No name and no time in the header: the same data always gives the same bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                yield packed  # type: ignore[misc]


@contextlib.contextmanager
def _open_stdout() -> Iterator[IO[bytes]]:
    file = io.BufferedWriter(io.FileIO(1, "wb", closefd=False))
    try:
        yield file
        file.flush()
    except BrokenPipeError as error:
        raise DataError(
            "the program reading it ended early", path="standard output", remedy="look at that program's messages"
        ) from error
    except OSError as error:
        raise write_failed("standard output", error) from error
    finally:
        _discard(file)


@contextlib.contextmanager
def _open_device(path: str) -> Iterator[IO[bytes]]:
    """A FIFO or device: it exists already and must not be renamed over."""
    try:
        with open(path, "wb") as file:
            yield file
    except OSError as error:
        raise write_failed(path, error) from error


@contextlib.contextmanager
def _open_command(wxfilename: str) -> Iterator[IO[bytes]]:
    command = wxfilename[1:]
    process = subprocess.Popen(shell_command(command), stdin=subprocess.PIPE)
    stream = cast(IO[bytes], process.stdin)
    try:
        yield stream
        stream.close()
    except OSError as error:
        with contextlib.suppress(OSError):
            stream.close()
        failure = describe_status(command, process.wait())
        raise DataError(failure or f"the command stopped reading ({error.strerror})", path=wxfilename) from error
    except BaseException:
        stop_command(process, stream)
        raise
    failure = describe_status(command, process.wait())
    if failure is not None:
        raise DataError(failure, path=wxfilename, remedy="run the command by hand to see why")


def _discard(file: io.BufferedWriter[io.FileIO]) -> None:
    """Close a writer and drop what it could not write."""
    file.raw.close()
    with contextlib.suppress(ValueError, OSError):
        file.close()
