"""MMI, boosted MMI, MPE and sMBR over denominator lattices, as Kaldi's nnet1 has them.

The formulas are those of nnet-train-mmi-sequential, nnet-train-mpe-sequential and lattice-functions.cc (LatticeBoost,
LatticeForwardBackwardMpeVariants); Vesely, Ghoshal, Burget and Povey 2013 describe them. Kaldi's MPE counts frames of
the right phone (MPFE).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acoustic.kaldi.transitions import TransitionModel
from acoustic.sequence.criteria import Objective, UnusableError
from acoustic.sequence.lattice_batch import LatticeBatch, Scales
from acoustic.sequence.prepared import PreparedLattice

CRITERIA = ("mmi", "bmmi", "mpe", "smbr")
MIN_POSTERIOR = 1e-20  # below it a frame of the alignment counts as absent from the lattice

IntArray = NDArray[np.int32]


@dataclass(kw_only=True)
class LatticeCriterionConfig:
    """A criterion over lattices and its options, with the names of Kaldi's programs."""

    name: str = "smbr"  # mmi, bmmi, mpe, smbr
    acoustic_scale: float = 0.1  # of the loglikes; what decoding works best with
    lm_scale: float = 1.0
    old_acoustic_scale: float = 0.0  # share of the lattices' own acoustic costs that is added to the new ones
    boost: float = 0.1  # bmmi: added to the score of every wrong frame (Povey et al. 2008 call it b)
    max_silence_error: float = 0.0  # bmmi: how wrong a frame of silence is where it should not be
    silence_phones: list[int] = field(default_factory=list)
    one_silence_class: bool = True  # mpe, smbr: any silence phone is right where another is; else silence never is
    drop_frames: bool = True  # mmi, bmmi: no gradient where the alignment's pdf has no path in the lattice

    def __post_init__(self) -> None:
        if self.name not in CRITERIA:
            raise ValueError(f"criterion.name={self.name!r}: choose one of {', '.join(CRITERIA)}")
        if not self.acoustic_scale > 0 or not self.lm_scale >= 0 or not self.old_acoustic_scale >= 0:
            raise ValueError("criterion.acoustic_scale must be positive, lm_scale and old_acoustic_scale not negative")
        if not 0 <= self.max_silence_error <= 1 or not self.boost >= 0:
            raise ValueError("criterion.max_silence_error must lie in [0, 1] and criterion.boost not be negative")


@dataclass(frozen=True)
class Supervision:
    """What is known of an utterance.

    Attributes:
        lattice: what could be said; for boosted MMI with lower costs on wrong arcs.
        pdfs: int64 [num_frames], the pdf_id of each frame of the alignment: what was said.
        accuracy: float64 [num_arcs], how right each arc is, 0 or 1 (MPE and sMBR).
    """

    lattice: PreparedLattice
    pdfs: NDArray[np.int64]
    accuracy: NDArray[np.float64]


