"""Files that are complete or absent.

Everything we write is made beside its final name, flushed to the disk, renamed over it, and the rename itself is
flushed (fsync of the folder). A reader never sees half a file, whatever kills the writer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from acoustic.errors import DataError


def fsync_path(path: str | Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(temporary: str | Path, path: str | Path) -> None:
    """Give the complete file or folder `temporary` its final name, durably. Both must lie in one file system."""
    os.replace(temporary, path)
    fsync_path(Path(path).parent)


def temporary_name(path: str | Path) -> Path:
    """Where the unfinished version of `path` is written: a sibling no reader looks at, distinct per process."""
    path = Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open `path` for writing so that it appears only when the block ends without an exception.

    Raises:
        DataError: the disk is full, the folder cannot be written, or another I/O error; `path` is left as it was.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except OSError as error:
        raise write_failed(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield a new folder that takes the name `path` only when the block ends without an exception.

    An existing folder of that name is replaced. Every file in the new one is flushed first.

    Raises:
        DataError: the disk is full or another I/O error; what was at `path` is left as it was.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for item in sorted(temporary.rglob("*"), reverse=True):
            fsync_path(item)
        fsync_path(temporary)
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.replace(path, old)
            publish(temporary, path)
            shutil.rmtree(old)
        else:
            publish(temporary, path)
    except OSError as error:
        raise write_failed(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_failed(path: str | Path, error: OSError) -> DataError:
    """The error a user sees when writing `path` fails."""
    return DataError(
        f"cannot be written ({error.strerror or error})", path=path, remedy="free space or mend the folder, then rerun"
    )


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: str | Path, value: object) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from error
    except ValueError as error:
        raise DataError(f"is not JSON ({error})", path=path) from error


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
