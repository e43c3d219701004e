"""Forward-backward over several lattices at once, in log space, vectorised over the arcs of a level (torch).

States of all lattices are numbered by level, so that a pass takes one step for each level, however many lattices there
are: about as many steps as the longest of them has frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acoustic.sequence.prepared import PreparedLattice


@dataclass(frozen=True)
class Scales:
    """How the scores of an arc are weighed (options of nnet-train-mmi-sequential of the same names).

    Attributes:
        acoustic_scale: factor on the new loglikes, and on what is kept of the old acoustic costs.
        lm_scale: factor on the graph costs, which hold language model, pronunciations and transitions.
        old_acoustic_scale: share of the acoustic costs in the lattice that is kept; 0 where the loglikes replace them.
    """

    acoustic_scale: float = 0.1
    lm_scale: float = 1.0
    old_acoustic_scale: float = 0.0


class LatticeBatch:
    """Several lattices as one graph on a device, arcs sorted by the level of their targets.

    Args:
        lattices: at least one.
        pdf_of: int [num_transition_ids + 1], the pdf_id of each transition_id.
        scales: weights of the scores.
        device: where to compute.
        dtype: of the scores; float64 as Kaldi has, unless there is a reason.

    Attributes:
        order: int64 [num_arcs], where each arc stands when the arcs of all lattices follow one another.
        utterance: int64 [num_arcs], the lattice each arc belongs to.
        emitting: int64, the arcs that take a frame; `row` and `pdf` say which loglike each of these gets, where the
            frames of all lattices follow one another.
    """

    def __init__(
        self,
        lattices: Sequence[PreparedLattice],
        pdf_of: np.ndarray,
        scales: Scales,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.scales, self.dtype, self.num_utts = scales, dtype, len(lattices)
        first_state = np.cumsum([0, *(lattice.num_states for lattice in lattices)])
        first_row = np.cumsum([0, *(lattice.num_frames for lattice in lattices)])
        self.num_frames = int(first_row[-1])
        levels = np.concatenate([lattice.level for lattice in lattices])
        number = np.empty(len(levels), np.int64)
        number[np.argsort(levels, kind="stable")] = np.arange(len(levels))
        source, target, row = (
            np.concatenate([getattr(lattice, name) + first[i] for i, lattice in enumerate(lattices)])
            for name, first in (("source", first_state), ("target", first_state), ("frame", first_row))
        )
        costs = {
            name: np.concatenate([getattr(lattice, name) for lattice in lattices]).astype(np.float64)
            for name in ("graph_cost", "acoustic_cost")
        }
        transition_id = np.concatenate([lattice.transition_id for lattice in lattices])
        order = np.argsort(levels[target], kind="stable")
        backward = np.argsort(levels[source[order]], kind="stable")
        known = -scales.lm_scale * costs["graph_cost"]
        known -= scales.acoustic_scale * scales.old_acoustic_scale * costs["acoustic_cost"]
        emitting = np.flatnonzero(transition_id[order])

        def tensor(values: np.ndarray, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        self.order, self.backward = tensor(order), tensor(backward)
        self.source, self.target = tensor(number[source[order]]), tensor(number[target[order]])
        self.utterance = tensor(np.repeat(np.arange(self.num_utts), [lattice.num_arcs for lattice in lattices])[order])
        self.known_scores = tensor(known[order], dtype)
        self.emitting = tensor(emitting)
        self.row, self.pdf = tensor(row[order][emitting]), tensor(pdf_of[transition_id[order][emitting]])
        # A lattice's first state is its start, its last the one that all paths end in.
        self.start, self.last = tensor(number[first_state[:-1]]), tensor(number[first_state[1:] - 1])
        num_levels = int(levels.max()) + 1
        self._state_of_level = np.searchsorted(np.sort(levels), np.arange(num_levels + 1)).tolist()
        self._into_level = np.searchsorted(levels[target[order]], np.arange(num_levels + 1)).tolist()
        self._from_level = np.searchsorted(levels[source[order]][backward], np.arange(num_levels + 1)).tolist()
        self._target_source = self.source[self.backward], self.target[self.backward]

    def scores(self, loglikes: Tensor) -> Tensor:
        """Log weight of each arc, [num_arcs], given loglikes [num_frames, num_pdfs]."""
        acoustic = self.scales.acoustic_scale * loglikes[self.row, self.pdf].to(self.dtype)
        return self.known_scores.index_add(0, self.emitting, acoustic)

    def forward(self, scores: Tensor) -> Tensor:
        """Log sum of the weights of all paths from the start to each state, [num_states] (alpha)."""
        alpha = self._full(-torch.inf)
        alpha[self.start] = 0.0
        for level in range(1, len(self._into_level) - 1):
            arcs, states = self._slices(self._into_level, level)
            incoming = alpha[self.source[arcs]] + scores[arcs]
            alpha[states] = _segment_logsumexp(incoming, self.target[arcs] - states.start, states.stop - states.start)
        return alpha

    def backward_pass(self, scores: Tensor) -> Tensor:
        """Log sum of the weights of all paths from each state to the end, [num_states] (beta)."""
        beta = self._full(-torch.inf)
        beta[self.last] = 0.0
        ordered = scores[self.backward]
        source, target = self._target_source
        for level in range(len(self._from_level) - 2, -1, -1):
            arcs, states = self._slices(self._from_level, level)
            if arcs.start == arcs.stop:
                continue
            outgoing = beta[target[arcs]] + ordered[arcs]
            sums = _segment_logsumexp(outgoing, source[arcs] - states.start, states.stop - states.start)
            # Last states of shorter lattices have no arcs and keep their zero.
            beta[states] = torch.maximum(beta[states], sums)
        return beta

    def totals(self, alpha: Tensor) -> Tensor:
        """Log sum of the weights of all paths of each lattice, [num_utts]."""
        return alpha[self.last]

    def posteriors(self, scores: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """The probability that a path takes each arc, [num_arcs]."""
        return (alpha[self.source] + scores + beta[self.target] - self.totals(alpha)[self.utterance]).exp()

    def mean_forward(self, scores: Tensor, alpha: Tensor, values: Tensor) -> Tensor:
        """The expectation of the sum of `values` [num_arcs] over paths from the start to each state, [num_states]."""
        means = self._full(0.0)
        shares = (alpha[self.source] + scores - alpha[self.target]).exp()
        for level in range(1, len(self._into_level) - 1):
            arcs, _ = self._slices(self._into_level, level)
            means.index_add_(0, self.target[arcs], shares[arcs] * (means[self.source[arcs]] + values[arcs]))
        return means

    def mean_backward(self, scores: Tensor, beta: Tensor, values: Tensor) -> Tensor:
        """The expectation of the sum of `values` [num_arcs] over paths from each state to the end, [num_states]."""
        means = self._full(0.0)
        shares = (beta[self.target] + scores - beta[self.source]).exp()[self.backward]
        source, target = self._target_source
        ordered = values[self.backward]
        for level in range(len(self._from_level) - 2, -1, -1):
            arcs, _ = self._slices(self._from_level, level)
            means.index_add_(0, source[arcs], shares[arcs] * (means[target[arcs]] + ordered[arcs]))
        return means

    def by_pdf(self, arc_values: Tensor, num_pdfs: int) -> Tensor:
        """Sums of values [num_arcs] over the arcs with the same frame and pdf: [num_frames, num_pdfs]."""
        sums = torch.zeros(self.num_frames * num_pdfs, dtype=self.dtype, device=arc_values.device)
        return sums.index_add_(0, self.row * num_pdfs + self.pdf, arc_values[self.emitting]).view(-1, num_pdfs)

    def _full(self, value: float) -> Tensor:
        return torch.full((self._state_of_level[-1],), value, dtype=self.dtype, device=self.source.device)

    def _slices(self, first_arc: list[int], level: int) -> tuple[slice, slice]:
        """The arcs and the states of a level."""
        states = slice(self._state_of_level[level], self._state_of_level[level + 1])
        return slice(first_arc[level], first_arc[level + 1]), states


def _segment_logsumexp(scores: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """log sum exp of the scores of each segment, [num_segments]; -inf where there are none."""
    largest = torch.full((num_segments,), -torch.inf, dtype=scores.dtype, device=scores.device)
    largest = largest.scatter_reduce(0, segment, scores, "amax")
    shift = torch.where(largest.isfinite(), largest, 0.0)
    sums = torch.zeros_like(largest).index_add_(0, segment, (scores - shift[segment]).exp())
    return shift + sums.log()
