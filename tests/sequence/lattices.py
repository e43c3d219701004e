"""Small random lattices, what Kaldi's formulas give on them arc by arc, and enumeration of their paths."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from acoustic.kaldi.lattices import ARC, Lattice
from acoustic.sequence.prepared import PreparedLattice

FloatArray = NDArray[np.float64]


def random_lattice(generator: np.random.Generator, num_frames: int, num_transition_ids: int, width: int = 3) -> Lattice:
    """A lattice with some states at each time, epsilon arcs among them, and states that lead nowhere."""
    times = np.concatenate([[0], np.repeat(np.arange(num_frames + 1), width), [num_frames]])
    arcs: list[list[tuple[int, int, float, float, int]]] = [[] for _ in times]
    for source, target in itertools.combinations(range(len(times)), 2):
        step = int(times[target] - times[source])
        if step <= 1 and (generator.random() < 0.6 or target == len(times) - 1):
            label = int(generator.integers(1, num_transition_ids + 1)) if step else 0
            arcs[source].append((label, 0, *generator.normal(size=2).tolist(), target))
    final = np.full((len(times), 2), np.inf, np.float32)
    final[-2:] = generator.normal(size=(2, 2))
    first = np.concatenate([[0], np.cumsum([len(group) for group in arcs])])
    return Lattice(0, final, first, np.array([arc for group in arcs for arc in group], ARC), None)


def paths(lattice: PreparedLattice) -> Iterator[list[int]]:
    """Every path as the indices of its arcs."""
    outgoing: dict[int, list[int]] = {}
    for arc, source in enumerate(lattice.source.tolist()):
        outgoing.setdefault(source, []).append(arc)
    waiting: list[tuple[int, list[int]]] = [(0, [])]
    while waiting:
        state, path = waiting.pop()
        if state == lattice.num_states - 1:
            yield path
        waiting += [(int(lattice.target[arc]), [*path, arc]) for arc in outgoing.get(state, [])]


def forward_backward(lattice: PreparedLattice, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """alpha and beta, [num_states], arc by arc as LatticeForwardBackward goes through them."""
    alpha, beta = np.full((2, lattice.num_states), -np.inf)
    alpha[0] = beta[-1] = 0.0
    order = np.argsort(lattice.level[lattice.source], kind="stable").tolist()
    for arc in order:
        source, target = lattice.source[arc], lattice.target[arc]
        alpha[target] = np.logaddexp(alpha[target], alpha[source] + scores[arc])
    for arc in reversed(order):
        source, target = lattice.source[arc], lattice.target[arc]
        beta[source] = np.logaddexp(beta[source], beta[target] + scores[arc])
    return alpha, beta


def expected_accuracy(lattice: PreparedLattice, scores: FloatArray, accuracy: FloatArray) -> tuple[float, FloatArray]:
    """Expected accuracy and the MPE-style posterior of each arc, as LatticeForwardBackwardMpeVariants has them."""
    alpha, beta = forward_backward(lattice, scores)
    before, behind = np.zeros((2, lattice.num_states))
    order = np.argsort(lattice.level[lattice.source], kind="stable").tolist()
    for arc in order:
        source, target = lattice.source[arc], lattice.target[arc]
        before[target] += np.exp(alpha[source] + scores[arc] - alpha[target]) * (before[source] + accuracy[arc])
    for arc in reversed(order):
        source, target = lattice.source[arc], lattice.target[arc]
        behind[source] += np.exp(beta[target] + scores[arc] - beta[source]) * (behind[target] + accuracy[arc])
    posteriors = np.exp(alpha[lattice.source] + scores + beta[lattice.target] - alpha[-1])
    surplus = before[lattice.source] + accuracy + behind[lattice.target] - before[-1]
    return float(before[-1]), posteriors * surplus
