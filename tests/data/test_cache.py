"""The frames cache: what it holds, when it is built again, what it refuses."""

from __future__ import annotations

import dataclasses
import multiprocessing.reduction
import os
import resource
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acoustic import fsio
from acoustic.data.batches import FrameStore
from acoustic.data.build import CacheOptions, build_cache, ensure_cache
from acoustic.data.cache import CacheMeta, FramesCache, write_shard_file
from acoustic.data.join import JoinOptions
from acoustic.data.shards import ShardJob, ShardResult, build_shard
from acoustic.data.windows import WindowedStore
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.alignments import read_model, write_alignments
from acoustic.kaldi.tree import DecisionTree
from tests.data.corpus import frontend, make_cache, make_corpus, write_feats

LENGTHS = [7, 1, 30, 12, 5, 18, 40, 2]


def content(directory: Path) -> dict[str, bytes]:
    """Every file of a cache."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_frames_and_labels_are_those_of_the_corpus(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, LENGTHS, shard_frames=30)
    utts = sorted(corpus.feats)
    frames = np.concatenate([corpus.feats[utt] for utt in utts])
    pdf_ids = np.concatenate([corpus.pdf_ids(utt) for utt in utts])
    shards = range(cache.num_shards)
    assert cache.num_shards == 4
    assert list(cache.ids()) == utts
    assert np.array_equal(np.concatenate([cache.read_frames(shard) for shard in shards]), frames)
    assert np.array_equal(np.concatenate([cache.read_pdf_ids(shard) for shard in shards]), pdf_ids)
    assert np.concatenate([cache.utterance_lengths(shard) for shard in shards]).tolist() == LENGTHS
    assert cache.pdf_counts.tolist() == np.bincount(pdf_ids, minlength=cache.num_pdfs).tolist()
    assert np.allclose(cache.meta.mean, frames.mean(0)) and np.allclose(cache.meta.var, frames.var(0), atol=1e-6)
    assert cache.utterances_of(np.array([0, 6, 7, 8, 37, 114])) == [utts[i] for i in (0, 0, 1, 2, 2, 7)]


def test_fingerprints_say_which_alignments_model_and_tree(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, LENGTHS)
    fingerprints = cache.meta.fingerprints
    assert fingerprints["transition_model"] == read_model(corpus.source.ali_dir).fingerprint()
    assert fingerprints["tree"] == DecisionTree.read(Path(corpus.source.ali_dir) / "tree").fingerprint()
    sharded = ensure_cache(tmp_path / "sharded", [corpus.source], frontend(), CacheOptions(shard_frames=20))
    assert sharded.meta.fingerprints == fingerprints
    alignments = {**corpus.alignments, "s0001": corpus.alignments["s0001"] % 2 + 1}
    write_alignments(corpus.source.ali_dir, sorted(alignments.items()), 1)
    other = ensure_cache(tmp_path / "other", [corpus.source], frontend()).meta.fingerprints
    assert {key for key in fingerprints if fingerprints[key] != other[key]} == {"alignments"}


def test_processes_build_the_same_cache(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, LENGTHS, shard_frames=30)
    options = CacheOptions(dtype="float32", shard_frames=30)
    ensure_cache(tmp_path / "parallel", [corpus.source], frontend(), options, num_jobs=2)
    assert content(tmp_path / "parallel") == content(cache.directory)


def test_the_number_of_threads_changes_no_frame(tmp_path: Path) -> None:
    """As more jobs do, which have a thread each; only where frames are products are their last bits at stake."""
    corpus = make_corpus(tmp_path, [2, 7, 50, 333, 1000, 3000])
    front = frontend(transform_splice_left=60, transform_splice_right=60, transform_dim=40)
    front.set_transform(torch.randn(40, 363, generator=torch.Generator().manual_seed(0)))
    num_threads = torch.get_num_threads()
    found = set()
    try:
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            cache = ensure_cache(tmp_path / str(number), [corpus.source], front, CacheOptions(dtype="float32"))
            assert torch.get_num_threads() == number
            found.add(cache.read_frames(0).tobytes())
    finally:
        torch.set_num_threads(num_threads)
    assert len(found) == 1


def test_jobs_for_processes_take_no_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor in them would take one: the statistics of many speakers more than there may be."""
    corpus = make_corpus(tmp_path, [2] * 300)
    num_open = []

    def sent(jobs: list[ShardJob], num_jobs: int) -> Iterator[ShardResult]:
        for job in jobs:
            before = len(os.listdir("/proc/self/fd"))
            pickled = multiprocessing.reduction.ForkingPickler.dumps(job)
            num_open.append(len(os.listdir("/proc/self/fd")) - before)
            del pickled
            yield build_shard(job)

    monkeypatch.setattr("acoustic.data.build._run", sent)
    cache = ensure_cache(tmp_path / "cache", [corpus.source], frontend(cmvn="speaker"))
    assert cache.meta.num_utts == 300 and num_open == [0]


