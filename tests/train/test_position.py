"""Where a run stands: every batch of every epoch once, wherever it is broken off and however often it evaluates."""

import pytest

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
