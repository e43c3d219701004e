"""Files of lattices: OpenFst's binary format `vector` and the text of Kaldi's lattice holders (lat/kaldi-lattice).

The form shows in the first byte: text begins with the newline that follows the key. Kaldi writes no symbol tables and
no `\\0B`. Either kind of lattice is converted when the other one is there, as Kaldi's readers do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

import numpy as np

from acoustic.kaldi.fst import (
    EXPANDED_PROPERTY,
    HAS_INPUT_SYMBOLS,
    HAS_OUTPUT_SYMBOLS,
    HEADER,
    MAGIC,
    MUTABLE_PROPERTY,
    VECTOR_VERSION,
)
from acoustic.kaldi.lattices import ARC, NO_STATE, CompactLattice, CostArray, Lattice, Strings, compact, expand, offsets
from acoustic.kaldi.stream import ByteReader, shorten

STATE_LEVEL, COMPACT = "lattice4", "compactlattice44"
ACCEPTOR_PROPERTY = 0x10000
MAX_COUNT = np.iinfo(np.int32).max
_STATE, _COMPACT_STATE = struct.Struct("<ffq"), struct.Struct("<ffi")
_COMPACT_ARC, _COUNT, _TARGET = struct.Struct("<iiffi"), struct.Struct("<q"), struct.Struct("<i")
_COST = {b"Infinity": np.inf}


def read_lattice(reader: ByteReader) -> Lattice:
    """Read the lattice at the reader's position, state-level or compact, as a state-level one.

    Raises:
        DataError: it is cut, damaged or something else.
    """
    lattice = _read(reader, prefer_compact=False)
    return lattice if isinstance(lattice, Lattice) else expand(lattice)


def read_compact_lattice(reader: ByteReader) -> CompactLattice:
    """Read the lattice at the reader's position, state-level or compact, as a compact one.

    Raises:
        DataError: as `read_lattice`.
    """
    lattice = _read(reader, prefer_compact=True)
    return lattice if isinstance(lattice, CompactLattice) else compact(lattice)


def write_lattice(file: IO[bytes], lattice: Lattice | CompactLattice, binary: bool) -> None:
    """Write a lattice of either kind as a value of a table."""
    if binary:
        _write_binary(file, lattice)
    else:
        file.write("\n".join(["", *_text_lines(lattice), "", ""]).encode())


# ---- binary --------------------------------------------------------------------------------------------------------


def _read(reader: ByteReader, prefer_compact: bool) -> Lattice | CompactLattice:
    if reader.peek(1).isspace():
        return _read_text(reader, prefer_compact)
    start = reader.offset
    if struct.unpack("<i", reader.read(4))[0] != MAGIC:
        raise reader.error("is not a lattice", "name an archive such as lat.1.gz", byte=start)
    fst_type, arc_type = _read_string(reader), _read_string(reader)
    version, flags, properties, first_state, num_states, _ = HEADER.unpack(reader.read(HEADER.size))
    if fst_type != "vector" or arc_type not in (STATE_LEVEL, COMPACT):
        raise reader.error(
            f"holds a transducer of type {fst_type!r} over arcs of type {arc_type!r}, which is no lattice", byte=start
        )
    if version != VECTOR_VERSION or flags & (HAS_INPUT_SYMBOLS | HAS_OUTPUT_SYMBOLS):
        raise reader.error(f"has version {version} and flags {flags}, which Kaldi's lattices do not have", byte=start)
    if not 0 <= num_states <= MAX_COUNT:
        raise reader.error(f"is a damaged lattice: {num_states} states", byte=start)
    read_states = _read_states if arc_type == STATE_LEVEL else _read_compact_states
    return _check(read_states(reader, first_state, num_states, properties), reader)


def _read_string(reader: ByteReader) -> str:
    length = _TARGET.unpack(reader.read(4))[0]
    if not 0 <= length < 256:
        raise reader.error("is a damaged lattice")
    return reader.decode(reader.read(length))


def _count(reader: ByteReader, count: int, what: str) -> int:
    if not 0 <= count <= MAX_COUNT:
        raise reader.error(f"is a damaged lattice: {count} {what}")
    return count


def _read_states(reader: ByteReader, start: int, num_states: int, properties: int) -> Lattice:
    final, num_arcs, arcs = [], [], bytearray()
    for _ in range(num_states):
        graph_cost, acoustic_cost, count = _STATE.unpack(reader.read(_STATE.size))
        final.append((graph_cost, acoustic_cost))
        num_arcs.append(_count(reader, count, "arcs"))
        arcs += reader.read(count * ARC.itemsize)
    return Lattice(start, _costs(final), offsets(num_arcs), np.frombuffer(arcs, ARC), properties)


def _read_compact_states(reader: ByteReader, start: int, num_states: int, properties: int) -> CompactLattice:
    final, final_strings, num_arcs, arcs, arc_strings = [], [], [], [], []
    for _ in range(num_states):
        graph_cost, acoustic_cost, length = _COMPACT_STATE.unpack(reader.read(_COMPACT_STATE.size))
        final.append((graph_cost, acoustic_cost))
        final_strings.append(reader.read_array("<i4", _count(reader, length, "transition_ids")))
        num_arcs.append(_count(reader, _COUNT.unpack(reader.read(_COUNT.size))[0], "arcs"))
        for _ in range(num_arcs[-1]):
            *labels_and_costs, length = _COMPACT_ARC.unpack(reader.read(_COMPACT_ARC.size))
            arc_strings.append(reader.read_array("<i4", _count(reader, length, "transition_ids")))
            arcs.append((*labels_and_costs, _TARGET.unpack(reader.read(_TARGET.size))[0]))
    return CompactLattice(
        start, _costs(final), offsets(num_arcs), np.array(arcs, ARC), properties,
        arc_strings=Strings.of(arc_strings), final_strings=Strings.of(final_strings),
    )  # fmt: skip


def _costs(pairs: list[tuple[float, float]]) -> CostArray:
    return np.array(pairs, np.float32).reshape(-1, 2)


def _check(lattice: Lattice | CompactLattice, reader: ByteReader) -> Lattice | CompactLattice:
    """Refuse states and labels out of range and costs that are no numbers.

    Raises:
        DataError: as said.
    """
    arcs, num_states = lattice.arcs, lattice.num_states
    if num_states == 0 and lattice.start == NO_STATE:
        return lattice
    if not 0 <= lattice.start < num_states:
        raise reader.error(f"is a damaged lattice: start state {lattice.start} of {num_states}")
    if len(arcs) and not (arcs["nextstate"].min() >= 0 and arcs["nextstate"].max() < num_states):
        raise reader.error("is a damaged lattice: an arc to a state that it does not have")
    negative = len(arcs) and min(arcs["ilabel"].min(), arcs["olabel"].min()) < 0
    if isinstance(lattice, CompactLattice):
        negative = negative or (np.append(lattice.arc_strings.ids, lattice.final_strings.ids) <= 0).any()
        if (lattice.final_strings.lengths[~lattice.is_final] > 0).any():
            raise reader.error("is a damaged lattice: transition_ids behind a state that is not final")
    if negative:
        raise reader.error("is a damaged lattice: a label that is negative or a transition_id that is not positive")
    half_final = np.isposinf(lattice.final).any(axis=1) != np.isposinf(lattice.final).all(axis=1)
    is_bad = np.isnan(lattice.final) | np.isneginf(lattice.final)
    if half_final.any() or is_bad.any() or not np.isfinite([arcs["graph_cost"], arcs["acoustic_cost"]]).all():
        raise reader.error("is a damaged lattice: a cost that is not a number")
    return lattice


def _write_binary(file: IO[bytes], lattice: Lattice | CompactLattice) -> None:
    is_compact = isinstance(lattice, CompactLattice)
    properties = EXPANDED_PROPERTY | MUTABLE_PROPERTY | (ACCEPTOR_PROPERTY if is_compact else 0)
    if lattice.properties is not None:
        properties = lattice.properties
    for text in ("vector", COMPACT if is_compact else STATE_LEVEL):
        file.write((struct.pack("<i", MAGIC) if text == "vector" else b"") + struct.pack("<i", len(text)))
        file.write(text.encode())
    # Kaldi leaves the number of arcs 0.
    file.write(HEADER.pack(VECTOR_VERSION, 0, properties, lattice.start, lattice.num_states, 0))
    if isinstance(lattice, CompactLattice):
        _write_compact_states(file, lattice)
        return
    first = lattice.first_arc.tolist()
    for state, (graph_cost, acoustic_cost) in enumerate(lattice.final.tolist()):
        file.write(_STATE.pack(graph_cost, acoustic_cost, first[state + 1] - first[state]))
        file.write(lattice.arcs[first[state] : first[state + 1]].tobytes())


def _write_compact_states(file: IO[bytes], lattice: CompactLattice) -> None:
    first, arcs = lattice.first_arc.tolist(), lattice.arcs.tolist()
    for state, (graph_cost, acoustic_cost) in enumerate(lattice.final.tolist()):
        string = lattice.final_strings[state]
        file.write(_COMPACT_STATE.pack(graph_cost, acoustic_cost, len(string)) + string.tobytes())
        file.write(_COUNT.pack(first[state + 1] - first[state]))
        for arc in range(first[state], first[state + 1]):
            *labels_and_costs, target = arcs[arc]
            string = lattice.arc_strings[arc]
            file.write(_COMPACT_ARC.pack(*labels_and_costs, len(string)) + string.tobytes() + _TARGET.pack(target))


# ---- text ----------------------------------------------------------------------------------------------------------


def _text_lines(lattice: Lattice | CompactLattice) -> Iterator[str]:
    """Lines as OpenFst's printer writes them, the start state first; a cost of nothing is left out."""
    is_compact = isinstance(lattice, CompactLattice)
    first, arcs = lattice.first_arc.tolist(), lattice.arcs.tolist()
    for state in sorted(range(lattice.num_states), key=lambda state: state != lattice.start):
        for arc in range(first[state], first[state + 1]):
            ilabel, olabel, graph_cost, acoustic_cost, target = arcs[arc]
            string = _string_text(lattice.arc_strings, arc) if isinstance(lattice, CompactLattice) else ""
            labels = f"{ilabel}" if is_compact else f"{ilabel}\t{olabel}"
            yield f"{state}\t{target}\t{labels}" + _weight_text(graph_cost, acoustic_cost, string)
        graph_cost, acoustic_cost = lattice.final[state].tolist()
        if graph_cost < np.inf or first[state] == first[state + 1]:
            string = _string_text(lattice.final_strings, state) if isinstance(lattice, CompactLattice) else ""
            yield f"{state}" + _weight_text(graph_cost, acoustic_cost, string)


