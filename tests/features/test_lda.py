"""LDA against the generalised eigenvalue problem it solves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from acoustic.errors import DataError
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.features.lda import LdaStats
from tests.features.feature_data import random_feats


def classes_apart(num_frames: int = 2000, dim: int = 6, num_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of classes with different means and one covariance that is far from round."""
    labels = torch.randint(num_classes, (num_frames,), generator=torch.Generator().manual_seed(1))
    shape = random_feats(dim, dim, 2)
    return random_feats(num_frames, dim, 3) @ shape + 2 * random_feats(num_classes, dim, 4)[labels] + 10, labels


def estimated(frames: torch.Tensor, labels: torch.Tensor, num_classes: int = 4) -> LdaStats:
    stats = LdaStats(num_classes, frames.shape[1])
    for part, part_labels in zip(frames.split(300), labels.split(300), strict=True):
        stats.accumulate(part, part_labels)
    return stats


def test_statistics_are_the_covariances() -> None:
    frames, labels = classes_apart()
    within, between = estimated(frames, labels).covariances()
    residuals = frames.double().clone()
    for c in range(4):
        residuals[labels == c] -= frames.double()[labels == c].mean(0)
    assert torch.allclose(within, residuals.t() @ residuals / len(frames), atol=1e-6)
    total = torch.cov(frames.double().t(), correction=0)
    assert torch.allclose(within + between, total, atol=1e-6)


def test_projection_solves_the_eigenvalue_problem() -> None:
    frames, labels = classes_apart()
    stats = estimated(frames, labels)
    within, between = stats.covariances()
    projection = stats.estimate(3).double()
    assert projection.shape == (3, 6)
    assert torch.allclose(projection @ within @ projection.t(), torch.eye(3).double(), atol=1e-4)
    eigenvalues = scipy.linalg.eigh(between.numpy(), within.numpy(), eigvals_only=True)[::-1]
    separated = projection @ between @ projection.t()
    np.testing.assert_allclose(separated.diagonal(), eigenvalues[:3], rtol=1e-3)
    assert torch.allclose(separated, torch.diag(separated.diagonal()), atol=1e-3)


def test_singular_covariance_is_smoothed() -> None:
    frames, labels = classes_apart()
    projection = estimated(torch.cat([frames, frames[:, :1]], 1), labels).estimate(7)
    assert bool(projection.isfinite().all())


def test_goes_into_the_frontend() -> None:
    frames, labels = classes_apart()
    frontend = Frontend(FrontendConfig(cmvn="none", splice_left=1, splice_right=1, lda_dim=5, global_norm=False), 6)
    index = torch.arange(len(frames))
    spliced = frontend.spliced(frames, index, index, len(frames) - 1 - index)
    projection = estimated(spliced, labels).estimate(5)
    frontend.set_lda(projection)
    assert torch.allclose(frontend.utterance(frames), spliced @ projection.t(), atol=1e-3)


def test_what_cannot_be_estimated() -> None:
    frames, labels = classes_apart()
    with pytest.raises(DataError, match="at most 6"):
        estimated(frames, labels).estimate(7)
    with pytest.raises(DataError, match="no frames"):
        LdaStats(4, 6).estimate(2)
    with pytest.raises(DataError, match="do not vary"):
        estimated(torch.ones(10, 3), labels[:10]).estimate(2)
