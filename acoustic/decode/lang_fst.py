"""Finite-state transducers from lists of arcs, and their files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import kaldifst

from acoustic.errors import DataError
from acoustic.fsio import fsync_path, publish, temporary_name

# (source state, destination state, input label, output label, cost = minus natural log of the probability)
Arc = tuple[int, int, int, int, float]


def build_fst(
    num_states: int, start: int, arcs: Iterable[Arc], final_costs: Mapping[int, float]
) -> kaldifst.StdVectorFst:
    """Build a transducer over the tropical semiring; states are numbered from 0."""
    fst = kaldifst.StdVectorFst()
    for _ in range(num_states):
        fst.add_state()
    fst.start = start
    for source, destination, input_label, output_label, cost in arcs:
        fst.add_arc(source, kaldifst.StdArc(input_label, output_label, cost, destination))
    for state, cost in final_costs.items():
        fst.set_final(state, cost)
    return fst


def write_fst(fst: kaldifst.StdVectorFst, path: str | Path) -> None:
    """Write an FST in OpenFst's binary format; the file is complete or absent.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        if not fst.write(str(temporary)):
            raise DataError("cannot be written", path=path, remedy="free space or mend the folder, then rerun")
        fsync_path(temporary)
        publish(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # gone already, or on a disk that fails
            temporary.unlink()
