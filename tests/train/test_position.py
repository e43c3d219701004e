"""Where a run stands: every batch of every epoch once, wherever it is broken off and however often it evaluates."""

from types import SimpleNamespace
from typing import Any

import pytest

from acoustic.train.loop import Trainer
from acoustic.train.position import Position


@pytest.mark.parametrize(
    ("steps_per_epoch", "ends"), [(10, [10]), (10, [4, 7, 10]), (2, [1, 1, 2, 2, 2]), (1, [1, 1]), (3, [1, 2, 3])]
)
def test_intervals_cut_each_epoch_into_even_parts(steps_per_epoch: int, ends: list[int]) -> None:
    position = Position()
    trained = []
    for interval in range(3 * len(ends)):
        epoch, first, end = position.interval_batches(steps_per_epoch, len(ends))
        assert end == ends[interval % len(ends)]
        for batch in range(first, end):
            resumed = Position(step=position.step, interval=position.interval)
            assert resumed.interval_batches(steps_per_epoch, len(ends)) == (epoch, batch, end)
            trained.append((epoch, batch))
            position.step += 1
        position.interval += 1
    assert trained == [(epoch, batch) for epoch in range(3) for batch in range(steps_per_epoch)]


@pytest.mark.parametrize(("num_frames", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3])])
def test_the_last_update_of_an_epoch_is_of_the_frames_that_are_left(num_frames: int, sizes: list[int]) -> None:
    """By which its loss is divided: by those of a whole batch, its gradient would be too small."""
    store = SimpleNamespace(num_frames=num_frames)
    trainer: Any = SimpleNamespace(train_store=store, batch_size=4, steps_per_epoch=len(sizes), position=Position())
    for size in sizes * 2:
        assert Trainer.frames_of_update(trainer) == size
        trainer.position.step += 1
