"""Windows of shards: read ahead, once each, and never mistaken for those of another pass or of one that failed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from acoustic.data import batches as batches_module
from acoustic.data.batches import FrameStore, Store
from acoustic.data.cache import FramesCache
from acoustic.data.prefetch import prefetch
from acoustic.data.windows import WindowedStore
from acoustic.errors import DataError
from tests.data.corpus import frontend, make_cache

BATCH_SIZE = 10
SHARD_FRAMES = 20
NUM_SHARDS = 12
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is a block."""
    monkeypatch.setattr(batches_module, "BLOCK_FRAMES", {"cpu": BATCH_SIZE})


@pytest.fixture
def cache(tmp_path: Path) -> FramesCache:
    """One of twelve shards, an utterance each."""
    return make_cache(tmp_path, [SHARD_FRAMES] * NUM_SHARDS, shard_frames=SHARD_FRAMES)[1]


def watch_reading(
    monkeypatch: pytest.MonkeyPatch, cache: FramesCache, hook: Callable[[int], None] = lambda shard: None
) -> list[int]:
    """The shards read from now on, in a list that grows; `hook` is called before each."""
    read: list[int] = []
    read_frames = cache.read_frames

    def reading(shard: int) -> np.ndarray:
        hook(shard)
        frames = read_frames(shard)
        read.append(shard)
        return frames

    monkeypatch.setattr(cache, "read_frames", reading)
    return read


def same(one: Batches, other: Batches) -> bool:
    """Whether two lists of batches are equal bit by bit."""
    return len(one) == len(other) and all(map(torch.equal, sum(one, ()), sum(other, ())))


def test_each_shard_is_read_once_and_a_window_ahead(cache: FramesCache, monkeypatch: pytest.MonkeyPatch) -> None:
    read = watch_reading(monkeypatch, cache)
    store = WindowedStore(cache, frontend(), window_shards=3)
    windows = store.order(1, 0).windows
    per_window = 3 * SHARD_FRAMES // BATCH_SIZE
    for number, _ in enumerate(store.batches(BATCH_SIZE, seed=1)):
        store._loader.submit(int).result()  # when the loader has done what it was given
        assert read == list(itertools.chain(*windows[: number // per_window + 2]))
    assert sorted(read) == list(range(NUM_SHARDS))


def test_a_pass_that_was_given_up_leaves_nothing_behind(cache: FramesCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it still reads comes late: after the next pass has filled its windows, if it can get so far."""
    whole = list(WindowedStore(cache, frontend(), window_shards=3).batches(BATCH_SIZE, seed=1, epoch=1))
    store = WindowedStore(cache, frontend(), window_shards=3)
    late, is_late, filled = store.order(1, 0).windows[1][0], threading.Event(), threading.Event()

    def hook(shard: int) -> None:
        if shard == late and not is_late.is_set():
            is_late.set()
            filled.wait(timeout=0.5)

    watch_reading(monkeypatch, cache, hook)
    first_pass = store.batches(BATCH_SIZE, seed=1, epoch=0)
    next(first_pass)
    assert is_late.wait(timeout=60)
    found = []
    for batch in store.batches(BATCH_SIZE, seed=1, epoch=1):
        filled.set()
        found.append(batch)
    assert same(found, whole)


def test_a_window_that_failed_is_read_again(cache: FramesCache, monkeypatch: pytest.MonkeyPatch) -> None:
    store = WindowedStore(cache, frontend(), window_shards=3)
    whole = list(store.batches(BATCH_SIZE, seed=1))
    failing = {store.order(1, 0).windows[2][1]}

    def hook(shard: int) -> None:
        if shard in failing:
            raise DataError(f"shard {shard} is gone")

    watch_reading(monkeypatch, cache, hook)
    first = 2 * 3 * SHARD_FRAMES // BATCH_SIZE
    for _ in range(2):
        found = []
        with pytest.raises(DataError, match="is gone"):
            for batch in store.batches(BATCH_SIZE, seed=1):
                found.append(batch)
        assert same(found, whole[:first])  # what was whole is not lost with it
        with pytest.raises(DataError, match="is gone"):
            list(store.batches(BATCH_SIZE, seed=1, first_batch=first))
    failing.clear()
    assert same(list(store.batches(BATCH_SIZE, seed=1, first_batch=first)), whole[first:])


def test_a_resumed_run_gets_the_same_bits(tmp_path: Path) -> None:
    """Products have other last bits for other numbers of rows, so blocks must begin where they did before."""
    _, cache = make_cache(tmp_path, [SHARD_FRAMES] * 5, shard_frames=SHARD_FRAMES)
    front = frontend(lda_dim=40, splice_left=20, splice_right=20)
    front.set_lda(torch.randn(40, front.spliced_dim, generator=torch.Generator().manual_seed(0)))
    for store in (FrameStore(cache, front), WindowedStore(cache, front, window_shards=2)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(batches_module, "BLOCK_FRAMES", {"cpu": 3 * 9})
            whole = list(store.batches(9, seed=1))
            for first in range(len(whole)):
                rest = list(store.batches(9, seed=1, first_batch=first, end_batch=first + 3))
                assert same(rest, whole[first : first + 3])


def test_a_worker_assembles_the_next_batches_meanwhile(cache: FramesCache, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    gather = Store._gather

    def gathering(*args: Store) -> tuple[Tensor, Tensor]:
        threads.append(threading.current_thread().name)
        return gather(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "_gather", gathering)
    list(FrameStore(cache, frontend()).batches(BATCH_SIZE, seed=1, workers=1))
    assert set(threads) == {"acoustic-prefetch"}


def test_the_working_thread_gets_no_further_ahead_than_it_may() -> None:
    produced = []

    def produce() -> Iterator[int]:
        for number in range(100):
            produced.append(number)
            yield number

    items = prefetch(produce(), depth=2)
    next(items)
    time.sleep(0.3)
    assert len(produced) <= 4  # one taken, two ready, one waiting for room
    assert len(list(items)) == 99
