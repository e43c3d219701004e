"""First alignments from nothing but graphs and features: segmental k-means.

All states of an utterance begin equally long; then Gaussians are estimated and utterances aligned by them in turn
(Rabiner, Wilpon and Juang 1986, "A segmental k-means training procedure for connected word recognition"; Kaldi's
steps/train_mono.sh does so, with mixtures).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.align import Aligner, AlignOptions, align_utterances
from acoustic.decode.align_equal import align_equally
from acoustic.decode.search import NoPathError
from acoustic.errors import DataError
from acoustic.kaldi.alignments import count_transitions
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel
from acoustic.states.gaussians import estimate

Alignments = dict[str, NDArray[np.int32]]

RETRY_BEAM = 200.0  # Gaussians that know little lead astray: at 40 one utterance in fifty of continuous speech is lost


@dataclass(frozen=True)
class FlatStartOptions:
    """Options of `acoustic flat-start`."""

    num_iters: int = field(default=12, metadata={"help": "rounds of estimating Gaussians and aligning by them"})
    seed: int = field(default=0, metadata={"help": "of pronunciations and silences in the first alignments"})

    def __post_init__(self) -> None:
        """ValueError on values that make no sense."""
        if self.num_iters < 1 or self.seed < 0:
            raise ValueError("need --num-iters of at least 1 and --seed of at least 0")


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        likelihood: log likelihood by frame, acoustic and transitions.
        num_moved: frames whose pdf changed.
        num_frames: of the utterances aligned.
        skipped: utterances without a path, and why.
    """

    likelihood: float
    num_moved: int
    num_frames: int
    skipped: dict[str, str]


def equal_alignments(
    graphs: Mapping[str, FstArrays], features: Mapping[str, NDArray[np.floating]], seed: int
) -> tuple[Alignments, dict[str, str]]:
    """Equally long states of each utterance; and of those where there is no such alignment, why."""
    aligned: Alignments = {}
    skipped: dict[str, str] = {}
    for utt, matrix in features.items():
        try:
            aligned[utt] = align_equally(graphs[utt], utt, len(matrix), seed)
        except DataError as error:
            skipped[utt] = error.problem
    return aligned, skipped


def flat_start(
    model: TransitionModel,
    graphs: Mapping[str, FstArrays],
    features: Mapping[str, NDArray[np.floating]],
    options: FlatStartOptions,
    num_jobs: int = 1,
    report: Callable[[Round], None] | None = None,
) -> tuple[TransitionModel, Alignments]:
    """Align utterances by nothing but themselves.

    Args:
        model: a monophone model; its graphs have no probabilities.
        graphs: the training graph of each utterance of `features`.
        features: for Gaussians (`gaussian_features`), [num_frames, dim] of each utterance.
        options: rounds, seed.
        num_jobs: processes that align.
        report: called after each round.

    Returns:
        The model with transition probabilities of the last alignments, and these.

    Raises:
        DataError: no utterance can be aligned; graphs of another model; features that are no numbers.
    """
    alignments, skipped = equal_alignments(graphs, features, options.seed)
    for _ in range(options.num_iters):
        gaussians = estimate(model, alignments, features)
        model = model.reestimated(count_transitions(model, alignments.items()))
        before, alignments = alignments, {}
        likelihood, dropped = 0.0, dict(skipped)
        aligner = Aligner(model, AlignOptions(retry_beam=RETRY_BEAM))
        utterances = ((utt, graphs[utt], gaussians.loglikes(x)) for utt, x in features.items() if utt not in skipped)
        for utt, aligned in align_utterances(aligner, utterances, num_jobs):
            if isinstance(aligned, NoPathError):
                dropped[utt] = aligned.problem
                continue
            alignments[utt] = aligned.path.transition_ids
            likelihood += aligned.path.likelihood / aligner.options.acoustic_scale
        if not alignments:
            raise DataError("no utterance can be aligned", remedy="check transcripts against the lexicon")
        if report:
            report(_round(model, likelihood, before, alignments, dropped))
    return model.reestimated(count_transitions(model, alignments.items())), alignments


def _round(
    model: TransitionModel, likelihood: float, before: Alignments, after: Alignments, skipped: dict[str, str]
) -> Round:
    num_frames = sum(map(len, after.values()))
    num_moved = sum(
        int(np.count_nonzero(model.pdf_of[before[utt]] != model.pdf_of[ids])) if utt in before else len(ids)
        for utt, ids in after.items()
    )
    return Round(likelihood / num_frames, num_moved, num_frames, skipped)
