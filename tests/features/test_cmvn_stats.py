"""CMVN statistics and their application against Kaldi's output and the definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic.errors import DataError
from acoustic.features.cmvn import apply_cmvn, cmvn_stats, sliding_cmvn
from acoustic.kaldi.datadir import DataDir
from tests.features.feature_data import GOLDEN, matrices, matrix, random_feats

TOLERANCE = 1e-4


def test_utterance_statistics_are_kaldis_to_the_bit() -> None:
    feats = matrices("fbank40.ark")
    for utt, expected in matrices("cmvn_utt.ark").items():
        assert expected.dtype == torch.float64
        assert torch.allclose(cmvn_stats(feats[utt]), expected, rtol=1e-14, atol=0)


def test_speaker_and_global_statistics_are_sums() -> None:
    feats = matrices("fbank40.ark")
    spk2utt = DataDir.read(GOLDEN / "wav").spk2utt
    for speaker, expected in matrices("cmvn_spk.ark").items():
        total = sum(cmvn_stats(feats[utt]) for utt in spk2utt[speaker])
        assert torch.allclose(total, expected, rtol=1e-13, atol=0)
    total = sum(cmvn_stats(value) for value in feats.values())
    assert torch.allclose(total.float(), matrix("cmvn_global.mat"), rtol=1e-7, atol=0)


def test_applied_by_speaker_with_variances() -> None:
    speaker_of, stats = DataDir.read(GOLDEN / "wav").utt2spk, matrices("cmvn_spk.ark")
    feats = matrices("two.ark")
    for utt, expected in matrices("two_cmvn_spk_vars.ark").items():
        normalised = apply_cmvn(feats[utt], stats[speaker_of[utt]], norm_vars=True)
        assert (normalised - expected).abs().max() < TOLERANCE


def test_applied_by_utterance() -> None:
    feats = matrices("two.ark")
    for utt, expected in matrices("two_cmvn_utt_means.ark").items():
        assert (apply_cmvn(feats[utt], cmvn_stats(feats[utt])) - expected).abs().max() < TOLERANCE


def test_sliding_window() -> None:
    feats = matrices("two.ark")
    for utt, expected in matrices("two_cmvn_sliding50.ark").items():
        normalised = sliding_cmvn(feats[utt], window=50, center=True, norm_vars=True)
        assert (normalised - expected).abs().max() < TOLERANCE


def window_of(t: int, num_frames: int, window: int, min_window: int, center: bool) -> tuple[int, int]:
    """SlidingWindowCmnInternal's choice of a frame's window, step by step."""
    begin, end = (t - window // 2, t - window // 2 + window) if center else (t - window, t + 1)
    if begin < 0:
        begin, end = 0, end - begin
    if not center and end > t:
        end = max(t + 1, min_window)
    if end > num_frames:
        begin, end = max(0, begin - (end - num_frames)), num_frames
    return begin, end


@settings(deadline=None)
@given(
    num_frames=st.integers(1, 40),
    window=st.integers(1, 50),
    min_window=st.integers(1, 20),
    center=st.booleans(),
    norm_vars=st.booleans(),
)
def test_sliding_window_at_every_frame(
    num_frames: int, window: int, min_window: int, center: bool, norm_vars: bool
) -> None:
    feats = random_feats(num_frames, 2)
    normalised = sliding_cmvn(feats, window, min_window, center, norm_vars)
    for t in range(num_frames):
        begin, end = window_of(t, num_frames, window, min_window, center)
        part = feats[begin:end].double()
        expected = feats[t] - part.mean(0)
        if norm_vars:
            expected = (
                expected / part.var(0, unbiased=False).clamp_min(1e-10).sqrt() if end - begin > 1 else 0 * expected
            )
        assert torch.allclose(normalised[t].double(), expected, atol=1e-4, rtol=1e-4)


def test_constant_dimension_is_floored_not_divided_by_zero() -> None:
    feats = torch.full((10, 3), 2.5)
    normalised = apply_cmvn(feats, cmvn_stats(feats), norm_vars=True)
    assert torch.equal(normalised, torch.zeros(10, 3))


@pytest.mark.parametrize("deviation", [3.0, 1e-4])
def test_zero_mean_unit_variance(deviation: float) -> None:
    feats = deviation * (7 / 3 + random_feats(500, 4))
    normalised = apply_cmvn(feats, cmvn_stats(feats), norm_vars=True)
    assert normalised.dtype == torch.float32
    assert torch.allclose(normalised.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(normalised.var(0, unbiased=False), torch.ones(4), atol=1e-5)


def test_statistics_that_cannot_be_used() -> None:
    feats = random_feats(5, 3)
    with pytest.raises(DataError, match="dimension 3"):
        apply_cmvn(feats, cmvn_stats(random_feats(5, 4)))
    with pytest.raises(DataError, match="0 frames"):
        apply_cmvn(feats, torch.zeros(2, 4, dtype=torch.float64))
    with pytest.raises(DataError, match="sums of squares"):
        apply_cmvn(feats, cmvn_stats(feats)[:1], norm_vars=True)
    impossible, damaged = cmvn_stats(feats), cmvn_stats(feats)
    impossible[1, 0] = 0.5 * impossible[0, 0].square() / impossible[0, -1] - 1.0
    damaged[0, 2] = torch.inf
    with pytest.raises(DataError, match="negative variances"):
        apply_cmvn(feats, impossible, norm_vars=True)
    with pytest.raises(DataError, match="NaN or infinity"):
        apply_cmvn(feats, damaged)
    assert torch.allclose(apply_cmvn(feats, cmvn_stats(feats)[:1]), apply_cmvn(feats, cmvn_stats(feats)))
