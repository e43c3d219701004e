"""Features for diagonal Gaussians: cepstra of filter banks without the speaker's mean, and their deltas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.features.deltas import add_deltas

Features = NDArray[np.float32]


def cosine_transform(num_ceps: int, num_bins: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II, float64 [num_ceps, num_bins]; row 0 is the mean's (Kaldi: ComputeDctMatrix)."""
    angle = np.pi / num_bins * np.outer(np.arange(num_ceps), np.arange(num_bins) + 0.5)
    matrix = np.sqrt(2.0 / num_bins) * np.cos(angle)
    matrix[0] = np.sqrt(1.0 / num_bins)
    return matrix


def gaussian_features(
    features: Mapping[str, Features], speaker_of: Mapping[str, str], num_ceps: int = 13
) -> dict[str, Features]:
    """Make features whose dimensions are nearly uncorrelated, as diagonal Gaussians need them.

    Args:
        features: log filter banks of each utterance, [num_frames, num_bins].
        speaker_of: each utterance's speaker, whose mean is subtracted; utterances not in it are speakers of their own.
        num_ceps: how many cepstra; 0: take the features as they are, but subtract means and append deltas all the same.

    Returns:
        float32 [num_frames, 3 * num_ceps] of each utterance: static, deltas, deltas of deltas.

    Raises:
        DataError: fewer filters than cepstra.
    """
    static: dict[str, NDArray[np.float64]] = {}
    for utt, matrix in features.items():
        if num_ceps > matrix.shape[1]:
            raise DataError(f"{num_ceps} cepstra of features of dimension {matrix.shape[1]}", utt=utt)
        double = matrix.astype(np.float64)
        static[utt] = double @ cosine_transform(num_ceps, matrix.shape[1]).T if num_ceps else double
    speakers: dict[str, list[str]] = {}
    for utt in static:
        speakers.setdefault(speaker_of.get(utt, utt), []).append(utt)
    made = {}
    for utts in speakers.values():
        num_frames = sum(len(static[utt]) for utt in utts)
        mean = sum(static[utt].sum(axis=0) for utt in utts) / max(num_frames, 1)
        for utt in utts:
            made[utt] = add_deltas(torch.from_numpy(static[utt] - mean).float()).numpy()
    return {utt: made[utt] for utt in features}
