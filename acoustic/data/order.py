"""The order in which frames are trained on: a pure function of (seed, epoch, position).

A shuffled list of 10^8 frames would have to be made, kept and, after an interruption, made again. Instead the frame
at any position is computed: a keyed permutation of {0, ..., size - 1} evaluated at single points, in integer
arithmetic that is the same on every device. Resuming at any batch costs nothing, and no loader can change the order.

The permutation is an unbalanced Feistel network on pairs (row, column) with columns a power of two, as in Black and
Rogaway, "Ciphers with arbitrary finite domains" (CT-RSA 2002), section 5; their cycle walking brings the few points
beyond `size` back.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# Pairs of rounds. Four rounds make a Feistel network pseudo-random (Luby and Rackoff 1988); the rest is for our
# round function, which is a mixer and no cipher.
NUM_ROUND_PAIRS = 4
MASK_32 = 0xFFFFFFFF
# Odd multipliers below 2^31, so that a product with a 32-bit number stays below 2^63: no overflow on any device.
MULTIPLIERS = (0x7FEB352D, 0x31848BAB)


def _round_keys(key: str) -> list[int]:
    """One 32-bit key for each round, from the SHA-256 of `key`."""
    digest = hashlib.sha256(key.encode()).digest()
    return [int.from_bytes(digest[4 * i : 4 * i + 4], "little") for i in range(2 * NUM_ROUND_PAIRS)]


def _mix(values: Tensor, key: int) -> Tensor:
    """Hash int64 values in [0, 2^32) to int64 values in [0, 2^32)."""
    mixed = values ^ key
    for multiplier in MULTIPLIERS:
        mixed = mixed.bitwise_xor_(mixed >> 16).mul_(multiplier).bitwise_and_(MASK_32)
    return mixed.bitwise_xor_(mixed >> 15)


class Permutation:
    """A pseudo-random permutation of {0, ..., size - 1}, evaluated at any positions.

    Args:
        size: how many elements are permuted, at most 2^60.
        key: any text; equal keys give equal permutations.
    """

    def __init__(self, size: int, key: str) -> None:
        self.size = size
        self._column_bits = max(size - 1, 0).bit_length() // 2
        self._num_rows = -(-size // (1 << self._column_bits))
        self._keys = _round_keys(key)
        self._beyond = {torch.device("cpu"): self._walk_back()}

    def __call__(self, positions: Tensor) -> Tensor:
        """The elements at `positions` (int64, any shape, each in [0, size)), on the same device."""
        images = self._encipher(positions)
        beyond = self._beyond_on(positions.device)
        if beyond.numel() == 0:
            return images
        return torch.where(images < self.size, images, beyond[(images - self.size).clamp_(min=0)])

    def _encipher(self, points: Tensor) -> Tensor:
        """The Feistel network on the whole rectangle {0, ..., num_rows * 2^column_bits - 1}."""
        mask = (1 << self._column_bits) - 1
        rows, columns = points >> self._column_bits, points & mask
        for row_key, column_key in zip(self._keys[::2], self._keys[1::2], strict=True):
            # hash * num_rows / 2^32 is spread over the rows without a division.
            rows = rows + ((_mix(columns, row_key) * self._num_rows) >> 32)
            rows = torch.where(rows < self._num_rows, rows, rows - self._num_rows)
            columns = columns ^ (_mix(rows, column_key) & mask)
        return (rows << self._column_bits) | columns

    def _walk_back(self) -> Tensor:
        """For every point of the rectangle beyond `size`: the first point within reached by enciphering it again.

        Fewer than 2^column_bits points (about the square root of the size) lie beyond. Walking them once here spares
        every later call a loop of unknown length, which on a GPU would have to wait for the device. A point whose
        cycle lies beyond as a whole is reached from nowhere within, so its entry is never used.
        """
        start = torch.arange(self.size, self._num_rows << self._column_bits)
        points = self._encipher(start)
        while bool((walking := (points >= self.size) & (points != start)).any()):
            points = torch.where(walking, self._encipher(points), points)
        return points

    def _beyond_on(self, device: torch.device) -> Tensor:
        """The table of `_walk_back` on a device."""
        if device not in self._beyond:
            self._beyond[device] = on_device(self._beyond[torch.device("cpu")], device)
        return self._beyond[device]


def on_device(table: Tensor, device: torch.device) -> Tensor:
    """A table of the host's on a device, for which nothing waits: from pageable memory a GPU's host would."""
    if device.type == "cuda":
        return table.pin_memory().to(device, non_blocking=True)
    return table.to(device)


@functools.lru_cache(maxsize=8)
def _permutation(size: int, key: str) -> Permutation:
    """A permutation, kept while it is in use."""
    return Permutation(size, key)


class Order(Protocol):
    """Which frame stands at which position of an epoch."""

    def index(self, positions: Tensor, begin: int, end: int) -> Tensor:
        """Frame indices (int64) at `positions` (int64 [B], increasing, within begin, ..., end - 1), on their device."""


class FrameOrder:
    """All frames of a corpus in one shuffle, each exactly once per epoch.

    Args:
        seed: the run's seed.
        epoch: number of the epoch.
        num_frames: frames in the corpus.
    """

    def __init__(self, seed: int, epoch: int, num_frames: int) -> None:
        self._permutation = _permutation(num_frames, f"frames {seed} {epoch}")

    def index(self, positions: Tensor, begin: int, end: int) -> Tensor:
        """As `Order.index`."""
        return self._permutation(positions)


class SequentialOrder:
    """All frames as they stand in the cache, for evaluation."""

    def index(self, positions: Tensor, begin: int, end: int) -> Tensor:
        """The positions themselves."""
        return positions


def frame_order(
    seed: int, epoch: int, begin: int, end: int, num_frames: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Frame indices at the positions begin, ..., end - 1 of an epoch: int64 [end - begin] on `device`."""
    return FrameOrder(seed, epoch, num_frames).index(torch.arange(begin, end, device=device), begin, end)


