"""Batches of whole utterances in a random order, with what a sequence criterion knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acoustic.data.batches import Store
from acoustic.data.order import Order, Permutation
from acoustic.data.windows import WindowedStore
from acoustic.log import Tally, get_logger
from acoustic.sequence.criteria import Criterion, UnusableError

logger = get_logger(__name__)


@dataclass(frozen=True)
class Utterance:
    """An utterance that a criterion can use.

    Attributes:
        begin, end: its frames in the cache.
        supervision: what the criterion's `prepare` gave.
    """

    begin: int
    end: int
    supervision: Any


class UtteranceStore(Store):
    """The frames of another store, in batches of whole utterances. Batch sizes count utterances.

    Which utterances a batch has depends on (seed, epoch, batch number) alone.

    Args:
        frames: where the frames are.
        criterion: says which utterances can be used.
        what: names the data in messages.
        max_skip_fraction: a larger share of unusable utterances fails the run.

    Attributes:
        num_frames: frames of the usable utterances, after subsampling.

    Raises:
        DataError: too many utterances cannot be used.
    """

    def __init__(self, frames: Store, criterion: Criterion, what: str, max_skip_fraction: float) -> None:
        super().__init__(frames.cache, frames.frontend, frames.device, frames.dtype)
        self._frames, self._step = frames, criterion.frame_subsampling
        tally = Tally(f"{what} utterances")
        self.usable: list[Utterance] = []
        ends = np.cumsum(frames.cache.lengths).tolist()
        for utt, end, length in zip(frames.cache.ids(), ends, frames.cache.lengths.tolist(), strict=True):
            try:
                self.usable.append(Utterance(end - length, end, criterion.prepare(utt, length)))
                tally.done()
            except UnusableError as error:
                tally.skip(error.reason, utt, error.details)
        tally.check(max_skip_fraction, frames.cache.directory)
        if isinstance(frames, WindowedStore):
            logger.warning(
                "%s frames stay on disk: for each batch every file that has one of its utterances is read, which is "
                "slow; data.memory_gb says how much memory they may take", what
            )  # fmt: skip
        self.num_frames = sum(map(self.num_rows, self.usable))

    def num_rows(self, utt: Utterance) -> int:
        """How many of an utterance's frames are given to the network."""
        return -(-(utt.end - utt.begin) // self._step)

    def num_batches(self, batch_size: int) -> int:
        """Batches of `batch_size` utterances in an epoch."""
        return -(-len(self.usable) // batch_size)

    def chosen(
        self, batch_size: int, seed: int | None, epoch: int, batch: int, rank: int = 0, world_size: int = 1
    ) -> list[Utterance]:
        """The utterances of one batch, or of one rank's part of it."""
        positions = torch.arange(batch * batch_size, min((batch + 1) * batch_size, len(self.usable)))
        if seed is not None:
            positions = Permutation(len(self.usable), f"utterances {seed} {epoch}")(positions)
        return [self.usable[position] for position in positions[rank::world_size].tolist()]

    def batch_index(
        self, batch_size: int, seed: int | None, epoch: int, batch: int, rank: int = 0, world_size: int = 1
    ) -> Tensor:
        """The frames of one batch, int64 indices on the device, utterance by utterance."""
        chosen = self.chosen(batch_size, seed, epoch, batch, rank, world_size)
        parts = [torch.arange(utt.begin, utt.end, self._step) for utt in chosen]
        return torch.cat([torch.zeros(0, dtype=torch.int64), *parts]).to(self.device)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """As `Store.batch`."""
        return self._frames.batch(index)

    def order(self, seed: int | None, epoch: int) -> Order:
        """As `Store.order`, of single frames."""
        return self._frames.order(seed, epoch)

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
        """As `Store.batches`, `batch_size` utterances at a time; assembled when asked, whatever `workers` says."""
        end_batch = self.num_batches(batch_size) if end_batch is None else end_batch
        for batch in range(first_batch, end_batch):
            yield self.batch(self.batch_index(batch_size, seed, epoch, batch, rank, world_size))
