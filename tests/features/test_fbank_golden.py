"""fbank against Kaldi's own output, an independent float64 computation, and kaldi-native-fbank."""

from __future__ import annotations

import math
from typing import Any

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acoustic.features.audio import iter_audio, read_audio
from acoustic.features.fbank import WINDOW_TYPES, Fbank, FbankOptions
from acoustic.features.mel import mel_banks
from acoustic.kaldi.datadir import DataDir
from tests.features.feature_data import GOLDEN, matrices, waveforms

TOLERANCE = 1e-3  # what "equal to Kaldi's" means here

CASES: dict[str, dict[str, Any]] = {
    "fbank40.ark": {},
    "fbank23_hamming.ark": {"num_mel_bins": 23, "window_type": "hamming", "low_freq": 64, "high_freq": -200},
    "fbank40_nosnip.ark": {"snip_edges": False},
    "fbank40_energy_htk.ark": {"use_energy": True, "htk_compat": True},
}


def narrow_band(**changes: Any) -> FbankOptions:
    return FbankOptions(**({"sample_frequency": 8000.0, "num_mel_bins": 40, "dither": 0.0} | changes))


@pytest.mark.parametrize("name", CASES)
def test_equals_kaldi(name: str) -> None:
    expected, audio = matrices(name), waveforms()
    fbank = Fbank(narrow_band(**CASES[name]))
    feats = fbank([audio[utt] for utt in expected])
    for ours, theirs in zip(feats, expected.values(), strict=True):
        assert ours.shape == theirs.shape == (len(ours), fbank.dim)
        assert (ours - theirs).abs().max() < TOLERANCE


def test_equals_kaldi_at_16_khz() -> None:
    samples, rate = read_audio(str(GOLDEN / "wav" / "wide_16k.wav"))
    options = FbankOptions(sample_frequency=rate, num_mel_bins=80, dither=0.0)
    (expected,) = matrices("fbank80_16k.ark").values()
    (feats,) = Fbank(options)([torch.from_numpy(samples)])
    assert feats.shape == expected.shape
    assert (feats - expected).abs().max() < TOLERANCE


