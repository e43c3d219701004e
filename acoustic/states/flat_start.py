"""First alignments from nothing but graphs and features: mixtures of Gaussians that grow (Kaldi: steps/train_mono.sh).

All states of an utterance begin equally long; then Gaussians are estimated and utterances aligned by them in turn
(Rabiner, Wilpon and Juang 1986, "A segmental k-means training procedure for connected word recognition").
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
from acoustic.kaldi.alignments import count_transitions, to_pdfs
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel
from acoustic.states.mixtures import RELATIVE_FLOOR, Mixtures

Alignments = dict[str, NDArray[np.int32]]

RETRY_BEAM = 200.0  # Gaussians that know little lead astray: at 40 one utterance in fifty of continuous speech is lost


@dataclass(frozen=True)
class FlatStartOptions:
    """Options of `acoustic flat-start`, with the values of steps/train_mono.sh."""

    num_iters: int = field(default=40, metadata={"help": "how often Gaussians are estimated"})
    num_gauss: int = field(default=1000, metadata={"help": "Gaussians of all pdfs in the end"})
    seed: int = field(
        default=0, metadata={"help": "of first alignments and of splits; 0: first alignments are Kaldi's"}
    )

    def __post_init__(self) -> None:
        """ValueError on values that make no sense."""
        if self.num_iters < 1 or self.num_gauss < 1 or self.seed < 0:
            raise ValueError("need --num-iters and --num-gauss of at least 1 and --seed of at least 0")

    def aligns_after(self, iteration: int) -> bool:
        """Whether utterances are aligned anew after estimation number `iteration`, from 1; after the last, always."""
        late = iteration > 20 and (iteration - 20) % 3 == 0
        return iteration <= 10 or (iteration <= 20 and iteration % 2 == 0) or late or iteration == self.num_iters

    def num_gauss_at(self, iteration: int, num_pdfs: int) -> int:
        """How many Gaussians estimation `iteration`, from 1, ends with; they grow in the first three quarters."""
        grown = min(1.0, max(0, iteration - 2) / max(1, self.num_iters * 3 // 4))
        return num_pdfs + round(grown * max(0, self.num_gauss - num_pdfs))


@dataclass(frozen=True)
class Round:
    """One alignment of all utterances.

    Attributes:
        num_gauss: Gaussians that it was made with.
        likelihood: log likelihood by frame, acoustic and transitions.
        num_moved: frames whose pdf changed.
        num_frames: of the utterances aligned.
        skipped: utterances without a path, and why.
    """

    num_gauss: int
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
    frames = _Frames({utt: x for utt, x in features.items() if utt not in skipped})
    mixtures = Mixtures.of_all_frames(frames.values, model.num_pdfs)
    floor = RELATIVE_FLOOR * mixtures.variances[0]
    random = np.random.default_rng(options.seed)
    for iteration in range(1, options.num_iters + 1):
        counts = mixtures.counted(frames.values, frames.pdfs(model, alignments))
        mixtures, num_frames = mixtures.reestimated(counts, floor)
        mixtures = mixtures.grown(options.num_gauss_at(iteration, model.num_pdfs), num_frames, random)
        model = model.reestimated(count_transitions(model, alignments.items()))
        if options.aligns_after(iteration):
            before = alignments
            alignments, likelihood, dropped = _aligned(model, graphs, frames, mixtures, num_jobs)
            if report:
                report(_round(model, mixtures.num_gauss, likelihood, before, alignments, skipped | dropped))
    return model.reestimated(count_transitions(model, alignments.items())), alignments


class _Frames:
    """The frames of all utterances, one after another.

    Attributes:
        values: [num_frames, dim].
        of: utterance -> its part of `values`.
    """

    def __init__(self, features: Mapping[str, NDArray[np.floating]]) -> None:
        if not features:
            raise DataError("no utterance can be aligned", remedy="check transcripts against the lexicon")
        self.values = np.concatenate(list(features.values()))
        ends = np.cumsum([len(x) for x in features.values()])
        self.of = dict(zip(features, np.split(self.values, ends[:-1]), strict=True))

    def pdfs(self, model: TransitionModel, alignments: Alignments) -> NDArray[np.int32]:
        """The pdf of each frame, int32 [num_frames]; -1 in utterances without alignment."""
        missing = np.full(1, -1, dtype=np.int32)
        return np.concatenate(
            [
                to_pdfs(model, utt, alignments[utt]) if utt in alignments else np.repeat(missing, len(x))
                for utt, x in self.of.items()
            ]
        )


def _aligned(
    model: TransitionModel, graphs: Mapping[str, FstArrays], frames: _Frames, mixtures: Mixtures, num_jobs: int
) -> tuple[Alignments, float, dict[str, str]]:
    """Alignments, their log likelihood, and why utterances have none."""
    aligner = Aligner(model, AlignOptions(retry_beam=RETRY_BEAM))
    utterances = ((utt, graphs[utt], mixtures.loglikes(x)) for utt, x in frames.of.items())
    alignments: Alignments = {}
    dropped: dict[str, str] = {}
    likelihood = 0.0
    for utt, aligned in align_utterances(aligner, utterances, num_jobs):
        if isinstance(aligned, NoPathError):
            dropped[utt] = aligned.problem
            continue
        alignments[utt] = aligned.path.transition_ids
        likelihood += aligned.path.likelihood / aligner.options.acoustic_scale
    if not alignments:
        raise DataError("no utterance can be aligned", remedy="check transcripts against the lexicon")
    return alignments, likelihood, dropped


def _round(
    model: TransitionModel,
    num_gauss: int,
    likelihood: float,
    before: Alignments,
    after: Alignments,
    skipped: dict[str, str],
) -> Round:
    num_frames = sum(map(len, after.values()))
    num_moved = sum(
        int(np.count_nonzero(model.pdf_of[before[utt]] != model.pdf_of[ids])) if utt in before else len(ids)
        for utt, ids in after.items()
    )
    return Round(num_gauss, likelihood / num_frames, num_moved, num_frames, skipped)
