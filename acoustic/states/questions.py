"""Questions on phones: sets of phones that sound alike, found by clustering (Kaldi: AutomaticallyObtainQuestions)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.event_map import PDF_CLASS
from acoustic.kaldi.tree import read_phone_sets
from acoustic.states.tree_stats import Moments, TreeStats

NUM_TRIES = 10  # random starts of each division in two, as many as Kaldi's
MAX_SWEEPS = 100  # over all points; far more than needed

PhoneSet = tuple[int, ...]


def automatic_questions(
    stats: TreeStats, phone_sets: Sequence[Sequence[int]], pdf_classes: Collection[int] = (1,)
) -> list[PhoneSet]:
    """All clusters of a top-down clustering of phones, down to single sets (cluster-phones).

    Args:
        stats: of a tree.
        phone_sets: what is clustered, disjoint (phones/sets.int): phones of one set are never parted.
        pdf_classes: their frames are looked at: by default those of the middle state of three.

    Returns:
        Sorted sets of phones, the largest clusters first, then every set of `phone_sets` not among them. Sets that
        were not seen are in no other question.
    """
    chosen = stats.only(np.isin(stats.values(PDF_CLASS), list(pdf_classes)))
    set_of = {phone: number for number, phones in enumerate(phone_sets) for phone in phones}
    numbers = np.array([set_of.get(phone, -1) for phone in chosen.values(stats.central_position).tolist()], dtype=int)
    by_set = chosen.moments[numbers >= 0].by(numbers[numbers >= 0], len(phone_sets))
    random = np.random.default_rng(0)
    clusters = _divisions(by_set, np.flatnonzero(by_set.counts), random)
    questions = [tuple(sorted(p for number in cluster for p in phone_sets[number])) for cluster in clusters]
    return list(dict.fromkeys([*questions, *(tuple(sorted(phones)) for phones in phone_sets)]))


def read_questions(path: str | Path) -> list[PhoneSet]:
    """Read questions as `phones/extra_questions.int` has them: phone ids, one set on each line.

    Raises:
        DataError: the file is missing, or a line holds something other than positive phone ids.
    """
    return [tuple(sorted(phones)) for phones in read_phone_sets(path)]


def check_questions(questions: Collection[PhoneSet], phones: Collection[int]) -> None:
    """Make sure that questions ask about phones of the topology only.

    Raises:
        DataError: they do not.
    """
    unknown = {phone for question in questions for phone in question} - set(phones)
    if unknown:
        raise DataError(
            f"a question asks about phone {min(unknown)}, which the topology does not cover",
            remedy="use questions and topo of one lang directory",
        )


def _divisions(points: Moments, members: NDArray[np.intp], random: np.random.Generator) -> list[list[int]]:
    """The cluster of all members and those that come of dividing it in two again and again, largest first."""
    found, pending = [], [members]
    while pending:
        cluster = pending.pop()
        if not len(cluster):
            continue
        found.append(cluster.tolist())
        if len(cluster) > 1:
            in_second = _divide(points[cluster], random)
            pending += [cluster[in_second], cluster[~in_second]]
    return sorted(found, key=lambda cluster: (-len(cluster), cluster))


def _divide(points: Moments, random: np.random.Generator) -> NDArray[np.bool_]:
    """Divide two or more points in two so that likelihood gains most; bool [num_points], not all alike.

    Points move to the other part as long as likelihood grows, from several random starts (ClusterKMeans).
    """
    num_points = len(points.counts)
    best, best_likelihood = None, -np.inf
    for _ in range(NUM_TRIES):
        in_second = random.permutation(np.arange(num_points) % 2 == 1)
        likelihood = _move_points(points, in_second)
        if likelihood > best_likelihood:
            best, best_likelihood = in_second, likelihood
    if best is None:
        raise DataError("features of the tree statistics are not finite")
    return best


def _move_points(points: Moments, in_second: NDArray[np.bool_]) -> float:
    """Move points, one at a time, until no move helps; changes `in_second` and gives the log likelihood.

    The last point of a part stays, so that no part is ever empty.
    """
    current = _likelihood(points, in_second)
    for _ in range(MAX_SWEEPS):
        moved = False
        for point in range(len(in_second)):
            if np.count_nonzero(in_second == in_second[point]) == 1:
                continue
            in_second[point] = ~in_second[point]
            changed = _likelihood(points, in_second)
            if changed > current:
                current, moved = changed, True
            else:
                in_second[point] = ~in_second[point]
        if not moved:
            break
    return current


def _likelihood(points: Moments, in_second: NDArray[np.bool_]) -> float:
    return float(points.by(in_second.astype(np.intp), 2).log_likelihood().sum())
