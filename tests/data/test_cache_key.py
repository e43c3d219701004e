"""What tells caches and runs of different data apart: nothing that decides a frame or its label may be left out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acoustic.data.build import CacheOptions, cache_keys, ensure_cache, frontend_fingerprint
from acoustic.data.cache import CacheMeta
from acoustic.data.join import JoinOptions, Source
from acoustic.data.shards import pdf_dtype
from acoustic.errors import DataError
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter
from tests.data.corpus import Corpus, frontend, make_cache, make_corpus, speaker_of

FILES = (
    "data/feats.scp", "data/cmvn.scp", "data/utt2spk", "ali/ali.1.gz", "ali/ali.2.gz", "ali/final.mdl", "ali/tree",
    "trans/trans.1", "trans/trans.2",
)  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """One with every file that a source may have."""
    corpus = make_corpus(tmp_path, [5] * 12)
    (tmp_path / "trans").mkdir()
    tables = {"data/cmvn.ark,{}/data/cmvn.scp": np.ones((2, 4)), "trans/trans.1": np.eye(3), "trans/trans.2": np.eye(3)}
    for number, (name, matrix) in enumerate(tables.items()):
        scp = ",scp" if "scp" in name else ""
        with TableWriter(f"ark{scp}:{tmp_path}/{name.format(tmp_path)}", "matrix") as writer:
            writer.write(speaker_of(f"s00{number}0"), matrix)
    corpus.source = dataclasses.replace(corpus.source, fmllr=str(tmp_path / "trans"))
    return corpus


def cache_key(*args: Any) -> str:
    """The key of a cache."""
    return cache_keys(*args)[0]


def key_of(source: Source, **options: Any) -> str:
    """The key of a cache of a source."""
    return cache_key([source], frontend(), CacheOptions(**options), None)


@pytest.mark.parametrize("name", FILES)
def test_each_file_counts_by_its_time_and_its_size(corpus: Corpus, tmp_path: Path, name: str) -> None:
    before, path = key_of(corpus.source), tmp_path / name
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert key_of(corpus.source) != before
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert key_of(corpus.source) != before
    os.truncate(path, stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert key_of(corpus.source) == before


def touch(path: Path, nanoseconds: int = 1) -> None:
    """Let a file have been changed a little later, as when it is written again in place."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + nanoseconds))


def test_archives_that_an_scp_names_count(corpus: Corpus, tmp_path: Path) -> None:
    for path in (tmp_path / "ali").glob("ali.*.gz"):
        path.unlink()
    for name in ("trans/trans", "ali/ali"):
        archive = tmp_path / f"{name}.bin"
        archive.write_bytes(b"")
        (tmp_path / f"{name}.scp").write_text(f"s000 {archive}:5[0:1]\nx\ny cat {tmp_path}/none:3 |\nz a|b\n\n")
    source = dataclasses.replace(corpus.source, fmllr=f"scp:{tmp_path}/data/cmvn.scp")
    for archive in (tmp_path / name for name in ("data/feats.ark", "data/cmvn.ark", "trans/trans.bin", "ali/ali.bin")):
        before = key_of(corpus.source), key_of(source)
        touch(archive)
        after = key_of(corpus.source), key_of(source)
        assert after[0] != before[0], archive
        assert (after[1] != before[1]) == (archive.parent.name != "trans")


