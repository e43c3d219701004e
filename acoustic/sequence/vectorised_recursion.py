"""Forward-backward in PyTorch's own operations: a frame is a sparse matrix product over all utterances together.

About ten operations a frame, each over [num_states, utterances]: on a CPU these are the work itself, on a GPU their
launches cost more than they do, unless the graph is large.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acoustic.sequence.hmm import transpose
from acoustic.sequence.recursion import MAX_BACKWARD, HmmOnDevice, Recursion, one_where_not_positive


class VectorisedGraph:
    """An HMM as the matrices that a frame needs."""

    def __init__(self, model: HmmOnDevice) -> None:
        self.leaky_coefficient = model.leaky_coefficient
        self.backward_matrix = model.hmm.transition_matrix(model.dtype, model.device)
        self.forward_matrix = transpose(self.backward_matrix)
        self.pdf_sums = model.hmm.emission_matrix(model.num_pdfs, model.dtype, model.device)
        self.pdf_of = torch.from_numpy(model.hmm.pdf_of).to(model.device)
        self.initial, self.final = model.initial().unsqueeze(1), model.final().unsqueeze(1)

    def recursion(self, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor | None = None) -> Recursion:
        """A run; arguments as for Recursion."""
        return VectorisedRecursion(self, log_emissions, lengths, accuracies)


class VectorisedRecursion(Recursion):
    """One run. Arrays of states are [num_states, K, B]: probabilities and, if K is 2, those times accuracies."""

    def __init__(
        self, graph: VectorisedGraph, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor | None
    ) -> None:
        super().__init__(log_emissions, lengths, accuracies)
        self._graph = graph
        self._emissions = self.emissions.transpose(1, 2).contiguous()  # [T, num_pdfs, B]
        self._accuracies = None if accuracies is None else accuracies.transpose(1, 2).contiguous()
        self._num_active = self.is_inside.sum(1).tolist()
        num_rows, (num_frames, num_utts) = (1 if accuracies is None else 2), log_emissions.shape[:2]
        self._alphas = log_emissions.new_zeros((num_frames + 1, len(graph.pdf_of), num_rows, num_utts))
        self.scales = log_emissions.new_ones((num_utts, num_frames))
        self.means = torch.zeros_like(self.scales)

    def _emitted(self, frame: int, num_active: int) -> tuple[Tensor, Tensor | None]:
        """Emissions and accuracies of each state at a frame, [num_states, num_active]."""
        pdf_of = self._graph.pdf_of
        emissions = self._emissions[frame, :, :num_active].index_select(0, pdf_of)
        if self._accuracies is None:
            return emissions, None
        return emissions, self._accuracies[frame, :, :num_active].index_select(0, pdf_of)

    def forward(self) -> None:
        """Fill `scales` and `means`, and sum up where utterances end."""
        graph = self._graph
        self._alphas[0, :, 0] = graph.initial
        for frame, num_active in enumerate(self._num_active):
            alpha = self._alphas[frame, :, :, :num_active].flatten(1)
            leak = graph.leaky_coefficient * graph.initial * alpha.sum(0)
            alpha = (graph.forward_matrix @ (alpha + leak)).unflatten(1, (-1, num_active))
            emissions, accuracies = self._emitted(frame, num_active)
            alpha *= emissions.unsqueeze(1)
            scale = alpha[:, 0].sum(0)
            self.scales[:num_active, frame] = scale
            alpha /= one_where_not_positive(scale)
            if accuracies is not None:
                alpha[:, 1].addcmul_(accuracies, alpha[:, 0])
                mean = alpha[:, 1].sum(0)
                self.means[:num_active, frame] = mean
                alpha[:, 1].addcmul_(mean, alpha[:, 0], value=-1)
            self._alphas[frame + 1, :, :, :num_active] = alpha
        ends = self._alphas[self.lengths, :, :, torch.arange(len(self.lengths), device=self.lengths.device)]
        self.totals = (ends * graph.final.unsqueeze(0)).sum(1)  # [B, S, K] to [B, K]

    def backward(self) -> tuple[Tensor, Tensor]:
        """Posteriors of the pdf_ids, and these times accuracies expected."""
        graph, bound = self._graph, MAX_BACKWARD[self.emissions.dtype]
        posteriors = torch.zeros_like(self._emissions)
        gained = torch.zeros_like(self._emissions) if self._accuracies is not None else posteriors
        beta = torch.zeros_like(self._alphas[0])
        beta[:, 0] = graph.final / self.safe_total
        for frame in range(len(self._emissions) - 1, -1, -1):
            num_active = self._num_active[frame]
            alpha, active = self._alphas[frame + 1, :, :, :num_active], beta[:, :, :num_active]
            occupied = alpha[:, 0] * active[:, 0]
            normaliser = one_where_not_positive(occupied.sum(0))  # one but for rounding
            posteriors[frame, :, :num_active] = (graph.pdf_sums @ occupied) / normaliser
            emissions, accuracies = self._emitted(frame, num_active)
            if accuracies is not None:
                mean = (alpha[:, 0] * active[:, 1]).sum(0) / normaliser
                active[:, 1].addcmul_(mean, active[:, 0], value=-1)
                expected = alpha[:, 1] * active[:, 0] + alpha[:, 0] * active[:, 1]
                gained[frame, :, :num_active] = (graph.pdf_sums @ expected) / normaliser
                active[:, 1].addcmul_(accuracies, active[:, 0])
            scale = one_where_not_positive(self.scales[:num_active, frame])
            ahead = ((emissions / scale).unsqueeze(1) * active).clamp_(-bound, bound)
            moved = graph.backward_matrix @ ahead.flatten(1)
            moved += graph.leaky_coefficient * (graph.initial * moved).sum(0)
            beta[:, :, :num_active] = moved.unflatten(1, (-1, num_active))
        return posteriors.transpose(1, 2), gained.transpose(1, 2)
