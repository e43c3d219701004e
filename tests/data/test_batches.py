"""Batches: every frame once, splicing inside utterances only, the same for any workers, ranks and interruptions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from acoustic.data import batches as batches_module
from acoustic.data.batches import Block, FrameStore, Store
from acoustic.data.moments import input_moments
from acoustic.data.order import Order, on_device
from acoustic.data.pool import edge_distances
from acoustic.data.prefetch import prefetch
from acoustic.data.windows import WindowedStore, open_store
from acoustic.errors import DataError
from tests.data.corpus import Corpus, frontend, make_cache

LENGTHS = [7, 1, 30, 12, 5, 18, 40, 2, 3, 9, 1, 25]
NUM_FRAMES = sum(LENGTHS)
BATCH_SIZE = 16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four batches, so that a small corpus has several."""
    monkeypatch.setattr(batches_module, "BLOCK_FRAMES", {"cpu": 4 * BATCH_SIZE})


@pytest.fixture(params=["memory", "windows"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Corpus, Store]:
    """A corpus in a store of either kind."""
    corpus, cache = make_cache(tmp_path, LENGTHS, shard_frames=20)
    store: Store = FrameStore(cache, frontend())
    if request.param == "windows":
        store = WindowedStore(cache, frontend(), window_shards=2)
    return corpus, store


def expected(corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Network inputs and targets of the whole corpus, each utterance by itself."""
    front, utts = frontend(), sorted(corpus.feats)
    inputs = torch.cat([front.utterance(torch.from_numpy(corpus.feats[utt])) for utt in utts])
    return inputs, torch.from_numpy(np.concatenate([corpus.pdf_ids(utt) for utt in utts])).long()


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether two lists of batches are equal bit by bit."""
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


def test_batches_in_order_are_the_utterances_one_by_one(made: tuple[Corpus, Store]) -> None:
    """Nothing of a neighbouring utterance is in any input, and the last, smaller batch is there."""
    corpus, store = made
    inputs, targets = expected(corpus)
    found = list(store.batches(BATCH_SIZE))
    assert [len(batch) for _, batch in found] == [BATCH_SIZE] * (NUM_FRAMES // BATCH_SIZE) + [NUM_FRAMES % BATCH_SIZE]
    assert torch.allclose(torch.cat([batch for batch, _ in found]), inputs, atol=1e-6)
    assert torch.equal(torch.cat([batch for _, batch in found]), targets)


def test_a_shuffled_epoch_has_every_frame_once_with_its_target(made: tuple[Corpus, Store]) -> None:
    corpus, store = made
    inputs, targets = expected(corpus)
    for epoch in range(2):
        index = torch.cat(
            [store.batch_index(BATCH_SIZE, 3, epoch, batch) for batch in range(store.num_batches(BATCH_SIZE))]
        )
        assert torch.equal(index.sort().values, torch.arange(NUM_FRAMES))
        found = list(store.batches(BATCH_SIZE, seed=3, epoch=epoch))
        assert torch.allclose(torch.cat([batch for batch, _ in found]), inputs[index], atol=1e-6)
        assert torch.equal(torch.cat([batch for _, batch in found]), targets[index])


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_interrupted_anywhere_the_rest_is_the_same(made: tuple[Corpus, Store], workers: int) -> None:
    _, store = made
    whole = list(store.batches(BATCH_SIZE, seed=1))
    for stop in range(len(whole) + 1):
        first = list(store.batches(BATCH_SIZE, seed=1, end_batch=stop, workers=workers))
        rest = list(store.batches(BATCH_SIZE, seed=1, first_batch=stop, workers=workers))
        assert same(first + rest, whole)


def test_any_batch_can_be_made_again(made: tuple[Corpus, Store]) -> None:
    corpus, store = made
    for number, (inputs, targets) in enumerate(store.batches(BATCH_SIZE, seed=2, epoch=7)):
        index = store.batch_index(BATCH_SIZE, 2, 7, number)
        again = store.batch(index)
        assert torch.allclose(again[0], inputs, atol=1e-6) and torch.equal(again[1], targets)
        again = store.numbered_batch(BATCH_SIZE, 2, 7, number)
        assert torch.allclose(again[0], inputs, atol=1e-6) and torch.equal(again[1], targets)
        parts = [store.batch_index(BATCH_SIZE, 2, 7, number, rank, 3) for rank in range(3)]
        assert torch.equal(torch.cat(parts), index)
        utts = [utt for utt in sorted(corpus.feats) for _ in range(len(corpus.feats[utt]))]
        assert store.utterances(index) == [utts[i] for i in index.tolist()]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_every_batch(made: tuple[Corpus, Store], world_size: int) -> None:
    _, store = made
    whole = list(store.batches(BATCH_SIZE, seed=5))
    ranks = [list(store.batches(BATCH_SIZE, seed=5, rank=r, world_size=world_size)) for r in range(world_size)]
    for number, (inputs, targets) in enumerate(whole):
        assert torch.allclose(torch.cat([rank[number][0] for rank in ranks]), inputs, atol=1e-6)
        assert torch.equal(torch.cat([rank[number][1] for rank in ranks]), targets)
        assert max(len(rank[number][1]) for rank in ranks) - min(len(rank[number][1]) for rank in ranks) <= 1


@pytest.mark.parametrize("batch_size", [1, 5, 64, NUM_FRAMES, 1000])
def test_any_batch_size_covers_the_epoch(made: tuple[Corpus, Store], batch_size: int) -> None:
    _, store = made
    sizes = [len(targets) for _, targets in store.batches(batch_size, seed=1)]
    assert sum(sizes) == NUM_FRAMES and len(sizes) == store.num_batches(batch_size)


def test_stopping_early_leaves_no_thread_behind(made: tuple[Corpus, Store]) -> None:
    _, store = made
    batches = store.batches(4, seed=1, workers=1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "acoustic-prefetch"]


@pytest.mark.parametrize("num_batches", [1, 2, 3])
def test_fewer_batches_of_wide_inputs_are_assembled_at_once(
    made: tuple[Corpus, Store], monkeypatch: pytest.MonkeyPatch, num_batches: int
) -> None:
    _, store = made
    expected_batches = list(store.batches(BATCH_SIZE, seed=1))
    blocks: list[Block] = []
    gather = store._gather

    def watched(order: Order, block: Block) -> tuple[Tensor, Tensor]:
        blocks.append(block)
        return gather(order, block)

    monkeypatch.setattr(store, "_gather", watched)
    values = num_batches * BATCH_SIZE * store.frontend.input_dim
    monkeypatch.setattr(batches_module, "BLOCK_VALUES", {"cpu": values + 1})
    assert same(list(store.batches(BATCH_SIZE, seed=1)), expected_batches)
    assert max(block.count for block in blocks) == num_batches


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [FrameStore, WindowedStore])
def test_a_gpu_gives_the_same_batches(tmp_path: Path, kind: type[Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "BLOCK_FRAMES", {"cpu": 64, "cuda": 48})
    _, cache = make_cache(tmp_path, LENGTHS * 10, shard_frames=100)
    on_cpu = list(kind(cache, frontend()).batches(BATCH_SIZE, seed=1))
    store = kind(cache, frontend(), "cuda")
    on_gpu = list(store.batches(BATCH_SIZE, seed=1, workers=1))
    for number, (inputs, targets) in enumerate(on_cpu):
        for gpu_inputs, gpu_targets in (on_gpu[number], store.batch(store.batch_index(BATCH_SIZE, 1, 0, number))):
            assert torch.allclose(gpu_inputs.cpu(), inputs, atol=1e-5) and torch.equal(gpu_targets.cpu(), targets)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_epoch_begins_with_waiting_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "BLOCK_FRAMES", {"cpu": 64, "cuda": 48})
    _, cache = make_cache(tmp_path, LENGTHS * 10, shard_frames=100)
    store = FrameStore(cache, frontend(), "cuda")
    try:
        torch.cuda.set_sync_debug_mode("error")
        assert len([next(store.batches(BATCH_SIZE, seed=1, epoch=epoch)) for epoch in range(3)]) == 3
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_tables_go_to_a_gpu_from_memory_that_it_copies_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def noted(name: str) -> Callable[..., Tensor]:
        return lambda tensor, *args, **options: calls.append((name, *args, options)) or tensor

    for name in ("pin_memory", "to"):
        monkeypatch.setattr(Tensor, name, noted(name))
    on_device(torch.arange(3), torch.device("cuda"))
    assert calls == [("pin_memory", {}), ("to", torch.device("cuda"), {"non_blocking": True})]


def test_the_working_thread_hands_its_error_over() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise DataError("no more")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(DataError, match="no more"):
        next(items)


def test_a_shard_that_vanishes_while_training_is_an_error(tmp_path: Path) -> None:
    _, cache = make_cache(tmp_path, LENGTHS, shard_frames=20)
    store = WindowedStore(cache, frontend(), window_shards=2)
    for path in cache.directory.glob("shard-*.feats"):
        path.unlink()
    with pytest.raises(DataError, match="shard-0000"):
        list(store.batches(BATCH_SIZE, seed=1))


def test_windows_hold_a_constant_number_of_frames(tmp_path: Path) -> None:
    _, cache = make_cache(tmp_path, [20] * 30, shard_frames=20)
    store = WindowedStore(cache, frontend(), window_shards=3)
    assert [len(slot._pool.frames) for slot in store._slots] == [60, 60]
    assert sum(len(targets) for _, targets in store.batches(BATCH_SIZE, seed=1)) == 600


def test_the_size_of_memory_chooses_the_store(tmp_path: Path) -> None:
    _, cache = make_cache(tmp_path, [20] * 3, dtype="float16")
    needed = 60 * (3 * 2 + 6)
    assert isinstance(open_store(cache, frontend(), max_bytes=needed), FrameStore)
    assert isinstance(open_store(cache, frontend(), max_bytes=needed - 1), WindowedStore)


def test_half_precision_frames_make_float32_inputs(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, LENGTHS, dtype="float16")
    inputs = torch.cat([batch for batch, _ in FrameStore(cache, frontend()).batches(64)])
    assert inputs.dtype == torch.float32
    assert torch.allclose(inputs, expected(corpus)[0], atol=5e-3)


def test_moments_normalise_the_training_inputs(tmp_path: Path) -> None:
    _, cache = make_cache(tmp_path, [200] * 10)
    front = frontend(global_norm=True)
    store = FrameStore(cache, front)
    front.set_global_norm(*input_moments(store, seed=1))
    inputs = torch.cat([batch for batch, _ in store.batches(256)])
    assert torch.allclose(inputs.mean(0), torch.zeros(store.frontend.input_dim), atol=1e-4)
    assert torch.allclose(inputs.var(0), torch.ones(store.frontend.input_dim), atol=1e-2)


def test_distances_to_edges_saturate() -> None:
    left, right = edge_distances([3, 1, 600])
    assert left[:4].tolist() == [0, 1, 2, 0] and right[:4].tolist() == [2, 1, 0, 0]
    assert left[4:].tolist() == [min(i, 255) for i in range(600)]
    assert right[4:].tolist() == [min(599 - i, 255) for i in range(600)]
