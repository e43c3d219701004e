"""Mixtures of diagonal Gaussians, one for each pdf: as much of a model as first alignments need.

Estimation and growing are those of Kaldi's gmm-est (MleDiagGmmUpdate, AmDiagGmm::SplitByCount); variances are floored
relatively to the data's.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError

RELATIVE_FLOOR = 0.01  # of the variance of all frames
LEAST_VARIANCE = 1e-12  # of all frames; what is below comes of rounding
MIN_FRAMES = 10.0  # a Gaussian with fewer is dropped, if it is not its pdf's last
MIN_FRAMES_TO_SPLIT = 20.0  # for each Gaussian that a pdf would have
SPLIT_POWER = 0.25  # a pdf's Gaussians should grow as its frames to this power
SPLIT_SHIFT = 0.01  # of the two halves, in standard deviations

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of diagonal Gaussians.

    Attributes:
        first: int64 [num_pdfs + 1]; the Gaussians of pdf p are first[p] .. first[p + 1] - 1, at least one.
        weights: float64 [num_gauss], each pdf's add up to 1.
        means, variances: float64 [num_gauss, dim].
    """

    first: NDArray[np.int64]
    weights: Floats
    means: Floats
    variances: Floats

    @property
    def num_pdfs(self) -> int:
        """Number of pdfs."""
        return len(self.first) - 1

    @property
    def num_gauss(self) -> int:
        """Number of Gaussians of all pdfs."""
        return len(self.weights)

    @classmethod
    def of_all_frames(cls, features: NDArray[np.floating], num_pdfs: int) -> Mixtures:
        """One Gaussian for each pdf: the mean and variance of `features`, [num_frames, dim].

        Raises:
            DataError: no frames, or values that are no numbers.
        """
        if len(features) == 0:
            raise DataError("no frames to estimate Gaussians from")
        mean, variance = features.mean(axis=0, dtype=np.float64), features.var(axis=0, dtype=np.float64)
        if not np.all(np.isfinite(variance)):
            raise DataError("features that are NaN or infinite")
        variance[variance < LEAST_VARIANCE] = 1.0  # a dimension that never varies tells pdfs nothing
        shape = num_pdfs, features.shape[1]
        return cls(
            np.arange(num_pdfs + 1),
            np.ones(num_pdfs),
            np.broadcast_to(mean, shape).copy(),
            np.broadcast_to(variance, shape).copy(),
        )

    def loglikes(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Log densities of the pdfs, float32 [num_frames, num_pdfs]; `features`: [num_frames, dim]."""
        components = self._components(features.astype(np.float32), slice(None))
        highest = np.maximum.reduceat(components, self.first[:-1], axis=1)
        components -= np.repeat(highest, np.diff(self.first), axis=1)
        density: NDArray[np.float32] = highest + np.log(
            np.add.reduceat(np.exp(components, out=components), self.first[:-1], axis=1)
        )
        return density

    def _components(self, features: NDArray[np.floating], which: slice) -> NDArray[np.floating]:
        """Weighted log densities of Gaussians in the type of `features`, [num_frames, number of `which`]."""
        means, inverse = self.means[which], 1.0 / self.variances[which]
        constant = np.log(self.weights[which]) - 0.5 * (
            np.log(2 * math.pi * self.variances[which]) + means**2 * inverse
        ).sum(axis=1)
        dtype = features.dtype
        linear, square = (means * inverse).T.astype(dtype), (-0.5 * inverse).T.astype(dtype)
        return features @ linear + features**2 @ square + constant.astype(dtype)

    def counted(self, features: NDArray[np.floating], pdfs: NDArray[np.int32]) -> Counts:
        """What each Gaussian has of frames whose pdf is known.

        Args:
            features: [num_frames, dim].
            pdfs: int32 [num_frames], the pdf of each; -1: left out.
        """
        counts = Counts(np.zeros(self.num_gauss), np.zeros_like(self.means), np.zeros_like(self.means))
        order = np.argsort(pdfs, kind="stable")
        bounds = np.searchsorted(pdfs[order], np.arange(self.num_pdfs + 1))
        for pdf in range(self.num_pdfs):
            frames = features[order[bounds[pdf] : bounds[pdf + 1]]].astype(np.float64)
            own = slice(int(self.first[pdf]), int(self.first[pdf + 1]))
            share = self._components(frames, own)
            share = np.exp(share - share.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            counts.frames[own] = share.sum(axis=0)
            counts.sums[own] = share.T @ frames
            counts.squares[own] = share.T @ frames**2
        return counts

    def reestimated(self, counts: Counts, floor: Floats) -> tuple[Mixtures, Floats]:
        """The most likely Gaussians for counts; those with too few frames are dropped, or stay if they are alone.

        Args:
            counts: of `counted`.
            floor: float64 [dim], the least variances.

        Returns:
            The mixtures, and the frames of each Gaussian, float64 [num_gauss].
        """
        enough = counts.frames > MIN_FRAMES
        pdf_of = np.repeat(np.arange(self.num_pdfs), np.diff(self.first))
        largest = [
            int(begin + np.argmax(counts.frames[begin:end]))
            for begin, end in zip(self.first[:-1], self.first[1:], strict=True)
        ]
        kept = enough.copy()
        kept[largest] = True
        frames = np.maximum(counts.frames, MIN_FRAMES)[:, None]
        means = np.where(enough[:, None], counts.sums / frames, self.means)
        variances = np.where(enough[:, None], counts.squares / frames - means**2, self.variances)
        num_frames = np.maximum(counts.frames[kept], np.finfo(np.float64).tiny)
        total = np.bincount(pdf_of[kept], num_frames, self.num_pdfs)
        first = np.concatenate([[0], np.cumsum(np.bincount(pdf_of[kept], minlength=self.num_pdfs))])
        weights = num_frames / total[pdf_of[kept]]
        return Mixtures(first, weights, means[kept], np.maximum(variances[kept], floor)), counts.frames[kept]

    def grown(self, num_gauss: int, frames: Floats, random: np.random.Generator) -> Mixtures:
        """Split the heaviest Gaussians of pdfs with many frames.

        Args:
            num_gauss: how many there should be; fewer if frames do not suffice.
            frames: float64 [num_gauss], of each Gaussian now.
            random: the directions in which the halves are shifted.
        """
        num_of = split_targets(np.add.reduceat(frames, self.first[:-1]), num_gauss)
        parts = [self._split(pdf, int(num_of[pdf]), random) for pdf in range(self.num_pdfs)]
        first = np.concatenate([[0], np.cumsum([len(weights) for weights, _, _ in parts])])
        weights, means, variances = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Mixtures(first, weights, means, variances)

    def _split(self, pdf: int, target: int, random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """Weights, means and variances of one pdf with `target` Gaussians, or as many as it has if that is more."""
        own = slice(int(self.first[pdf]), int(self.first[pdf + 1]))
        weights, means, variances = list(self.weights[own]), list(self.means[own]), list(self.variances[own])
        while len(weights) < target:
            heaviest = int(np.argmax(weights))
            shift = SPLIT_SHIFT * np.sqrt(variances[heaviest]) * random.standard_normal(len(variances[heaviest]))
            weights[heaviest] /= 2.0
            weights.append(weights[heaviest])
            means.append(means[heaviest] + shift)
            means[heaviest] = means[heaviest] - shift
            variances.append(variances[heaviest])
        return np.array(weights), np.array(means), np.array(variances)


@dataclass(frozen=True)
class Counts:
    """What Gaussians have of frames.

    Attributes:
        frames: float64 [num_gauss], how many, as sums of shares.
        sums, squares: float64 [num_gauss, dim], of their values and squared values.
    """

    frames: Floats
    sums: Floats
    squares: Floats


def split_targets(frames: Floats, num_gauss: int) -> NDArray[np.int64]:
    """How many Gaussians each pdf should have (GetSplitTargets).

    Args:
        frames: float64 [num_pdfs].
        num_gauss: of all pdfs; fewer if frames do not suffice.
    """
    num_of = np.ones(len(frames), dtype=np.int64)
    queue = [(-(float(count) ** SPLIT_POWER), pdf) for pdf, count in enumerate(frames)]
    heapq.heapify(queue)
    left = num_gauss - len(frames)
    while queue and left > 0:
        _, pdf = heapq.heappop(queue)
        if (num_of[pdf] + 1) * MIN_FRAMES_TO_SPLIT < frames[pdf]:
            num_of[pdf] += 1
            left -= 1
            heapq.heappush(queue, (-(float(frames[pdf]) ** SPLIT_POWER) / float(num_of[pdf]), pdf))
    return num_of
