"""Phonetic decision trees: window of phones and pdf class -> pdf_id (Kaldi: tree/context-dep.cc)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import IO

from acoustic.errors import DataError
from acoustic.kaldi import basic
from acoustic.kaldi.event_map import (
    PDF_CLASS,
    EventMap,
    Leaf,
    Split,
    Table,
    answer,
    answers,
    read_event_map,
    write_event_map,
)
from acoustic.kaldi.stream import ByteReader, open_reader, open_writer
from acoustic.kaldi.topology import Topology

MAX_PDF_ID = 1 << 24
"""Pdf ids above it are refused as damage: arrays of num_pdfs entries are made everywhere."""


@dataclass(frozen=True)
class DecisionTree:
    """A tree over context windows (Kaldi's ContextDependency). Build one from any event map, or read it.

    Attributes:
        context_width: phones in a window (3 for triphones).
        central_position: index in the window of the phone itself (1 for triphones).
        to_pdf: the event map; keys 0 .. context_width - 1 are window positions, key -1 the pdf class.
    """

    context_width: int
    central_position: int
    to_pdf: EventMap

    @classmethod
    def read(cls, path: str | Path) -> DecisionTree:
        """Read a `tree` file, text or binary.

        Raises:
            DataError: not a tree, or a damaged one.
        """
        with open_reader(path) as reader:
            reader.read_binary_header()
            return cls.read_from(reader)

    @classmethod
    def read_from(cls, reader: ByteReader) -> DecisionTree:
        """Read the tree at the reader's position.

        Raises:
            DataError: as `read`.
        """
        reader.expect_token("ContextDependency")
        width, position = reader.read_int32(), reader.read_int32()
        if not 0 <= position < width:
            raise reader.error(f"a decision tree of context width {width} and central position {position}")
        token = reader.read_token()
        if token == "ToLength":  # in trees of 2011: a second map, of no use any more
            read_event_map(reader)
            token = reader.read_token()
        if token != "ToPdf":
            raise reader.error(f"expected ToPdf in a decision tree, found {token!r}")
        to_pdf = read_event_map(reader)
        reader.expect_token("EndContextDependency")
        pdf_ids = set(answers(to_pdf, {}))
        if to_pdf is None or not pdf_ids or min(pdf_ids) < 0 or max(pdf_ids) > MAX_PDF_ID:
            raise reader.error("a decision tree without pdfs, or with pdf ids out of range")
        return cls(width, position, to_pdf)

    @classmethod
    def monophone(cls, topology: Topology, phone_sets: Sequence[Sequence[int]] | None = None) -> DecisionTree:
        """The tree that gmm-init-mono makes: pdfs for each phone, or for each set of phones that share theirs.

        Args:
            topology: gives the phones and how many pdf classes each has.
            phone_sets: disjoint sets (of `phones/sets.int`) in file order; by default each phone is its own.

        Raises:
            DataError: sets empty or overlapping, without some phone of the topology, or with others.
        """
        alone = [[phone] for phone in topology.phones]
        sets = [sorted(phones) for phones in (alone if phone_sets is None else phone_sets)]
        flat = [phone for phones in sets for phone in phones]
        if not all(sets) or len(set(flat)) < len(flat):
            raise DataError("sets of phones sharing pdfs must be disjoint and not empty")
        missing = set(topology.phones) - set(flat)
        if missing:  # it would get the pdfs of whichever set the tree's questions lead to
            problem = f"phone {min(missing)} of the topology is in no set of phones sharing pdfs"
            raise DataError(problem, remedy="use topo and phones/sets.int of one lang directory")
        lengths = [max(topology.num_pdf_classes(phone) for phone in phones) for phones in sets]
        return cls(context_width=1, central_position=0, to_pdf=root_map(sets, lengths, [False] * len(sets), count()))

    @cached_property
    def num_pdfs(self) -> int:
        """The highest pdf_id of the tree plus one."""
        return 1 + max(answers(self.to_pdf, {}))

    def pdf_id(self, phones: Sequence[int], pdf_class: int) -> int | None:
        """The pdf_id of a complete window (`context_width` phones, 0 beyond the edges); None where there is none."""
        return answer(self.to_pdf, {PDF_CLASS: pdf_class, **dict(enumerate(phones))})

    def possible_pdfs(self, phone: int, pdf_class: int) -> list[int]:
        """The pdf_ids `phone` can have at `pdf_class` over all contexts, sorted."""
        return sorted(set(answers(self.to_pdf, {PDF_CLASS: pdf_class, self.central_position: phone})))

    def possible_pdf_pairs(
        self, phone: int, forward_class: int, self_loop_class: int, phones: Sequence[int]
    ) -> set[tuple[int, int]]:
        """The (forward pdf_id, self-loop pdf_id) pairs that occur together in some context (EnumeratePairs).

        Args:
            phone: the central phone.
            forward_class: pdf class of leaving the state.
            self_loop_class: pdf class of its self-loop; negative: no self-loop, then pairs end in -1.
            phones: all phones that may stand in the context.
        """
        return self._pairs({self.central_position: phone}, forward_class, self_loop_class, phones)

    def _pairs(
        self, window: dict[int, int], forward_class: int, self_loop_class: int, phones: Sequence[int]
    ) -> set[tuple[int, int]]:
        forward = set(answers(self.to_pdf, {**window, PDF_CLASS: forward_class}))
        if self_loop_class < 0:
            return {(pdf, -1) for pdf in forward}
        self_loop = set(answers(self.to_pdf, {**window, PDF_CLASS: self_loop_class}))
        if len(forward) == 1 or len(self_loop) == 1:
            return {(a, b) for a in forward for b in self_loop}
        free = [position for position in range(self.context_width) if position not in window]
        if not free:  # a tree with holes: no pdf for this window
            return set()
        position = min(free, key=lambda p: (abs(p - self.central_position), p))
        return {
            pair
            for phone in [0, *phones]
            for pair in self._pairs({**window, position: phone}, forward_class, self_loop_class, phones)
        }

    def write(self, path: str | Path, binary: bool = True) -> None:
        """Write a `tree` file."""
        with open_writer(path) as file:
            if binary:
                basic.write_binary_header(file)
            self.write_to(file, binary)

    def write_to(self, file: IO[bytes], binary: bool) -> None:
        """Write the tree without the file's binary header."""
        basic.write_token(file, "ContextDependency")
        basic.write_int32(file, self.context_width, binary)
        basic.write_int32(file, self.central_position, binary)
        basic.write_token(file, "ToPdf")
        write_event_map(file, self.to_pdf, binary)
        basic.write_token(file, "EndContextDependency")

    def fingerprint(self) -> str:
        """SHA-256 in hex of the tree, the same whether it was read from text or from binary."""
        content = io.BytesIO()
        self.write_to(content, binary=True)
        return hashlib.sha256(content.getvalue()).hexdigest()


def root_map(
    sets: Sequence[Sequence[int]],
    lengths: Sequence[int],
    shared: Sequence[bool],
    pdf_ids: Iterator[int],
    central_position: int = 0,
) -> EventMap:
    """The event map of a tree before any question on context (GetStubMap).

    Args:
        sets: sets of phones with one root.
        lengths: pdf classes of each set.
        shared: whether all pdf classes of a set share one leaf.
        pdf_ids: where new pdf_ids come from.
        central_position: of the phone itself in the window.
    """
    if len(sets) == 1:
        if shared[0]:
            return Leaf(next(pdf_ids))
        return Table(PDF_CLASS, tuple(Leaf(next(pdf_ids)) for _ in range(lengths[0])))
    highest = max(phone for phones in sets for phone in phones)
    if all(len(phones) == 1 for phones in sets) and len(sets) <= 2 * highest:
        children: list[EventMap | None] = [None] * (highest + 1)
        for phones, length, share in zip(sets, lengths, shared, strict=True):
            children[phones[0]] = root_map([phones], [length], [share], pdf_ids, central_position)
        return Table(central_position, tuple(children))
    half = len(sets) // 2
    first = frozenset(phone for phones in sets[:half] for phone in phones)
    return Split(
        central_position,
        first,
        root_map(sets[:half], lengths[:half], shared[:half], pdf_ids, central_position),
        root_map(sets[half:], lengths[half:], shared[half:], pdf_ids, central_position),
    )


def read_phone_sets(path: str | Path) -> list[list[int]]:
    """Read `phones/sets.int`: on each line the phones that share their pdfs.

    Raises:
        DataError: the file is missing, or a line holds something other than positive phone ids.
    """
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from error
    sets = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or not all(field.isdigit() for field in fields):
            raise DataError(f"expected phone ids, found {line!r}", path=path, line=number)
        sets.append([int(field) for field in fields])
    return sets