class WindowOrder:
    """A shuffle for corpora beyond memory: shards in random order, frames shuffled within windows of many shards.

    Every frame comes exactly once per epoch, and while positions run through one window only its shards are needed.

    Args:
        seed: the run's seed; None keeps shards and frames as they stand (evaluation).
        epoch: number of the epoch.
        shard_num_frames: frames in each shard.
        window_shards: shards in one window.

    Attributes:
        windows: the shards of each window, windows in the order of the epoch.
        key: tells orders of one cache apart.
    """

    def __init__(self, seed: int | None, epoch: int, shard_num_frames: Sequence[int], window_shards: int) -> None:
        sizes = np.asarray(shard_num_frames, dtype=np.int64)
        shards = torch.arange(len(sizes))
        if seed is not None:
            shards = _permutation(len(sizes), f"shards {seed} {epoch}")(shards)
        self.windows: list[list[int]] = _grouped(shards.tolist(), window_shards)
        self._begins = np.cumsum([0, *(int(sizes[window].sum()) for window in self.windows)])
        self._sizes, self._shard_begins = sizes, np.cumsum([0, *sizes])
        self.key = f"{seed} {epoch}"
        self._shuffled = seed is not None
        self._tables: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def window_at(self, position: int) -> int:
        """The window that holds a position of the epoch."""
        return int(np.searchsorted(self._begins, position, side="right")) - 1

    def index(self, positions: Tensor, begin: int, end: int) -> Tensor:
        """As `Order.index`: indices in the whole corpus."""
        return torch.cat([index for _, index in self.parts(positions, begin, end)])

    def parts(self, positions: Tensor, begin: int, end: int) -> list[tuple[int, Tensor]]:
        """`index` cut at the borders of windows: the number of each window and the indices of its frames."""
        first, last = self.window_at(begin), self.window_at(end - 1)
        if first == last:
            return [(first, self._index_in_window(first, positions))]
        cuts = torch.searchsorted(positions.cpu(), torch.as_tensor(self._begins[first + 1 : last + 1]))
        pieces = enumerate(positions.tensor_split(cuts), first)
        return [(window, self._index_in_window(window, piece)) for window, piece in pieces]

    def _index_in_window(self, window: int, positions: Tensor) -> Tensor:
        """Frame indices at positions that all lie in one window."""
        begin, end = (int(position) for position in self._begins[window : window + 2])
        local = positions - begin
        if self._shuffled:
            local = _permutation(end - begin, f"window {self.key} {window}")(local)
        shard_ends, shifts = self._shard_table(window, positions.device)
        return local + shifts[torch.searchsorted(shard_ends, local, right=True)]

    def _shard_table(self, window: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where each shard of a window ends in it, and what leads from there to its place in the corpus."""
        if (window, device) not in self._tables:
            shards = self.windows[window]
            ends = np.cumsum(self._sizes[shards])
            shifts = self._shard_begins[shards] - ends + self._sizes[shards]
            self._tables[window, device] = (
                on_device(torch.tensor(ends), device),
                on_device(torch.tensor(shifts), device),
            )
        return self._tables[window, device]


def _grouped(items: list[int], size: int) -> list[list[int]]:
    """Runs of `size` items, the last one shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]