def test_half_precision_is_the_nearest_and_nothing_overflows(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, [10, 10], dtype="float16")
    assert np.array_equal(cache.read_frames(0)[:10], corpus.feats["s0000"].astype(np.float16))
    write_feats(corpus, {utt: feats + 1e5 * (utt == "s0001") for utt, feats in corpus.feats.items()})
    with pytest.raises(DataError, match=r"s0001.*does not fit half precision.*data.dtype=float32"):
        ensure_cache(cache.directory, [corpus.source], frontend(), CacheOptions(dtype="float16"))
    assert FramesCache.open(cache.directory).meta == cache.meta  # what was there is left
    wide = ensure_cache(tmp_path / "wide", [corpus.source], frontend(), CacheOptions(dtype="float32"))
    assert wide.read_frames(0).max() > 9e4


def test_only_chosen_utterances(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, LENGTHS)
    cache = ensure_cache(tmp_path / "cache", [corpus.source], frontend(), utterances=["s0003", "s0005"])
    assert list(cache.ids()) == ["s0003", "s0005"]
    assert (tmp_path / "cache.skipped.tsv").read_text() == ""


def test_shards_of_which_all_utterances_are_skipped_are_empty(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [5] * 6)
    unusable = ("s0000", "s0002", "s0003", "s0005")
    write_feats(corpus, {utt: feats * np.nan if utt in unusable else feats for utt, feats in corpus.feats.items()})
    options = CacheOptions(dtype="float32", shard_frames=5, join=JoinOptions(max_skip_fraction=1.0))
    cache = ensure_cache(tmp_path / "cache", [corpus.source], frontend(), options)
    assert cache.shard_num_frames.tolist() == [0, 5, 0, 0, 5, 0] and cache.lengths.tolist() == [5, 5]
    assert [cache.utterance_lengths(shard).tolist() for shard in range(6)] == [[], [5], [], [], [5], []]
    assert list(cache.ids()) == cache.utterances_of(np.array([4, 5])) == ["s0001", "s0004"]
    for store in (FrameStore(cache, frontend()), WindowedStore(cache, frontend(), window_shards=1)):
        assert sum(len(targets) for _, targets in store.batches(3, seed=1)) == 10


def test_an_open_cache_takes_a_few_bytes_of_memory_per_utterance(tmp_path: Path) -> None:
    num_utts = 20_000
    lines = [
        f"speaker-{i % 500:03d}-utterance-{i:07d}\tspeaker-{i % 500:03d}\t{i // 500}\t{i % 500}\t1\n"
        for i in range(num_utts)
    ]
    (tmp_path / "utts.tsv").write_text("".join(lines))
    for shard in range(40):
        checksums = [write_shard_file(tmp_path, shard, kind, np.zeros(500, "<u2")) for kind in ("feats", "pdfs")]
    CacheMeta(
        key="", base_dim=1, feat_dim=1, dtype="float16", pdf_dtype="uint16", num_utts=num_utts, num_frames=num_utts,
        num_pdfs=1, shard_num_frames=[500] * 40, shard_checksums=[checksums] * 40,
        utts_checksum=zlib.crc32("".join(lines).encode()), pdf_counts=[num_utts], fingerprints={}, sources=[],
        mean=[0.0], var=[0.0],
    ).write(tmp_path)  # fmt: skip
    del lines
    tracemalloc.start()
    try:
        cache = FramesCache.open(tmp_path)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 20 * num_utts and most < 150 * num_utts
    assert cache.utterances_of(np.array([0, 500, 19_999])) == [
        f"speaker-{i % 500:03d}-utterance-{i:07d}" for i in (0, 500, 19_999)
    ]


