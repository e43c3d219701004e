"""Splicing: each frame with its neighbours, as Kaldi's splice-feats."""

from __future__ import annotations

import torch
from torch import Tensor


def splice(feats: Tensor, left: int, right: int) -> Tensor:
    """Join each frame of `feats` [T, dim] with `left` frames before and `right` after it: [T, (left+1+right) * dim].

    Beyond the edges the first or last frame repeats.
    """
    num_frames = feats.shape[0]
    offset = torch.arange(-left, right + 1, device=feats.device)
    position = torch.arange(num_frames, device=feats.device).unsqueeze(1) + offset
    return feats[position.clamp(0, num_frames - 1)].flatten(1)
