"""Threads that work ahead leave the cores to the one that computes; batches do not depend on who assembles them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from acoustic.data.batches import FrameStore, Store
from acoustic.data.pool import FramePool
from acoustic.data.prefetch import one_core, prefetch
from acoustic.data.windows import WindowedStore
from acoustic.train.config import RuntimeConfig
from tests.data.corpus import frontend, make_cache

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "omp_set_num_threads"), reason="torch without OpenMP of its own"
)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def counted() -> Iterator[int]:
    """How many threads an operation takes, each time that it is asked."""
    while True:
        yield torch.get_num_threads()


@pytest.mark.parametrize(("on_one_core", "num_threads"), [(True, 1), (False, 2)])
def test_what_works_ahead_leaves_the_cores_to_its_consumer(on_one_core: bool, num_threads: int) -> None:
    ahead = prefetch(counted(), on_one_core=on_one_core)
    assert [next(ahead) for _ in range(5)] == [num_threads] * 5
    assert torch.get_num_threads() == 2
    ahead.close()
    again = prefetch(counted())
    assert next(again) == 2, "threads that come later have what torch was told"
    again.close()


def test_afterwards_a_thread_has_its_cores_again() -> None:
    with pytest.raises(KeyError), one_core():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2


def test_windows_are_read_on_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    fill = FramePool.fill

    def filling(*args: object) -> int:
        taken.append((threading.current_thread() is threading.main_thread(), torch.get_num_threads()))
        return fill(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(FramePool, "fill", filling)
    _, cache = make_cache(tmp_path, [20] * 6, shard_frames=40)
    list(WindowedStore(cache, frontend(), window_shards=1).batches(10, seed=1))
    assert set(taken) == {(False, 1)}


def test_batches_are_assembled_ahead_by_as_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of few rows differ in their last bits with the number of threads, batches must not with the workers."""
    taken = []
    gather = Store._gather

    def gathering(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
        taken.append((threading.current_thread() is threading.main_thread(), torch.get_num_threads()))
        return gather(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "_gather", gathering)
    _, cache = make_cache(tmp_path, [20] * 6)
    for workers in (0, 1):
        list(FrameStore(cache, frontend()).batches(60, seed=1, workers=workers))
    assert set(taken) == {(True, 2), (False, 2)}


def test_training_assembles_batches_where_it_computes() -> None:
    assert RuntimeConfig().workers == 0
