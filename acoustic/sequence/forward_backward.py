"""Forward-backward over one HMM for a batch of utterances: log likelihoods, posteriors, expected accuracies.

Probabilities, not logs, are kept, each frame scaled to sum to one (Povey et al. 2016, section 2.4): a frame costs a
sparse matrix product over all utterances together. The scale of a frame's emissions is their maximum, so that nothing
overflows; a "leaky" HMM, which may jump to any state by its initial probability after each frame, keeps every state
within reach, so that nothing dies out either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acoustic.sequence.hmm import Hmm, transpose

# Emissions further below the frame's best than this [nats] count as this, so that a state which fits badly for a while
# is not lost for good; that for float32 is Kaldi's.
LEAST_LOG_EMISSION = {torch.float32: -30.0, torch.float64: -300.0}
# Bound of the backward probabilities, which only states that are as good as impossible reach.
MAX_BACKWARD = {torch.float32: 1e30, torch.float64: 1e300}


@dataclass(frozen=True)
class Posteriors:
    """What forward-backward finds.

    Attributes:
        log_likelihood: float64 [B], log of the summed weights of all paths; minus infinity where there is none.
        pdf_posteriors: [T, B, num_pdfs], the probability of each pdf_id at each frame, which is the derivative of the
            log likelihood by the log emissions; zero beyond an utterance's end.
    """

    log_likelihood: Tensor
    pdf_posteriors: Tensor


@dataclass(frozen=True)
class ExpectedAccuracy:
    """What forward-backward finds where paths are weighed by how accurate they are.

    Attributes:
        value: float64 [B], the expected accuracy of a path.
        gradient: [T, B, num_pdfs], its derivative by the log emissions.
    """

    value: Tensor
    gradient: Tensor


class ForwardBackward:
    """An HMM on a device, ready for recursions.

    Args:
        hmm: the model; shared by all utterances.
        num_pdfs: pdf_ids that emissions are given for.
        leaky_coefficient: probability of a jump after each frame; 1e-5 is Kaldi's.
        device: where to compute.
        dtype: float32, or float64 for tests.
    """

    def __init__(
        self,
        hmm: Hmm,
        num_pdfs: int,
        leaky_coefficient: float = 1e-5,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.num_pdfs, self.leaky_coefficient = num_pdfs, leaky_coefficient
        self._backward_matrix = hmm.transition_matrix(dtype, device)
        self._forward_matrix = transpose(self._backward_matrix)
        self._pdf_sums = hmm.emission_matrix(num_pdfs, dtype, device)
        self._pdf_of = torch.from_numpy(hmm.pdf_of).to(device)
        self._initial = torch.from_numpy(hmm.initial).to(device, dtype).unsqueeze(1)
        self._final = torch.from_numpy(hmm.final).to(device, dtype).unsqueeze(1)

    def __call__(self, log_emissions: Tensor, lengths: Tensor) -> Posteriors:
        """Run forward and backward.

        Args:
            log_emissions: [T, B, num_pdfs], of the HMM's dtype; minus infinity forbids a pdf_id.
            lengths: int64 [B], frames of each utterance, in falling order; the first is T.
        """
        recursion = _Recursion(self, log_emissions, lengths)
        recursion.forward()
        return Posteriors(recursion.log_likelihood(), recursion.backward()[0])

    def log_likelihood(self, log_emissions: Tensor, lengths: Tensor) -> Tensor:
        """The log likelihoods alone, float64 [B], of forward recursions; arguments as for `__call__`."""
        recursion = _Recursion(self, log_emissions, lengths)
        recursion.forward()
        return recursion.log_likelihood()

    def expected_accuracy(self, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor) -> ExpectedAccuracy:
        """Run forward and backward over accuracies.

        Args:
            log_emissions, lengths: as for `__call__`.
            accuracies: [T, B, num_pdfs], what a path gains by emitting a pdf_id at a frame.
        """
        recursion = _Recursion(self, log_emissions, lengths, accuracies)
        recursion.forward()
        posteriors, gained = recursion.backward()
        expected = recursion.totals[:, 1] / recursion.safe_total
        return ExpectedAccuracy(expected.double(), gained - expected.unsqueeze(1) * posteriors)


class _Recursion:
    """One run. Arrays of states are [num_states, K, B]: probabilities and, if K is 2, probabilities times accuracies.

    The second row makes it a recursion over the expectation semiring (Li & Eisner, EMNLP 2009): both rows move by the
    same matrix, and emitting at an accuracy adds that many times the first row to the second.
    """

    def __init__(
        self, graph: ForwardBackward, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor | None = None
    ) -> None:
        self.graph = graph
        peaks = log_emissions.amax(2, keepdim=True)
        peaks = torch.where(peaks.isfinite(), peaks, 0.0)
        emissions = (log_emissions - peaks).clamp(min=LEAST_LOG_EMISSION[log_emissions.dtype]).exp()
        emissions.masked_fill_(log_emissions == -torch.inf, 0.0)
        self.emissions = emissions.transpose(1, 2).contiguous()  # [T, num_pdfs, B]
        self.accuracies = None if accuracies is None else accuracies.transpose(1, 2).contiguous()
        self.lengths = lengths
        num_frames, num_utts = log_emissions.shape[:2]
        self.is_inside = torch.arange(num_frames, device=lengths.device).unsqueeze(1) < lengths  # [T, B]
        self.num_active = self.is_inside.sum(1).tolist()
        self.peaks = peaks.squeeze(2)
        num_rows = 1 if accuracies is None else 2
        shape = (num_frames + 1, len(graph._pdf_of), num_rows, num_utts)
        self.alphas = torch.zeros(shape, dtype=log_emissions.dtype, device=log_emissions.device)
        self.scales = torch.ones((num_frames, num_utts), dtype=log_emissions.dtype, device=log_emissions.device)

    def log_likelihood(self) -> Tensor:
        """The log likelihoods of the utterances, after `forward`."""
        logs = (self.scales.double().log() + self.peaks.double()) * self.is_inside
        return logs.sum(0) + self.totals[:, 0].double().log()

    def _emitted(self, frame: int, num_active: int) -> tuple[Tensor, Tensor | None]:
        """Emissions and accuracies of each state at a frame, [num_states, num_active]."""
        pdf_of = self.graph._pdf_of
        emissions = self.emissions[frame, :, :num_active].index_select(0, pdf_of)
        if self.accuracies is None:
            return emissions, None
        return emissions, self.accuracies[frame, :, :num_active].index_select(0, pdf_of)

    def forward(self) -> None:
        """Fill `alphas` and `scales`, and sum up where utterances end."""
        graph = self.graph
        self.alphas[0, :, 0] = graph._initial
        for frame, num_active in enumerate(self.num_active):
            alpha = self.alphas[frame, :, :, :num_active].flatten(1)
            leak = graph.leaky_coefficient * graph._initial * alpha.sum(0)
            alpha = (graph._forward_matrix @ (alpha + leak)).unflatten(1, (-1, num_active))
            emissions, accuracies = self._emitted(frame, num_active)
            alpha *= emissions.unsqueeze(1)
            if accuracies is not None:
                alpha[:, 1].addcmul_(accuracies, alpha[:, 0])
            scale = alpha[:, 0].sum(0)
            self.scales[frame, :num_active] = scale
            self.alphas[frame + 1, :, :, :num_active] = alpha / torch.where(scale > 0, scale, 1.0)
        ends = self.alphas[self.lengths, :, :, torch.arange(len(self.lengths), device=self.lengths.device)]  # [B, S, K]
        self.totals = (ends * graph._final.unsqueeze(0)).sum(1)  # [B, K]
        self.safe_total = torch.where(self.totals[:, 0] > 0, self.totals[:, 0], 1.0)

    def backward(self) -> tuple[Tensor, Tensor]:
        """Posteriors of the pdf_ids, and these times what accuracy is expected of paths through them.

        Both [T, B, num_pdfs]; without accuracies the second is the first.
        """
        graph, bound = self.graph, MAX_BACKWARD[self.emissions.dtype]
        posteriors = torch.zeros_like(self.emissions)
        gained = torch.zeros_like(self.emissions) if self.accuracies is not None else posteriors
        beta = torch.zeros_like(self.alphas[0])
        beta[:, 0] = graph._final / self.safe_total
        for frame in range(len(self.emissions) - 1, -1, -1):
            num_active = self.num_active[frame]
            alpha, active = self.alphas[frame + 1, :, :, :num_active], beta[:, :, :num_active]
            occupied = alpha[:, 0] * active[:, 0]
            sums = occupied.sum(0)
            normaliser = torch.where(sums > 0, sums, 1.0)  # one but for rounding
            posteriors[frame, :, :num_active] = (graph._pdf_sums @ occupied) / normaliser
            emissions, accuracies = self._emitted(frame, num_active)
            if accuracies is not None:
                expected = alpha[:, 1] * active[:, 0] + alpha[:, 0] * active[:, 1]
                gained[frame, :, :num_active] = (graph._pdf_sums @ expected) / normaliser
                active[:, 1].addcmul_(accuracies, active[:, 0])
            scale = self.scales[frame, :num_active]
            ahead = (emissions / torch.where(scale > 0, scale, 1.0)).unsqueeze(1) * active
            moved = graph._backward_matrix @ ahead.flatten(1)
            moved += graph.leaky_coefficient * (graph._initial * moved).sum(0)
            beta[:, :, :num_active] = moved.unflatten(1, (-1, num_active)).clamp_(max=bound)
        return posteriors.transpose(1, 2), gained.transpose(1, 2)
