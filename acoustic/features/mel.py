"""The mel filter bank, in Kaldi's float32 arithmetic (feat/mel-computations.cc)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def mel_scale(freq: FloatArray) -> FloatArray:
    """Hertz to mel."""
    return np.float32(1127.0) * np.log(np.float32(1.0) + freq / np.float32(700.0))


def inverse_mel_scale(mel: FloatArray) -> FloatArray:
    """Mel to hertz."""
    return np.float32(700.0) * (np.exp(mel / np.float32(1127.0)) - np.float32(1.0))


def vtln_warp_freq(
    freq: FloatArray, low_freq: float, high_freq: float, vtln_low: float, vtln_high: float, warp: float
) -> FloatArray:
    """Warp frequencies piecewise linearly for vocal tract length normalisation (MelBanks::VtlnWarpFreq).

    The middle piece is freq / warp; the outer two keep `low_freq` and `high_freq` in place. Frequencies outside those
    are not moved.
    """
    lower, upper = vtln_low * max(1.0, warp), vtln_high * min(1.0, warp)
    knots = [low_freq, lower, upper, high_freq]
    values = [low_freq, lower / warp, upper / warp, high_freq]
    inside = (freq >= low_freq) & (freq <= high_freq)
    return np.where(inside, np.interp(freq, knots, values), freq).astype(np.float32)


def mel_banks(
    num_bins: int,
    num_fft: int,
    sample_frequency: float,
    low_freq: float,
    high_freq: float,
    vtln_low: float = 100.0,
    vtln_high: float = -500.0,
    vtln_warp: float = 1.0,
) -> FloatArray:
    """Weights of triangular filters, equally spaced in mel, on the bins of a spectrum: [num_fft // 2 + 1, num_bins].

    Args:
        num_bins: filters.
        num_fft: samples in the (padded) Fourier transform.
        sample_frequency: Hz.
        low_freq: lower edge of the first filter, Hz.
        high_freq: upper edge of the last filter, Hz; when not positive, its distance from the Nyquist frequency.
        vtln_low: lower inflection point of the VTLN warp, Hz.
        vtln_high: upper one; when negative, its distance from the Nyquist frequency.
        vtln_warp: VTLN warp factor; 1 does nothing.

    Raises:
        ValueError: naming the options that contradict each other.
    """
    nyquist = 0.5 * sample_frequency
    high = high_freq if high_freq > 0 else nyquist + high_freq
    if num_bins < 3:
        raise ValueError(f"num_mel_bins must be at least 3, it is {num_bins}")
    if not 0 <= low_freq < high <= nyquist:
        raise ValueError(f"low_freq {low_freq:g} and high_freq {high:g} do not fit a Nyquist frequency of {nyquist:g}")
    upper = vtln_high if vtln_high >= 0 else nyquist + vtln_high
    if vtln_warp != 1.0 and not low_freq < vtln_low < upper < high:
        raise ValueError(f"vtln_low {vtln_low:g} and vtln_high {upper:g} do not lie between {low_freq:g} and {high:g}")

    low_mel, high_mel = mel_scale(np.array([low_freq, high], np.float32))
    step = (high_mel - low_mel) / np.float32(num_bins + 1)
    edges = low_mel + np.arange(num_bins + 2, dtype=np.float32) * step
    if vtln_warp != 1.0:
        edges = mel_scale(vtln_warp_freq(inverse_mel_scale(edges), low_freq, high, vtln_low, upper, vtln_warp))
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    # The bin of the Nyquist frequency itself belongs to no filter, as in Kaldi.
    freq = np.float32(sample_frequency / num_fft) * np.arange(num_fft // 2, dtype=np.float32)
    mel = mel_scale(freq)[:, None]
    rising, falling = (mel - left) / (center - left), (right - mel) / (right - center)
    weights = np.where((mel > left) & (mel < right), np.where(mel <= center, rising, falling), np.float32(0))
    if not weights.any(0).all():
        raise ValueError(f"num_mel_bins={num_bins} is too many: a filter lies between two bins of the spectrum")
    return np.pad(weights, ((0, 1), (0, 0))).astype(np.float32)
