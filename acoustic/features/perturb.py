"""Speed perturbation: audio played faster or slower, its alignments stretched to match.

As `sox speed` does and Kaldi's utils/perturb_data_dir_speed.sh uses it (Ko et al., Audio augmentation for speech
recognition, Interspeech 2015): the signal is resampled, so tempo and pitch both change.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

# A long Kaiser-windowed sinc: aliases stay some 120 dB down up to 95 % of the Nyquist frequency.
RESAMPLING = {
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}

MAX_DENOMINATOR = 1000  # of a speed as a fraction; the resampling filter grows with it


def parse_speed(text: str) -> Fraction:
    """A speed such as `0.9` as an exact fraction.

    Raises:
        ValueError: not a number between 0.25 and 4, or with more than three decimals.
    """
    try:
        speed = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{text!r} is no number") from error
    if not Fraction(1, 4) <= speed <= 4:
        raise ValueError(f"speed {text} is not between 0.25 and 4")
    if speed.denominator > MAX_DENOMINATOR:
        raise ValueError(f"speed {text} has more than three decimals")
    return speed


def perturb_speed(samples: NDArray[np.float32], speed: Fraction) -> NDArray[np.float32]:
    """Samples [num_samples] played at `speed` times the speed: float32 [num_samples / speed], rounded up."""
    if speed == 1:
        return samples
    waveform = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    resampled = torchaudio.functional.resample(waveform, speed.numerator, speed.denominator, **RESAMPLING)
    return np.asarray(resampled.numpy())


def stretch_labels(
    labels: NDArray[np.int32], num_frames: int, speed: Fraction, window_size: int, window_shift: int
) -> NDArray[np.int32]:
    """Frame labels of an utterance played at `speed`: each frame takes the label at the same point of the speech.

    The middle of new frame t lies at t * shift + size / 2 samples, which was speed times as far into the utterance;
    the old frame whose middle is nearest gives the label. Repeated or dropped frames make the result no path through
    any HMM: it is for training frame classifiers only.

    Args:
        labels: [T] of the original utterance.
        num_frames: frames of the perturbed one.
        speed: factor.
        window_size: samples in a frame.
        window_shift: samples from one frame to the next.

    Returns:
        [num_frames].
    """
    middle = (np.arange(num_frames) * window_shift + window_size / 2) * float(speed)
    nearest = np.rint((middle - window_size / 2) / window_shift).astype(np.int64)
    return labels[np.clip(nearest, 0, len(labels) - 1)]
