"""Deltas, splicing and transforms against Kaldi's output and the definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic.errors import DataError
from acoustic.features.deltas import add_deltas, delta_filters
from acoustic.features.splice import splice
from acoustic.features.transforms import apply_transform
from tests.features.feature_data import matrices, matrix, random_feats

TOLERANCE = 1e-4


def test_deltas_equal_kaldis() -> None:
    feats = matrices("fbank40.ark")
    for utt, expected in matrices("deltas2.ark").items():
        assert (add_deltas(feats[utt]) - expected).abs().max() < TOLERANCE


def test_splicing_equals_kaldis() -> None:
    feats = matrices("two.ark")
    for utt, expected in matrices("two_splice3_2.ark").items():
        assert torch.equal(splice(feats[utt], 3, 2), expected)


def test_kaldis_lda_matrix_applies_to_nine_spliced_frames() -> None:
    feats, lda = matrices("mfcc13.ark"), matrix("lda.mat")
    for value in feats.values():
        spliced = splice(value, 4, 4)
        expected = spliced.double() @ lda.double().t()
        assert (apply_transform(spliced, lda) - expected).abs().max() < TOLERANCE
        with pytest.raises(DataError, match="dimension 91"):
            apply_transform(splice(value, 3, 3), lda)


@settings(deadline=None)
@given(num_frames=st.integers(1, 12), window=st.integers(1, 3), seed=st.integers(0, 9))
def test_first_delta_is_the_regression_over_the_window(num_frames: int, window: int, seed: int) -> None:
    feats = random_feats(num_frames, 2, seed).double()
    deltas = add_deltas(feats, 1, window)
    norm = sum(j * j for j in range(-window, window + 1))
    for t in range(num_frames):
        expected = sum(j * feats[min(max(t + j, 0), num_frames - 1)] for j in range(-window, window + 1)) / norm
        assert torch.allclose(deltas[t, :2], feats[t])
        assert torch.allclose(deltas[t, 2:], expected, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_higher_deltas_are_deltas_of_deltas_away_from_the_edges(order: int) -> None:
    feats = random_feats(40, 3)
    all_orders = add_deltas(feats, order, 2).view(40, order + 1, 3)
    for i in range(order):
        deltas_of_order_i = add_deltas(all_orders[:, i], 1, 2)[:, 3:]
        inside = slice(2 * order, -2 * order)
        assert torch.allclose(all_orders[inside, i + 1], deltas_of_order_i[inside], atol=1e-5)


def test_a_ramp_has_constant_slope() -> None:
    filters = delta_filters(2, 3)
    ramp = torch.arange(-6, 7).float()
    assert torch.allclose(filters @ ramp, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(filters @ ramp.square(), torch.tensor([0.0, 0.0, 2.0]), atol=1e-5)


def test_affine_transform_adds_its_last_column() -> None:
    feats = random_feats(4, 3)
    matrix_3x4 = random_feats(3, 4, seed=1)
    with_one = torch.cat([feats, torch.ones(4, 1)], 1)
    assert torch.allclose(apply_transform(feats, matrix_3x4), with_one @ matrix_3x4.t(), atol=1e-6)
    with pytest.raises(DataError, match="3 columns, or 4"):
        apply_transform(feats, random_feats(3, 5))
