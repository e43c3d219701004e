"""First alignments from nothing but graphs and features (Kaldi: steps/train_mono.sh).

All states of an utterance begin equally long; from there on it is `train_gmm`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.align_equal import align_equally
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel
from acoustic.states.train_gmm import Alignments, GmmOptions, Round, train_gmm


@dataclass(frozen=True)
class FlatStartOptions(GmmOptions):
    """Options of `acoustic flat-start`, with the names and values of steps/train_mono.sh, but for the retry beam.

    Gaussians that know little lead astray: at 40, Kaldi's, one utterance in fifty of continuous speech is lost.
    """

    num_iters: int = field(default=40, metadata={"help": "how often Gaussians are estimated"})
    num_gauss: int = field(default=1000, metadata={"help": "Gaussians of all pdfs in the end"})
    max_iter_inc: int = field(default=30, metadata={"help": "for so many estimations they become more"})
    realign_iters: str = field(
        default="1 2 3 4 5 6 7 8 9 10 12 14 16 18 20 23 26 29 32 35 38",
        metadata={"help": "estimations that utterances are aligned after; also after the last"},
    )
    retry_beam: float = field(default=200.0, metadata={"help": "beam of a second try, 0 for none"})
    seed: int = field(
        default=0, metadata={"help": "of first alignments and of splits; 0: first alignments are Kaldi's"}
    )


def equal_alignments(
    graphs: Mapping[str, FstArrays], features: Mapping[str, NDArray[np.floating]], seed: int
) -> Alignments:
    """Equally long states of each utterance, of those that have no such alignment nothing (align-equal-compiled)."""
    aligned: Alignments = {}
    for utt, matrix in features.items():
        try:
            aligned[utt] = align_equally(graphs[utt], utt, len(matrix), seed)
        except DataError:  # train_gmm tries again, and reports it then
            continue
    return aligned


def flat_start(
    model: TransitionModel,
    graphs: Mapping[str, FstArrays],
    features: Mapping[str, NDArray[np.floating]],
    options: FlatStartOptions,
    *,
    silence_phones: Collection[int] = (),
    num_jobs: int = 1,
    report: Callable[[Round], None] | None = None,
) -> tuple[TransitionModel, Alignments]:
    """Align utterances by nothing but themselves; arguments and errors as of `train_gmm`, with a monophone model."""
    first = equal_alignments(graphs, features, options.seed)
    return train_gmm(
        model, graphs, features, first, options, silence_phones=silence_phones, num_jobs=num_jobs, report=report
    )