# -- when it is built again ---------------------------------------------------------------------------------------


def test_the_same_input_is_not_built_twice(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, LENGTHS)
    before = cache.directory.stat().st_ino
    # Splicing and deltas act when batches are made: other values of them can use the same cache.
    ensure_cache(cache.directory, [corpus.source], frontend(splice_left=1), CacheOptions(dtype="float32"))
    assert cache.directory.stat().st_ino == before


@pytest.mark.parametrize("change", ["features", "alignments", "frontend", "options", "utterances", "damage"])
def test_a_stale_or_damaged_cache_is_built_again(tmp_path: Path, change: str) -> None:
    corpus, cache = make_cache(tmp_path, LENGTHS)
    front, options, utterances = frontend(), CacheOptions(dtype="float32"), None
    if change == "features":
        scp = Path(corpus.source.data_dir) / "feats.scp"
        os.utime(scp, ns=(1, 1))
    elif change == "alignments":
        write_alignments(corpus.source.ali_dir, sorted(corpus.alignments.items()), 3)
    elif change == "frontend":
        front = frontend(cmvn="utterance")
    elif change == "options":
        options = CacheOptions(dtype="float16")
    elif change == "utterances":
        utterances = ["s0000", "s0001"]
    else:
        os.truncate(cache.directory / "shard-00000.feats", 12)
    before = cache.directory.stat().st_ino
    ensure_cache(cache.directory, [corpus.source], front, options, utterances)
    assert cache.directory.stat().st_ino != before


def test_of_those_who_ask_for_it_at_once_one_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that each of them put in the place of the others' would be torn from those who had begun to read."""
    corpus = make_corpus(tmp_path, LENGTHS)
    both_here, num_built = threading.Barrier(2), []

    def build_together(*args: Any) -> FramesCache:
        num_built.append(1)
        return build_cache(*args)

    def ensure() -> FramesCache:
        both_here.wait(timeout=60)
        return ensure_cache(tmp_path / "cache", [corpus.source], frontend())

    monkeypatch.setattr("acoustic.data.build.build_cache", build_together)
    with ThreadPoolExecutor(2) as pool:
        caches = [future.result() for future in [pool.submit(ensure) for _ in range(2)]]
    assert len(num_built) == 1
    assert [len(cache.read_frames(0)) for cache in caches] == [sum(LENGTHS)] * 2


def test_a_file_in_its_place_is_not_replaced(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, LENGTHS)
    (tmp_path / "cache").write_text("mine")
    with pytest.raises(DataError, match="is not a folder"):
        ensure_cache(tmp_path / "cache", [corpus.source], frontend())
    assert (tmp_path / "cache").read_text() == "mine"


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, LENGTHS)
    with pytest.raises(ConfigError, match="no frames cache"):
        ensure_cache(tmp_path, [corpus.source], frontend())
    assert Path(corpus.source.data_dir).exists()


