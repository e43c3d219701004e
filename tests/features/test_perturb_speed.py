"""Speed perturbation: what resampling and stretching do to tones and labels."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic.features.fbank import FbankOptions
from acoustic.features.perturb import parse_speed, perturb_speed, stretch_labels

RATE = 8000


def tone(frequency: float, num_samples: int = RATE) -> np.ndarray:
    return (1000 * np.sin(2 * np.pi * frequency * np.arange(num_samples) / RATE)).astype(np.float32)


@pytest.mark.parametrize("speed", ["0.9", "1.1", "0.95", "1.25"])
@pytest.mark.parametrize("frequency", [200.0, 1000.0, 2500.0])
def test_a_tone_gets_higher_and_shorter(speed: str, frequency: float) -> None:
    factor = Fraction(speed)
    perturbed = perturb_speed(tone(frequency), factor)
    assert perturbed.dtype == np.float32
    assert len(perturbed) == int(np.ceil(RATE / factor))
    expected = tone(frequency * float(factor), len(perturbed))
    inside = slice(200, -200)
    assert np.abs(perturbed - expected)[inside].max() < 1.0  # -60 dB


def test_what_would_alias_is_removed() -> None:
    perturbed = perturb_speed(tone(3900.0), Fraction("1.1"))  # 4290 Hz does not exist at 8 kHz
    assert np.abs(perturbed[200:-200]).max() < 1.0


def test_speed_one_changes_nothing() -> None:
    samples = tone(300.0)
    assert perturb_speed(samples, Fraction(1)) is samples


@pytest.mark.parametrize("text", ["", "fast", "0.1", "5", "0.98765", "-1", "nan", "1/0"])
def test_speeds_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_speed(text)


@settings(deadline=None)
@given(speed=st.sampled_from(["0.9", "1.1", "0.8", "1.0"]), num_samples=st.integers(400, 20_000), snip=st.booleans())
def test_labels_stay_at_their_place_in_the_speech(speed: str, num_samples: int, snip: bool) -> None:
    factor = Fraction(speed)
    options = FbankOptions(sample_frequency=RATE, snip_edges=snip)
    labels = np.arange(options.num_frames(num_samples), dtype=np.int32)
    num_frames = options.num_frames(int(np.ceil(num_samples / factor)))
    size, shift = options.window_size, options.window_shift
    stretched = stretch_labels(labels, num_frames, factor, size, shift)
    assert len(stretched) == num_frames and stretched.dtype == np.int32
    assert (np.diff(stretched) >= 0).all()
    middle = np.arange(num_frames) * shift + size / 2
    old_middle = stretched * shift + size / 2
    # Half a frame, and at the end as much as the last frames may lack.
    assert np.abs(middle * float(factor) - old_middle).max() <= shift / 2 + abs(1 - float(factor)) * size + shift
    if factor == 1:
        np.testing.assert_array_equal(stretched, labels)
