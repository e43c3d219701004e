"""N-gram models in the ARPA text format, read n-gram by n-gram and written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from acoustic.decode.lang_text import iter_lines
from acoustic.errors import DataError
from acoustic.fsio import atomic_write
from acoustic.kaldi.stream import ByteReader
from acoustic.log import get_logger

logger = get_logger(__name__)

COUNT_LINE = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)$")


class NGram(NamedTuple):
    """One line of an ARPA file; logarithms are to base 10. Words are kept as bytes, whatever their encoding."""

    line: int
    words: list[bytes]
    log_prob: float
    log_backoff: float


class ArpaReader:
    """Reads an ARPA file once, front to back.

    Attributes:
        counts: the number of n-grams of order 1, 2, ... that the header announces.
    """

    def __init__(self, reader: ByteReader) -> None:
        """Read the header.

        Raises:
            DataError: there is no `\\data\\` section, or it announces no n-grams.
        """
        self._path = reader.name
        self._number = 0
        self._lines = self._read_lines(reader)
        self._directive = b""
        self.counts = self._read_header()

    def ngrams(self) -> Iterator[NGram]:
        """Yield all n-grams, lower orders first.

        Raises:
            DataError: a line is ill-formed, a section or the closing `\\end\\` is missing, or a section holds more
                n-grams than announced. (Fewer are logged: Kaldi accepts them.)
        """
        for order, announced in enumerate(self.counts, 1):
            if self._directive != b"\\%d-grams:" % order:
                raise self.error(f"expected \\{order}-grams:, found {self._directive.decode(errors='replace')!r}")
            num_read = 0
            for ngram in self._read_section(order):
                num_read += 1
                if num_read > announced:
                    raise self.error(f"more {order}-grams than the {announced} of the header")
                yield ngram
            if num_read < announced:
                logger.warning("%s: %d of %d announced %d-grams", self._path, num_read, announced, order)
        if self._directive != b"\\end\\":
            raise self.error(
                f"expected \\end\\, found {self._directive.decode(errors='replace')!r}", "it was cut short"
            )

    def error(self, problem: str, remedy: str | None = None) -> DataError:
        """A DataError at the current line."""
        return DataError(problem, path=self._path, line=self._number, remedy=remedy)

    def _read_lines(self, reader: ByteReader) -> Iterator[bytes]:
        for self._number, line in iter_lines(reader):
            yield line

    def _read_header(self) -> list[int]:
        counts: dict[int, int] = {}
        for line in self._lines:
            if line == b"\\data\\":
                break
        for line in self._lines:
            if line.startswith(b"\\"):
                self._directive = line
                break
            match = COUNT_LINE.match(line)
            if not match:
                logger.warning("%s, line %d: not `ngram ORDER=COUNT`, ignored", self._path, self._number)
                continue
            counts[int(match[1])] = int(match[2])
        if not counts:
            raise self.error("no \\data\\ section with n-gram counts", "this is no ARPA file, or it was cut short")
        if sorted(counts) != list(range(1, len(counts) + 1)):
            raise self.error(f"n-gram orders {sorted(counts)} do not run from 1 without gaps")
        return [counts[order] for order in sorted(counts)]

    def _read_section(self, order: int) -> Iterator[NGram]:
        """N-grams of one order, up to the next line that starts with a backslash."""
        is_highest = order == len(self.counts)
        self._directive = b""
        for line in self._lines:
            fields = line.split()
            if fields[0].startswith(b"\\"):
                self._directive = line
                return
            if len(fields) != order + 1 and (is_highest or len(fields) != order + 2):
                raise self.error(f"expected a number and {order} words" + ("" if is_highest else ", perhaps a number"))
            log_prob = self._number_in(fields[0])
            log_backoff = self._number_in(fields[order + 1]) if len(fields) > order + 1 else 0.0
            yield NGram(self._number, fields[1 : order + 1], log_prob, log_backoff)

    def _number_in(self, field: bytes) -> float:
        try:
            value = float(field)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"expected a finite number, found {field.decode(errors='replace')!r}")
        return value


def write_arpa(path: str | Path, orders: Sequence[Mapping[tuple[str, ...], tuple[float, float | None]]]) -> None:
    """Write an ARPA file.

    Args:
        orders: for order 1, 2, ...: n-gram -> (log10 probability, log10 backoff weight or None for none).

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_write(path, "w") as file:
        file.write("\\data\\\n")
        for order, ngrams in enumerate(orders, 1):
            file.write(f"ngram {order}={len(ngrams)}\n")
        for order, ngrams in enumerate(orders, 1):
            file.write(f"\n\\{order}-grams:\n")
            for words, (log_prob, log_backoff) in ngrams.items():
                backoff = "" if log_backoff is None else f"\t{log_backoff:.7g}"
                file.write(f"{log_prob:.7g}\t{' '.join(words)}{backoff}\n")
        file.write("\n\\end\\\n")
