"""Lattices as numpy arrays: state-level ones with a transition_id on each arc, and compact ones (lat/kaldi-lattice).

A cost is a negated log probability. Kaldi keeps two on every arc: the graph cost (language model, pronunciations,
transition probabilities) and the acoustic cost, which is not scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError

NO_STATE = -1
ARC = np.dtype(
    [("ilabel", "<i4"), ("olabel", "<i4"), ("graph_cost", "<f4"), ("acoustic_cost", "<f4"), ("nextstate", "<i4")]
)
"""An arc; label 0 is epsilon."""

IntArray = NDArray[np.int32]
CostArray = NDArray[np.float32]
OffsetArray = NDArray[np.int64]


@dataclass(frozen=True)
class Strings:
    """Strings of transition_ids, one behind the other.

    Attributes:
        first: int64 [num_strings + 1]; string i is ids[first[i] : first[i + 1]].
        ids: int32, all strings concatenated.
    """

    first: OffsetArray
    ids: IntArray

    def __getitem__(self, index: int) -> IntArray:
        """String `index`."""
        return self.ids[self.first[index] : self.first[index + 1]]

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def lengths(self) -> OffsetArray:
        """int64 [num_strings]."""
        return np.diff(self.first)

    @classmethod
    def of(cls, strings: Sequence[Sequence[int] | IntArray]) -> Strings:
        """These strings."""
        parts = [np.asarray(string, np.int32) for string in strings]
        return cls(offsets([len(part) for part in parts]), np.concatenate([np.zeros(0, np.int32), *parts]))


@dataclass(frozen=True)
class _Acceptor:
    """What both kinds of lattice have.

    Attributes:
        start: the start state, -1 in the lattice without states.
        final: float32 [num_states, 2], graph and acoustic cost of ending; inf where a state is not final.
        first_arc: int64 [num_states + 1]; the arcs of state s are first_arc[s] .. first_arc[s + 1] - 1.
        arcs: [num_arcs], of type `ARC`.
        properties: OpenFst's property bits of the file that was read, kept so that it can be written back;
            None for what they are as a rule.
    """

    start: int
    final: CostArray
    first_arc: OffsetArray
    arcs: NDArray[np.void]
    properties: int | None

    @property
    def num_states(self) -> int:
        """Number of states."""
        return len(self.final)

    @property
    def num_arcs(self) -> int:
        """Number of arcs."""
        return len(self.arcs)

    @property
    def is_final(self) -> NDArray[np.bool_]:
        """Whether each state is final."""
        return np.asarray(np.isfinite(self.final).all(axis=1))

    def sources(self) -> OffsetArray:
        """The state that each arc leaves, int64 [num_arcs]."""
        return np.repeat(np.arange(self.num_states), np.diff(self.first_arc))


@dataclass(frozen=True)
class Lattice(_Acceptor):
    """A state-level lattice (Kaldi's Lattice): `ilabel` is a transition_id or 0, `olabel` a word or 0."""


@dataclass(frozen=True)
class CompactLattice(_Acceptor):
    """A compact lattice: both labels of an arc are the word, its transition_ids stand in a string.

    Attributes:
        arc_strings: for each arc.
        final_strings: for each state, what follows when the path ends there.
    """

    arc_strings: Strings
    final_strings: Strings


def offsets(counts: Any) -> OffsetArray:
    """Where each group begins when groups of these sizes follow one another, and where the last ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def empty_lattice() -> Lattice:
    """The lattice without states."""
    return Lattice(NO_STATE, np.zeros((0, 2), np.float32), np.zeros(1, np.int64), np.zeros(0, ARC), None)


def expand(compact: CompactLattice) -> Lattice:
    """The state-level lattice of a compact one, its states numbered as Kaldi's ConvertLattice numbers them.

    Word and costs of an arc go to the first of the arcs that replace it.
    """
    lengths, final_lengths = compact.arc_strings.lengths, compact.final_strings.lengths
    # Kaldi goes through the states; the chain of a final string comes first, then those of the state's arcs. A string
    # of n ids behind an arc needs n - 1 states between, one behind a final state needs n.
    sources, inner_before = compact.sources(), offsets(np.maximum(lengths, 1) - 1)
    num_new = final_lengths + np.diff(inner_before[compact.first_arc])
    first_new = compact.num_states + offsets(num_new)
    first_inner = (first_new[:-1] + final_lengths - inner_before[compact.first_arc[:-1]])[sources] + inner_before[:-1]
    num_states = int(first_new[-1])
    from_arcs = _chains(compact.arcs, compact.arc_strings, sources, first_inner, compact.arcs["nextstate"])
    final = np.full((num_states, 2), np.inf, np.float32)
    final[: compact.num_states] = compact.final
    with_string = np.flatnonzero(final_lengths)
    heads = np.zeros(len(with_string), ARC)
    heads["graph_cost"], heads["acoustic_cost"] = compact.final[with_string].T
    chain_end = first_new[with_string] + final_lengths[with_string] - 1
    strings = Strings(offsets(final_lengths[with_string]), compact.final_strings.ids)
    from_finals = _chains(heads, strings, with_string, first_new[with_string], chain_end)
    final[with_string] = np.inf
    final[chain_end] = 0.0
    arc_sources = np.concatenate([from_finals[0], from_arcs[0]])
    order = np.argsort(arc_sources, kind="stable")
    arcs = np.concatenate([from_finals[1], from_arcs[1]])[order]
    first_arc = offsets(np.bincount(arc_sources, minlength=num_states))
    return Lattice(compact.start, final, first_arc, arcs, None)


def _chains(
    heads: NDArray[np.void], strings: Strings, sources: OffsetArray, first_inner: OffsetArray, targets: NDArray[Any]
) -> tuple[OffsetArray, NDArray[np.void]]:
    """Each head as a chain of arcs with one id each, over new states numbered from `first_inner`.

    Returns:
        the source of each new arc and the arcs, in the order of heads.
    """
    lengths = strings.lengths
    num_links = np.maximum(lengths, 1)
    begin = offsets(num_links)
    head_of = np.repeat(np.arange(len(heads)), num_links)
    position = np.arange(begin[-1]) - begin[head_of]
    is_first, is_last = position == 0, position == num_links[head_of] - 1
    arcs = np.zeros(len(head_of), ARC)
    arcs[is_first] = heads
    arcs["ilabel"] = 0
    arcs["ilabel"][lengths[head_of] > 0] = strings.ids
    inner = first_inner[head_of] + position
    arcs["nextstate"] = np.where(is_last, targets[head_of], inner)
    return np.where(is_first, sources[head_of], inner - 1), arcs


def compact(lattice: Lattice) -> CompactLattice:
    """The compact lattice with the same states and arcs; each string holds one transition_id or none."""
    labels = lattice.arcs["ilabel"]
    arcs = lattice.arcs.copy()
    arcs["ilabel"] = arcs["olabel"]
    return CompactLattice(
        lattice.start, lattice.final, lattice.first_arc, arcs, None,
        arc_strings=Strings(offsets(labels != 0), labels[labels != 0]),
        final_strings=Strings(np.zeros(lattice.num_states + 1, np.int64), np.zeros(0, np.int32)),
    )  # fmt: skip


def sort_topologically(lattice: Lattice) -> Lattice:
    """The lattice with its states renumbered so that the start is 0 and every arc leads to a higher number.

    States that the start does not reach are left out. A lattice that is sorted already is returned as it is.

    Raises:
        DataError: the lattice has a cycle.
    """
    sources, targets = lattice.sources(), lattice.arcs["nextstate"]
    reached = _is_reached(lattice)
    if lattice.start == 0 and reached.all() and (targets > sources).all():
        return lattice
    kept_arcs = reached[sources]
    num_incoming = np.bincount(targets[kept_arcs], minlength=lattice.num_states).tolist()
    order, ready = [], [lattice.start] if lattice.num_states else []
    if ready and num_incoming[lattice.start]:
        raise DataError("a lattice with a cycle", remedy="make it anew")
    while ready:
        state = ready.pop()
        order.append(state)
        for target in targets[lattice.first_arc[state] : lattice.first_arc[state + 1]].tolist():
            num_incoming[target] -= 1
            if num_incoming[target] == 0:
                ready.append(target)
    if len(order) < np.count_nonzero(reached):
        raise DataError("a lattice with a cycle", remedy="make it anew")
    number = np.full(lattice.num_states, NO_STATE, np.int64)
    number[order] = np.arange(len(order))
    by_source = np.argsort(np.where(kept_arcs, number[sources], lattice.num_states), kind="stable")
    by_source = by_source[: np.count_nonzero(kept_arcs)]
    arcs = lattice.arcs[by_source]
    arcs["nextstate"] = number[arcs["nextstate"]]
    first_arc = offsets(np.bincount(number[sources[by_source]], minlength=len(order)))
    return Lattice(0 if order else NO_STATE, lattice.final[order], first_arc, arcs, None)


def _is_reached(lattice: Lattice) -> NDArray[np.bool_]:
    """Which states a path from the start reaches."""
    reached = np.zeros(lattice.num_states, bool)
    waiting = [lattice.start] if lattice.num_states else []
    reached[waiting] = True
    while waiting:
        state = waiting.pop()
        for target in lattice.arcs["nextstate"][lattice.first_arc[state] : lattice.first_arc[state + 1]].tolist():
            if not reached[target]:
                reached[target] = True
                waiting.append(target)
    return reached


def state_times(lattice: Lattice) -> IntArray:
    """The frame at which each state of a topologically sorted lattice lies (LatticeStateTimes).

    Returns:
        int32 [num_states]: how many transition_ids lie on any path from the start to the state.

    Raises:
        DataError: paths of different lengths meet, or a final state does not lie at the end.
    """
    times = [0 if state == 0 else NO_STATE for state in range(lattice.num_states)]
    steps = (lattice.arcs["ilabel"] != 0).tolist()
    targets, first = lattice.arcs["nextstate"].tolist(), lattice.first_arc.tolist()
    for state, time in enumerate(times):
        for arc in range(first[state], first[state + 1]):
            reached = time + steps[arc]
            if times[targets[arc]] not in (NO_STATE, reached):
                raise DataError("a lattice in which paths of different lengths meet", remedy="make it anew")
            times[targets[arc]] = reached
    array = np.array(times, np.int32)
    if lattice.num_states and (array[lattice.is_final] != array.max()).any():
        raise DataError("a lattice with a path that ends before the last frame", remedy="make it anew")
    return array
