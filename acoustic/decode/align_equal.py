"""Alignments without a model: a path through the training graph, its states of equal length (align-equal-compiled)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays

NUM_TRIES = 10  # for a path short enough; Kaldi's number
HASH_FACTOR = 7853  # Kaldi's StringHasher


def align_equally(graph: FstArrays, utt: str, num_frames: int, seed: int = 0) -> NDArray[np.int32]:
    """The transition_ids of a path drawn at random, lengthened by its self-loops evenly (EqualAlign).

    Args:
        graph: the utterance's training graph; its self-loops have labels.
        utt: draws of an utterance depend on its name and `seed` alone.
        num_frames: how long the alignment must be.
        seed: 0 draws as Kaldi on Linux does, another one otherwise.

    Returns:
        int32 [num_frames].

    Raises:
        DataError: paths are longer than the utterance, or cannot be made as long as it.
    """
    random = c_random(name_hash(utt) + seed)
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


def name_hash(utt: str) -> int:
    """The number that Kaldi makes of an utterance's name to seed its draws (StringHasher), modulo 2^64."""
    value = 0
    for byte in utt.encode():
        value = value * HASH_FACTOR + (byte - 256 if byte > 127 else byte)
    return value % 2**64


def c_random(seed: int) -> Iterator[int]:
    """What the C library's rand() gives after srand(seed): additive feedback of 31 words, as in glibc.

    Args:
        seed: only its lowest 32 bits count.
    """
    word = (seed + 2**31) % 2**32 - 2**31 or 1
    words = deque([word], maxlen=31)
    for _ in range(30):
        quotient = abs(word) // 127773 * (1 if word > 0 else -1)  # C rounds towards zero
        word = 16807 * (word - 127773 * quotient) - 2836 * quotient
        word += 2**31 - 1 if word < 0 else 0
        words.append(word)
    words.rotate(-3)
    num_drawn = 0
    while True:
        words.append((words[-31] + words[-3]) % 2**32)
        num_drawn += 1
        if num_drawn > 310:  # those before are thrown away
            yield words[-1] >> 1


def _draw_path(graph: FstArrays, random: Iterator[int]) -> list[int]:
    """The arcs of a path from start to end: at each state any arc but self-loops, or the end, with equal chances."""
    arcs: list[int] = []
    state = graph.start
    while True:
        first, end = int(graph.first_arc[state]), int(graph.first_arc[state + 1])
        num_choices = end - first + bool(np.isfinite(graph.final[state]))
        if num_choices == 0:
            raise DataError("its graph has a state that leads nowhere")
        arc = first + (next(random) % num_choices if num_choices > 1 else 0)
        if arc == end:
            return arcs
        if graph.arcs["nextstate"][arc] != state:  # a self-loop: draw again
            arcs.append(arc)
            state = int(graph.arcs["nextstate"][arc])


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
