"""Merging leaves of a decision tree that sound alike (Kaldi: ClusterEventMapRestrictedByMap, ClusterBottomUp)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acoustic.states.tree_stats import Moments

Rows = NDArray[np.intp]


def merge_leaves(moments: Moments, root_of: Rows, leaf_of: Rows, threshold: float) -> dict[int, int]:
    """Merge the two leaves of one root that lose least likelihood, until all lose more than `threshold`.

    Args:
        moments: of the events.
        root_of: the root of each event, int [num_events].
        leaf_of: its leaf, int [num_events].
        threshold: in log likelihood; 0: merge none.

    Returns:
        The new leaf of each leaf that has events. Merged leaves get the numbers of their root's first ones, as Kaldi
        numbers them.
    """
    new_leaf: dict[int, int] = {}
    for root in np.unique(root_of):
        leaves = np.unique(leaf_of[root_of == root])
        rows = np.isin(leaf_of, leaves)
        by_leaf = moments[rows].by(np.searchsorted(leaves, leaf_of[rows]), len(leaves))
        clusters = _clusters(by_leaf, threshold) if threshold > 0.0 else np.arange(len(leaves))
        new_leaf |= {int(leaf): int(leaves[cluster]) for leaf, cluster in zip(leaves, clusters, strict=True)}
    return new_leaf


def _clusters(points: Moments, threshold: float) -> Rows:
    """The cluster of each point, numbered from 0 by the last point of each: int [num_points]."""
    cluster_of = np.arange(len(points.counts))
    counts, sums, squares = points.counts.copy(), points.sums.copy(), points.squares.copy()
    alive = np.ones(len(counts), dtype=bool)
    likelihood = points.log_likelihood()

    def losses(cluster: int) -> NDArray[np.float64]:
        """What merging with each other cluster would lose; infinite for itself and those merged already."""
        both = Moments(counts + counts[cluster], sums + sums[cluster], squares + squares[cluster])
        loss = likelihood + likelihood[cluster] - both.log_likelihood()
        return np.where(alive & (np.arange(len(counts)) != cluster), loss, np.inf)

    loss = np.array([losses(cluster) for cluster in range(len(counts))])
    while np.count_nonzero(alive) > 1:
        one, other = sorted(divmod(int(np.argmin(loss)), len(counts)))
        if loss[one, other] > threshold:
            break
        counts[other] += counts[one]
        sums[other] += sums[one]
        squares[other] += squares[one]
        alive[one] = False
        cluster_of[cluster_of == one] = other
        likelihood[other] = Moments(counts[other], sums[other], squares[other]).log_likelihood()
        loss[one, :] = loss[:, one] = np.inf
        loss[other, :] = loss[:, other] = losses(other)
    return np.searchsorted(np.flatnonzero(alive), cluster_of)
