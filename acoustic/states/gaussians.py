"""One diagonal Gaussian for each pdf: as much of a model as first alignments need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.alignments import to_pdfs
from acoustic.kaldi.transitions import TransitionModel

RELATIVE_FLOOR = 0.01  # of the variance of all frames
MIN_FRAMES = 10  # a pdf with fewer has the variance of all frames


@dataclass(frozen=True)
class Gaussians:
    """Diagonal Gaussians.

    Attributes:
        means, variances: float64 [num_pdfs, dim].
    """

    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    def loglikes(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Log densities, float32 [num_frames, num_pdfs]; `features`: [num_frames, dim]."""
        inverse = 1.0 / self.variances
        constant = (np.log(2 * math.pi * self.variances) + self.means**2 * inverse).sum(axis=1)
        x = features.astype(np.float64)
        density: NDArray[np.float64] = x @ (self.means * inverse).T - 0.5 * (constant + x**2 @ inverse.T)
        return density.astype(np.float32)


def estimate(
    model: TransitionModel,
    alignments: Mapping[str, NDArray[np.int32]],
    features: Mapping[str, NDArray[np.floating]],
) -> Gaussians:
    """The most likely Gaussians of aligned features, variances floored.

    Args:
        model: of the alignments.
        alignments: int32 [num_frames] transition_ids of each utterance.
        features: [num_frames, dim] of each aligned utterance.

    Raises:
        DataError: nothing aligned, alignments of another model, or features that are no numbers.
    """
    if not alignments:
        raise DataError("no alignments to estimate Gaussians from")
    dim = features[next(iter(alignments))].shape[1]
    counts = np.zeros(model.num_pdfs)
    sums, squares = np.zeros((model.num_pdfs, dim)), np.zeros((model.num_pdfs, dim))
    for utt, alignment in alignments.items():
        pdfs, x = to_pdfs(model, utt, alignment), features[utt].astype(np.float64)
        member = np.zeros((model.num_pdfs, len(x)))
        member[pdfs, np.arange(len(x))] = 1.0
        counts += member.sum(axis=1)
        sums += member @ x
        squares += member @ x**2
    mean = sums.sum(axis=0) / counts.sum()
    variance = squares.sum(axis=0) / counts.sum() - mean**2
    if not np.all(np.isfinite(variance)):
        raise DataError("features that are NaN or infinite")
    frames = np.maximum(counts, 1.0)[:, None]
    means = np.where(counts[:, None] > 0.0, sums / frames, mean)
    variances = np.where(counts[:, None] >= MIN_FRAMES, squares / frames - means**2, variance)
    floor = np.maximum(RELATIVE_FLOOR * variance, np.finfo(np.float32).tiny)
    return Gaussians(means, np.maximum(variances, floor))
