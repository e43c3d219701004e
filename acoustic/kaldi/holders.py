"""The kinds of value a table can hold, and how each is read and written (Kaldi calls these holders)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from acoustic.errors import ConfigError
from acoustic.kaldi.basic import check_token, write_float, write_int32
from acoustic.kaldi.fst import read_fst_from, write_fst
from acoustic.kaldi.lattice_files import read_compact_lattice, read_lattice, write_lattice
from acoustic.kaldi.matrix import read_matrix, read_vector, write_matrix, write_vector
from acoustic.kaldi.numbers import IntArray, as_int32
from acoustic.kaldi.posterior import read_posterior, write_posterior
from acoustic.kaldi.stream import ByteReader

_MARKED_INT32 = np.dtype([("size", "u1"), ("value", "<i4")])


@dataclass(frozen=True)
class Kind:
    """How one kind of value is read and written.

    Args:
        read: reads a value from a reader whose `binary` is set.
        write: writes a value to a file, binary or text.
        has_binary_form: whether values can stand behind a binary marker; texts cannot.
        can_compress: whether `write` takes a compression method as fourth argument.
        has_ranges: whether a script may ask for a part of the value.
    """

    read: Callable[[ByteReader], Any]
    write: Callable[..., None]
    has_binary_form: bool = True
    can_compress: bool = False
    has_ranges: bool = False


def read_int_vector(reader: ByteReader) -> IntArray:
    """Read int32s, each behind its size in binary; on a line of their own in text (BasicVectorHolder).

    Raises:
        DataError: there are none, or they are cut or malformed.
    """
    if not reader.binary:
        start = reader.offset
        return reader.integers_of(reader.read_line(), start)
    count = reader.read_count("integers")
    start = reader.offset
    items = reader.read_array(_MARKED_INT32, count)
    if (items["size"] != 4).any():
        raise reader.error("expected int32s", "the file is damaged or holds another kind of value", byte=start)
    return np.ascontiguousarray(items["value"])


def write_int_vector(file: IO[bytes], values: Sequence[int] | IntArray, binary: bool) -> None:
    """Write int32s as BasicVectorHolder does.

    Raises:
        DataError: they do not fit an int32.
    """
    array = as_int32(values)
    if not binary:
        file.write(b"".join(b"%d " % value for value in array.tolist()) + b"\n")
        return
    items = np.empty(len(array), _MARKED_INT32)
    items["size"], items["value"] = 4, array
    file.write(struct.pack("<bi", 4, len(array)) + items.tobytes())


def _read_tokens(reader: ByteReader) -> list[str]:
    return [reader.decode(word) for word in reader.read_line().split()]


def _write_tokens(file: IO[bytes], tokens: Sequence[str], binary: bool) -> None:
    file.write("".join(f"{check_token(token)} " for token in tokens).encode() + b"\n")


def _read_token(reader: ByteReader) -> str:
    start = reader.offset
    tokens = _read_tokens(reader)
    if len(tokens) != 1:
        raise reader.error(f"expected one word, found {len(tokens)}", byte=start)
    return tokens[0]


def _write_token(file: IO[bytes], token: str, binary: bool) -> None:
    file.write(check_token(token).encode() + b"\n")


def _read_basic(read: Callable[[ByteReader], Any]) -> Callable[[ByteReader], Any]:
    """A basic type stands alone on its line in text mode (BasicHolder)."""

    def read_value(reader: ByteReader) -> Any:
        value = read(reader)
        if not reader.binary:
            reader.end_line()
        return value

    return read_value


def _write_basic(write: Callable[..., None]) -> Callable[..., None]:
    def write_value(file: IO[bytes], value: Any, binary: bool) -> None:
        write(file, value, binary)
        if not binary:
            file.write(b"\n")

    return write_value


KINDS: dict[str, Kind] = {
    "matrix": Kind(read_matrix, write_matrix, can_compress=True, has_ranges=True),
    "vector": Kind(read_vector, write_vector, has_ranges=True),
    "int_vector": Kind(read_int_vector, write_int_vector),
    "posterior": Kind(read_posterior, write_posterior),
    "tokens": Kind(_read_tokens, _write_tokens, has_binary_form=False),
    "token": Kind(_read_token, _write_token, has_binary_form=False),
    "int32": Kind(_read_basic(ByteReader.read_int32), _write_basic(write_int32)),
    "fst": Kind(read_fst_from, write_fst, has_binary_form=False),
    "lattice": Kind(read_lattice, write_lattice, has_binary_form=False),
    "compact_lattice": Kind(read_compact_lattice, write_lattice, has_binary_form=False),
    "float": Kind(_read_basic(ByteReader.read_float), _write_basic(write_float)),
}
"""The kinds of value by the name that `read_table` and `TableWriter` take."""


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in KINDS:
        raise ConfigError(f"tables cannot hold {name!r}, only {', '.join(KINDS)}")
    return KINDS[name]


def read_value(reader: ByteReader, kind: Kind) -> Any:
    """Read one value: the binary marker, if its kind has one, then the value.

    Raises:
        DataError: it is cut, malformed or of another kind.
    """
    reader.binary = False
    if kind.has_binary_form:
        reader.read_binary_header()
    return kind.read(reader)


def write_value(file: IO[bytes], kind: Kind, value: Any, binary: bool, compression_method: int | None = None) -> None:
    """Write one value as it stands in a table: binary marker, if any, and value.

    Raises:
        DataError: the value is of another kind or cannot be written.
    """
    if binary and kind.has_binary_form:
        file.write(b"\0B")
    if compression_method is not None:
        kind.write(file, value, binary, compression_method)
    else:
        kind.write(file, value, binary)
