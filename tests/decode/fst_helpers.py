"""Transducers as plain lists, for comparing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import kaldifst

PrintedFst = tuple[list[tuple[int, int, int, int, float]], dict[int, float]]


def states_of(fst: kaldifst.StdVectorFst) -> Iterator[int]:
    yield from range(fst.num_states)


def printed(fst: kaldifst.StdVectorFst) -> PrintedFst:
    """(sorted arcs (source, target, input, output, cost), final costs), costs to five decimals."""
    arcs, finals = [], {}
    for state in states_of(fst):
        for arc in kaldifst.ArcIterator(fst, state):
            arcs.append((state, arc.nextstate, arc.ilabel, arc.olabel, round(float(arc.weight.value), 5)))
        cost = float(fst.final(state).value)
        if cost != float("inf"):
            finals[state] = round(cost, 5)
    return sorted(arcs), finals


def parsed(lines: Iterable[str]) -> PrintedFst:
    """The same from the output of fstprint (numeric labels)."""
    arcs, finals = [], {}
    for line in lines:
        fields = line.split()
        if len(fields) > 2:
            source, target, input_label, output_label = map(int, fields[:4])
            arcs.append((source, target, input_label, output_label, round(float((*fields, "0")[4]), 5)))
        else:
            finals[int(fields[0])] = round(float((*fields, "0")[1]), 5)
    return sorted(arcs), finals
