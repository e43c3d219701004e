"""What every way of running forward-backward over an HMM has in common: scaled emissions, and what a run leaves.

Probabilities, not logs, are kept, each frame scaled to sum to one (Povey et al. 2016, section 2.4). The scale of a
frame's emissions is their maximum, so that nothing overflows; a "leaky" HMM, which may jump to any state by its initial
probability after each frame, keeps every state within reach, so that nothing dies out either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from acoustic.sequence.hmm import Hmm

# Emissions further below the frame's best than this [nats] count as this, so that a state which fits badly for a while
# is not lost for good; that for float32 is Kaldi's.
LEAST_LOG_EMISSION = {torch.float32: -30.0, torch.float64: -300.0}
# Bound of the backward probabilities, which only states that are as good as impossible reach. What goes backward over a
# transition is bounded, before sums are taken: an infinity times a weight of zero would be no number.
MAX_BACKWARD = {torch.float32: 1e30, torch.float64: 1e300}


@dataclass(frozen=True)
class HmmOnDevice:
    """An HMM with what recursions over it are told.

    Attributes:
        hmm: the model; shared by all utterances.
        num_pdfs: pdf_ids that emissions are given for.
        leaky_coefficient: probability of a jump after each frame.
        device: where to compute.
        dtype: float32, or float64 for tests.
    """

    hmm: Hmm
    num_pdfs: int
    leaky_coefficient: float
    device: torch.device
    dtype: torch.dtype

    def initial(self) -> Tensor:
        """[num_states], probabilities before the first frame's transition."""
        return torch.from_numpy(self.hmm.initial).to(self.device, self.dtype)

    def final(self) -> Tensor:
        """[num_states], weights of ending in each state."""
        return torch.from_numpy(self.hmm.final).to(self.device, self.dtype)


class Recursion(ABC):
    """One run over a batch, or over accuracies too.

    With accuracies it is a recursion over the expectation semiring (Li & Eisner, EMNLP 2009): beside each state's
    probability stands its probability times the accuracy expected of the paths to it. Both move by the same matrix, and
    emitting at an accuracy adds that many times the first to the second. What the paths of a frame have in common is
    taken out of the second and kept apart, in either direction: accuracies of a thousand frames would leave float32 too
    few digits for what paths differ by, which is the gradient.

    Args:
        log_emissions: [T, B, num_pdfs]; minus infinity forbids a pdf_id.
        lengths: int64 [B], frames of each utterance, in falling order; the first is T.
        accuracies: [T, B, num_pdfs], what a path gains by emitting a pdf_id at a frame.

    Attributes:
        emissions: [T, B, num_pdfs], over the frame's greatest.
        scales: after `forward`, [B, any], whose product is what the utterance's probabilities were divided by.
        means: after `forward` over accuracies, [B, any], whose sum is what was taken out of these.
        totals: after `forward`, [B, 1 or 2], the summed weights of paths over the scales, and these times accuracies.
    """

    scales: Tensor
    means: Tensor
    totals: Tensor

    def __init__(self, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor | None) -> None:
        peaks = log_emissions.amax(2, keepdim=True)
        peaks = torch.where(peaks.isfinite(), peaks, 0.0)
        emissions = (log_emissions - peaks).clamp(min=LEAST_LOG_EMISSION[log_emissions.dtype]).exp()
        self.emissions = emissions.masked_fill_(log_emissions == -torch.inf, 0.0)
        self.accuracies, self.lengths = accuracies, lengths
        self.is_inside = torch.arange(len(emissions), device=lengths.device).unsqueeze(1) < lengths  # [T, B]
        self._log_peaks = (peaks.squeeze(2).double() * self.is_inside).sum(0)

    @abstractmethod
    def forward(self) -> None:
        """Go forward: fill `scales`, `means` and `totals`."""

    @abstractmethod
    def backward(self) -> tuple[Tensor, Tensor]:
        """Go backward, once, after `forward`.

        Returns:
            posteriors of the pdf_ids, and these times what accuracy is expected of paths through them, but for an
            amount that all paths of the frame share; both [T, B, num_pdfs]. Without accuracies the second is the first.
        """

    @property
    def safe_total(self) -> Tensor:
        """[B], the summed weights of paths, to divide by: one where there is no path."""
        return one_where_not_positive(self.totals[:, 0])

    def log_likelihood(self) -> Tensor:
        """The log likelihoods of the utterances, float64 [B], after `forward`."""
        return self.scales.double().log().sum(1) + self._log_peaks + self.totals[:, 0].double().log()

    def expected_accuracy(self) -> Tensor:
        """What accuracy is expected of a path, float64 [B], after `forward`."""
        return self.means.double().sum(1) + (self.totals[:, 1] / self.safe_total).double()


def one_where_not_positive(values: Tensor) -> Tensor:
    """Values to divide by."""
    return torch.where(values > 0, values, 1.0)