def _string_text(strings: Strings, index: int) -> str:
    return "," + "_".join(map(str, strings[index].tolist()))


def _weight_text(graph_cost: float, acoustic_cost: float, string: str) -> str:
    if graph_cost == acoustic_cost == 0.0 and string in ("", ","):
        return ""
    costs = ("Infinity" if cost == np.inf else f"{cost:.6g}" for cost in (graph_cost, acoustic_cost))
    return "\t" + ",".join(costs) + string


def _read_text(reader: ByteReader, prefer_compact: bool) -> Lattice | CompactLattice:
    """Read lines of arcs and final costs up to an empty one; which kind it is shows in the first that has costs."""
    if reader.read_line().strip():
        raise reader.error("expected a newline before a lattice in text")
    rows: list[tuple[int, list[bytes]]] = []
    while True:
        start = reader.offset
        fields = reader.read_line().split()
        if not fields:
            break
        rows.append((start, fields))
    forms = (form for form in map(_form, (fields for _, fields in rows)) if form is not None)
    is_compact = next(forms, prefer_compact)
    return _check(_LatticeText(reader, rows, is_compact).lattice(), reader)


def _form(fields: list[bytes]) -> bool | None:
    """Whether a line belongs to a compact lattice; None when it does not tell."""
    if len(fields) == 2:
        return fields[1].count(b",") == 2
    return {1: None, 3: True, 4: b"," in fields[-1], 5: False}.get(len(fields), False)


