"""How it reaches us: the telephone band at 8 kHz, with noise at a chosen signal-to-noise ratio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 8000
BAND_HZ = (300.0, 3400.0)
EDGE_HZ = 100.0
"""Width of the raised-cosine slopes of the band."""

SNRS_DB = (30.0, 20.0, 15.0, 10.0, 5.0)
NOISES = ("white", "pink", "babble")
LEVEL_DB = (-32.0, -20.0)
"""Range of speech levels below full scale."""
CEILING = 0.95 * 32767

Signal = NDArray[np.float64]


def to_telephone_rate(samples: NDArray[np.int16], sample_rate: int) -> Signal:
    """Resample to 8 kHz by cutting the spectrum at 4 kHz.

    Linear phase without delay, so that times stay true. The length is int(num_samples * 8000 / sample_rate).
    """
    # Lengths must be multiples of the ratio's denominator for the time scale to be exact.
    divisor = np.gcd(sample_rate, SAMPLE_RATE)
    block = sample_rate // divisor
    num_blocks = -(-len(samples) // block)
    padded = np.zeros(num_blocks * block)
    padded[: len(samples)] = samples
    num_out = num_blocks * (SAMPLE_RATE // divisor)
    spectrum = np.fft.rfft(padded)[: num_out // 2 + 1]
    resampled = np.fft.irfft(spectrum, num_out) * (num_out / len(padded))
    return resampled[: len(samples) * SAMPLE_RATE // sample_rate]


def band_pass(signal: Signal) -> Signal:
    """Keep the telephone band, without delay."""
    frequencies = np.fft.rfftfreq(len(signal), 1.0 / SAMPLE_RATE)
    low, high = BAND_HZ
    rising = np.clip((frequencies - low) / EDGE_HZ + 0.5, 0.0, 1.0)
    falling = np.clip((high - frequencies) / EDGE_HZ + 0.5, 0.0, 1.0)
    gain = np.sin(0.5 * np.pi * rising) ** 2 * np.sin(0.5 * np.pi * falling) ** 2
    return np.fft.irfft(np.fft.rfft(signal) * gain, len(signal))


def make_noise(kind: str, num_samples: int, babble: Signal, rng: np.random.Generator) -> Signal:
    """Noise of a kind in NOISES; babble is a random stretch of `babble`, repeated when too short."""
    if kind == "babble":
        offset = int(rng.integers(len(babble)))
        return np.resize(np.roll(babble, -offset), num_samples)
    white = rng.standard_normal(num_samples)
    if kind == "white":
        return white
    frequencies = np.fft.rfftfreq(num_samples, 1.0 / SAMPLE_RATE)
    return np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.maximum(frequencies, 50.0)), num_samples)


def transmit(speech: Signal, babble: Signal, rng: np.random.Generator) -> NDArray[np.int16]:
    """Add noise to clean speech at 8 kHz and send it through the telephone band.

    Level, kind of noise and signal-to-noise ratio are drawn from `rng`. The ratio is that of the powers within the
    band, speech being measured where it is not silent.
    """
    speech = band_pass(speech)
    kind = NOISES[int(rng.integers(len(NOISES)))]
    noise = band_pass(make_noise(kind, len(speech), babble, rng))
    snr_db = SNRS_DB[int(rng.integers(len(SNRS_DB)))]
    speech_rms = active_rms(speech)
    noise *= speech_rms / np.sqrt(np.mean(noise**2)) * 10.0 ** (-snr_db / 20.0)
    level = 32768.0 * 10.0 ** (rng.uniform(*LEVEL_DB) / 20.0)
    sound = (speech + noise) * (level / speech_rms)
    sound *= min(1.0, CEILING / np.max(np.abs(sound)))
    return np.round(sound).astype(np.int16)


def active_rms(speech: Signal) -> float:
    """Root mean square over the samples whose 20 ms surroundings are within 40 dB of the loudest ones."""
    window = SAMPLE_RATE // 50
    power = np.convolve(speech**2, np.full(window, 1.0 / window), mode="same")
    return float(np.sqrt(np.mean(speech[power > 1e-4 * power.max()] ** 2)))