class LatticeCriterion:
    """MMI, boosted MMI, MPE or sMBR.

    Args:
        config: which, and its options.
        model: of alignments and lattices.
        alignments: transition_ids of each utterance (the numerator).
        lattices: lattice of each utterance (the denominator), or why there is none.
        dtype: to compute in.
    """

    frame_subsampling = 1

    def __init__(
        self,
        config: LatticeCriterionConfig,
        model: TransitionModel,
        alignments: Mapping[str, IntArray],
        lattices: Mapping[str, PreparedLattice | UnusableError],
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.config, self.model, self.alignments, self.lattices, self.dtype = (
            config, model, alignments, lattices, dtype,
        )  # fmt: skip
        self.scales = Scales(config.acoustic_scale, config.lm_scale, config.old_acoustic_scale)
        self.is_silence = np.isin(model.phone_of, config.silence_phones)
        self.loss_scale = 1.0 / config.acoustic_scale
        self.counts_accuracy = config.name in ("mpe", "smbr")
        self.offset = -1.0 if self.counts_accuracy else 0.0

    def prepare(self, utt: str, num_frames: int) -> Supervision:
        """The lattice and the alignment of an utterance.

        Raises:
            UnusableError: one is missing, or they are not as long as the features, or of another model.
        """
        lattice, alignment = self.lattices.get(utt), self.alignments.get(utt)
        if lattice is None:
            raise UnusableError("no lattice")
        if isinstance(lattice, UnusableError):
            raise lattice
        if alignment is None:
            raise UnusableError("no alignment")
        lengths = {"features": num_frames, "alignment": len(alignment), "lattice": lattice.num_frames}
        if len(set(lengths.values())) > 1:
            raise UnusableError("lengths differ", ", ".join(f"{name} {length}" for name, length in lengths.items()))
        if max(lattice.transition_id.max(), alignment.max()) > self.model.num_transition_ids:
            raise UnusableError("of another model")
        if self.config.name == "bmmi":
            lattice = boosted(lattice, self.phone_errors(lattice, alignment), self.config.boost)
        pdfs = self.model.pdf_of[alignment].astype(np.int64)
        return Supervision(lattice, pdfs, self.accuracies(lattice, alignment))

    def accuracies(self, lattice: PreparedLattice, alignment: IntArray) -> NDArray[np.float64]:
        """How right each arc is: 1 where it has the phone (MPE) or pdf (sMBR) of the alignment, else 0.

        Silence is never right, or with `one_silence_class` any silence is right where there is silence.
        """
        reference = alignment[np.minimum(lattice.frame, len(alignment) - 1)]
        class_of = self.model.pdf_of if self.config.name == "smbr" else self.model.phone_of
        right = class_of[lattice.transition_id] == class_of[reference]
        silence = self.is_silence[lattice.transition_id]
        if self.config.one_silence_class:
            right |= silence & self.is_silence[reference]
        else:
            right &= ~silence
        return (right & (lattice.transition_id > 0)).astype(np.float64)

    def phone_errors(self, lattice: PreparedLattice, alignment: IntArray) -> NDArray[np.float64]:
        """How wrong each arc is: 1 where it has another phone than the alignment, less for silence."""
        reference = alignment[np.minimum(lattice.frame, len(alignment) - 1)]
        wrong = self.model.phone_of[lattice.transition_id] != self.model.phone_of[reference]
        amount = np.where(self.is_silence[lattice.transition_id], self.config.max_silence_error, 1.0)
        return np.where(wrong & (lattice.transition_id > 0), amount, 0.0)

    def __call__(self, loglikes: Tensor, supervisions: Sequence[Any]) -> Objective:
        """The objective of some utterances; see Criterion."""
        batch = LatticeBatch(
            [supervision.lattice for supervision in supervisions], self.model.pdf_of, self.scales,
            loglikes.device, self.dtype,
        )  # fmt: skip
        pdfs = torch.as_tensor(np.concatenate([supervision.pdfs for supervision in supervisions])).to(loglikes.device)
        if self.counts_accuracy:
            accuracy = torch.as_tensor(np.concatenate([supervision.accuracy for supervision in supervisions]))
            value, gradient = expected_accuracy(batch, loglikes.detach(), accuracy.to(loglikes.device))
            dropped = 0.0
        else:
            value, gradient, dropped = mmi(batch, loglikes.detach(), pdfs, self.config.drop_frames)
        value = with_gradient(loglikes, value, gradient)
        return Objective(value, len(pdfs), {"dropped_frames": dropped if self.config.drop_frames else 0.0})


def boosted(lattice: PreparedLattice, errors: NDArray[np.float64], boost: float) -> PreparedLattice:
    """A lattice in which an arc costs less, the more wrong it is (LatticeBoost)."""
    return replace(lattice, graph_cost=(lattice.graph_cost - boost * errors).astype(np.float32))


def mmi(batch: LatticeBatch, loglikes: Tensor, pdfs: Tensor, drop_frames: bool) -> tuple[Tensor, Tensor, float]:
    """Log probability of the alignments relative to the lattices, summed over utterances.

    As in Kaldi the alignment's score is its acoustic one alone, while the lattice's has graph scores: the value is off
    by a constant of the utterance.

    Args:
        batch: the lattices.
        loglikes: [num_frames, num_pdfs].
        pdfs: int64 [num_frames], pdf_ids of the alignments.
        drop_frames: whether frames at which no path of the lattice has the alignment's pdf get no gradient. The value
            has them.

    Returns:
        value (scalar); its derivative by `loglikes`; how many frames were, or would be, dropped.
    """
    scores = batch.scores(loglikes)
    alpha = batch.forward(scores)
    posteriors = batch.posteriors(scores, alpha, batch.backward_pass(scores))
    of_pdfs = batch.by_pdf(posteriors, loglikes.shape[1])
    said = torch.zeros_like(of_pdfs).scatter_(1, pdfs.unsqueeze(1), 1.0)
    absent = (of_pdfs * said).sum(1) < MIN_POSTERIOR
    gradient = batch.scales.acoustic_scale * (said - of_pdfs)
    if drop_frames:
        gradient[absent] = 0.0
    path_scores = batch.scales.acoustic_scale * loglikes.to(batch.dtype).gather(1, pdfs.unsqueeze(1)).sum()
    return path_scores - batch.totals(alpha).sum(), gradient, float(absent.sum())


def expected_accuracy(batch: LatticeBatch, loglikes: Tensor, accuracy: Tensor) -> tuple[Tensor, Tensor]:
    """Expected number of right frames over the lattices' paths, summed over utterances (MPE, sMBR).

    Args:
        batch: the lattices.
        loglikes: [num_frames, num_pdfs].
        accuracy: [num_arcs], of the arcs of all lattices one behind the other.

    Returns:
        value (scalar) and its derivative by `loglikes`.
    """
    scores = batch.scores(loglikes)
    alpha, beta = batch.forward(scores), batch.backward_pass(scores)
    values = accuracy.to(batch.dtype)[batch.order]
    before, behind = batch.mean_forward(scores, alpha, values), batch.mean_backward(scores, beta, values)
    means = before[batch.last]
    surplus = before[batch.source] + values + behind[batch.target] - means[batch.utterance]
    arc_gradient = batch.posteriors(scores, alpha, beta) * surplus
    return means.sum(), batch.scales.acoustic_scale * batch.by_pdf(arc_gradient, loglikes.shape[1])


class _WithGradient(torch.autograd.Function):
    """A value whose derivative is known."""

    @staticmethod
    def forward(context: Any, argument: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """`value`."""
        context.save_for_backward(gradient.to(argument.dtype))
        return value.clone()

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        """The chain rule."""
        (gradient,) = context.saved_tensors
        return outer[0].to(gradient.dtype) * gradient, None, None


def with_gradient(argument: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """`value` (scalar) as a function of `argument`, of which `gradient` is the derivative."""
    result: Tensor = _WithGradient.apply(argument, value, gradient)
    return result
