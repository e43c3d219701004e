"""Alignments by mixtures of Gaussians, one for each pdf, that grow and align anew (Kaldi: steps/train_deltas.sh).

Gaussians are estimated and utterances aligned by them in turn (Rabiner, Wilpon and Juang 1986, "A segmental k-means
training procedure for connected word recognition").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.align import Aligner, AlignOptions, align_utterances
from acoustic.decode.search import NoPathError
from acoustic.errors import DataError
from acoustic.kaldi.alignments import count_transitions, to_pdfs
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel
from acoustic.states.mixtures import RELATIVE_FLOOR, Mixtures

Alignments = dict[str, NDArray[np.int32]]


@dataclass(frozen=True)
class GmmOptions:
    """Options of `acoustic train-gmm`, with the names and values of steps/train_deltas.sh."""

    num_iters: int = field(default=35, metadata={"help": "how often Gaussians are estimated"})
    num_gauss: int = field(default=10000, metadata={"help": "Gaussians of all pdfs in the end"})
    max_iter_inc: int = field(default=25, metadata={"help": "for so many estimations they become more"})
    realign_iters: str = field(
        default="10 20 30", metadata={"help": "estimations that utterances are aligned after; also after the last"}
    )
    beam: float = field(default=10.0, metadata={"help": "paths this much worse than the best are dropped"})
    retry_beam: float = field(default=40.0, metadata={"help": "beam of a second try, 0 for none"})
    boost_silence: float = field(
        default=1.0, metadata={"help": "factor of the likelihoods of --silence-phones in alignment"}
    )
    seed: int = field(default=0, metadata={"help": "of the directions in which Gaussians are split"})

    def __post_init__(self) -> None:
        """ValueError on values that make no sense."""
        if self.num_iters < 1 or self.num_gauss < 1 or self.max_iter_inc < 1 or self.seed < 0:
            raise ValueError("need --num-iters, --num-gauss, --max-iter-inc of at least 1 and --seed of at least 0")
        if not all(number.isdigit() for number in self.realign_iters.split()):
            raise ValueError(f"--realign-iters={self.realign_iters!r}: expected numbers with spaces between")
        if not (math.isfinite(self.boost_silence) and self.boost_silence > 0.0):
            raise ValueError(f"--boost-silence={self.boost_silence}: must be positive")
        self.align_options()

    def align_options(self) -> AlignOptions:
        """Scales and beams of alignment."""
        return AlignOptions(beam=self.beam, retry_beam=self.retry_beam)

    def aligns_after(self, iteration: int) -> bool:
        """Whether utterances are aligned anew after estimation number `iteration`, from 1; after the last, always.

        In Kaldi too the first estimation comes before the numbered passes, and pass x aligns before it estimates. The
        last alignment is that of steps/align_si.sh.
        """
        return iteration == self.num_iters or str(iteration) in self.realign_iters.split()

    def num_gauss_at(self, iteration: int, num_pdfs: int) -> int:
        """How many Gaussians estimation `iteration`, from 1, ends with; the first two have one for each pdf."""
        grown = min(1.0, max(0, iteration - 2) / self.max_iter_inc)
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


def train_gmm(
    model: TransitionModel,
    graphs: Mapping[str, FstArrays],
    features: Mapping[str, NDArray[np.floating]],
    alignments: Alignments,
    options: GmmOptions,
    *,
    silence_phones: Collection[int] = (),
    num_jobs: int = 1,
    report: Callable[[Round], None] | None = None,
) -> tuple[TransitionModel, Alignments]:
    """Align utterances by Gaussians that are estimated from alignments.

    Args:
        model: of alignments and graphs; the graphs have no probabilities.
        graphs: the training graph of each utterance of `features`.
        features: for Gaussians (`gaussian_features`), [num_frames, dim] of each utterance.
        alignments: to begin with, int32 [num_frames] transition_ids; utterances without are aligned all the same.
        options: rounds, seed.
        silence_phones: whose likelihoods are boosted.
        num_jobs: processes that align.
        report: called after each round.

    Returns:
        The model with transition probabilities of the last alignments, and these.

    Raises:
        DataError: no utterance is aligned or can be; alignments, graphs of another model or other features; features
            that are no numbers.
    """
    frames = _Frames(features)
    training = _Training(model, graphs, frames, options, silence_phones, num_jobs)
    mixtures = Mixtures.of_all_frames(frames.values, model.num_pdfs)
    floor = RELATIVE_FLOOR * mixtures.variances[0]
    random = np.random.default_rng(options.seed)
    for iteration in range(1, options.num_iters + 1):
        counts = mixtures.counted(frames.values, frames.pdfs(model, alignments))
        mixtures, num_frames = mixtures.reestimated(counts, floor)
        mixtures = mixtures.grown(options.num_gauss_at(iteration, model.num_pdfs), num_frames, random)
        if options.aligns_after(iteration):
            model = model.reestimated(count_transitions(model, alignments.items()))
            alignments, done = training.aligned(model, mixtures, alignments)
            if report:
                report(done)
    return model.reestimated(count_transitions(model, alignments.items())), alignments


class _Frames:
    """The frames of all utterances, one after another.

    Attributes:
        values: [num_frames, dim].
        of: utterance -> its part of `values`.
    """

    def __init__(self, features: Mapping[str, NDArray[np.floating]]) -> None:
        if not features:
            raise DataError("no utterance has both features and a graph")
        self.values = np.concatenate(list(features.values()))
        ends = np.cumsum([len(x) for x in features.values()])
        self.of = dict(zip(features, np.split(self.values, ends[:-1]), strict=True))

    def pdfs(self, model: TransitionModel, alignments: Alignments) -> NDArray[np.int32]:
        """The pdf of each frame, int32 [num_frames]; -1 in utterances without alignment.

        Raises:
            DataError: no utterance has one, or an alignment is of another length or another model.
        """
        if not alignments.keys() & self.of.keys():
            raise DataError("no utterance can be aligned", remedy="check transcripts against the lexicon")
        missing = np.full(1, -1, dtype=np.int32)
        pdfs = []
        for utt, x in self.of.items():
            pdfs.append(to_pdfs(model, utt, alignments[utt]) if utt in alignments else np.repeat(missing, len(x)))
            if len(pdfs[-1]) != len(x):
                raise DataError(f"{len(x)} frames of features, {len(pdfs[-1])} of alignment", utt=utt)
        return np.concatenate(pdfs)


class _Training:
    """Aligns utterances by mixtures."""

    def __init__(
        self,
        model: TransitionModel,
        graphs: Mapping[str, FstArrays],
        frames: _Frames,
        options: GmmOptions,
        silence_phones: Collection[int],
        num_jobs: int,
    ) -> None:
        self._graphs, self._frames, self._num_jobs = graphs, frames, num_jobs
        self._options = options.align_options()
        silence = np.unique(model.pdf_of[1:][np.isin(model.phone_of[1:], list(silence_phones))])
        self._boost = np.zeros(model.num_pdfs, dtype=np.float32)
        self._boost[silence] = math.log(options.boost_silence)

    def aligned(self, model: TransitionModel, mixtures: Mixtures, before: Alignments) -> tuple[Alignments, Round]:
        """Alignments, and what came of it."""
        aligner = Aligner(model, self._options)
        utterances = (
            (utt, self._graphs[utt], mixtures.loglikes(x) + self._boost) for utt, x in self._frames.of.items()
        )
        alignments: Alignments = {}
        skipped: dict[str, str] = {}
        likelihood = 0.0
        num_moved = num_frames = 0
        for utt, aligned in align_utterances(aligner, utterances, self._num_jobs):
            if isinstance(aligned, NoPathError):
                skipped[utt] = aligned.problem
                continue
            ids = alignments[utt] = aligned.path.transition_ids
            likelihood += aligned.path.likelihood / self._options.acoustic_scale
            num_frames += len(ids)
            moved = model.pdf_of[before[utt]] != model.pdf_of[ids] if utt in before else np.ones(len(ids))
            num_moved += int(np.count_nonzero(moved))
        if not alignments:
            raise DataError("no utterance can be aligned", remedy="check transcripts against the lexicon")
        return alignments, Round(mixtures.num_gauss, likelihood / num_frames, num_moved, num_frames, skipped)
