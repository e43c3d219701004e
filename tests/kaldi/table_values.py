"""Values of every kind a table holds, and tables of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from acoustic.kaldi.fst import ARC, FstArrays
from acoustic.kaldi.lattices import ARC as LATTICE_ARC
from acoustic.kaldi.lattices import CompactLattice, Lattice, Strings, empty_lattice
from acoustic.kaldi.tables import TableWriter

FST = FstArrays(
    start=0,
    final=np.array([np.inf, 0.5], np.float32),
    first_arc=np.array([0, 2, 2]),
    arcs=np.array([(7, 1, 0.25, 1), (0, 0, 0.0, 0)], ARC),
)
_LATTICE = (
    0,
    np.array([[np.inf, np.inf], [0.5, 1.25]], np.float32),
    np.array([0, 2, 2]),
    np.array([(4, 4, 0.5, 10.0, 1), (6, 6, 0.0, 0.0, 1)], LATTICE_ARC),
    None,
)
LATTICE = Lattice(*_LATTICE)
COMPACT_LATTICE = CompactLattice(
    *_LATTICE, arc_strings=Strings.of([[3, 3], []]), final_strings=Strings.of([[], [7, 8, 7]])
)

VALUES: dict[str, list[Any]] = {
    "matrix": [np.ones((2, 3), np.float32), np.zeros((0, 0), np.float32), np.arange(4.0).reshape(2, 2)],
    "vector": [np.ones(3, np.float32), np.zeros(0, np.float32), np.arange(4.0)],
    "int_vector": [np.array([1, -2, 3], np.int32), np.zeros(0, np.int32)],
    "posterior": [[[(1, 0.5), (2, 0.25)], [], [(7, 1.0)]], []],
    "tokens": [["one", "zwölf", "a\u00a0b"], []],
    "token": ["spk1"],
    "int32": [0, -5, 2**31 - 1],
    "float": [0.5, -1e-5],
    "fst": [FST],
    "lattice": [LATTICE, empty_lattice()],
    "compact_lattice": [COMPACT_LATTICE],
}


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, FstArrays | Lattice | CompactLattice | Strings):
        names = vars(first).keys() - {"properties"}  # text does not hold them
        return all(equal(getattr(first, name), getattr(second, name)) for name in names)
    return bool(np.array_equal(first, second)) if isinstance(first, np.ndarray) else bool(first == second)


def write(wspecifier: str, kind: str, entries: dict[str, Any]) -> None:
    with TableWriter(wspecifier, kind) as writer:
        for key, value in entries.items():
            writer.write(key, value)