class _LatticeText:
    """The lines of a lattice in text.

    Args:
        reader: for messages.
        rows: of each line the byte where it begins, and its fields.
        is_compact: which kind of lattice it must be.
    """

    def __init__(self, reader: ByteReader, rows: list[tuple[int, list[bytes]]], is_compact: bool) -> None:
        self._reader, self._is_compact = reader, is_compact
        self._num_labels = 1 if is_compact else 2
        # Every state that Kaldi writes has a line, so that higher numbers are damage and would exhaust the memory.
        self._max_states = 2 * len(rows)
        self._arcs: dict[int, list[tuple[int, int, float, float, int]]] = {}
        self._strings: dict[int, list[list[int]]] = {}
        self._final: dict[int, tuple[float, float, list[int]]] = {}
        self._start = NO_STATE
        for start, fields in rows:
            try:
                self._add(fields)
            except (ValueError, OverflowError):
                text = shorten(b" ".join(fields).decode("utf-8", "backslashreplace"))
                raise reader.error(f"expected an arc or a final state, found {text!r}", byte=start) from None

    def _add(self, fields: list[bytes]) -> None:
        """Take one line.

        Raises:
            ValueError: it is malformed.
        """
        is_arc = len(fields) > 2
        num_numbers = 2 + self._num_labels if is_arc else 1
        numbers = [int(field) for field in fields[:num_numbers]]
        if not num_numbers <= len(fields) <= num_numbers + 1 or not 0 <= min(numbers) <= max(numbers) <= MAX_COUNT:
            raise ValueError
        if max(numbers[: 1 + is_arc]) >= self._max_states:
            raise ValueError
        weight = self._weight(fields[num_numbers]) if len(fields) > num_numbers else (0.0, 0.0, [])
        state = numbers[0]
        self._start = state if self._start == NO_STATE else self._start
        if is_arc:
            target, ilabel, olabel = numbers[1], numbers[2], numbers[-1]
            self._arcs.setdefault(state, []).append((ilabel, olabel, weight[0], weight[1], target))
            self._strings.setdefault(state, []).append(weight[2])
        else:
            self._final[state] = weight

    def _weight(self, field: bytes) -> tuple[float, float, list[int]]:
        parts = field.split(b",")
        if len(parts) != 2 + self._is_compact:
            raise ValueError
        graph_cost, acoustic_cost = (_COST[part] if part in _COST else float(part) for part in parts[:2])
        string = [int(word) for word in parts[2].split(b"_")] if self._is_compact and parts[2] else []
        if string and not 0 < min(string) <= max(string) <= MAX_COUNT:
            raise ValueError
        return graph_cost, acoustic_cost, string

    def lattice(self) -> Lattice | CompactLattice:
        """What the lines say."""
        targets = [arc[-1] for arcs in self._arcs.values() for arc in arcs]
        states = range(1 + max([*self._arcs, *self._final, *targets], default=NO_STATE))
        not_final: tuple[float, float, list[int]] = (np.inf, np.inf, [])
        ends = [self._final.get(state, not_final) for state in states]
        groups = [self._arcs.get(state, []) for state in states]
        arcs = np.array([arc for group in groups for arc in group], ARC)
        final, first_arc = _costs([end[:2] for end in ends]), offsets([len(group) for group in groups])
        if not self._is_compact:
            return Lattice(self._start, final, first_arc, arcs, None)
        strings = [string for state in states for string in self._strings.get(state, [])]
        return CompactLattice(
            self._start, final, first_arc, arcs, None,
            arc_strings=Strings.of(strings), final_strings=Strings.of([end[2] for end in ends]),
        )  # fmt: skip
