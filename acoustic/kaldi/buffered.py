"""A buffered, positioned view of a source of bytes: exact reads, scans for delimiters, errors that name the byte.

Nothing is allocated on the word of a file: what a header announces is compared with what is left, or, where that
cannot be known, memory grows only with what has arrived.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from acoustic.errors import DataError
from acoustic.kaldi.sources import READ_FAILURES, FileSource, Source

CHUNK = 1 << 16
"""How many bytes are asked of a source at a time."""

MAX_BLIND_BYTES = 1 << 24
"""How much is allocated at once on the word of a header, when the source cannot say how much it holds."""

_NOT_SPACE = re.compile(rb"[^ \t\n\v\f\r]")


class BufferedSource:
    """A positioned reader of bytes.

    Args:
        source: where the bytes come from.
        name: what messages call it.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.name = name
        self._source = source
        self._buffer = b""
        self._next = 0  # index in _buffer of the next unread byte
        self._buffer_start = 0  # byte position of _buffer[0] in the stream
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Give up the source without asking how it ended."""
        self._source.abort()

    def close(self) -> None:
        """Close the source.

        Raises:
            DataError: it was a command and ended with a nonzero status or a signal.
        """
        try:
            problem = self._source.close()
        except READ_FAILURES as error:
            raise self._read_failed(error) from error
        if problem is not None:
            raise DataError(problem, path=self.name, remedy="run the command by hand to see why")

    @property
    def offset(self) -> int:
        """Position of the next unread byte."""
        return self._buffer_start + self._next

    def error(self, problem: str, remedy: str | None = None, byte: int | None = None) -> DataError:
        """A DataError that names this stream and a byte, by default the current one."""
        return DataError(problem, path=self.name, byte=self.offset if byte is None else byte, remedy=remedy)

    def seek(self, offset: int) -> None:
        """Go to a byte of a regular file.

        Raises:
            DataError: the source cannot be sought in, or ends before that byte.
        """
        if self._buffer_start <= offset <= self._buffer_start + len(self._buffer):
            self._next = offset - self._buffer_start
            return
        if not isinstance(self._source, FileSource):
            raise self.error("an offset needs a regular uncompressed file")
        self._source.seek(0)
        size = self._source.num_left()
        if offset > size:
            raise self.error(f"the file ends at byte {size}", "the file was cut or its scp is of another", byte=offset)
        self._source.seek(offset)
        self._buffer, self._next, self._buffer_start, self._ended = b"", 0, offset, False

    def read(self, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes.

        Raises:
            DataError: the stream ends before.
        """
        end = self._next + num_bytes
        if end <= len(self._buffer):
            piece = self._buffer[self._next : end]
            self._next = end
            return piece
        return self.read_array(np.uint8, num_bytes).tobytes()

    def read_array(self, dtype: DTypeLike, count: int) -> np.ndarray[Any, Any]:
        """`count` little-endian items as a new, writable one-dimensional array.

        Raises:
            DataError: the stream ends before, which is known without allocating when it is a file.
        """
        kind = np.dtype(dtype).newbyteorder("<")
        num_bytes = count * kind.itemsize
        end = self._next + num_bytes
        if end <= len(self._buffer):
            array = np.frombuffer(self._buffer, kind, count, self._next).copy()
            self._next = end
            return array
        num_left = self._source.num_left()
        if num_left is not None:
            self._check_left(num_bytes, num_left)
        elif num_bytes > MAX_BLIND_BYTES:
            return np.frombuffer(self._read_blindly(num_bytes), kind)
        array = np.empty(count, kind)
        self._fill(array.view(np.uint8).data)
        return array

    def _check_left(self, num_bytes: int, num_left: int) -> None:
        num_there = len(self._buffer) - self._next + num_left
        if num_bytes > num_there:
            problem = f"{num_bytes} bytes announced but only {num_there} are left"
            raise self.error(problem, "the file was cut short or damaged")

    def _read_blindly(self, num_bytes: int) -> bytearray:
        """Read from a source of unknown length: memory grows with what has arrived, not with what was announced."""
        data = bytearray()
        while len(data) < num_bytes:
            piece = bytearray(min(MAX_BLIND_BYTES, num_bytes - len(data)))
            self._fill(memoryview(piece))
            data += piece
        return data

    def _fill(self, view: memoryview) -> None:
        """Fill all of `view`, first from the buffer, then straight from the source."""
        start, num_wanted = self.offset, len(view)
        num_filled = min(num_wanted, len(self._buffer) - self._next)
        view[:num_filled] = self._buffer[self._next : self._next + num_filled]
        self._next += num_filled
        while num_filled < num_wanted:
            count = self._source_readinto(view[num_filled:])
            if count == 0:
                raise self.ends_early(f"ends {num_wanted - num_filled} bytes too early", start)
            num_filled += count
            self._buffer, self._next, self._buffer_start = b"", 0, start + num_filled

    def _source_readinto(self, view: memoryview) -> int:
        try:
            return self._source.readinto(view)
        except READ_FAILURES as error:
            raise self._read_failed(error) from error

    def _read_failed(self, error: Exception) -> DataError:
        return self.error(f"cannot be read ({error})", "the file is damaged, cut short or on a failing disk")

    def ends_early(self, problem: str, byte: int | None = None) -> DataError:
        """The error for a stream that ends inside a value; a failed command is the better explanation."""
        failure = None
        if self._source.num_left() is None:
            try:
                failure = self._source.close()
            except READ_FAILURES as error:
                return self._read_failed(error)
        if failure is not None:
            return self.error(f"{problem}: {failure}", byte=byte)
        return self.error(problem, "it was cut short or damaged", byte)

    def _grow(self) -> bool:
        """Append more of the source to the buffer; False at the end. Doubling keeps long scans linear."""
        if self._ended:
            return False
        unread = self._buffer[self._next :]
        chunk = bytearray(max(CHUNK, len(unread)))
        count = self._source_readinto(memoryview(chunk))
        self._ended = count == 0
        self._buffer_start += self._next
        self._buffer, self._next = unread + bytes(chunk[:count]), 0
        return count > 0

    def peek(self, num_bytes: int) -> bytes:
        """The next `num_bytes` bytes without consuming them, fewer at the end."""
        while len(self._buffer) - self._next < num_bytes and self._grow():
            pass
        return self._buffer[self._next : self._next + num_bytes]

    def at_end(self) -> bool:
        """Whether no byte is left."""
        return not self.peek(1)

    def find(self, pattern: re.Pattern[bytes], max_bytes: int | None = None) -> int | None:
        """How far ahead `pattern` first matches; None when it does not before the end (or within `max_bytes`)."""
        searched = 0
        while True:
            match = pattern.search(self._buffer, self._next + searched)
            if match:
                return match.start() - self._next
            searched = len(self._buffer) - self._next
            if (max_bytes is not None and searched > max_bytes) or not self._grow():
                return None

    def skip_space(self) -> None:
        """Go to the next byte that is not white space, or to the end."""
        while True:
            match = _NOT_SPACE.search(self._buffer, self._next)
            self._next = match.start() if match else len(self._buffer)
            if match or not self._grow():
                return

    def read_until(self, delimiter: bytes) -> bytes:
        """The bytes up to and with the one-byte `delimiter`.

        Raises:
            DataError: the stream ends before it.
        """
        ahead = self.find(re.compile(re.escape(delimiter)))
        if ahead is None:
            raise self.ends_early(f"ends without {delimiter.decode('ascii')!r}")
        return self.read(ahead + 1)

    def read_line(self) -> bytes:
        """The bytes of one line, its newline removed.

        Raises:
            DataError: the stream ends without a newline: it was cut short, or the newline was forgotten.
        """
        ahead = self.find(re.compile(b"\n"))
        if ahead is None:
            raise self.ends_early("the last line has no newline")
        return self.read(ahead + 1)[:-1]

    def end_line(self) -> None:
        """Consume blanks up to and with a newline, as Kaldi writes after every text value.

        Raises:
            DataError: something else is there.
        """
        start = self.offset
        if self.read_line().strip():
            raise self.error("expected the end of the line", byte=start)

    def decode(self, data: bytes) -> str:
        """Bytes as UTF-8.

        Raises:
            DataError: they are not.
        """
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.error("not UTF-8 text", "this is no file of the expected format") from None
