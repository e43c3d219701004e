"""Delta features: regression over neighbouring frames, as Kaldi's add-deltas (feat/feature-functions.cc)."""

from __future__ import annotations

import torch
from torch import Tensor


def delta_filters(order: int, window: int) -> Tensor:
    """Coefficients of the static frame and its deltas up to `order`: float32 [order + 1, 2 * order * window + 1].

    Row i, applied to the frames t - order * window .. t + order * window, gives the i-th delta at t. Each order
    convolves the one below with j / sum(j^2), j = -window .. window.
    """
    ramp = torch.arange(-window, window + 1, dtype=torch.float64)
    ramp = ramp / ramp.square().sum()
    filters = torch.zeros(order + 1, 2 * order * window + 1, dtype=torch.float64)
    row = torch.ones(1, dtype=torch.float64)
    for i in range(order + 1):
        margin = (order - i) * window
        filters[i, margin : margin + len(row)] = row
        # Convolution with the antisymmetric ramp, written as correlation: conv1d does not flip its kernel.
        row = torch.nn.functional.conv1d(row.view(1, 1, -1), ramp.flip(0).view(1, 1, -1), padding=2 * window).view(-1)
    return filters.float()


def add_deltas(feats: Tensor, order: int = 2, window: int = 2) -> Tensor:
    """Append deltas to `feats` [T, dim]: [T, dim * (order + 1)], static first; edge frames repeat beyond the edges."""
    num_frames, dim = feats.shape
    filters = delta_filters(order, window).to(feats)
    reach = order * window
    position = torch.arange(-reach, num_frames + reach, device=feats.device).clamp(0, num_frames - 1)
    neighbourhood = feats[position].unfold(0, 2 * reach + 1, 1)  # [T, dim, 2 * reach + 1]
    return (neighbourhood @ filters.t()).transpose(1, 2).reshape(num_frames, (order + 1) * dim)
