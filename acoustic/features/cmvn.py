"""Cepstral mean and variance normalisation: statistics and their application, as Kaldi's.

Statistics are Kaldi's matrix, float64 [2, dim + 1]: row 0 holds the sum of the frames and, last, their count; row 1 the
sum of squares (compute-cmvn-stats, transform/cmvn.cc).
"""

from __future__ import annotations

import torch
from torch import Tensor

from acoustic.errors import DataError

VARIANCE_FLOOR = 1e-20  # ApplyCmvn's
SLIDING_VARIANCE_FLOOR = 1e-10  # SlidingWindowCmn's
ROUNDING = 1e-3  # relative error of a variance that sums in single precision may have
REMEDY = "compute them from these features (acoustic cmvn)"


def cmvn_stats(feats: Tensor) -> Tensor:
    """Statistics of the frames of `feats` [T, dim]: float64 [2, dim + 1]. Those of several utterances simply add up."""
    feats = feats.float()
    stats = torch.zeros(2, feats.shape[1] + 1, dtype=torch.float64, device=feats.device)
    stats[0, :-1] = feats.sum(0, dtype=torch.float64)
    stats[1, :-1] = feats.square().sum(0, dtype=torch.float64)
    stats[0, -1] = feats.shape[0]
    return stats


def cmvn_shift_scale(stats: Tensor, norm_vars: bool) -> tuple[Tensor, Tensor | None]:
    """What normalisation with `stats` does to a frame x: (x + shift) * scale; scale is None without `norm_vars`.

    Both are float64 [dim]. Variances are floored at 1e-20 as Kaldi's ApplyCmvn does.

    Raises:
        DataError: statistics of fewer than one frame, that are no numbers or give negative variances beyond rounding,
            or without sums of squares where variances are asked for.
    """
    count = float(stats[0, -1])
    if not count >= 1.0:
        raise DataError(f"CMVN statistics hold {count:g} frames", remedy="make them of at least one frame")
    if not stats.isfinite().all():
        raise DataError("CMVN statistics hold NaN or infinity", remedy=REMEDY)
    mean = stats[0, :-1].double() / count
    if not norm_vars:
        return -mean, None
    if stats.shape[0] < 2:
        raise DataError("CMVN statistics hold no sums of squares", remedy="make them again, or set norm_vars=false")
    variance = stats[1, :-1].double() / count - mean.square()
    if bool((variance < -ROUNDING * (1 + mean.square())).any()):
        raise DataError("CMVN statistics give negative variances", remedy=REMEDY)
    return -mean, variance.clamp_min(VARIANCE_FLOOR).rsqrt()


def apply_cmvn(feats: Tensor, stats: Tensor, norm_vars: bool = False) -> Tensor:
    """Normalise `feats` [T, dim] to zero mean, and with `norm_vars` unit variance, under `stats` [2, dim + 1].

    As apply-cmvn; returns float32 [T, dim].

    Raises:
        DataError: the statistics are of another dimension, or hold no frames.
    """
    if stats.ndim != 2 or stats.shape[1] != feats.shape[1] + 1:
        raise DataError(
            f"CMVN statistics of shape {tuple(stats.shape)} do not fit features of dimension {feats.shape[1]}",
            remedy=REMEDY,
        )
    shift, scale = cmvn_shift_scale(stats.to(feats.device), norm_vars)
    centred = feats.float() + shift.float()
    return centred if scale is None else centred * scale.float()


def sliding_windows(num_frames: int, window: int, min_window: int, center: bool) -> tuple[Tensor, Tensor]:
    """First frame and end of each frame's normalisation window, int64 [num_frames] each (SlidingWindowCmnInternal)."""
    frame = torch.arange(num_frames)
    if center:
        begin, end = frame - window // 2, frame - window // 2 + window
    else:
        begin, end = frame - window, frame + 1
    end = end - begin.clamp_max(0)
    begin = begin.clamp_min(0)
    if not center:
        end = torch.where(end > frame, torch.clamp_min(frame + 1, min_window), end)
    begin = (begin - (end - num_frames).clamp_min(0)).clamp_min(0)
    return begin, end.clamp_max(num_frames)


def sliding_cmvn(
    feats: Tensor, window: int = 600, min_window: int = 100, center: bool = False, norm_vars: bool = False
) -> Tensor:
    """Normalise each frame of `feats` [T, dim] by the mean (and variance) of a window of frames around or before it.

    As apply-cmvn-sliding, whose options and defaults these are; returns float32 [T, dim].
    """
    begin, end = (edge.to(feats.device) for edge in sliding_windows(feats.shape[0], window, min_window, center))
    count = (end - begin).double().unsqueeze(1)
    exact = feats.double()
    mean = _window_sums(exact, begin, end) / count
    centred = exact - mean
    if not norm_vars:
        return centred.float()
    variance = _window_sums(exact.square(), begin, end) / count - mean.square()
    normalised = centred * variance.clamp_min(SLIDING_VARIANCE_FLOOR).rsqrt()
    return torch.where(count == 1, 0.0, normalised).float()


def _window_sums(values: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Sums of the rows begin[t] .. end[t] - 1 of `values` [T, dim], for every t: [T, dim]."""
    total = torch.nn.functional.pad(values.cumsum(0), (0, 0, 1, 0))
    return total[end] - total[begin]
