"""Reading bytes as Kaldi's basic types, binary and text (base/io-funcs).

`open_reader` opens an rxfilename as a ByteReader; `open_writer` (in sinks.py) opens a wxfilename.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from acoustic.errors import DataError
from acoustic.kaldi.buffered import BufferedSource
from acoustic.kaldi.numbers import FloatArray, IntArray, find_bad_float, find_bad_integer, parse_floats, parse_integers
from acoustic.kaldi.sinks import open_writer
from acoustic.kaldi.sources import READ_FAILURES, ReadName, Source, open_source, parse_rxfilename

__all__ = ["ByteReader", "open_reader", "open_writer"]

MAX_TOKEN_BYTES = 1 << 16
"""A longer run without white space is no token but a damaged or foreign file."""

_SPACE = re.compile(rb"[ \t\n\v\f\r]")
_AFTER_NUMBER = re.compile(rb"[ \t\n\v\f\r\[\],;]")
_INTEGER = re.compile(rb"[+-]?[0-9]{1,20}")
_FLOAT = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE)


class ByteReader(BufferedSource):
    """A reader of Kaldi's tokens and basic types.

    Attributes:
        name: the rxfilename, for messages.
        binary: whether basic types are read in Kaldi's binary or text form; set by `read_binary_header`.
    """

    def __init__(self, source: Source, name: str) -> None:
        super().__init__(source, name)
        self.binary = False

    # ---- tokens ----------------------------------------------------------------------------------------------------

    def peek_token(self) -> str:
        """The next token without consuming it (leading white space is consumed); "" at the end of the stream."""
        self.skip_space()
        ahead = self.find(_SPACE, MAX_TOKEN_BYTES)
        num_bytes = len(self._buffer) - self._next if ahead is None else ahead
        if num_bytes > MAX_TOKEN_BYTES:
            raise self.error("no white space where a token should end", "this is no file of the expected format")
        return self.decode(self._buffer[self._next : self._next + num_bytes])

    def read_token(self) -> str:
        """One token and the white space character behind it.

        Raises:
            DataError: there is none, it is not UTF-8, or nothing follows it.
        """
        token = self.peek_token()
        if not token:
            raise self.ends_early("ends where a token should be")
        self._next += len(token.encode())
        if self.at_end():
            raise self.ends_early(f"ends right behind {shorten(token)}")
        self._next += 1
        return token

    def expect_token(self, *expected: str) -> str:
        """Read one token, which must be one of those given; returns which.

        Raises:
            DataError: another token is there.
        """
        self.skip_space()
        start = self.offset
        token = self.read_token()
        if token not in expected:
            raise self.error(f"expected {' or '.join(expected)}, found {shorten(token)}", byte=start)
        return token

    # ---- numbers ---------------------------------------------------------------------------------------------------

    def read_binary_header(self) -> bool:
        r"""Consume the `\0B` that marks binary data, if it is there; sets and returns `binary`.

        Raises:
            DataError: `\0` without the `B`.
        """
        self.binary = self.peek(1) == b"\0"
        if self.binary and self.read(2) != b"\0B":
            raise self.error("a NUL byte without the B of Kaldi's binary marker", byte=self.offset - 2)
        return self.binary

    def _text_number(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        self.skip_space()
        ahead = self.find(_AFTER_NUMBER, MAX_TOKEN_BYTES)
        if ahead is None:
            raise self.ends_early(f"ends where {what} should be")
        text = self._buffer[self._next : self._next + ahead]
        if not pattern.fullmatch(text):
            raise self.error(f"expected {what}, found {shorten(repr(text)[1:])}")
        self._next += ahead
        return text

    def _sized(self, formats: dict[int, str], what: str) -> float:
        """A binary basic type: one byte with its size, then the value."""
        start = self.offset
        size = self.read(1)[0]
        if size not in formats:
            raise self.error(f"expected {what}, found a value marked {size}", byte=start)
        form = formats[size]
        value: float = struct.unpack(form, self.read(struct.calcsize(form)))[0]
        return value

    def read_int32(self) -> int:
        """An int32.

        Raises:
            DataError: something else is there, or the text does not fit 32 bits.
        """
        if self.binary:
            return int(self._sized({4: "<i"}, "an int32"))
        start = self.offset
        value = int(self._text_number(_INTEGER, "an integer"))
        if not -(2**31) <= value < 2**31:
            raise self.error(f"{value} does not fit an int32", byte=start)
        return value

    def read_uint32(self) -> int:
        """A uint32, which binary Kaldi files mark with a negative size.

        Raises:
            DataError: something else is there, or the text does not fit.
        """
        if self.binary:
            return int(self._sized({256 - 4: "<I"}, "a uint32"))
        start = self.offset
        value = int(self._text_number(_INTEGER, "an integer"))
        if not 0 <= value < 2**32:
            raise self.error(f"{value} does not fit a uint32", byte=start)
        return value

    def read_count(self, what: str) -> int:
        """An int32 that counts something, so is not negative.

        Raises:
            DataError: it is negative or no int32.
        """
        start = self.offset
        value = self.read_int32()
        if value < 0:
            raise self.error(f"{value} {what}", "the file is damaged", byte=start)
        return value

    def read_float(self) -> float:
        """A float or double (in binary form each is taken for the other, as in Kaldi); text may say inf and nan.

        Raises:
            DataError: something else is there.
        """
        if self.binary:
            return self._sized({4: "<f", 8: "<d"}, "a float")
        return float(self._text_number(_FLOAT, "a number"))

    def read_bool(self) -> bool:
        """A bool, `T` or `F`.

        Raises:
            DataError: something else is there.
        """
        if not self.binary:
            self.skip_space()
        letter = self.read(1)
        if letter not in (b"T", b"F"):
            raise self.error(f"expected T or F, found {letter!r}", byte=self.offset - 1)
        return letter == b"T"

    # ---- vectors of integers, as WriteIntegerVector has them -------------------------------------------------------

    def read_int32_vector(self) -> IntArray:
        """Int32s: binary a size byte, a count and the plain values; text `[ 1 2 3 ]` on a line.

        Raises:
            DataError: the data is of another type, cut or malformed.
        """
        return self._read_plain_integers() if self.binary else self._read_bracketed()

    def read_int32_pairs(self) -> IntArray:
        """Pairs of int32s as an array of shape [num_pairs, 2]; text is `[ 1,2 3,4 ]`.

        Raises:
            DataError: the data is of another type, cut or malformed.
        """
        if self.binary:
            return self._read_plain_integers(items_per_count=2).reshape(-1, 2)
        start = self.offset
        numbers = self._read_bracketed(separator=b",")
        if len(numbers) % 2:
            raise self.error("a pair of integers lacks its second", byte=start)
        return numbers.reshape(-1, 2)

    def _read_plain_integers(self, items_per_count: int = 1) -> IntArray:
        size, count = struct.unpack("<bi", self.read(5))
        if size != 4:
            raise self.error(f"expected 4-byte integers, found {size}-byte ones", byte=self.offset - 5)
        if count < 0:
            raise self.error(f"a vector of {count} elements", "the file is damaged", byte=self.offset - 4)
        return self.read_array(np.int32, items_per_count * count)

    def _read_bracketed(self, separator: bytes = b" ") -> IntArray:
        text, start = self.read_brackets()
        return self.integers_of(text.replace(separator, b" "), start)

    def read_brackets(self) -> tuple[bytes, int]:
        """The text between the `[` that comes next and `]`, and the byte where it begins; consumes the line's end.

        Raises:
            DataError: there are no such brackets, or the line does not end behind them.
        """
        self.skip_space()
        start = self.offset
        if self.at_end():
            raise self.ends_early("ends where [ should be")
        if self.read(1) != b"[":
            raise self.error("expected [", byte=start)
        text = self.read_until(b"]")[:-1]
        self.end_line()
        return text, start + 1

    def integers_of(self, text: bytes, start: int) -> IntArray:
        """The int32s that `text`, which began at byte `start`, holds between white space.

        Raises:
            DataError: something in it is no int32; its byte is named.
        """
        numbers = parse_integers(text)
        if numbers is None:
            index, word = find_bad_integer(text)
            raise self.error(f"expected a 32-bit integer, found {shorten(word)!r}", byte=start + index)
        return numbers

    def floats_of(self, text: bytes, start: int) -> FloatArray:
        """The floats that `text`, which began at byte `start`, holds between white space.

        Raises:
            DataError: something in it is no number or too large for a float; its byte is named.
        """
        numbers = parse_floats(text)
        if numbers is None:
            index, word = find_bad_float(text)
            raise self.error(f"expected a number, found {shorten(word)!r}", byte=start + index)
        return numbers


def shorten(text: str, length: int = 40) -> str:
    """`text` cut to a length that fits a message."""
    return text if len(text) <= length else text[: length - 3] + "..."


def open_reader(rxfilename: str | Path) -> ByteReader:
    """Open an rxfilename: `path`, `path:offset`, `path.gz`, `command |` or `-` (standard input).

    Use it as a context manager: leaving it normally checks the exit status of a command.

    Raises:
        DataError: it cannot be opened, or the file ends before the offset.
    """
    return open_name(parse_rxfilename(str(rxfilename)), str(rxfilename))


def open_name(name: ReadName, rxfilename: str) -> ByteReader:
    """Open an rxfilename that was taken apart; `rxfilename` is what messages call it."""
    label = "standard input" if name.kind == "stdin" else rxfilename
    if name.kind == "file" and name.offset is not None:
        label = name.target
    try:
        reader = ByteReader(open_source(name), label)
    except READ_FAILURES as error:
        problem = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"cannot be opened ({problem or error})", path=label) from error
    except ValueError as error:
        raise DataError(f"cannot be opened ({error})", path=repr(label)) from error
    if name.offset:
        try:
            reader.seek(name.offset)
        except DataError:
            reader.abort()
            raise
    return reader