def test_equals_kaldi_on_segments() -> None:
    data_dir = DataDir.read(GOLDEN / "wav", GOLDEN)
    assert data_dir.segments
    expected = matrices("fbank40_segments.ark")
    audio = {utt: torch.from_numpy(samples) for utt, samples, _ in iter_audio(data_dir)}
    assert list(audio) == list(expected)
    for ours, theirs in zip(Fbank(narrow_band())(list(audio.values())), expected.values(), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < TOLERANCE


def textbook_fbank(samples: Tensor, options: FbankOptions) -> Tensor:
    """The definition, frame by frame in float64."""
    size, shift = options.window_size, options.window_shift
    n = np.arange(size)
    phase = 2 * math.pi * n / (size - 1)
    window = {
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "hanning": 0.5 - 0.5 * np.cos(phase),
        "povey": (0.5 - 0.5 * np.cos(phase)) ** 0.85,
        "rectangular": np.ones(size),
        "sine": np.sin(math.pi * n / (size - 1)),
        "blackman": options.blackman_coeff - 0.5 * np.cos(phase) + (0.5 - options.blackman_coeff) * np.cos(2 * phase),
    }[options.window_type]
    wave = samples.double().numpy()
    banks = mel_banks(
        options.num_mel_bins, options.num_fft, options.sample_frequency, options.low_freq, options.high_freq,
        options.vtln_low, options.vtln_high, options.vtln_warp,
    ).astype(np.float64)  # fmt: skip
    rows = []
    for t in range(options.num_frames(len(wave))):
        first = t * shift if options.snip_edges else t * shift + shift // 2 - size // 2
        index = np.arange(first, first + size)
        while ((index < 0) | (index >= len(wave))).any():
            index = np.where(index < 0, -index - 1, index)
            index = np.where(index >= len(wave), 2 * len(wave) - 1 - index, index)
        frame = wave[index]
        if options.remove_dc_offset:
            frame = frame - frame.mean()
        raw = (frame**2).sum()
        frame = frame - options.preemphasis_coefficient * np.concatenate([frame[:1], frame[:-1]])
        frame = frame * window
        spectrum = np.abs(np.fft.rfft(frame, options.num_fft))
        mel = (spectrum**2 if options.use_power else spectrum) @ banks
        if options.use_log_fbank:
            mel = np.log(np.maximum(mel, np.finfo(np.float32).eps))
        if options.use_energy:
            energy = max(raw if options.raw_energy else (frame**2).sum(), np.finfo(np.float32).eps)
            if options.energy_floor > 0:
                energy = max(energy, options.energy_floor)
            mel = np.append(mel, np.log(energy)) if options.htk_compat else np.insert(mel, 0, np.log(energy))
        rows.append(mel)
    return torch.from_numpy(np.array(rows).reshape(len(rows), options.num_mel_bins + int(options.use_energy)))


OPTIONS = st.fixed_dictionaries(
    {
        "sample_frequency": st.sampled_from([8000.0, 11025.0, 16000.0]),
        "frame_length": st.sampled_from([25.0, 20.0, 25.7]),
        "frame_shift": st.sampled_from([10.0, 7.3]),
        "preemphasis_coefficient": st.sampled_from([0.97, 0.0, 0.5]),
        "remove_dc_offset": st.booleans(),
        "window_type": st.sampled_from(WINDOW_TYPES),
        "blackman_coeff": st.sampled_from([0.42, 0.3]),
        "snip_edges": st.booleans(),
        "num_mel_bins": st.sampled_from([15, 23]),
        "low_freq": st.sampled_from([0.0, 20.0]),
        "high_freq": st.sampled_from([0.0, -400.0, 3500.0]),
        "vtln_warp": st.sampled_from([1.0, 0.9, 1.1]),
        "use_energy": st.booleans(),
        "energy_floor": st.sampled_from([0.0, 1.0, 1e12]),
        "raw_energy": st.booleans(),
        "htk_compat": st.booleans(),
        "use_log_fbank": st.booleans(),
        "use_power": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(changes=OPTIONS, num_samples=st.integers(1, 3000), seed=st.integers(0, 99))
def test_every_option_does_what_its_definition_says(changes: dict[str, Any], num_samples: int, seed: int) -> None:
    changes = changes | {"low_freq": 20.0} if changes["vtln_warp"] != 1.0 else changes
    changes |= {"vtln_high": -500.0 if changes["high_freq"] == 0.0 else -600.0}
    if changes["high_freq"] == 3500.0 and changes["sample_frequency"] > 8000.0:
        changes["vtln_high"] = 3000.0
    options = FbankOptions(dither=0.0, **changes)
    samples = 1000 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)).double() + 300
    (feats,) = Fbank(options)([samples])
    expected = textbook_fbank(samples, options)
    assert feats.shape == expected.shape
    if len(feats):
        scale = 1.0 if options.use_log_fbank else float(expected.abs().max())
        assert (feats - expected).abs().max() < 2e-3 * scale


@pytest.mark.parametrize("num_fft_is_power", [True, False])
def test_frames_need_not_be_padded(num_fft_is_power: bool) -> None:
    options = narrow_band(round_to_power_of_two=num_fft_is_power, frame_length=25.25)
    samples = 1000 * torch.randn(2000, generator=torch.Generator().manual_seed(3))
    (feats,) = Fbank(options)([samples])
    assert options.num_fft == (256 if num_fft_is_power else 202)
    assert (feats - textbook_fbank(samples, options)).abs().max() < 1e-3


@pytest.mark.parametrize(("rate", "bins"), [(8000, 23), (16000, 40)])
@pytest.mark.parametrize("vtln_warp", [1.0, 0.85, 1.15])
def test_mel_filters_agree_with_kaldi_native_fbank(rate: int, bins: int, vtln_warp: float) -> None:
    frame, mel = kaldi_native_fbank.FrameExtractionOptions(), kaldi_native_fbank.MelBanksOptions()
    frame.samp_freq, mel.num_bins, mel.low_freq, mel.high_freq = rate, bins, 20, -100
    theirs = kaldi_native_fbank.MelBanks(mel, frame, vtln_warp).get_matrix()
    ours = mel_banks(bins, rate // 1000 * 32, rate, 20.0, -100.0, vtln_warp=vtln_warp)
    np.testing.assert_allclose(ours.T[:, : np.shape(theirs)[1]], theirs, atol=2e-3)


def test_a_batch_gives_what_single_utterances_give() -> None:
    generator = torch.Generator().manual_seed(1)
    audio = [1000 * torch.randn(n, generator=generator) for n in (0, 150, 8000, 199, 200, 90_000, 240, 12_345)]
    for snip_edges in (True, False):
        fbank = Fbank(narrow_band(snip_edges=snip_edges))
        for together, samples in zip(fbank(audio), audio, strict=True):
            (alone,) = fbank([samples])
            assert together.shape == alone.shape
            assert torch.allclose(together, alone, atol=1e-4)
    assert [len(f) for f in Fbank(narrow_band())(audio)] == [0, 0, 98, 0, 1, 1123, 1, 152]


def test_utterances_do_not_see_their_neighbours() -> None:
    generator = torch.Generator().manual_seed(1)
    audio = [1000 * torch.randn(4000, generator=generator) for _ in range(3)]
    fbank = Fbank(narrow_band())
    quiet, loud = fbank(audio)[1], fbank([audio[0] * 30, audio[1], audio[2] * 30])[1]
    assert torch.equal(quiet, loud)


def test_without_snipped_edges_half_a_shift_more_gives_another_frame() -> None:
    """NumFrames of feature-window.cc."""
    options = narrow_band(snip_edges=False)
    assert [options.num_frames(samples) for samples in (0, 39, 40, 119, 120, 200)] == [0, 0, 1, 1, 2, 3]


def test_integer_samples_are_read_as_values() -> None:
    samples = (1000 * torch.randn(1000, generator=torch.Generator().manual_seed(1))).short()
    fbank = Fbank(narrow_band())
    assert torch.equal(fbank([samples])[0], fbank([samples.float()])[0])


def test_silence_is_floored() -> None:
    (feats,) = Fbank(narrow_band())([torch.zeros(800)])
    assert torch.allclose(feats, torch.tensor(torch.finfo(torch.float32).eps).log())


def test_dither_depends_on_the_utterance_alone() -> None:
    samples = 1000 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    fbank = Fbank(narrow_band(dither=1.0))
    first, second = fbank([samples, samples], ["a", "b"])
    again = fbank([samples, samples[:2000], samples], ["b", "c", "a"])
    assert torch.allclose(first, again[2], atol=1e-5) and torch.allclose(second, again[0], atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-3)


def test_dither_has_the_deviation_asked_for() -> None:
    options = narrow_band(dither=2.0, use_energy=True, raw_energy=True, remove_dc_offset=False)
    (feats,) = Fbank(options)([torch.zeros(80_000)], ["a"])
    assert feats[:, 0].exp().mean() / options.window_size == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"window_type": "triangular"}, "window_type"),
        ({"preemphasis_coefficient": 1.5}, "preemphasis_coefficient"),
        ({"dither": -1.0}, "dither"),
        ({"frame_shift": 0.01}, "frame_shift"),
        ({"frame_length": 0.1}, "frame_length"),
        ({"vtln_warp": 0.0}, "vtln_warp"),
        ({"num_mel_bins": 2}, "num_mel_bins"),
        ({"num_mel_bins": 120}, "num_mel_bins"),
        ({"low_freq": 4000.0}, "low_freq"),
        ({"high_freq": 5000.0}, "high_freq"),
        ({"vtln_warp": 1.1, "vtln_high": -10.0, "high_freq": -100.0}, "vtln_high"),
        ({"round_to_power_of_two": False, "frame_length": 25.2}, "round_to_power_of_two"),
    ],
)
def test_impossible_options_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Fbank(narrow_band(**changes))
