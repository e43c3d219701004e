"""Writing tables: an archive, an archive with its scp, or a file for each key that a script names."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import IO, Any, Self, cast

from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.basic import check_key
from acoustic.kaldi.holders import kind_of, write_value
from acoustic.kaldi.sinks import open_writer
from acoustic.kaldi.specifiers import ScriptEntry, parse_wspecifier, read_script


class _Record:
    """One entry in pieces: nothing is written before all of it is known to be good, and large values are not copied."""

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []
        self.num_bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        """As a file's; `data` must stay as it is until `write_to`."""
        piece = memoryview(data)
        self._pieces.append(piece)
        self.num_bytes += piece.nbytes
        return piece.nbytes

    def write_to(self, file: IO[bytes]) -> None:
        """Write all pieces."""
        for piece in self._pieces:
            file.write(piece)


class TableWriter:
    """Writes keys and values to a table. Use it as a context manager.

    Files appear when the block ends without an exception, first the archive, then its scp; an scp of an earlier run
    is removed before the archive it points into is replaced. A value that cannot be written leaves no trace.

    Args:
        wspecifier: such as `ark:feats.ark`, `ark,scp:feats.ark,feats.scp`, `ark,t:-`, `ark:| gzip -c > ali.1.gz`.
        kind: what the values are, one of `KINDS` in holders.py.
        compression_method: 1..7 (see compressed.py) to compress matrices.

    Raises:
        ConfigError: `wspecifier` or `kind` is none, or the values cannot be compressed.
    """

    def __init__(self, wspecifier: str, kind: str, compression_method: int | None = None) -> None:
        self._spec = parse_wspecifier(wspecifier)
        self._kind = kind_of(kind)
        if compression_method is not None and not (self._kind.can_compress and self._spec.binary):
            raise ConfigError(f"{wspecifier!r}: only binary matrices can be compressed")
        self._compression_method = compression_method
        self._stack = contextlib.ExitStack()
        self._archive: IO[bytes] | None = None
        self._script: IO[bytes] | None = None
        self._targets: dict[str, ScriptEntry] = {}
        self._num_bytes = 0
        self._keys: set[str] = set()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            if self._spec.archive is None:
                self._targets = read_script(self._spec.script or "-")
            else:
                if self._spec.script is not None:  # opened first, so published last
                    self._script = stack.enter_context(open_writer(self._spec.script))
                self._archive = stack.enter_context(open_writer(self._spec.archive))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._archive is not None and self._script is not None:
                self._prepare_replacement(self._archive, self._script)

    def _prepare_replacement(self, archive: IO[bytes], script: IO[bytes]) -> None:
        """Bring both files to the disk, where it may turn out to be full, then remove the scp of an earlier run.

        Between the two renames that follow, an old scp would point into the new archive.
        """
        for file in (archive, script):
            file.flush()
            os.fsync(file.fileno())
        if self._spec.script is not None and os.path.isfile(self._spec.script):
            os.unlink(os.path.realpath(self._spec.script))

    def write(self, key: str, value: Any) -> None:
        """Write one entry.

        Raises:
            DataError: the key has white space or control characters, or comes twice; the value is of another kind or
                cannot be written.
        """
        check_key(key)
        if key in self._keys:
            raise DataError("would be written twice", path=self._spec.archive or self._spec.script, utt=key)
        record = _Record()
        if self._archive is not None:
            record.write(key.encode() + b" ")
        value_offset = record.num_bytes
        try:
            write_value(cast(IO[bytes], record), self._kind, value, self._spec.binary, self._compression_method)
        except DataError as error:
            raise DataError(error.problem, path=error.path, utt=key, remedy=error.remedy) from error
        if self._archive is None:
            self._write_to_own_file(key, record)
        else:
            self._append(self._archive, key, record, value_offset)
        self._keys.add(key)

    def _append(self, archive: IO[bytes], key: str, record: _Record, value_offset: int) -> None:
        record.write_to(archive)
        if self._script is not None:
            self._script.write(f"{key} {self._spec.archive}:{self._num_bytes + value_offset}\n".encode())
        self._num_bytes += record.num_bytes
        if self._spec.flush:
            archive.flush()

    def _write_to_own_file(self, key: str, record: _Record) -> None:
        target = self._targets.get(key)
        if target is None:
            if self._spec.permissive:
                return
            raise DataError("the script names no file for this key", path=self._spec.script, utt=key)
        with open_writer(target.rxfilename) as file:
            record.write_to(file)
