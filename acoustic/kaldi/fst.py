"""Transducers as numpy arrays, and their files: OpenFst's binary formats `const` and `vector`, and Kaldi's text.

OpenFst's own readers print a message or crash on a file of another kind or a damaged one; here every length, state and
label is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from acoustic.fsio import atomic_write
from acoustic.kaldi.stream import ByteReader, open_reader

MAGIC = 2125659606
VECTOR_VERSION = 2
CONST_VERSION = 2
CONST_ALIGNED_VERSION = 1
HAS_INPUT_SYMBOLS, HAS_OUTPUT_SYMBOLS, IS_ALIGNED = 1, 2, 4
EXPANDED_PROPERTY, MUTABLE_PROPERTY = 1, 2  # of the file's type; all other bits are knowledge about the transducer
NO_STATE = -1
MAX_TEXT_STATES = 1 << 24  # text with higher state numbers is damaged, and would exhaust the memory

IntArray = NDArray[np.int32]

ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])
CONST_STATE = np.dtype(
    [("final", "<f4"), ("first_arc", "<u4"), ("num_arcs", "<u4"), ("num_iepsilons", "<u4"), ("num_oepsilons", "<u4")]
)
HEADER = struct.Struct("<iiQqqq")  # version, flags, properties, start, num_states, num_arcs


@dataclass(frozen=True)
class FstArrays:
    """A transducer over the tropical semiring.

    Attributes:
        start: the start state, -1 in the empty transducer.
        final: float32 [num_states], final costs; inf where a state is not final.
        first_arc: int64 [num_states + 1]; the arcs of state s are first_arc[s] .. first_arc[s + 1] - 1.
        arcs: [num_arcs], of type `ARC`; weights are costs, label 0 is epsilon.
        properties: what its file says is known of it, in OpenFst's bits without those of the type; 0, nothing.
    """

    start: int
    final: NDArray[np.float32]
    first_arc: NDArray[np.int64]
    arcs: NDArray[np.void]
    properties: int = 0

    @property
    def num_states(self) -> int:
        """Number of states."""
        return len(self.final)

    @property
    def num_arcs(self) -> int:
        """Number of arcs."""
        return len(self.arcs)

    def sources(self) -> NDArray[np.int64]:
        """The state that each arc leaves, int64 [num_arcs]."""
        return np.repeat(np.arange(self.num_states), np.diff(self.first_arc))

    def with_word_penalty(self, penalty: float) -> FstArrays:
        """A copy in which every arc with a word costs `penalty` more (lattice-add-penalty, but in the graph)."""
        arcs = self.arcs.copy()
        arcs["weight"][arcs["olabel"] != 0] += np.float32(penalty)
        return replace(self, arcs=arcs, properties=0)

    def write(self, path: str | Path) -> None:
        """Write a file of type `const`, complete or absent."""
        with atomic_write(path) as file:
            write_const(file, self)


def empty_fst() -> FstArrays:
    """The transducer without states."""
    return FstArrays(NO_STATE, np.zeros(0, np.float32), np.zeros(1, np.int64), np.zeros(0, ARC))


def read_fst(path: str | Path) -> FstArrays:
    """Read a transducer file of type `const` or `vector` over arcs of type `standard`.

    Raises:
        DataError: the file is of another type, is cut or damaged.
    """
    with open_reader(str(path)) as reader:
        return read_fst_from(reader)


def read_fst_from(reader: ByteReader) -> FstArrays:
    """Read the transducer at the reader's position; in an archive it may be text, which starts with a newline.

    Raises:
        DataError: as `read_fst`.
    """
    if reader.peek(1) == b"\n":
        return _read_text(reader)
    if struct.unpack("<i", reader.read(4))[0] != MAGIC:
        raise reader.error("is not an OpenFst file", "name a graph such as HCLG.fst")
    fst_type, arc_type = _read_string(reader), _read_string(reader)
    version, flags, properties, start, num_states, num_arcs = HEADER.unpack(reader.read(HEADER.size))
    if fst_type not in ("const", "vector") or arc_type != "standard":
        raise reader.error(
            f"holds a transducer of type {fst_type!r} over arcs of type {arc_type!r}",
            "convert it with fstconvert --fst_type=const",
        )
    if flags & (HAS_INPUT_SYMBOLS | HAS_OUTPUT_SYMBOLS):
        raise reader.error("holds symbol tables", "remove them with fstsymbols --clear_isymbols --clear_osymbols")
    if fst_type == "const":
        if version not in (CONST_VERSION, CONST_ALIGNED_VERSION):
            raise reader.error(f"has version {version} of the format const, which is unknown")
        aligned = version == CONST_ALIGNED_VERSION or bool(flags & IS_ALIGNED)
        fst = _read_const(reader, start, num_states, num_arcs, aligned)
    else:
        if version != VECTOR_VERSION:
            raise reader.error(f"has version {version} of the format vector, which is unknown")
        fst = _read_vector(reader, start, num_states)
    _check(fst, reader)
    return replace(fst, properties=properties & ~(EXPANDED_PROPERTY | MUTABLE_PROPERTY))


def write_const(file: IO[bytes], fst: FstArrays) -> None:
    """Write in the binary format `const`, which decoders load fastest."""
    states = np.zeros(fst.num_states, dtype=CONST_STATE)
    states["final"] = fst.final
    states["first_arc"] = fst.first_arc[:-1]
    states["num_arcs"] = np.diff(fst.first_arc)
    sources = fst.sources()
    states["num_iepsilons"] = np.bincount(sources[fst.arcs["ilabel"] == 0], minlength=fst.num_states)
    states["num_oepsilons"] = np.bincount(sources[fst.arcs["olabel"] == 0], minlength=fst.num_states)
    _write_header(file, fst, "const", CONST_VERSION, EXPANDED_PROPERTY, fst.num_arcs)
    for array in (states, fst.arcs):
        if len(array):  # an empty array has no buffer
            file.write(np.ascontiguousarray(array).view(np.uint8).data)


def write_fst(file: IO[bytes], fst: FstArrays, binary: bool) -> None:
    """Write as a value of a table: in the binary format `vector`, or as text (WriteFstKaldi)."""
    if not binary:
        file.write("\n".join(["", *_text_lines(fst), "", ""]).encode())
        return
    # OpenFst leaves the number of arcs of this type at 0.
    _write_header(file, fst, "vector", VECTOR_VERSION, EXPANDED_PROPERTY | MUTABLE_PROPERTY, num_arcs=0)
    ends = fst.first_arc.tolist()
    for state, final in enumerate(fst.final.tolist()):
        file.write(struct.pack("<fq", final, ends[state + 1] - ends[state]))
        file.write(fst.arcs[ends[state] : ends[state + 1]].tobytes())


def _write_header(file: IO[bytes], fst: FstArrays, fst_type: str, version: int, of_type: int, num_arcs: int) -> None:
    file.write(struct.pack("<i", MAGIC) + _string(fst_type) + _string("standard"))
    file.write(HEADER.pack(version, 0, fst.properties | of_type, fst.start, fst.num_states, num_arcs))


def _text_lines(fst: FstArrays) -> Iterator[str]:
    """Lines as fstprint writes them, the start state first."""
    for state in sorted(range(fst.num_states), key=lambda state: state != fst.start):
        for ilabel, olabel, weight, target in fst.arcs[fst.first_arc[state] : fst.first_arc[state + 1]].tolist():
            yield f"{state}\t{target}\t{ilabel}\t{olabel}" + (f"\t{weight:.9g}" if weight else "")
        if fst.final[state] < np.inf:
            yield f"{state}" + (f"\t{fst.final[state]:.9g}" if fst.final[state] else "")


def _string(text: str) -> bytes:
    return struct.pack("<i", len(text)) + text.encode()


def _read_string(reader: ByteReader) -> str:
    length = struct.unpack("<i", reader.read(4))[0]
    if not 0 <= length < 256:
        raise reader.error("is a damaged OpenFst file")
    return reader.decode(reader.read(length))


def _read_const(reader: ByteReader, start: int, num_states: int, num_arcs: int, aligned: bool) -> FstArrays:
    _align(reader, aligned)
    states = reader.read_array(CONST_STATE, _count(reader, num_states))
    _align(reader, aligned)
    arcs = reader.read_array(ARC, _count(reader, num_arcs))
    first_arc = np.zeros(num_states + 1, dtype=np.int64)
    np.cumsum(states["num_arcs"], out=first_arc[1:])
    has_arcs = states["num_arcs"] > 0
    if first_arc[-1] != num_arcs or np.any(states["first_arc"][has_arcs] != first_arc[:-1][has_arcs]):
        raise reader.error("is a damaged OpenFst file: states and arcs do not fit together")
    return FstArrays(start, np.ascontiguousarray(states["final"]), first_arc, arcs)


def _align(reader: ByteReader, aligned: bool) -> None:
    """Skip the padding to a multiple of 16 bytes that aligned files have before states and arcs."""
    if aligned:
        reader.read(-reader.offset % 16)


def _count(reader: ByteReader, count: int) -> int:
    if not 0 <= count <= np.iinfo(np.int32).max:
        raise reader.error(f"is a damaged OpenFst file: {count} states or arcs")
    return count


def _read_vector(reader: ByteReader, start: int, num_states: int) -> FstArrays:
    final, parts = [], []
    for _ in range(_count(reader, num_states)):
        cost, num_arcs = struct.unpack("<fq", reader.read(12))
        final.append(cost)
        parts.append(reader.read_array(ARC, _count(reader, num_arcs)))
    first_arc = np.zeros(num_states + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=first_arc[1:])
    arcs = np.concatenate(parts) if parts else np.zeros(0, dtype=ARC)
    return FstArrays(start, np.array(final, dtype=np.float32), first_arc, arcs)


def _read_text(reader: ByteReader) -> FstArrays:
    """Read lines of arcs and final costs up to an empty one (ReadFstKaldi)."""
    reader.read_line()
    arcs: dict[int, list[tuple[int, int, float, int]]] = {}
    finals: dict[int, float] = {}
    start = NO_STATE
    while fields := reader.read_line().split():
        try:
            numbers = [int(field) for field in fields[: 4 if len(fields) > 2 else 1]]
            cost = float(fields[-1]) if len(fields) in (2, 5) else 0.0
        except ValueError as error:
            raise reader.error(f"expected an arc or a final state, found {b' '.join(fields)!r}") from error
        if len(fields) not in (1, 2, 4, 5) or not 0 <= max(numbers[:2]) < MAX_TEXT_STATES or min(numbers) < 0:
            raise reader.error(f"expected an arc or a final state, found {b' '.join(fields)!r}")
        start = numbers[0] if start == NO_STATE else start
        if len(fields) > 2:
            arcs.setdefault(numbers[0], []).append((numbers[2], numbers[3], cost, numbers[1]))
        else:
            finals[numbers[0]] = cost
    targets = [arc[3] for group in arcs.values() for arc in group]
    num_states = 1 + max([*arcs, *finals, *targets], default=NO_STATE)
    groups = [arcs.get(state, []) for state in range(num_states)]
    final = np.array([finals.get(state, np.inf) for state in range(num_states)], dtype=np.float32)
    first_arc = np.concatenate([[0], np.cumsum([len(group) for group in groups], dtype=np.int64)])
    try:
        rows = np.array([arc for group in groups for arc in group], dtype=ARC)
    except OverflowError as error:
        raise reader.error("a label that does not fit 32 bits") from error
    fst = FstArrays(start, final, first_arc, rows)
    _check(fst, reader)
    return fst


def _check(fst: FstArrays, reader: ByteReader) -> None:
    """Refuse what would crash the library: states and labels out of range, costs that are no numbers."""
    if fst.num_states == 0 and fst.start == NO_STATE:
        return
    arcs = fst.arcs
    if not 0 <= fst.start < fst.num_states:
        raise reader.error(f"is a damaged OpenFst file: start state {fst.start} of {fst.num_states}")
    if len(arcs) and not (arcs["nextstate"].min() >= 0 and arcs["nextstate"].max() < fst.num_states):
        raise reader.error("is a damaged OpenFst file: an arc to a state that it does not have")
    if len(arcs) and min(arcs["ilabel"].min(), arcs["olabel"].min()) < 0:
        raise reader.error("is a damaged OpenFst file: a negative label")
    if np.isnan(fst.final).any() or np.isnan(arcs["weight"]).any():
        raise reader.error("is a damaged OpenFst file: a cost that is not a number")
