"""Batches of network inputs and targets, assembled on the training device from the frames of a cache by index.

A batch depends on (seed, epoch, batch number) alone: not on where a run was resumed, nor on how many threads work
ahead. Splicing and deltas stop at the edges of each utterance.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator

import torch
from torch import Tensor

from acoustic.data.cache import FramesCache
from acoustic.data.order import FrameOrder, Order, SequentialOrder
from acoustic.data.pool import FramePool
from acoustic.data.prefetch import prefetch
from acoustic.features.frontend import Frontend

# Frames assembled at once. A block of several batches shares the cost of starting each operation; on a GPU that is what
# counts.
BLOCK_FRAMES = {"cpu": 4096, "cuda": 65536}
# Values of network inputs in them, unless a single batch has more. On the CPU a block should still fit the cache; for
# larger ones the C library also asks the system for memory anew each time, which makes them three times as slow.
BLOCK_VALUES = {"cpu": 5 << 19, "cuda": 1 << 27}
MAX_BLOCK_BATCHES = 64  # more share no cost worth mentioning; of small batches it would be megabytes that come and go


class Store(abc.ABC):
    """Frames of a cache, ready to be made into batches.

    Args:
        cache: the frames and their pdf ids.
        frontend: makes network inputs of them; moved to `device`.
        device: where batches are assembled and end up.
        dtype: of the network inputs.

    Attributes:
        num_frames: frames in the cache.
        num_pdfs: senones of the alignments' model.

    Raises:
        ConfigError: the front end reaches further than distances to utterance edges are kept.
    """

    def __init__(
        self,
        cache: FramesCache,
        frontend: Frontend,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.cache, self.device, self.dtype = cache, torch.device(device), dtype
        self.frontend = frontend.to(self.device)
        self.num_frames, self.num_pdfs = cache.num_frames, cache.num_pdfs

    @abc.abstractmethod
    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Network inputs [B, input_dim] and targets (int64 [B]) of the frames `index` (int64 [B], on the device)."""

    @abc.abstractmethod
    def order(self, seed: int | None, epoch: int) -> Order:
        """The order of the frames in an epoch; `seed` None: as they stand in the cache."""

    def num_batches(self, batch_size: int) -> int:
        """Batches in an epoch; the last may be smaller than `batch_size`."""
        return -(-self.num_frames // batch_size)

    def batch_index(
        self, batch_size: int, seed: int | None, epoch: int, batch: int, rank: int = 0, world_size: int = 1
    ) -> Tensor:
        """The frames (int64 indices on the device) of one batch, or of one rank's part of it."""
        block = Block(batch, 1, batch_size, self.num_frames, rank, world_size)
        return self.order(seed, epoch).index(block.positions(self.device), block.begin, block.end)

    def numbered_batch(self, batch_size: int, seed: int | None, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """One batch, as `batches` gives it, for those that do not take all of them in turn."""
        return self._gather(self.order(seed, epoch), Block(batch, 1, batch_size, self.num_frames, 0, 1))

    def utterances(self, index: Tensor) -> list[str]:
        """The utterance that each of the frames `index` belongs to."""
        return self.cache.utterances_of(index.cpu().numpy())

    def batches(
        self,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        first_batch: int = 0,
        end_batch: int | None = None,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches first_batch, ..., end_batch - 1 of an epoch: (inputs [B, input_dim], targets int64 [B]).

        Args:
            batch_size: frames in a batch, over all ranks together; the epoch's last batch may be smaller.
            seed: of the shuffle; None goes through the cache in order.
            epoch: number of the epoch.
            first_batch: where to begin.
            end_batch: where to stop; None: at the epoch's end.
            workers: 0 assembles when asked; more let a thread work ahead on the CPU (a GPU works ahead anyway), which
                is slower where it shares its cores with the one that trains (see `prefetch.one_core`).
            rank: which part of every batch to give,
            world_size: of how many parts.
        """
        end_batch = self.num_batches(batch_size) if end_batch is None else end_batch
        order = self.order(seed, epoch)
        blocks = self._blocks(batch_size, first_batch, end_batch, rank, world_size)
        assembled: Iterator[list[tuple[Tensor, Tensor]]] = (
            self._assemble(order, block, first_batch, end_batch) for block in blocks
        )
        if workers > 0 and self.device.type == "cpu":
            assembled = prefetch(assembled)
        for batches in assembled:
            yield from batches

    def _blocks(self, batch_size: int, first_batch: int, end_batch: int, rank: int, world_size: int) -> Iterator[Block]:
        """The blocks that cover some batches, starting at multiples of the block's size wherever the run began."""
        block_frames = BLOCK_FRAMES[self.device.type]
        block_frames = min(block_frames, BLOCK_VALUES[self.device.type] // self.frontend.input_dim)
        per_block = max(1, min(MAX_BLOCK_BATCHES, block_frames // batch_size))
        num_full = self.num_frames // batch_size
        for first in range(first_batch // per_block * per_block, min(end_batch, num_full), per_block):
            count = min(per_block, num_full - first)
            yield Block(first, count, batch_size, self.num_frames, rank, world_size)
        if first_batch <= num_full < end_batch:
            yield Block(num_full, 1, batch_size, self.num_frames, rank, world_size)

    def _assemble(self, order: Order, block: Block, first_batch: int, end_batch: int) -> list[tuple[Tensor, Tensor]]:
        """Those batches of a block that were asked for."""
        inputs, targets = self._gather(order, block)
        batches = list(zip(inputs.chunk(block.count), targets.chunk(block.count), strict=True))
        return batches[max(first_batch - block.first, 0) : end_batch - block.first]

    def _gather(self, order: Order, block: Block) -> tuple[Tensor, Tensor]:
        """Inputs and targets of all frames of a block."""
        return self.batch(order.index(block.positions(self.device), block.begin, block.end))


class Block:
    """Consecutive batches assembled together: several full ones, or the epoch's last.

    Attributes:
        begin, end: the positions it covers over all ranks.
    """

    def __init__(self, first: int, count: int, batch_size: int, num_frames: int, rank: int, world_size: int) -> None:
        self.first, self.count = first, count
        self.begin, self.end = first * batch_size, min((first + count) * batch_size, num_frames)
        self._stride = (self.end - self.begin) // count
        self._part = (self._stride * rank // world_size, self._stride * (rank + 1) // world_size)

    def positions(self, device: torch.device) -> Tensor:
        """The positions of one rank's part of every batch, int64 [count * part of the batch]."""
        starts = torch.arange(self.begin, self.end, self._stride, device=device)
        return (starts.unsqueeze(1) + torch.arange(*self._part, device=device)).flatten()


class FrameStore(Store):
    """All frames in the memory of the device, shuffled as a whole."""

    def __init__(
        self,
        cache: FramesCache,
        frontend: Frontend,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(cache, frontend, device, dtype)
        self._pool = FramePool(cache.num_frames, cache.base_dim, cache.torch_dtype, self.device)
        begin = 0
        for shard in range(cache.num_shards):
            begin = self._pool.fill(begin, cache, shard)

    def order(self, seed: int | None, epoch: int) -> Order:
        """As `Store.order`."""
        return SequentialOrder() if seed is None else FrameOrder(seed, epoch, self.num_frames)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """As `Store.batch`."""
        return self._pool.batch(self.frontend, index, self.dtype)
