"""Lattice-free MMI and sMBR: criteria over a denominator graph that all utterances share.

MMI: Povey et al., "Purely sequence-trained neural networks for ASR based on lattice-free MMI", Interspeech 2016.
sMBR: Kanda, Fujita and Nagamatsu, "Lattice-free state-level minimum Bayes risk training of acoustic models",
Interspeech 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

from acoustic.sequence.criteria import Objective, UnusableError
from acoustic.sequence.forward_backward import RECURSIONS, ForwardBackward, Posteriors
from acoustic.sequence.hmm import Hmm, subsampled
from acoustic.sequence.numerator import GraphNumerators, log_sums
from acoustic.sequence.phone_ngram import PhoneNgramOptions
from acoustic.sequence.prepared import PreparedLattice

CRITERIA = ("lfmmi", "lfsmbr")
NUMERATORS = ("alignment", "graph")
DISABLED = -1e10  # loglikes below belong to pdf_ids without training frames: see decode/priors.py
Scored = tuple[Tensor, Tensor, dict[str, float]]  # value, its derivative by the scaled loglikes, statistics


@dataclass(kw_only=True)
class LatticeFreeConfig:
    """A lattice-free criterion and its options."""

    name: str = "lfmmi"  # lfmmi, lfsmbr
    acoustic_scale: float = 0.1  # of the loglikes; 1 for networks trained by LF-MMI from the start
    leaky_coefficient: float = 1e-5  # probability of a jump to any state after a frame
    boost: float = 0.0  # lfmmi: taken off the denominator's scaled loglikes of right frames
    numerator: str = "alignment"  # lfmmi: alignment, or graph: a training graph's paths near the alignment
    tolerance: int = 0  # frames by which the numerator may leave the alignment's times, at the full rate
    frame_subsampling: int = 1  # 3: every third frame is computed and scored
    output_l2: float = 0.0  # penalty: half of this times the sum of squared loglikes; Kaldi's l2-regularize
    ngram_order: int = 4  # of the denominator's phones
    no_prune_ngram_order: int = 3  # histories of n-grams up to this order are all kept
    num_extra_lm_states: int = 1000  # how many longer histories are kept
    recursion: str = "auto"  # auto, triton, vectorised: how forward-backward is run; auto: Triton's kernels on CUDA

    def __post_init__(self) -> None:
        if self.name not in CRITERIA:
            raise ValueError(f"criterion.name={self.name!r}: choose one of {', '.join(CRITERIA)}")
        if self.numerator not in NUMERATORS or (self.numerator == "graph" and self.name != "lfmmi"):
            raise ValueError(f"criterion.numerator={self.numerator!r}: choose alignment or, for lfmmi, graph")
        if not self.acoustic_scale > 0:
            raise ValueError("criterion.acoustic_scale must be positive")
        if not 0 <= self.leaky_coefficient < 1:
            raise ValueError("criterion.leaky_coefficient must lie in [0, 1)")
        if self.boost < 0 or self.output_l2 < 0 or self.tolerance < 0:
            raise ValueError("criterion.boost, output_l2 and tolerance must not be negative")
        if self.recursion not in RECURSIONS:
            raise ValueError(f"criterion.recursion={self.recursion!r}: choose one of {', '.join(RECURSIONS)}")
        if self.frame_subsampling < 1:
            raise ValueError("criterion.frame_subsampling must be at least 1")
        _ = self.phone_ngram  # which checks its options

    @property
    def phone_ngram(self) -> PhoneNgramOptions:
        """The options of the denominator's phone n-gram."""
        return PhoneNgramOptions(self.ngram_order, self.no_prune_ngram_order, self.num_extra_lm_states)


@dataclass(frozen=True)
class Supervision:
    """What is known of an utterance.

    Attributes:
        pdfs: int64 [num_frames], the pdf_id of each scored frame of the alignment.
        allowed: int64 [num_frames, 2 tolerance + 1], the pdf_ids that the numerator's paths may emit there.
        lattice: the numerator, where it is of a training graph.
    """

    pdfs: Tensor
    allowed: Tensor
    lattice: PreparedLattice | None = None


