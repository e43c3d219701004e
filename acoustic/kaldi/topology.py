"""HMM topologies: for each phone its states, their pdf classes and their transitions (Kaldi: hmm/hmm-topology.cc).

Three layouts are read and written: text, compact binary (one pdf class for each state) and extended binary (a pdf class
for leaving a state and another for its self-loop, as chain models need).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from acoustic.errors import DataError
from acoustic.kaldi import basic
from acoustic.kaldi.stream import ByteReader, open_reader

NO_PDF = -1
"""The pdf class of a state that emits nothing."""

_EXTENDED_FORMAT = -1
"""Stands in a binary file before the number of entries when self-loop pdf classes are written too."""


@dataclass(frozen=True)
class HmmState:
    """One state of a topology.

    Attributes:
        forward_pdf_class: pdf class of the frame emitted on leaving the state, `NO_PDF` in a non-emitting state.
        self_loop_pdf_class: pdf class of the frames emitted on the self-loop; equal to the former outside chain models.
        transitions: (destination state, probability) pairs; none in the final state.
    """

    forward_pdf_class: int
    self_loop_pdf_class: int
    transitions: tuple[tuple[int, float], ...]


Entry = tuple[HmmState, ...]


@dataclass(frozen=True)
class Topology:
    """The topology of every phone.

    Attributes:
        prototypes: the distinct lists of states, in file order; the last state of each is the final one.
        prototype_of: phone -> index into `prototypes`.
    """

    prototypes: tuple[Entry, ...]
    prototype_of: dict[int, int]

    @classmethod
    def read(cls, path: str | Path) -> Topology:
        """Read a `topo` file, text or binary.

        Raises:
            DataError: damaged file, or a topology that Kaldi would refuse.
        """
        with open_reader(path) as reader:
            reader.read_binary_header()
            return cls.read_from(reader)

    @classmethod
    def read_from(cls, reader: ByteReader) -> Topology:
        """Read the topology at the reader's position.

        Raises:
            DataError: as `read`.
        """
        reader.expect_token("<Topology>")
        topology = _read_binary(reader) if reader.binary else _read_text(reader)
        fault = topology.fault()
        if fault:
            raise reader.error(f"HMM topology: {fault}")
        return topology

    @cached_property
    def phones(self) -> list[int]:
        """The phones covered, sorted."""
        return sorted(self.prototype_of)

    @cached_property
    def entries(self) -> dict[int, Entry]:
        """Phone -> its states."""
        return {phone: self.prototypes[self.prototype_of[phone]] for phone in self.phones}

    @cached_property
    def is_hmm(self) -> bool:
        """Whether each state has one pdf class for its self-loop and its other transitions (false for chain models)."""
        return all(s.forward_pdf_class == s.self_loop_pdf_class for states in self.prototypes for s in states)

    def entry(self, phone: int) -> Entry:
        """The states of `phone`.

        Raises:
            DataError: the topology does not cover the phone.
        """
        if phone not in self.entries:
            raise DataError(
                f"phone {phone} is not covered by the HMM topology", remedy="use the topo of this lang directory"
            )
        return self.entries[phone]

    def num_pdf_classes(self, phone: int) -> int:
        """How many pdf classes the states of `phone` use."""
        return 1 + max(max(s.forward_pdf_class, s.self_loop_pdf_class, 0) for s in self.entry(phone))

    def fault(self) -> str | None:
        """What is wrong with the topology, or None (HmmTopology::Check)."""
        if not self.prototypes or not self.prototype_of:
            return "empty"
        if set(self.prototype_of.values()) != set(range(len(self.prototypes))):
            return "phones and entries do not match"
        if min(self.prototype_of) <= 0:
            return "phone ids must be positive"
        return next((fault for states in self.prototypes if (fault := _entry_fault(states))), None)

    def write(self, file: IO[bytes], binary: bool) -> None:
        """Write the topology, without the file's binary header, as Kaldi does."""
        basic.write_token(file, "<Topology>")
        (_write_binary if binary else _write_text)(file, self)
        basic.write_token(file, "</Topology>")
        if not binary:
            file.write(b"\n")


def _entry_fault(states: Entry) -> str | None:
    """What is wrong with the states of one phone, or None."""
    final = len(states) - 1
    if final < 1:
        return "an entry needs an emitting state and a final one"
    if states[final].transitions or states[final].forward_pdf_class != NO_PDF:
        return "the last state of an entry must have neither a pdf class nor transitions"
    for index, state in enumerate(states[:final]):
        fault = _state_fault(index, state, final)
        if fault:
            return f"state {index}: {fault}"
    reached = {destination for state in states for destination, _ in state.transitions}
    if not set(range(1, final + 1)) <= reached:
        return "a state has no transition into it"
    emitting = [state for state in states if state.forward_pdf_class != NO_PDF]
    classes = {c for state in emitting for c in (state.forward_pdf_class, state.self_loop_pdf_class)}
    if not classes or classes != set(range(len(classes))):
        return "pdf classes must be contiguous and start from 0"
    return None


def _state_fault(index: int, state: HmmState, final: int) -> str | None:
    """What is wrong with one state that is not the final one, or None."""
    destinations = [destination for destination, _ in state.transitions]
    if not destinations:
        return "no transitions"
    if len(set(destinations)) < len(destinations):
        return "two transitions to the same state"
    if min(destinations) < 0 or max(destinations) > final:
        return "transition to a state that does not exist"
    if not all(0.0 < probability <= 1.0 for _, probability in state.transitions):
        return "transition probabilities must be positive and at most 1"
    if state.forward_pdf_class == NO_PDF and final in destinations:
        return "a non-emitting state must not reach the final state"
    if state.self_loop_pdf_class == NO_PDF and index in destinations:
        return "a non-emitting state must not have a self-loop"
    return None


