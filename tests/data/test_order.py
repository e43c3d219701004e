"""The order of the frames: permutations, their randomness, windows."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from acoustic.data.order import Permutation, WindowOrder, frame_order

SIZES = [*range(1, 70), 127, 128, 129, 1000, 4096, 4097, 65535, 100_003]


@pytest.mark.parametrize("size", SIZES)
def test_every_position_has_its_own_element(size: int) -> None:
    elements = Permutation(size, f"key {size}")(torch.arange(size))
    assert torch.equal(elements.sort().values, torch.arange(size))


def test_any_part_of_the_order_is_the_same_as_in_the_whole() -> None:
    whole = frame_order(seed=5, epoch=3, begin=0, end=10_000, num_frames=10_000)
    for begin, end in ((0, 1), (17, 4000), (9_999, 10_000), (5, 5)):
        assert torch.equal(frame_order(5, 3, begin, end, 10_000), whole[begin:end])


def test_a_position_far_into_a_huge_corpus_costs_no_more() -> None:
    order = frame_order(0, 0, 10**10, 10**10 + 1000, num_frames=10**10 + 10**6)
    assert len(order.unique()) == 1000
    assert int(order.min()) >= 0
    assert int(order.max()) < 10**10 + 10**6


def test_seeds_and_epochs_give_orders_that_have_nothing_in_common() -> None:
    size = 10_000
    orders = [frame_order(seed, epoch, 0, size, size) for seed in (1, 2) for epoch in (0, 1)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert int((one == other).sum()) < 10  # of two random orders about one position agrees


@pytest.mark.parametrize("size", [1000, 30_000, 1_000_003])
def test_elements_are_spread_evenly_over_positions(size: int) -> None:
    """Chi-square of a 10 x 10 table (position tenth, element tenth): 81 degrees of freedom."""
    order = frame_order(7, 0, 0, size, size)
    cells = torch.arange(size) * 10 // size * 10 + order * 10 // size
    counts = torch.bincount(cells, minlength=100).double()
    chi_square = float(((counts - size / 100) ** 2 / (size / 100)).sum())
    assert chi_square < 140  # exceeded by chance once in 10,000


def test_neighbours_in_the_corpus_are_not_neighbours_in_the_order() -> None:
    size = 100_000
    steps = frame_order(3, 1, 0, size, size).diff().abs().double()
    assert abs(float(steps.mean()) / (size / 3) - 1) < 0.02  # two random numbers lie a third of the range apart
    assert int((steps == 1).sum()) < 20


def test_all_permutations_of_four_elements_come_about_equally_often() -> None:
    num_keys = 2400
    orders = torch.stack([Permutation(4, f"key {i}")(torch.arange(4)) for i in range(num_keys)])
    counts = torch.unique(orders, dim=0, return_counts=True)[1].double()
    assert len(counts) == 24
    assert float(((counts - 100) ** 2 / 100).sum()) < 55  # 23 degrees of freedom, once in 5,000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_order() -> None:
    for size in (5, 1000, 10**9):
        end = min(size, 5000)
        assert torch.equal(frame_order(1, 2, 0, end, size, "cuda").cpu(), frame_order(1, 2, 0, end, size))


# -- windows ------------------------------------------------------------------------------------------------------

SHARDS = [50, 70, 30, 90, 20, 1, 60]


@pytest.mark.parametrize("window_shards", [1, 2, 3, 7, 100])
def test_windows_give_every_frame_once(window_shards: int) -> None:
    num_frames = sum(SHARDS)
    order = WindowOrder(1, 0, SHARDS, window_shards)
    whole = order.index(torch.arange(num_frames), 0, num_frames)
    assert torch.equal(whole.sort().values, torch.arange(num_frames))
    for begin, end in ((0, 1), (33, 200), (num_frames - 1, num_frames)):
        assert torch.equal(order.index(torch.arange(begin, end), begin, end), whole[begin:end])


def test_a_window_needs_its_own_shards_only() -> None:
    order = WindowOrder(1, 4, SHARDS, 2)
    shard_of = np.repeat(np.arange(len(SHARDS)), SHARDS)
    position = 0
    for shards in order.windows:
        size = sum(SHARDS[shard] for shard in shards)
        index = order.index(torch.arange(position, position + size), position, position + size)
        assert set(shard_of[index.numpy()]) == set(shards)
        position += size


def test_frames_within_a_window_are_shuffled_by_seed_epoch_and_window() -> None:
    """Of one shard each, of the same size, so that nothing else could make a difference."""
    size = 1000
    orders = [WindowOrder(seed, epoch, [size], 1) for seed, epoch in ((1, 0), (2, 0), (1, 1))]
    shuffles = [order.index(torch.arange(size), 0, size) for order in orders]
    order = WindowOrder(1, 0, [size] * 2, 1)
    begin = [size * shards[0] for shards in order.windows]
    shuffles.append(order.index(torch.arange(size, 2 * size), size, 2 * size) - begin[1])
    for number, one in enumerate(shuffles):
        for other in shuffles[:number]:
            assert int((one == other).sum()) < 10


def test_orders_of_epochs_gone_by_are_forgotten() -> None:
    for epoch in range(30):
        WindowOrder(1, epoch, SHARDS, 3).index(torch.arange(sum(SHARDS)), 0, sum(SHARDS))
    gc.collect()
    assert sum(type(item) is Permutation for item in gc.get_objects()) <= 8


def test_windows_differ_between_epochs_and_seeds_and_are_in_place_without_a_seed() -> None:
    positions = torch.arange(sum(SHARDS))
    for other in (WindowOrder(1, 1, SHARDS, 3), WindowOrder(2, 0, SHARDS, 3)):
        order = WindowOrder(1, 0, SHARDS, 3)
        assert order.windows != other.windows and order.key != other.key
        assert int((order.index(positions, 0, len(positions)) == other.index(positions, 0, len(positions))).sum()) < 20
    assert torch.equal(WindowOrder(None, 0, SHARDS, 3).index(positions, 0, len(positions)), positions)