class LatticeFreeCriterion:
    """LF-MMI or LF-sMBR, as the trainer of criteria.py takes it.

    The objective of LF-MMI is the log posterior probability of the alignment's paths [nats]: those in the denominator
    graph that emit nothing but what `tolerance` allows, out of all. It is never above zero. Leaks are in both, so that
    alignments that no HMM makes, such as those of perturbed speed, have paths too. With numerators of training graphs
    the paths must also be the transcript's, and do not leak. The objective of LF-sMBR is the expected number of frames
    whose pdf_id is the alignment's.

    Args:
        config: which, and its options.
        denominator: at the rate of the alignments.
        num_pdfs: of the network.
        alignments: the pdf_ids of each utterance, int64 [num_frames], at the full frame rate, or at the subsampled one
            (as Kaldi's chain tree directories have them; `denominator` is then taken as it is).
        numerators: makes those of training graphs, if `config` asks for them.
        alignment_subsampling: 1 or `config.frame_subsampling`: the rate of the alignments.
        device: where to compute.
        dtype: to compute in.
    """

    def __init__(
        self,
        config: LatticeFreeConfig,
        denominator: Hmm,
        num_pdfs: int,
        alignments: Mapping[str, Tensor],
        numerators: GraphNumerators | None = None,
        alignment_subsampling: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config, self.num_pdfs, self.dtype = config, num_pdfs, dtype
        self.frame_subsampling = config.frame_subsampling
        self.offset = -1.0 if config.name == "lfsmbr" else 0.0
        self.loss_scale = 1.0 / config.acoustic_scale
        self._alignments, self._numerators = alignments, numerators
        self._step = config.frame_subsampling // alignment_subsampling
        hmm = subsampled(denominator, self._step)
        self._graph = ForwardBackward(hmm, num_pdfs, config.leaky_coefficient, device, dtype, config.recursion)

    def prepare(self, utt: str, num_frames: int) -> Supervision:
        """The alignment of an utterance at the rate of the network.

        Args:
            utt: the utterance.
            num_frames: frames of its features, before subsampling.

        Raises:
            UnusableError: no alignment, or one of another length; no path of a training graph.
        """
        if utt not in self._alignments:
            raise UnusableError("no_alignment")
        pdfs = self._alignments[utt]
        needed = -(-num_frames // self.config.frame_subsampling)
        if -(-len(pdfs) // self._step) != needed:
            raise UnusableError("length_mismatch", f"{num_frames} frames, alignment of {len(pdfs)}")
        tolerance = self.config.tolerance
        around = torch.arange(-tolerance, tolerance + 1) + self._step * torch.arange(needed).unsqueeze(1)
        allowed = pdfs[around.clamp(0, len(pdfs) - 1)]
        lattice = self._numerators.lattice(utt, allowed) if self._numerators else None
        return Supervision(pdfs[:: self._step], allowed, lattice)

    def __call__(self, loglikes: Tensor, supervisions: Sequence[Supervision]) -> Objective:
        """Score some utterances; arguments as for Criterion."""
        by_length = sorted(range(len(supervisions)), key=lambda i: -len(supervisions[i].pdfs))
        chosen = [supervisions[i] for i in by_length]
        lengths = torch.tensor([len(supervision.pdfs) for supervision in chosen], device=loglikes.device)
        pieces = loglikes.split([len(supervision.pdfs) for supervision in supervisions])
        scaled = pad_sequence([pieces[i] for i in by_length]) * self.config.acoustic_scale  # [T, B, num_pdfs]
        score = self._mmi if self.config.name == "lfmmi" else self._smbr
        value, gradient, statistics = score(scaled.detach().to(self.dtype), lengths, chosen)
        objective = WithGradient.apply(scaled, value, gradient.to(scaled.dtype))
        if self.config.output_l2 > 0:
            enabled = loglikes.masked_fill(loglikes < DISABLED, 0.0)
            objective = objective - 0.5 * self.config.output_l2 / self.loss_scale * enabled.square().sum()
        return Objective(objective, len(loglikes), statistics)

    def _mmi(self, scaled: Tensor, lengths: Tensor, supervisions: Sequence[Supervision]) -> Scored:
        numerator = self._numerator(scaled, lengths, supervisions)
        if self.config.boost > 0:
            scaled = scaled - self.config.boost * self._targets(supervisions, scaled)
        denominator = self._graph(scaled, lengths)
        usable = numerator.log_likelihood.isfinite()
        value = torch.where(usable, numerator.log_likelihood - denominator.log_likelihood, 0.0).sum()
        gradient = (numerator.pdf_posteriors - denominator.pdf_posteriors) * usable.unsqueeze(1)
        return value, gradient, {"utterances_without_path": float((~usable).sum())}

    def _numerator(self, scaled: Tensor, lengths: Tensor, supervisions: Sequence[Supervision]) -> Posteriors:
        lattices = [supervision.lattice for supervision in supervisions if supervision.lattice]
        if lattices:
            return log_sums(lattices, scaled, lengths)
        allowed = torch.zeros_like(scaled, dtype=torch.bool)
        allowed.scatter_(2, pad_sequence([s.allowed for s in supervisions]).to(scaled.device), value=True)
        return self._graph(scaled.masked_fill(~allowed, -torch.inf), lengths)

    def _smbr(self, scaled: Tensor, lengths: Tensor, supervisions: Sequence[Supervision]) -> Scored:
        found = self._graph.expected_accuracy(scaled, lengths, self._targets(supervisions, scaled))
        return found.value.sum(), found.gradient, {}

    def _targets(self, supervisions: Sequence[Supervision], like: Tensor) -> Tensor:
        """One where a pdf_id is the alignment's, else zero, [T, B, num_pdfs]; of the type of `like`."""
        targets = pad_sequence([supervision.pdfs for supervision in supervisions]).to(like.device)
        return one_hot(targets, self.num_pdfs).to(like.dtype)


class WithGradient(torch.autograd.Function):
    """A value with a gradient that was found on the way, by other means than differentiating each step."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """`value`, whose derivative by `inputs` is `gradient`."""
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        """The gradient times that of the value."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer.to(gradient.dtype), None, None