def _assemble(entries: Iterable[tuple[list[int], Entry]], reader: ByteReader) -> Topology:
    """Join (phones, states) pairs into a topology."""
    prototypes: list[Entry] = []
    prototype_of: dict[int, int] = {}
    for phones, states in entries:
        for phone in phones:
            if phone in prototype_of:
                raise reader.error(f"HMM topology: phone {phone} appears twice")
            prototype_of[phone] = len(prototypes)
        prototypes.append(states)
    return Topology(tuple(prototypes), prototype_of)


def _read_text(reader: ByteReader) -> Topology:
    entries = []
    while (token := reader.read_token()) != "</Topology>":
        if token != "<TopologyEntry>":
            raise reader.error(f"expected <TopologyEntry> or </Topology>, found {token!r}")
        entries.append((_read_phones_text(reader), _read_states_text(reader)))
    return _assemble(entries, reader)


def _read_phones_text(reader: ByteReader) -> list[int]:
    reader.expect_token("<ForPhones>")
    phones = []
    while (token := reader.read_token()) != "</ForPhones>":
        if not token.isascii() or not token.isdigit():
            raise reader.error(f"expected a phone id, found {token!r}")
        phones.append(int(token))
    return phones


def _read_states_text(reader: ByteReader) -> Entry:
    states: list[HmmState] = []
    while (token := reader.read_token()) != "</TopologyEntry>":
        if token != "<State>":
            raise reader.error(f"expected <State> or </TopologyEntry>, found {token!r}")
        if reader.read_int32() != len(states):
            raise reader.error("states must be numbered in order from 0")
        states.append(_read_state_text(reader))
    return tuple(states)


def _read_state_text(reader: ByteReader) -> HmmState:
    forward = self_loop = NO_PDF
    token = reader.read_token()
    if token == "<PdfClass>":
        forward = self_loop = reader.read_int32()
        token = reader.read_token()
    elif token == "<ForwardPdfClass>":
        forward = reader.read_int32()
        reader.expect_token("<SelfLoopPdfClass>")
        self_loop = reader.read_int32()
        token = reader.read_token()
    transitions = []
    while token == "<Transition>":
        transitions.append((reader.read_int32(), reader.read_float()))
        token = reader.read_token()
    if token != "</State>":
        raise reader.error(f"expected <Transition> or </State>, found {token!r}")
    return HmmState(forward, self_loop, tuple(transitions))


def _read_binary(reader: ByteReader) -> Topology:
    phones = reader.read_int32_vector().tolist()
    index_of_phone = reader.read_int32_vector().tolist()
    num_entries = reader.read_int32()
    extended = num_entries == _EXTENDED_FORMAT
    if extended:
        num_entries = reader.read_count("entries")
    prototypes = tuple(_read_entry_binary(reader, extended) for _ in range(num_entries))
    reader.expect_token("</Topology>")
    if any(not 0 <= phone < len(index_of_phone) for phone in phones):
        raise reader.error("HMM topology: phone without an entry")
    return Topology(prototypes, {phone: index_of_phone[phone] for phone in phones})


def _read_entry_binary(reader: ByteReader, extended: bool) -> Entry:
    states = []
    for _ in range(reader.read_count("states")):
        forward = reader.read_int32()
        self_loop = reader.read_int32() if extended else forward
        num_transitions = reader.read_count("transitions")
        transitions = tuple((reader.read_int32(), reader.read_float()) for _ in range(num_transitions))
        states.append(HmmState(forward, self_loop, transitions))
    return tuple(states)


def _write_text(file: IO[bytes], topology: Topology) -> None:
    file.write(b"\n")
    for index, states in enumerate(topology.prototypes):
        phones = " ".join(str(phone) for phone in topology.phones if topology.prototype_of[phone] == index)
        file.write(f"<TopologyEntry> \n<ForPhones> \n{phones} \n</ForPhones> \n".encode())
        for number, state in enumerate(states):
            _write_state_text(file, number, state, topology.is_hmm)
        file.write(b"</TopologyEntry> \n")


def _write_state_text(file: IO[bytes], number: int, state: HmmState, is_hmm: bool) -> None:
    file.write(f"<State> {number} ".encode())
    if state.forward_pdf_class != NO_PDF and is_hmm:
        file.write(f"<PdfClass> {state.forward_pdf_class} ".encode())
    elif state.forward_pdf_class != NO_PDF:
        file.write(f"<ForwardPdfClass> {state.forward_pdf_class} ".encode())
        file.write(f"<SelfLoopPdfClass> {state.self_loop_pdf_class} ".encode())
    for destination, probability in state.transitions:
        file.write(f"<Transition> {destination} ".encode())
        basic.write_float(file, probability, binary=False)
    file.write(b"</State> \n")


def _write_binary(file: IO[bytes], topology: Topology) -> None:
    index_of_phone = [topology.prototype_of.get(phone, -1) for phone in range(topology.phones[-1] + 1)]
    basic.write_int32_vector(file, topology.phones, binary=True)
    basic.write_int32_vector(file, index_of_phone, binary=True)
    extended = not topology.is_hmm
    numbers = [_EXTENDED_FORMAT] if extended else []
    for number in [*numbers, len(topology.prototypes)]:
        basic.write_int32(file, number, binary=True)
    for states in topology.prototypes:
        basic.write_int32(file, len(states), binary=True)
        for state in states:
            basic.write_int32(file, state.forward_pdf_class, binary=True)
            if extended:
                basic.write_int32(file, state.self_loop_pdf_class, binary=True)
            basic.write_int32(file, len(state.transitions), binary=True)
            for destination, probability in state.transitions:
                basic.write_int32(file, destination, binary=True)
                basic.write_float(file, probability, binary=True)
