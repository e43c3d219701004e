"""The front end: window by index is exactly Kaldi's order of operations on the utterance, and nothing leaks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acoustic.errors import ConfigError, DataError
from acoustic.features.cmvn import apply_cmvn, cmvn_stats, sliding_cmvn
from acoustic.features.deltas import add_deltas
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.features.splice import splice
from acoustic.features.transforms import apply_transform
from acoustic.kaldi.datadir import DataDir
from tests.features.feature_data import GOLDEN, matrices, matrix, random_feats


def plain(**changes: Any) -> FrontendConfig:
    return FrontendConfig(**({"cmvn": "none", "global_norm": False} | changes))


def edges(lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """index, left and right of every frame of utterances laid end to end."""
    left = torch.cat([torch.arange(n) for n in lengths])
    right = torch.cat([torch.arange(n - 1, -1, -1) for n in lengths])
    return torch.arange(len(left)), left, right


def kaldi_order(base: Tensor, config: FrontendConfig) -> Tensor:
    """add-deltas on the utterance, then splice-feats."""
    with_deltas = add_deltas(base, config.delta_order, config.delta_window) if config.delta_order else base
    return splice(with_deltas, config.splice_left, config.splice_right)


CONFIGS = st.builds(
    plain,
    delta_order=st.integers(0, 3),
    delta_window=st.integers(1, 3),
    splice_left=st.integers(0, 6),
    splice_right=st.integers(0, 6),
)
LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(config=CONFIGS, lengths=LENGTHS, dim=st.integers(1, 4), seed=st.integers(0, 99))
def test_window_of_every_frame_is_kaldis(config: FrontendConfig, lengths: list[int], dim: int, seed: int) -> None:
    utterances = [random_feats(n, dim, seed + i) for i, n in enumerate(lengths)]
    frontend = Frontend(config, dim)
    index, left, right = edges(lengths)
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    windows = torch.empty(len(index), frontend.input_dim)
    windows[order] = frontend.window(torch.cat(utterances), index[order], left[order], right[order])
    expected = torch.cat([kaldi_order(base, config) for base in utterances])
    assert torch.allclose(windows, expected, atol=1e-6)
    for base, part in zip(utterances, windows.split(lengths), strict=True):
        assert torch.allclose(frontend.utterance(base), part, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(config=CONFIGS, lengths=LENGTHS, seed=st.integers(0, 99))
def test_neighbours_never_leak(config: FrontendConfig, lengths: list[int], seed: int) -> None:
    frames = random_feats(sum(lengths), 3, seed)
    frontend = Frontend(config, 3)
    index, left, right = edges(lengths)
    chosen = seed % len(lengths)
    begin = sum(lengths[:chosen])
    mine = slice(begin, begin + lengths[chosen])
    changed = torch.full_like(frames, torch.nan)
    changed[mine] = frames[mine]
    before = frontend.window(frames, index[mine], left[mine], right[mine])
    after = frontend.window(changed, index[mine], left[mine], right[mine])
    assert torch.equal(before, after)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("delta_order", [0, 2])
def test_stored_and_wanted_types(stored: torch.dtype, wanted: torch.dtype, delta_order: int) -> None:
    config = plain(delta_order=delta_order, splice_left=2, splice_right=3, global_norm=True)
    frontend = Frontend(config, 4)
    frontend.set_global_norm(random_feats(1, frontend.input_dim)[0], torch.full((frontend.input_dim,), 4.0))
    base = random_feats(9, 4).to(stored)
    windows = frontend.utterance(base, wanted)
    assert windows.dtype == wanted and windows.shape == (9, frontend.input_dim)
    expected = frontend.utterance(base.float())
    assert torch.allclose(windows.float(), expected, atol=1e-6 if wanted == torch.float32 else 0.03)


@pytest.mark.parametrize("lda_dim", [0, 6])
def test_autocast_rounds_neither_deltas_nor_lda(lda_dim: int) -> None:
    frontend = Frontend(plain(delta_order=2, splice_left=5, splice_right=5, lda_dim=lda_dim), 8)
    if lda_dim:
        frontend.set_lda(random_feats(lda_dim, frontend.spliced_dim))
    base = random_feats(30, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frontend.utterance(base), frontend.utterance(base.clone()))
        inside = frontend.utterance(base)
    assert torch.equal(inside, frontend.utterance(base))


def test_global_norm_gives_zero_mean_and_unit_variance() -> None:
    frontend = Frontend(plain(delta_order=1, splice_left=1, splice_right=1, global_norm=True), 3)
    base = 5 + 2 * random_feats(200, 3)
    base[:, 1] = 3.0  # its deltas are constant
    raw = frontend.utterance(base)
    frontend.set_global_norm(raw.mean(0), raw.var(0, unbiased=False))
    normalised = frontend.utterance(base)
    assert torch.allclose(normalised.mean(0), torch.zeros(18), atol=1e-5)
    constant = raw.var(0, unbiased=False) < 1e-10
    assert constant.any()
    assert torch.allclose(normalised.var(0, unbiased=False)[~constant], torch.ones(int((~constant).sum())), atol=1e-4)


def test_a_dimension_that_varies_by_rounding_alone_is_not_scaled() -> None:
    frontend = Frontend(plain(global_norm=True), 2)
    frontend.set_global_norm(torch.tensor([5.0, 0.0]), torch.tensor([1e-12, 4.0]))
    assert torch.equal(frontend.utterance(torch.tensor([[6.0, 6.0]])), torch.tensor([[1.0, 3.0]]))


def test_a_damaged_fmllr_transform_is_refused() -> None:
    frontend = Frontend(plain(fmllr="speaker"), 3)
    damaged = torch.eye(3)
    damaged[0, 1] = torch.nan
    with pytest.raises(DataError, match="fMLLR transform with NaN"):
        frontend.per_utterance(random_feats(5, 3), fmllr=damaged)


# ---- per utterance ---------------------------------------------------------------------------------------------------


def test_golden_cmvn_through_the_frontend() -> None:
    speaker_of, stats = DataDir.read(GOLDEN / "wav").utt2spk, matrices("cmvn_spk.ark")
    by_speaker = Frontend(plain(cmvn="speaker", norm_vars=True), 40)
    by_utterance = Frontend(plain(cmvn="utterance"), 40)
    sliding = Frontend(plain(cmvn="sliding", norm_vars=True, cmvn_window=50, cmvn_min_window=50), 40)
    expected = [matrices(f"two_cmvn_{name}.ark") for name in ("spk_vars", "utt_means", "sliding50")]
    for utt, feats in matrices("two.ark").items():
        ours = [
            by_speaker.per_utterance(feats, stats[speaker_of[utt]]),
            by_utterance.per_utterance(feats),
            sliding.per_utterance(feats),
        ]
        for mine, theirs in zip(ours, expected, strict=True):
            assert (mine - theirs[utt]).abs().max() < 1e-4


def test_kaldis_lda_matrix_through_the_frontend() -> None:
    lda = matrix("lda.mat")
    frontend = Frontend(plain(transform_splice_left=4, transform_splice_right=4, transform_dim=len(lda)), 13)
    frontend.set_transform(lda)
    for feats in matrices("mfcc13.ark").values():
        base = frontend.per_utterance(feats)
        assert base.shape == (len(feats), 40)
        assert (base - splice(feats, 4, 4).double() @ lda.double().t()).abs().max() < 1e-4


def test_all_stages_in_order() -> None:
    config = FrontendConfig(
        cmvn="global", norm_vars=True, transform_delta_order=1, transform_splice_left=1, transform_splice_right=2,
        transform_dim=6, fmllr="speaker", delta_order=2, splice_left=2, splice_right=2, lda_dim=7,
    )  # fmt: skip
    frontend = Frontend(config, 4)
    stats, affine, fmllr = cmvn_stats(random_feats(50, 4, 1)), random_feats(6, 33, 2), random_feats(6, 7, 3)
    lda, moments = random_feats(7, 90, 4), (random_feats(1, 7, 5)[0], random_feats(1, 7, 6)[0].square())
    frontend.set_global_cmvn(stats)
    frontend.set_transform(affine)
    frontend.set_lda(lda)
    frontend.set_global_norm(*moments)
    frontend.check_ready()
    feats = random_feats(12, 4)
    base = splice(add_deltas(apply_cmvn(feats, stats, True), 1, 2), 1, 2)
    base = apply_transform(apply_transform(base, affine), fmllr)
    expected = splice(add_deltas(base, 2, 2), 2, 2) @ lda.t()
    expected = (expected - moments[0]) / moments[1].sqrt()
    assert (frontend.base_dim, frontend.spliced_dim, frontend.input_dim) == (6, 90, 7)
    assert torch.allclose(frontend.per_utterance(feats, fmllr=fmllr), base, atol=1e-4)
    assert torch.allclose(frontend.utterance(base), expected, atol=1e-3, rtol=1e-4)


def test_sliding_defaults_are_passed_on() -> None:
    feats = random_feats(300, 2)
    config = plain(cmvn="sliding", cmvn_window=120, cmvn_min_window=30, cmvn_center=False)
    expected = sliding_cmvn(feats, window=120, min_window=30, center=False)
    assert torch.equal(Frontend(config, 2).per_utterance(feats), expected)


def test_norm_means_false_leaves_features_alone() -> None:
    feats = random_feats(5, 3)
    assert torch.equal(Frontend(plain(cmvn="speaker", norm_means=False), 3).per_utterance(feats), feats)


def test_input_that_cannot_be_used() -> None:
    frontend = Frontend(plain(cmvn="speaker", fmllr="speaker"), 3)
    with pytest.raises(DataError, match=r"\[T, 3\]"):
        frontend.per_utterance(random_feats(5, 4))
    with pytest.raises(DataError, match=r"\[T, 3\]"):
        frontend.per_utterance(torch.zeros(0, 3))
    with pytest.raises(DataError, match="CMVN"):
        frontend.per_utterance(random_feats(5, 3))
    with pytest.raises(DataError, match="fMLLR"):
        frontend.per_utterance(random_feats(5, 3), cmvn_stats(random_feats(5, 3)))
    with pytest.raises(DataError, match="4 rows instead of 3"):
        frontend.per_utterance(random_feats(5, 3), cmvn_stats(random_feats(5, 3)), random_feats(4, 3))


# ---- config and state ------------------------------------------------------------------------------------------------


def test_rebuilt_from_config_and_state() -> None:
    config = FrontendConfig(cmvn="global", transform_dim=3, delta_order=1, splice_left=2, splice_right=1, lda_dim=4)
    frontend = Frontend(config, 5)
    frontend.set_global_cmvn(cmvn_stats(random_feats(20, 5)))
    frontend.set_transform(random_feats(3, 5))
    frontend.set_lda(random_feats(4, frontend.spliced_dim + 1))
    frontend.set_global_norm(torch.ones(4), torch.full((4,), 2.0))
    copy = Frontend.from_config(frontend.config_dict(), 5)
    with pytest.raises(ConfigError, match=r"global_cmvn was never set"):
        copy.check_ready()
    copy.set_global_cmvn(cmvn_stats(random_feats(20, 5)))
    with pytest.raises(ConfigError, match=r"transform was never set"):
        copy.check_ready()
    copy.load_state_dict(frontend.state_dict())
    copy.check_ready()
    feats = random_feats(9, 5)
    base = frontend.per_utterance(feats)
    assert torch.equal(base, copy.per_utterance(feats))
    assert torch.equal(frontend.utterance(base), copy.utterance(base))


def test_state_holds_only_what_comes_from_data() -> None:
    assert set(Frontend(plain(delta_order=2, splice_left=5), 4).state_dict()) == set()
    assert set(Frontend(FrontendConfig(), 4).state_dict()) == {"shift", "scale"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cmvn": "speakers"}, "cmvn"),
        ({"fmllr": "global"}, "fmllr"),
        ({"splice_left": -1}, "splice_left"),
        ({"delta_order": -1}, "delta_order"),
        ({"lda_dim": -3}, "lda_dim"),
        ({"transform_dim": -3}, "transform_dim"),
        ({"delta_window": 0}, "delta_window"),
        ({"cmvn_window": 0}, "cmvn_window"),
        ({"norm_means": False, "norm_vars": True}, "norm_vars"),
        ({"cmvn": "sliding", "norm_means": False}, "norm_means"),
        ({"cmvn": "sliding", "cmvn_window": 50}, "cmvn_min_window"),
    ],
)
def test_wrong_fields_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        FrontendConfig(**changes)
    with pytest.raises(ConfigError, match=named):
        Frontend.from_config(dataclasses.asdict(FrontendConfig()) | changes, 4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"splice_left": 10**8}, "splice_left=100000000 "),
        ({"splice_right": 252, "delta_order": 2}, "splice_right=252 and 4 frames of delta_order"),
        ({"delta_window": 10**9, "delta_order": 1}, "1000000000 frames of delta_order and its window"),
        ({"transform_splice_right": 256}, "transform_splice_right"),
        ({"transform_delta_order": 10**6, "transform_delta_window": 1}, "1000000 frames of transform_delta_order"),
    ],
)
def test_neighbours_beyond_any_use_are_refused_before_they_take_memory(changes: dict[str, Any], named: str) -> None:
    assert Frontend(plain(splice_left=255, splice_right=251, transform_splice_left=255), 1).num_spliced == 507
    with pytest.raises(ConfigError, match=f"front end: .*{named}.* reach over more than 255 frames"):
        Frontend.from_config(plain(**changes), 4)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="splice_middle"):
        Frontend.from_config({"splice_middle": 3}, 4)


def test_values_that_do_not_belong_are_refused() -> None:
    frontend = Frontend(plain(), 4)
    for setter in (frontend.set_global_cmvn, frontend.set_transform, frontend.set_lda):
        with pytest.raises(ConfigError):
            setter(torch.ones(2, 5))
    with pytest.raises(ConfigError, match="global_norm"):
        frontend.set_global_norm(torch.zeros(4), torch.ones(4))
    with_norm = Frontend(plain(global_norm=True), 4)
    with pytest.raises(DataError, match="shape"):
        with_norm.set_global_norm(torch.zeros(5), torch.ones(5))
    with pytest.raises(DataError, match="NaN"):
        with_norm.set_global_norm(torch.full((4,), torch.nan), torch.ones(4))
