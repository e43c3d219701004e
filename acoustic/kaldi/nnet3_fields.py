"""How the fields of nnet3 components lie in a file: each a token and a value, the last followed by `</Type>`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import IO, Any

import numpy as np

from acoustic.kaldi import basic
from acoustic.kaldi.matrix import read_matrix, read_vector, write_matrix, write_vector
from acoustic.kaldi.stream import ByteReader


@dataclass(frozen=True)
class _Kind:
    """How one kind of value is read and written."""

    read: Callable[[ByteReader], Any]
    write: Callable[[IO[bytes], Any, bool], None]


def _write_int_pair(file: IO[bytes], pair: tuple[int, int], binary: bool) -> None:
    for value in pair:
        basic.write_int32(file, value, binary)


def _write_nothing(file: IO[bytes], value: bool, binary: bool) -> None:
    """Write a flag, which is set by its token alone."""


_KINDS = {
    "int": _Kind(ByteReader.read_int32, basic.write_int32),
    "int_pair": _Kind(lambda reader: (reader.read_int32(), reader.read_int32()), _write_int_pair),
    "float": _Kind(ByteReader.read_float, basic.write_float),
    "double": _Kind(ByteReader.read_float, basic.write_double),
    "bool": _Kind(ByteReader.read_bool, basic.write_bool),
    "flag": _Kind(lambda reader: True, _write_nothing),
    "vector": _Kind(lambda reader: read_vector(reader).astype(np.float32), write_vector),
    "matrix": _Kind(lambda reader: read_matrix(reader).astype(np.float32), write_matrix),
}


def stored(token: str, kind: str, default: Any = MISSING, optional: bool = False) -> Any:
    """A dataclass field that lies in a file behind `token`.

    Args:
        token: its tag.
        kind: "int", "int_pair", "float", "double", "bool", "flag" (the token alone), "vector" or "matrix".
        default: its value when a file lacks it.
        optional: not written when it has the default value, as Kaldi does.
    """
    metadata = {"token": token, "kind": kind, "optional": optional}
    if isinstance(default, np.ndarray):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def read_fields(reader: ByteReader, kind: type, legacy: dict[str, str]) -> dict[str, Any]:
    """The fields of a component, read behind its opening token up to and with the closing one.

    Args:
        reader: where to read.
        kind: a dataclass of `stored` fields with the name of the component's type.
        legacy: token -> kind of fields that older files hold and that are passed over.

    Raises:
        DataError: a field that is unknown or missing, or damage.
    """
    field_of = {item.metadata["token"]: item for item in fields(kind)}
    values: dict[str, Any] = {}
    while (token := reader.read_token()) != f"</{kind.__name__}>":
        if token in field_of:
            values[field_of[token].name] = _KINDS[field_of[token].metadata["kind"]].read(reader)
        elif token in legacy:
            _KINDS[legacy[token]].read(reader)
        else:
            raise reader.error(f"unknown field {token} of nnet3 component <{kind.__name__}>")
    for item in fields(kind):
        if item.name not in values and item.default is MISSING and item.default_factory is MISSING:
            raise reader.error(f"nnet3 component <{kind.__name__}> without {item.metadata['token']}")
    return values


def write_fields(file: IO[bytes], component: Any, binary: bool) -> None:
    """Write the opening token, the fields and the closing token of a component."""
    name = type(component).__name__
    basic.write_token(file, f"<{name}>")
    for item in fields(component):
        value = getattr(component, item.name)
        if not (item.metadata["optional"] and value == item.default):
            basic.write_token(file, item.metadata["token"])
            _KINDS[item.metadata["kind"]].write(file, value, binary)
    basic.write_token(file, f"</{name}>")