def test_a_file_for_every_utterance_is_not_asked_for(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoustic.data.stamps.MAX_ARCHIVES", 1)
    before = key_of(corpus.source)
    touch(tmp_path / "data/feats.ark")
    assert key_of(corpus.source) == before


def test_a_cache_from_before_archives_counted_serves_until_one_is_written_again(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, [5])
    _, older = cache_keys([corpus.source], frontend(), CacheOptions(dtype="float32"), None)
    dataclasses.replace(cache.meta, key=older).write(cache.directory)

    def key_after_asking() -> str:
        return ensure_cache(cache.directory, [corpus.source], frontend(), CacheOptions(dtype="float32")).meta.key

    assert key_after_asking() == older
    touch(tmp_path / "data/feats.ark", 10**12)
    assert key_after_asking() != older


def test_transforms_that_an_rspecifier_names_count(corpus: Corpus, tmp_path: Path) -> None:
    source = dataclasses.replace(corpus.source, fmllr=f"ark,s,cs:{tmp_path}/trans/trans.1")
    before = key_of(source)
    os.utime(tmp_path / "trans/trans.1", ns=(1, 1))
    assert key_of(source) != before
    piped = key_of(dataclasses.replace(source, fmllr="ark:cat trans.1 |"))
    assert piped != before


def test_options_sources_front_ends_and_utterances_count(corpus: Corpus) -> None:
    source, options, front = corpus.source, CacheOptions(), frontend()
    keys = [
        cache_key([source], front, options, None),
        cache_key([source], front, options, frozenset(["s0000"])),
        cache_key([source], front, options, frozenset(["s0001"])),
        cache_key([source], frontend(cmvn="utterance"), options, None),
        cache_key([dataclasses.replace(source, fmllr=None)], front, options, None),
        cache_key([dataclasses.replace(source, fmllr="ark:trans.1")], front, options, None),
        cache_key([source, source], front, options, None),
        cache_key([], front, options, None),
        *(key_of(source, **{name: value}) for name, value in (("dtype", "float32"), ("shard_frames", 7))),
        *(key_of(source, join=JoinOptions(**{name: 9})) for name in ("length_tolerance", "min_frames")),
    ]
    assert len(set(keys)) == len(keys)


def test_matrices_and_every_option_of_the_front_end_count() -> None:
    def transformed(**config: Any) -> Callable[[float], str]:
        def fingerprint(value: float) -> str:
            front = frontend(**config)
            (front.set_transform if "transform_dim" in config else front.set_global_cmvn)(torch.full((2, 4), value))
            return frontend_fingerprint(front)

        return fingerprint

    for fingerprint in (transformed(transform_dim=2), transformed(cmvn="global")):
        assert fingerprint(1.0) == fingerprint(1.0) != fingerprint(2.0)
    options: list[dict[str, Any]] = [
        {}, {"cmvn": "utterance"}, {"cmvn": "utterance", "norm_vars": True}, {"cmvn": "utterance", "norm_means": False},
        {"cmvn": "sliding"}, {"cmvn": "sliding", "cmvn_window": 300}, {"cmvn": "sliding", "cmvn_min_window": 7},
        {"cmvn": "sliding", "cmvn_center": False}, {"fmllr": "speaker"}, {"fmllr": "utterance"},
    ]  # fmt: skip
    assert len({frontend_fingerprint(frontend(**some)) for some in options}) == len(options)


def test_other_shards_or_utterances_are_other_frames_for_a_run(tmp_path: Path) -> None:
    """What a run may be resumed on: also an utterance that ends elsewhere, though frames and labels are the same."""
    _, cache = make_cache(tmp_path, [5, 6])
    checksums = [[cache.meta.shard_checksums[0][0], 1]], [[1, cache.meta.shard_checksums[0][1]]]
    metas = [
        cache.meta, dataclasses.replace(cache.meta, utts_checksum=1),
        *(dataclasses.replace(cache.meta, shard_checksums=other) for other in checksums),
    ]  # fmt: skip
    assert len({meta.content_fingerprints()["frames"] for meta in metas}) == 4


def test_the_same_labels_of_other_utterances_are_other_alignments(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [5, 6])
    names = {utt: f"t{utt[1:]}" for utt in corpus.feats}
    data_dir = DataDir.read(corpus.source.data_dir)
    cache = ensure_cache(tmp_path / "cache", [corpus.source], frontend())
    DataDir(
        utt2spk={names[utt]: speaker for utt, speaker in data_dir.utt2spk.items()},
        feats={names[utt]: place for utt, place in data_dir.feats.items()},
    ).write(tmp_path / "data")
    with TableWriter(f"ark:{tmp_path}/ali/ali.ark", "int_vector") as writer:
        for utt, alignment in corpus.alignments.items():
            writer.write(names[utt], alignment)
    for path in (tmp_path / "ali").glob("ali.*.gz"):
        path.unlink()
    other = ensure_cache(tmp_path / "cache", [corpus.source], frontend())
    assert other.meta.shard_checksums == cache.meta.shard_checksums
    assert other.meta.fingerprints["alignments"] != cache.meta.fingerprints["alignments"]


def test_a_whole_cache_of_another_layout_is_refused(tmp_path: Path) -> None:
    _, cache = make_cache(tmp_path, [5])
    dataclasses.replace(cache.meta, version=1).write(cache.directory)
    with pytest.raises(DataError, match="not a frames cache of version 2"):
        CacheMeta.read(cache.directory)


def test_pdf_ids_beyond_two_bytes_take_four() -> None:
    for num_pdfs in (1, 256, 257, 65_535, 65_536, 65_537, 200_000):
        assert np.array([num_pdfs - 1]).astype(pdf_dtype(num_pdfs)).tolist() == [num_pdfs - 1]


def test_moments_are_those_of_all_frames(tmp_path: Path) -> None:
    corpus, cache = make_cache(tmp_path, [9000, 5000])
    frames = np.concatenate([corpus.feats[utt] for utt in sorted(corpus.feats)])
    assert np.allclose(cache.meta.mean, frames.mean(0, np.float64), atol=1e-9)
    assert np.allclose(cache.meta.var, frames.var(0, np.float64), atol=1e-9)
