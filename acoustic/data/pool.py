"""Frames of a cache's shards on a device, with what a batch needs of each: pdf id, distances to utterance edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from acoustic.data.cache import FramesCache
from acoustic.features.config import MAX_REACH
from acoustic.features.frontend import Frontend


class FramePool:
    """Rows of frames on a device with what goes with each: pdf id and distances to its utterance's edges."""

    def __init__(self, num_rows: int, base_dim: int, frame_dtype: torch.dtype, device: torch.device) -> None:
        self.frames = torch.empty(num_rows, base_dim, dtype=frame_dtype, device=device)
        self.pdf_ids = torch.empty(num_rows, dtype=torch.int32, device=device)
        self.left = torch.empty(num_rows, dtype=torch.uint8, device=device)
        self.right = torch.empty(num_rows, dtype=torch.uint8, device=device)

    @staticmethod
    def num_bytes(num_rows: int, base_dim: int, frame_dtype: torch.dtype) -> int:
        """Memory that a pool takes."""
        return num_rows * (base_dim * frame_dtype.itemsize + 6)

    def fill(self, begin: int, cache: FramesCache, shard: int) -> int:
        """Put a shard of a cache into the rows from `begin` on; returns the row after it."""
        end = begin + int(cache.shard_num_frames[shard])
        left, right = edge_distances(cache.utterance_lengths(shard))
        for rows, values in (
            (self.frames, cache.read_frames(shard)),
            (self.pdf_ids, cache.read_pdf_ids(shard)),
            (self.left, left),
            (self.right, right),
        ):
            rows[begin:end].copy_(_staged(values, rows.device), non_blocking=True)
        return end

    def batch(self, frontend: Frontend, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Network inputs and targets of some rows."""
        left, right = self.left[rows].long(), self.right[rows].long()
        with torch.no_grad():
            inputs = frontend.window(self.frames, rows, left, right, dtype)
        return inputs, self.pdf_ids[rows].long()


def _staged(values: np.ndarray, device: torch.device) -> Tensor:
    """Values in memory from which a device can copy by itself."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def edge_distances(lengths: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For utterances of these lengths one after another: frames before and after each frame in its own utterance.

    Returns:
        two uint8 arrays [sum of lengths]; distances beyond 255 are given as 255, further than any front end reaches.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    left = np.arange(len(starts)) - starts
    right = np.repeat(lengths, lengths) - 1 - left
    return np.minimum(left, MAX_REACH).astype(np.uint8), np.minimum(right, MAX_REACH).astype(np.uint8)