@pytest.mark.parametrize("limit", [0, 100, 400, 460, 480, 700, 1000, 1300])
def test_a_failing_write_leaves_the_earlier_cache(tmp_path: Path, limit: int) -> None:
    """Files may not grow beyond `limit` bytes, which each of the cache's files exceeds in turn."""
    corpus, cache = make_cache(tmp_path, LENGTHS)
    before = content(cache.directory)
    write_alignments(corpus.source.ali_dir, sorted(corpus.alignments.items()), 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            ensure_cache(cache.directory, [corpus.source], frontend(), CacheOptions(dtype="float32"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(cache.directory) == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_killed_process_is_an_error_that_leaves_the_earlier_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> None:
        raise BrokenProcessPool

    corpus, cache = make_cache(tmp_path, LENGTHS)
    monkeypatch.setattr("acoustic.data.build.ProcessPoolExecutor.map", killed)
    with pytest.raises(DataError, match=r"was killed.*lower data\.num_jobs"):
        ensure_cache(cache.directory, [corpus.source], frontend(), CacheOptions(shard_frames=20), num_jobs=2)
    assert len(cache.read_frames(0)) == sum(LENGTHS)
    assert not list(tmp_path.glob(".*.tmp"))


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shard-00000.feats", "shard-00001.pdfs", "utts.tsv", "meta.json"])
def test_cut_files_are_refused_wherever_they_are_cut(tmp_path: Path, name: str) -> None:
    _, cache = make_cache(tmp_path, LENGTHS, shard_frames=60)
    path = cache.directory / name
    whole = path.read_bytes()
    # Without its last line end a text is still whole.
    for size in range(0, len(whole) - 1, 1 if len(whole) < 500 else 17):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=name):
            FramesCache.open(cache.directory)
    path.unlink()
    with pytest.raises(DataError, match=name):
        FramesCache.open(cache.directory)


def test_another_version_of_the_layout_is_refused(tmp_path: Path) -> None:
    _, cache = make_cache(tmp_path, LENGTHS)
    meta = fsio.read_json(cache.directory / "meta.json")
    for change in ({"version": 99}, {"surprise": 1}):
        fsio.write_json(cache.directory / "meta.json", {**meta, **change})
        with pytest.raises(DataError, match=r"meta\.json.*remove the cache"):
            FramesCache.open(cache.directory)


@pytest.mark.parametrize("kind", ["feats", "pdfs"])
def test_a_shard_that_is_not_what_was_written_is_refused(tmp_path: Path, kind: str) -> None:
    _, cache = make_cache(tmp_path, LENGTHS, shard_frames=60)
    path = cache.directory / f"shard-00001.{kind}"
    whole = path.read_bytes()
    read = cache.read_frames if kind == "feats" else cache.read_pdf_ids
    for place in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        read(0)
        with pytest.raises(DataError, match=rf"shard-00001\.{kind}: is damaged.*remove the cache"):
            read(1)
        FramesCache.open(cache.directory)  # which looks at sizes alone


def test_a_shard_of_a_cache_that_took_its_place_is_refused(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, LENGTHS)
    options = CacheOptions(dtype="float32")
    other = ensure_cache(cache.directory, [corpus.source], frontend(), options, utterances=sorted(corpus.feats)[1:])
    with pytest.raises(DataError, match="was replaced by another run"):
        cache.read_frames(0)
    assert len(other.read_frames(0)) == sum(LENGTHS[1:])


def test_a_list_of_other_utterances_is_refused(tmp_path: Path) -> None:
    _, cache = make_cache(tmp_path, LENGTHS, shard_frames=60)
    path = cache.directory / "utts.tsv"
    lines = path.read_text().splitlines(keepends=True)
    for other in (lines[:-1], [*lines[:-1], lines[-1].replace("\t2\n", "\t3\n")]):
        path.write_text("".join(other))
        meta = dataclasses.replace(cache.meta, utts_checksum=zlib.crc32("".join(other).encode()))
        with pytest.raises(DataError, match=r"utts\.tsv: does not fit meta\.json"):
            FramesCache(cache.directory, meta)


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [3])
    with pytest.raises(DataError, match="holds no utterances"):
        ensure_cache(tmp_path / "cache", [corpus.source], frontend(), utterances=["other"])


def test_a_front_end_whose_matrices_were_not_set_is_refused(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [3])
    with pytest.raises(ConfigError, match="global_cmvn"):
        ensure_cache(tmp_path / "cache", [corpus.source], frontend(cmvn="global"))
