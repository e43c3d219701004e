"""Event maps: the nodes of a decision tree (Kaldi: tree/event-map.h).

An event is a mapping from keys to values: key `PDF_CLASS` gives the pdf class, key i >= 0 the phone at position i of
the context window (phone 0: beyond the utterance's edge).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TypeAlias

from acoustic.kaldi import basic
from acoustic.kaldi.stream import ByteReader

PDF_CLASS = -1
"""The key under which an event holds the pdf class."""

_MAX_DEPTH = 300
"""Deeper files are refused: real trees have some tens of levels, a damaged file could exhaust the stack."""


@dataclass(frozen=True)
class Leaf:
    """Every event gets `answer` (in a tree: a pdf_id)."""

    answer: int


@dataclass(frozen=True)
class Table:
    """The value of `key` picks the child; None where the map is not defined."""

    key: int
    children: tuple[EventMap | None, ...]


@dataclass(frozen=True)
class Split:
    """Child `yes` when the value of `key` is in `yes_set`, else child `no`."""

    key: int
    yes_set: frozenset[int]
    yes: EventMap
    no: EventMap


EventMap: TypeAlias = Leaf | Table | Split


def answer(node: EventMap | None, event: Mapping[int, int]) -> int | None:
    """The answer for a complete event, None when the map is not defined there (EventMap::Map)."""
    while node is not None and not isinstance(node, Leaf):
        if node.key not in event:
            return None
        value = event[node.key]
        if isinstance(node, Split):
            node = node.yes if value in node.yes_set else node.no
        else:
            node = node.children[value] if 0 <= value < len(node.children) else None
    return None if node is None else node.answer


def answers(node: EventMap | None, event: Mapping[int, int]) -> Iterator[int]:
    """All answers an event with keys missing can get, repetitions included (EventMap::MultiMap)."""
    pending = [node]
    while pending:
        node = pending.pop()
        if isinstance(node, Leaf):
            yield node.answer
        elif isinstance(node, Split):
            if node.key not in event:
                pending += [node.no, node.yes]
            else:
                pending.append(node.yes if event[node.key] in node.yes_set else node.no)
        elif isinstance(node, Table):
            if node.key not in event:
                pending += reversed(node.children)
            elif 0 <= event[node.key] < len(node.children):
                pending.append(node.children[event[node.key]])


def read_event_map(reader: ByteReader, depth: int = 0) -> EventMap | None:
    """Read one node with all below it; None for Kaldi's NULL.

    Raises:
        DataError: damaged file.
    """
    if depth > _MAX_DEPTH:
        raise reader.error(f"a decision tree of more than {_MAX_DEPTH} levels", remedy="copy the tree file again")
    kind = reader.read_token()
    if kind == "NULL":
        return None
    if kind == "CE":
        return Leaf(reader.read_int32())
    if kind == "TE":
        return _read_table(reader, depth)
    if kind == "SE":
        return _read_split(reader, depth)
    raise reader.error(f"expected a node of a decision tree (CE, TE, SE or NULL), found {kind!r}")


def _read_table(reader: ByteReader, depth: int) -> Table:
    key, size = reader.read_int32(), reader.read_uint32()
    reader.expect_token("(")
    children = tuple(read_event_map(reader, depth + 1) for _ in range(size))
    reader.expect_token(")")
    return Table(key, children)


def _read_split(reader: ByteReader, depth: int) -> Split:
    key = reader.read_int32()
    yes_set = frozenset(reader.read_int32_vector().tolist())
    reader.expect_token("{")
    yes, no = read_event_map(reader, depth + 1), read_event_map(reader, depth + 1)
    reader.expect_token("}")
    if yes is None or no is None:
        raise reader.error("a split of the decision tree lacks a branch")
    return Split(key, yes_set, yes, no)


def write_event_map(file: IO[bytes], node: EventMap | None, binary: bool) -> None:
    """Write a node with all below it."""
    if node is None:
        basic.write_token(file, "NULL")
    elif isinstance(node, Leaf):
        basic.write_token(file, "CE")
        basic.write_int32(file, node.answer, binary)
    elif isinstance(node, Table):
        basic.write_token(file, "TE")
        basic.write_int32(file, node.key, binary)
        basic.write_uint32(file, len(node.children), binary)
        _write_children(file, "(", node.children, ")", binary)
    else:
        basic.write_token(file, "SE")
        basic.write_int32(file, node.key, binary)
        basic.write_int32_vector(file, sorted(node.yes_set), binary)
        _write_children(file, "{", (node.yes, node.no), "}", binary)


def _write_children(file: IO[bytes], begin: str, nodes: tuple[EventMap | None, ...], end: str, binary: bool) -> None:
    basic.write_token(file, begin)
    for node in nodes:
        write_event_map(file, node, binary)
    basic.write_token(file, end)
    if not binary:
        file.write(b"\n")
