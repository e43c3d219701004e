"""Tables: keys with values, read in order or by key, from archives and scripts (util/kaldi-table).

An archive that was cut exactly between two values looks complete; the scp that was written with it shows the cut.
Everything else that is missing, damaged or there twice is refused with file, key and byte. A table without entries
gives none: whether that is an error is for the caller to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from acoustic.errors import DataError
from acoustic.kaldi.basic import CONTROL_CHARACTER
from acoustic.kaldi.holders import Kind, kind_of, read_value
from acoustic.kaldi.ranges import extract_range
from acoustic.kaldi.sources import ReadName, parse_rxfilename
from acoustic.kaldi.specifiers import Rspecifier, ScriptEntry, parse_rspecifier, parse_script_entry, read_script
from acoustic.kaldi.stream import ByteReader, open_name, open_reader, shorten
from acoustic.kaldi.table_writer import TableWriter
from acoustic.log import get_logger

__all__ = ["RandomAccessTable", "TableWriter", "read_table"]

_logger = get_logger(__name__)
_BLANK = re.compile(rb"[ \t\n]")


def read_table(rspecifier: str, kind: str) -> Iterator[tuple[str, Any]]:
    """Go through the entries of a table in its order.

    Args:
        rspecifier: such as `ark:feats.ark`, `scp:feats.scp`, `ark:gunzip -c ali.*.gz |`, `ark:-`.
        kind: what the values are, one of `KINDS` in holders.py.

    Yields:
        Keys and values.

    Raises:
        ConfigError: `rspecifier` or `kind` is none.
        DataError: the table cannot be read, is cut or malformed, has a key twice, or its command failed. With the
            option `p` such entries of a script are left out, and an archive ends there, each with a warning.
    """
    table, holder = parse_rspecifier(rspecifier), kind_of(kind)
    return _read_script_table(table, holder) if table.is_script else _read_archive(table, holder)


def _read_archive(table: Rspecifier, kind: Kind) -> Iterator[tuple[str, Any]]:
    try:
        with open_reader(table.rxfilename) as reader:
            yield from _Archive(reader, kind)
    except DataError as error:
        if not table.permissive:
            raise
        _logger.warning("reading stopped, as the option p asks: %s", error)


def _read_script_table(table: Rspecifier, kind: Kind) -> Iterator[tuple[str, Any]]:
    with _ScriptValues(kind) as values:
        for key, entry in read_script(table.rxfilename).items():
            try:
                value = values.read(key, entry)
            except DataError as error:
                if not table.permissive:
                    raise
                _logger.warning("left out, as the option p asks: %s", error)
                continue
            yield key, value


def _name_utterance(error: DataError, key: str) -> DataError:
    """The same error with the utterance in which it happened."""
    return DataError(error.problem, path=error.path, utt=error.utt or key, byte=error.byte, remedy=error.remedy)


class _Archive:
    """The entries of an archive in order, each key at most once."""

    def __init__(self, reader: ByteReader, kind: Kind) -> None:
        self._reader = reader
        self._kind = kind
        self._keys: set[str] = set()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[str, Any]:
        key = self._read_key()
        if key is None:
            raise StopIteration
        try:
            return key, read_value(self._reader, self._kind)
        except DataError as error:
            raise _name_utterance(error, key) from error

    def _read_key(self) -> str | None:
        """The next key, None at the end. A blank behind it is consumed, a newline (empty text value) is not."""
        reader = self._reader
        key = reader.peek_token()
        if not key:
            return None
        start = reader.offset
        if CONTROL_CHARACTER.search(key):
            raise reader.error(f"{shorten(repr(key))} where a key should be", "this is no archive, or a damaged one")
        reader.read(len(key.encode()))
        blank = reader.peek(1)
        if not blank:
            raise reader.ends_early(f"ends behind the key {key}")
        if not _BLANK.fullmatch(blank):
            raise reader.error(f"expected a blank behind the key {key!r}", "this is no archive, or a damaged one")
        if blank != b"\n":
            reader.read(1)
        if key in self._keys:
            raise DataError("comes twice", path=reader.name, utt=key, byte=start, remedy="keys must differ")
        self._keys.add(key)
        return key


class _ScriptValues:
    """Reads the values that the lines of a script point to; a file in which many lie stays open."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._path: str | None = None
        self._reader: ByteReader | None = None
        self._last_whole: tuple[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is open."""
        if self._reader is not None:
            self._reader.close()
        self._reader = self._path = None

    def read(self, key: str, entry: ScriptEntry) -> Any:
        """The value of one line.

        Raises:
            DataError: it cannot be read, or the range does not fit.
        """
        try:
            if entry.range is None:
                return self._read_whole(entry.rxfilename)
            if not self._kind.has_ranges:
                raise DataError(f"only matrices and vectors have ranges such as [{entry.range}]")
            if self._last_whole is None or self._last_whole[0] != entry.rxfilename:
                self._last_whole = (entry.rxfilename, self._read_whole(entry.rxfilename))
            return extract_range(self._last_whole[1], entry.range)
        except DataError as error:
            if error.path is None:
                error = DataError(error.problem, path=entry.rxfilename, remedy=error.remedy)
            raise _name_utterance(error, key) from error

    def _read_whole(self, rxfilename: str) -> Any:
        name = parse_rxfilename(rxfilename)
        if name.offset is None:
            with open_name(name, rxfilename) as reader:
                return read_value(reader, self._kind)
        if name.target != self._path or self._reader is None:
            self.close()
            self._reader = open_name(ReadName("file", name.target), name.target)
            self._path = name.target
        self._reader.seek(name.offset)
        return read_value(self._reader, self._kind)


class RandomAccessTable:
    """A table asked by key: `key in table`, `table[key]`, `table.get(key)`. Use it as a context manager.

    A script is read at once, its values when they are asked for. An archive is read as far as needed and kept in
    memory; with the option `s` an absent key is known without reading on, with `s,cs` nothing is kept, with `o` a
    value is forgotten when it has been given out.

    Args:
        rspecifier: the table.
        kind: what the values are, one of `KINDS` in holders.py.

    Raises:
        ConfigError: `rspecifier` or `kind` is none.
        DataError: the script or archive cannot be opened, or the script is malformed.
    """

    def __init__(self, rspecifier: str, kind: str) -> None:
        table, holder = parse_rspecifier(rspecifier), kind_of(kind)
        self._name = rspecifier
        self._table: _ScriptTable | _ArchiveTable
        if table.is_script:
            self._table = _ScriptTable(read_script(table.rxfilename), holder, table.permissive)
        else:
            self._table = _ArchiveTable(table, holder)

    @classmethod
    def from_rxfilenames(cls, rxfilenames: Mapping[str, str], kind: str, name: str) -> Self:
        """The table that a script with these lines would be, as a data directory holds them.

        Args:
            rxfilenames: where the value of each key is, perhaps with a range.
            kind: what the values are.
            name: what messages call the table.

        Raises:
            DataError: a range is malformed.
        """
        table = cls.__new__(cls)
        table._name = name
        entries = {key: parse_script_entry(rxfilename) for key, rxfilename in rxfilenames.items()}
        table._table = _ScriptTable(entries, kind_of(kind), permissive=False)
        return table

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._table.close(checked=kind is None)

    def close(self) -> None:
        """Close what is open.

        Raises:
            DataError: the table came from a command, and it failed.
        """
        self._table.close(checked=True)

    def __contains__(self, key: str) -> bool:
        return self._table.has(key)

    def __getitem__(self, key: str) -> Any:
        """The value of `key`.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        if not self._table.has(key):
            raise DataError("is not in the table", path=self._name, utt=key, remedy="check which keys it has")
        return self._table.value(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default` when there is none.

        Raises:
            DataError: there is one, but it cannot be read.
        """
        return self._table.value(key) if self._table.has(key) else default

    def unasked(self) -> list[str]:
        """The keys that were never asked for. An archive is read to its end for that; values there are lost.

        Raises:
            DataError: the archive is damaged.
        """
        return self._table.unasked()


class _ScriptTable:
    def __init__(self, entries: dict[str, ScriptEntry], kind: Kind, permissive: bool) -> None:
        self._entries = entries
        self._permissive = permissive
        self._values = _ScriptValues(kind)
        self._asked: set[str] = set()

    def unasked(self) -> list[str]:
        return [key for key in self._entries if key not in self._asked]

    def has(self, key: str) -> bool:
        self._asked.add(key)
        if key not in self._entries or not self._permissive:
            return key in self._entries
        try:
            self.value(key)
        except DataError as error:
            _logger.warning("counts as absent, as the option p asks: %s", error)
            del self._entries[key]
            return False
        return True

    def value(self, key: str) -> Any:
        return self._values.read(key, self._entries[key])

    def close(self, checked: bool) -> None:
        self._values.close()


class _ArchiveTable:
    def __init__(self, table: Rspecifier, kind: Kind) -> None:
        self._spec = table
        self._forgets = table.sorted and table.called_sorted
        self._reader = open_reader(table.rxfilename)
        self._archive = _Archive(self._reader, kind)
        self._values: dict[str, Any] = {}
        self._last_read = self._last_asked = ""
        self._given_out: set[str] = set()
        self._asked: set[str] = set()
        self._passed: list[str] = []

    def unasked(self) -> list[str]:
        while self._read_one():
            self._forget()
        self._forget()
        return [key for key in self._passed if key not in self._asked]

    def has(self, key: str) -> bool:
        self._asked.add(key)
        self._read_up_to(key)
        return key in self._values

    def value(self, key: str) -> Any:
        if not self._spec.once:
            return self._values[key]
        self._given_out.add(key)
        return self._values.pop(key)

    def _read_up_to(self, key: str) -> None:
        if key in self._given_out:
            raise DataError("asked for again though the option o promised once", path=self._reader.name, utt=key)
        if self._forgets and key < self._last_asked:
            problem = f"asked for after {self._last_asked} though the option cs promised C order"
            raise DataError(problem, path=self._reader.name, utt=key, remedy="sort with LC_ALL=C or leave cs out")
        self._last_asked = key
        while key not in self._values and not (self._spec.sorted and self._last_read > key):
            if not self._read_one():
                return

    def _read_one(self) -> bool:
        try:
            entry = next(self._archive, None)
        except DataError as error:
            if not self._spec.permissive:
                raise
            _logger.warning("reading stopped, as the option p asks: %s", error)
            entry = None
        if entry is None:
            return False
        key, value = entry
        if self._spec.sorted and key < self._last_read:
            problem = f"comes after {self._last_read} though the option s promised C order"
            raise DataError(problem, path=self._reader.name, utt=key, remedy="sort with LC_ALL=C or leave s out")
        self._last_read = key
        if self._forgets:
            self._forget()
        self._values[key] = value
        return True

    def _forget(self) -> None:
        """Keep of the values only the keys."""
        self._passed += self._values
        self._values.clear()

    def close(self, checked: bool) -> None:
        if checked and not self._spec.permissive:
            self._reader.close()
        else:
            self._reader.abort()
