"""Files that are complete or absent.

Everything we write is made beside its final name, flushed to the disk, renamed over it, and the rename itself is
flushed (fsync of the folder). A reader never sees half a file, whatever kills the writer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from acoustic.errors import DataError

# renameat2(2), Linux
AT_FDCWD = -100
RENAME_EXCHANGE = 2


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
    """Where the unfinished version of `path` is written: a sibling no reader looks at, another one for every call.

    Process ids alone would not do: containers that share a disk have the same ones.
    """
    path = Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def exchange(one: str | Path, other: str | Path) -> None:
    """Swap two files or folders of one file system in a single step; both must exist.

    Where the system or the file system cannot do that, `other` is for a moment nowhere: a kill right then leaves it
    under a hidden name, an error puts it back.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        names = os.fsencode(one), os.fsencode(other)
        if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    aside = temporary_name(other)
    os.replace(other, aside)
    try:
        os.replace(one, other)
    except OSError:
        os.replace(aside, other)
        raise
    os.replace(aside, one)


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open `path` for writing so that it appears only when the block ends without an exception.

    A device or FIFO (/dev/null, /dev/stdout) is written to as it is: renaming over it would take it from everybody.

    Raises:
        DataError: the disk is full, the folder cannot be written, or another I/O error; `path` is left as it was.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        if path.exists() and not path.is_file():
            with open(path, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file, _held(temporary):
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except OSError as error:
        raise write_failed(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # gone already, or on a disk that fails
            temporary.unlink()


@contextlib.contextmanager
def atomic_dir(path: str | Path, marker: str = "*") -> Iterator[Path]:
    """Yield a new folder that takes the name `path` only when the block ends without an exception.

    An existing folder of that name is replaced, if it is empty or something in it matches the glob pattern `marker`:
    a folder of another kind is not ours to remove. Every file in the new one is flushed first.

    Raises:
        DataError: `path` is a file or a folder of another kind, the disk is full, or another I/O error; what was at
            `path` is left as it was.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise DataError("is not a folder", path=path, remedy="give another name for the output folder")
    if path.exists() and any(path.iterdir()) and not any(path.glob(marker)):
        remedy = "give another name for the output folder, or remove that one"
        raise DataError(
            f"is a folder of another kind (it holds no {marker}) and is not replaced", path=path, remedy=remedy
        )
    temporary = temporary_name(path)
    try:
        temporary.mkdir(parents=True)
        with _held(temporary):
            remove_abandoned(path)
            yield temporary
            for item in sorted(temporary.rglob("*"), reverse=True):
                fsync_path(item)
            fsync_path(temporary)
            if path.exists():
                exchange(temporary, path)
                fsync_path(path.parent)
            else:
                publish(temporary, path)
    except OSError as error:
        raise write_failed(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Lock a file or folder for as long as this process works on it; gives whether it was free. A kill frees it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        free = True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held by another, or a file system without locks: better to think of it as in use
            free = False
        yield free
    finally:
        os.close(fd)


def remove_abandoned(path: str | Path) -> None:
    """Remove what killed processes left of unfinished files and folders that were to be called `path`."""
    path = Path(path)
    _remove_free(path.parent, f".{path.name}.")


def _remove_free(folder: Path, prefix: str) -> None:
    """Remove the unfinished outputs in `folder`, of names that begin so, that no process works on any more."""
    # No glob: Python keeps hundreds of compiled patterns, and names of checkpoints never come again.
    names = os.listdir(folder) if folder.is_dir() else []
    for item in [folder / name for name in names if name.startswith(prefix) and name.endswith(".tmp")]:
        with contextlib.suppress(OSError), _held(item) as free:
            if free and item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            elif free:
                item.unlink()


def _open_lock(path: Path) -> int:
    """A descriptor of a file to lock; it and its folder are made if missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise write_failed(path, error) from error


@contextlib.contextmanager
def sole_owner(folder: str | Path) -> Iterator[None]:
    """Keep other processes that ask the same out of `folder` (made if missing) for the length of the block.

    What killed ones left unfinished there is removed.

    Raises:
        DataError: another process is in it, or it cannot be made.
    """
    path = Path(folder) / ".lock"
    fd = _open_lock(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            remedy = "wait for it, or give this run another folder"
            raise DataError("another process is at work here", path=folder, remedy=remedy) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise write_failed(path, error) from error
        _remove_free(path.parent, ".")
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def in_turn(folder: str | Path) -> Iterator[None]:
    """Let processes that ask the same of `folder` (made if missing) through the block one after another.

    Raises:
        DataError: it cannot be made.
    """
    fd = _open_lock(Path(folder) / ".turn")
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def remove_file(path: str | Path) -> None:
    """Remove a file, if it is there.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise write_failed(path, error) from error


def write_failed(path: str | Path, error: OSError) -> DataError:
    """The error a user sees when writing `path` fails."""
    return DataError(
        f"cannot be written ({error.strerror or error})", path=path, remedy="free space or mend the folder, then rerun"
    )


def check_writable(path: str | Path) -> None:
    """Find out before hours of work whether `atomic_write(path)` can do after them, as far as can be told.

    Raises:
        DataError: it cannot.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():  # a device
            return
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise write_failed(path, error) from error


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
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", path=path) from error


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
