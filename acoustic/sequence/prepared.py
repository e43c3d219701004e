"""Lattices made ready for forward-backward: sorted, timed, in levels, without states from which nothing ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.lattices import Lattice, sort_topologically, state_times
from acoustic.kaldi.tables import read_table

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class PreparedLattice:
    """A lattice as arrays over its arcs, among them one from each final state into a last state of its own.

    Attributes:
        num_frames: its length.
        source, target: the states that each arc joins, int32 [num_arcs]; 0 is the start.
        transition_id: int32 [num_arcs]; 0 on arcs that take no frame.
        frame: int32 [num_arcs], the frame at which each arc begins.
        graph_cost, acoustic_cost: float32 [num_arcs], as in the file.
        level: int32 [num_states], the most arcs on a path from the start: every arc leads to a higher level. The last
            state is alone on the highest.
    """

    num_frames: int
    source: IntArray
    target: IntArray
    transition_id: IntArray
    frame: IntArray
    graph_cost: FloatArray
    acoustic_cost: FloatArray
    level: IntArray

    @classmethod
    def of(cls, lattice: Lattice) -> PreparedLattice:
        """Prepare a state-level lattice.

        Raises:
            DataError: it is empty, has a cycle, paths of different lengths, or none that ends.
        """
        lattice = sort_topologically(lattice)
        times = state_times(lattice)
        final = np.flatnonzero(lattice.is_final).astype(np.int32)
        if len(final) == 0:
            raise DataError("a lattice without a path to its end")
        num_states, arcs = lattice.num_states, lattice.arcs
        source = np.concatenate([lattice.sources().astype(np.int32), final])
        target = np.concatenate([arcs["nextstate"], np.full(len(final), num_states, np.int32)])
        level, ends = _levels_and_ends(source[: len(arcs)].tolist(), arcs["nextstate"].tolist(), lattice.is_final)
        kept_states = np.append(ends, True)
        kept = kept_states[source] & kept_states[target]
        number = (np.cumsum(kept_states) - 1).astype(np.int32)
        nothing = np.zeros(len(final), np.int32)
        return cls(
            num_frames=int(times.max()),
            source=number[source][kept],
            target=number[target][kept],
            transition_id=np.concatenate([arcs["ilabel"], nothing])[kept],
            frame=times[source][kept],
            graph_cost=np.concatenate([arcs["graph_cost"], lattice.final[final, 0]])[kept],
            acoustic_cost=np.concatenate([arcs["acoustic_cost"], lattice.final[final, 1]])[kept],
            level=np.append(level, level.max() + 1)[kept_states].astype(np.int32),
        )

    @property
    def num_arcs(self) -> int:
        """Number of arcs, those into the last state among them."""
        return len(self.source)

    @property
    def num_states(self) -> int:
        """Number of states, the last among them."""
        return len(self.level)


def _levels_and_ends(
    sources: list[int], targets: list[int], is_final: NDArray[np.bool_]
) -> tuple[IntArray, NDArray[np.bool_]]:
    """The level of each state, and whether a path from it ends; arcs of a sorted lattice, in the order of states."""
    level, ends = [0] * len(is_final), is_final.tolist()
    for source, target in zip(sources, targets, strict=True):
        if level[target] <= level[source]:
            level[target] = level[source] + 1
    for source, target in zip(reversed(sources), reversed(targets), strict=True):
        if ends[target]:
            ends[source] = True
    return np.array(level, np.int32), np.array(ends, bool)


def read_lattices(lat_dirs: Sequence[str]) -> Iterator[tuple[str, Lattice]]:
    """The lattices of directories such as Kaldi's make_denlats.sh writes: `lat.*.gz` in numeric order, or `lat.scp`.

    Yields:
        utterance and state-level lattice.

    Raises:
        DataError: there are none, or they are damaged.
    """
    for lat_dir in lat_dirs:
        for rspecifier in archives_in(Path(lat_dir), "lat", "lattices", "acoustic lattices"):
            yield from read_table(rspecifier, "lattice")


def archives_in(folder: Path, stem: str, what: str, made_by: str) -> list[str]:
    """The rspecifiers of `STEM.*.gz` in numeric order, of STEM.scp or of STEM.ark.

    Args:
        folder: where they are.
        stem: of their names.
        what: is in them, and
        made_by: what makes them, for messages.

    Raises:
        DataError: there are none.
    """
    jobs = [path for path in folder.glob(f"{stem}.*.gz") if path.name.split(".")[1].isdigit()]
    if jobs:
        return [f"ark:{path}" for path in sorted(jobs, key=lambda path: int(path.name.split(".")[1]))]
    for kind in ("scp", "ark"):
        if (folder / f"{stem}.{kind}").exists():
            return [f"{kind}:{folder}/{stem}.{kind}"]
    names = f"{stem}.*.gz, {stem}.scp or {stem}.ark"
    raise DataError(f"no {what} here ({names})", path=folder, remedy=f"make them first: {made_by}")
