"""Alignments without a model: a path through the training graph, its states of equal length (align-equal-compiled)."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays

NUM_TRIES = 10  # for a path short enough; Kaldi's number


def align_equally(graph: FstArrays, utt: str, num_frames: int, seed: int = 0) -> NDArray[np.int32]:
    """The transition_ids of a path drawn at random, lengthened by its self-loops evenly (EqualAlign).

    Args:
        graph: the utterance's training graph; its self-loops have labels.
        utt: draws of an utterance depend on its name and `seed` alone.
        num_frames: how long the alignment must be.
        seed: another one gives other paths.

    Returns:
        int32 [num_frames].

    Raises:
        DataError: paths are longer than the utterance, or cannot be made as long as it.
    """
    random = np.random.default_rng([seed, zlib.crc32(utt.encode())])
    if graph.num_states == 0:
        raise DataError("its graph is empty", utt=utt)
    loops = _self_loops(graph)
    for _ in range(NUM_TRIES):
        arcs = _draw_path(graph, random)
        labels = [int(graph.arcs["ilabel"][arc]) for arc in arcs]
        if sum(label != 0 for label in labels) <= num_frames:
            break
    else:
        raise DataError(f"{num_frames} frames are too few for its words", utt=utt)
    states = [graph.start, *(int(graph.arcs["nextstate"][arc]) for arc in arcs)]
    return _lengthened(utt, labels, [int(loops[state]) for state in states], num_frames)


def _self_loops(graph: FstArrays) -> NDArray[np.int32]:
    """The label of each state's self-loop, 0 where it has none: int32 [num_states]."""
    sources = graph.sources()
    is_loop = graph.arcs["nextstate"] == sources
    labels = np.zeros(graph.num_states, dtype=np.int32)
    labels[sources[is_loop]] = graph.arcs["ilabel"][is_loop]
    return labels


def _draw_path(graph: FstArrays, random: np.random.Generator) -> list[int]:
    """The arcs of a path from start to end: at each state any arc but self-loops, or the end, with equal chances."""
    arcs: list[int] = []
    state = graph.start
    while True:
        leaving = [
            arc
            for arc in range(graph.first_arc[state], graph.first_arc[state + 1])
            if graph.arcs["nextstate"][arc] != state
        ]
        drawn = int(random.integers(len(leaving) + bool(np.isfinite(graph.final[state]))))
        if drawn == len(leaving):
            return arcs
        arcs.append(leaving[drawn])
        state = int(graph.arcs["nextstate"][leaving[drawn]])


def _lengthened(utt: str, labels: list[int], loops: list[int], num_frames: int) -> NDArray[np.int32]:
    """The labels of a path, each self-loop repeated as often as the others, the first ones once more if need be.

    Args:
        labels: of the path's arcs, 0 for epsilon.
        loops: label of the self-loop at each of the path's states (one more than arcs), 0 where there is none.

    Raises:
        DataError: too short without self-loops.
    """
    num_extra = num_frames - sum(label != 0 for label in labels)
    num_loops = sum(loop != 0 for loop in loops)
    if num_extra and not num_loops:
        raise DataError("the path has no self-loops to make it as long as the utterance", utt=utt)
    each, more = divmod(num_extra, num_loops) if num_loops else (0, 0)
    ids: list[int] = []
    for loop, label in zip(loops, [*labels, 0], strict=True):
        if loop:
            ids += [loop] * (each + (more > 0))
            more -= 1
        if label:
            ids.append(label)
    return np.array(ids, dtype=np.int32)
