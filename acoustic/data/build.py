"""Building the frames cache: alignments once through, then shard by shard, in as many processes as asked for.

Which utterances a shard holds follows from the alignments alone, so the cache is the same for any number of jobs.
Memory holds one shard per job, however large the corpus.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acoustic import fsio, log
from acoustic.data.cache import VERSION, CacheMeta, FramesCache, shard_path
from acoustic.data.join import (
    JoinOptions,
    LabelModel,
    Source,
    label_model,
    read_labels,
    speaker_statistics,
)
from acoustic.data.shards import Label, ShardJob, ShardResult, build_shard, pdf_dtype
from acoustic.data.stamps import archive_stamps, file_stamps
from acoustic.errors import ConfigError, DataError
from acoustic.features.frontend import Frontend
from acoustic.kaldi.datadir import DataDir
from acoustic.workers import exit_with_parent

logger = log.get_logger(__name__)
# 2^18 frames are 44 minutes of speech: 20 MB at 40 values in half precision.
SHARD_FRAMES = 1 << 18
DTYPES = ("float16", "float32")
# The fields of FrontendConfig that base frames depend on; the others act when batches are made.
BASE_FIELDS = (
    "cmvn", "norm_means", "norm_vars", "cmvn_window", "cmvn_min_window", "cmvn_center", "transform_delta_order",
    "transform_delta_window", "transform_splice_left", "transform_splice_right", "transform_dim", "fmllr",
)  # fmt: skip


@dataclass(frozen=True)
class CacheOptions:
    """How a cache is laid out and what goes into it.

    Attributes:
        dtype: of the base frames, float16 or float32.
        shard_frames: a shard is closed when it holds as many frames.
        join: what is still accepted of an utterance.
    """

    dtype: str = "float16"
    shard_frames: int = SHARD_FRAMES
    join: JoinOptions = dataclasses.field(default_factory=JoinOptions)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"frames are cached as {' or '.join(DTYPES)}, not {self.dtype!r}")
        if self.shard_frames < 1:
            raise ConfigError(f"a shard must hold at least one frame, not {self.shard_frames}")


def ensure_cache(
    directory: str | Path,
    sources: Sequence[Source],
    frontend: Frontend,
    options: CacheOptions | None = None,
    utterances: Iterable[str] | None = None,
    num_jobs: int = 1,
) -> FramesCache:
    """Open the cache in `directory` if it was made of exactly this; else build it there.

    Of processes that ask for the same cache at the same time one builds it and the others wait.

    Args:
        directory: of the cache. One that is there and of other input is replaced.
        sources: data directories with their alignments.
        frontend: makes base frames; transforms and global CMVN must be set.
        options: layout, and what is still accepted.
        utterances: use only these; None: all.
        num_jobs: processes that build.

    Raises:
        ConfigError: `directory` holds something else than a cache.
        DataError: unusable data, or more utterances skipped than `max_skip_fraction`.
    """
    directory, options = Path(directory), options or CacheOptions()
    only = None if utterances is None else frozenset(utterances)
    keys = cache_keys(sources, frontend, options, only)
    with contextlib.suppress(DataError):
        if _is_made_of(sources, CacheMeta.read(directory), keys, directory):
            return FramesCache.open(directory)
    with fsio.in_turn(directory.parent):
        cache = _reusable(directory, sources, keys)
        return build_cache(directory, sources, frontend, options, only, num_jobs) if cache is None else cache


def _is_made_of(sources: Sequence[Source], meta: CacheMeta, keys: tuple[str, str], directory: Path) -> bool:
    """Whether a cache has the key; or the older one, and no archive has changed since it was built."""
    if meta.key != keys[1]:
        return meta.key == keys[0]
    built = (directory / "meta.json").stat().st_mtime_ns
    return all(time <= built for source in sources for *_, time in archive_stamps(source))


def _reusable(directory: Path, sources: Sequence[Source], keys: tuple[str, str]) -> FramesCache | None:
    """The cache that is there, if it is whole and made of this; else the log says what is the matter with it.

    Raises:
        ConfigError: `directory` holds something else than a cache.
    """
    if not directory.is_dir():
        return None
    if any(directory.iterdir()) and not (directory / "meta.json").exists():
        raise ConfigError(f"{directory} is no frames cache and not empty: choose another data.cache_dir")
    try:
        cache = FramesCache.open(directory)
        if _is_made_of(sources, cache.meta, keys, directory):
            return cache
        logger.info("%s was made of other input: building it again", directory)
    except DataError as error:
        logger.warning("%s; building it again", error)
    return None


def build_cache(
    directory: str | Path,
    sources: Sequence[Source],
    frontend: Frontend,
    options: CacheOptions,
    utterances: frozenset[str] | None = None,
    num_jobs: int = 1,
) -> FramesCache:
    """Build a cache; arguments and errors as of `ensure_cache`. What is at `directory` is replaced when all is done."""
    directory = Path(directory)
    frontend.check_ready()
    key, _ = cache_keys(sources, frontend, options, utterances)
    tally = log.Tally()
    frontend_state = {name: tensor.cpu().numpy() for name, tensor in frontend.state_dict().items()}
    data_dirs = [DataDir.read(source.data_dir) for source in sources]
    corpora = [(data_dir, speaker_statistics(data_dir, frontend)) for data_dir in data_dirs]
    model = label_model(sources)
    with fsio.atomic_dir(directory) as unfinished:
        labels_path = unfinished / "labels.tmp"
        labels = _spool_labels(sources, data_dirs, utterances, labels_path, tally)
        jobs = [
            ShardJob(
                shard, unfinished, labels_path, part, *_needed(corpora, part), [source.fmllr for source in sources],
                frontend.config, frontend.feat_dim, frontend_state, options.join, options.dtype, model.num_pdfs,
            )
            for shard, part in enumerate(_shards(labels, options.shard_frames))
        ]  # fmt: skip
        results = list(log.progress(_run(jobs, num_jobs), "cache", len(jobs), "shard"))
        labels_path.unlink()
        for result in results:
            tally.done(len(result.utterances))
            for skip in result.skips:
                tally.skip(*skip)
        logger.info("frames cache %s: %s", directory, tally.summary())
        skipped = directory.with_name(f"{directory.name}.skipped.tsv")
        fsio.remove_abandoned(skipped)
        _write_skipped(skipped, tally)
        tally.check(options.join.max_skip_fraction, ", ".join(source.data_dir for source in sources))
        _write_tables(unfinished, results)
        meta = _meta(key, unfinished, results, sources, frontend, options, model)
        meta.write(unfinished)
    return FramesCache.open(directory)


def cache_keys(
    sources: Sequence[Source], frontend: Frontend, options: CacheOptions, utterances: frozenset[str] | None
) -> tuple[str, str]:
    """Hash of everything that decides a cache's content; files count by their path, size and time of change.

    Returns:
        The key, and the one of caches that were built before the archives that scp files name counted.
    """
    parts = {
        "version": VERSION,
        "sources": [[*dataclasses.astuple(source), *file_stamps(source)] for source in sources],
        "frontend": frontend_fingerprint(frontend),
        "options": dataclasses.asdict(options),
        "utterances": None if utterances is None else sorted(utterances),
    }
    older = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    archives = [archive_stamps(source) for source in sources]
    return hashlib.sha256(json.dumps([older, archives]).encode()).hexdigest(), older


def frontend_fingerprint(frontend: Frontend) -> str:
    """SHA-256 of what decides base frames: the configuration and the matrices of its per-utterance part."""
    config = {name: getattr(frontend.config, name) for name in BASE_FIELDS}
    digest = hashlib.sha256(json.dumps([config, frontend.feat_dim], sort_keys=True).encode())
    for name in ("global_cmvn", "transform"):
        value = getattr(frontend, name)
        if value is not None:
            digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def _spool_labels(
    sources: Sequence[Source],
    data_dirs: Sequence[DataDir],
    only: frozenset[str] | None,
    path: Path,
    tally: log.Tally,
) -> list[Label]:
    """Write the pdf ids of all utterances that have features and alignments into one file, so that jobs can map it."""
    labels: list[Label] = []
    owner: dict[str, str] = {}
    begin = 0
    with open(path, "wb") as file:
        for number, (source, data_dir) in enumerate(zip(sources, data_dirs, strict=True)):
            wanted = [utt for utt in data_dir.utterances if only is None or utt in only]
            for utt in wanted:
                if owner.setdefault(utt, source.data_dir) != source.data_dir:
                    raise DataError(f"is also in {owner[utt]}", path=source.data_dir, utt=utt, remedy="rename one")
                if utt not in data_dir.feats:
                    tally.skip("no_features", utt, f"not in {source.data_dir}/feats.scp")
            for utt, pdf_ids in read_labels(source, [utt for utt in wanted if utt in data_dir.feats], tally):
                file.write(pdf_ids.tobytes())
                labels.append(Label(number, utt, begin, len(pdf_ids)))
                begin += len(pdf_ids)
    return labels


def _shards(labels: list[Label], shard_frames: int) -> Iterator[list[Label]]:
    """Consecutive utterances, each group of `shard_frames` frames or a little more."""
    part: list[Label] = []
    num_frames = 0
    for label in labels:
        part.append(label)
        num_frames += label.num_frames
        if num_frames >= shard_frames:
            yield part
            part, num_frames = [], 0
    if part:
        yield part


def _needed(
    corpora: Sequence[tuple[DataDir, Mapping[str, torch.Tensor] | None]], labels: list[Label]
) -> tuple[list[DataDir], list[dict[str, np.ndarray] | None]]:
    """The parts of data directories and their CMVN statistics that concern some utterances.

    Statistics as arrays, see ShardJob.
    """
    data_dirs: list[DataDir] = []
    statistics: list[dict[str, np.ndarray] | None] = []
    for number, (data_dir, cmvn) in enumerate(corpora):
        utterances = [label.utt for label in labels if label.source == number]
        utt2spk = {utt: data_dir.utt2spk.get(utt, utt) for utt in utterances}
        owners = dict.fromkeys(utt2spk.values())
        data_dirs.append(
            DataDir(
                feats={utt: data_dir.feats[utt] for utt in utterances},
                utt2spk=utt2spk,
                cmvn={owner: data_dir.cmvn[owner] for owner in owners if owner in data_dir.cmvn},
            )
        )
        statistics.append(None if cmvn is None else {owner: cmvn[owner].numpy() for owner in owners if owner in cmvn})
    return data_dirs, statistics


def _run(jobs: list[ShardJob], num_jobs: int) -> Iterator[ShardResult]:
    """Build the shards, here or in other processes; results come in the order of the shards."""
    if num_jobs == 1 or len(jobs) < 2:
        yield from map(build_shard, jobs)
        return
    # A process forked from this one would inherit torch's threads in an unknown state; one that is forked from a server
    # that has only imported what it needs starts at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["acoustic.data.shards"])
    with ProcessPoolExecutor(min(num_jobs, len(jobs)), context, exit_with_parent) as pool:
        try:
            yield from pool.map(build_shard, jobs)
        except BrokenProcessPool as error:
            remedy = "memory may have run out: lower data.num_jobs"
            raise DataError("a process that built a shard was killed", remedy=remedy) from error


def _write_skipped(path: Path, tally: log.Tally) -> None:
    """List what was skipped."""
    fsio.write_text(path, "".join(f"{reason}\t{utt}\t{detail}\n" for reason, utt, detail in tally.skips))


def _write_tables(directory: Path, results: list[ShardResult]) -> None:
    """Write utts.tsv."""
    lines = []
    for shard, result in enumerate(results):
        begin = 0
        for utt, speaker, num_frames in result.utterances:
            lines.append(f"{utt}\t{speaker}\t{shard}\t{begin}\t{num_frames}\n")
            begin += num_frames
    fsio.write_text(directory / "utts.tsv", "".join(lines))


def _meta(
    key: str,
    directory: Path,
    results: list[ShardResult],
    sources: Sequence[Source],
    frontend: Frontend,
    options: CacheOptions,
    model: LabelModel,
) -> CacheMeta:
    """The meta data of a cache whose shards are written."""
    sizes = [sum(num_frames for _, _, num_frames in result.utterances) for result in results]
    num_frames = sum(sizes)
    mean = np.sum([result.sum for result in results], 0) / num_frames
    var = np.sum([result.square_sum for result in results], 0) / num_frames - mean * mean
    stored_as = pdf_dtype(model.num_pdfs)
    fingerprints = {
        **model.fingerprints,
        "alignments": _alignments_fingerprint(directory, results, stored_as),
        "frontend": frontend_fingerprint(frontend),
    }
    return CacheMeta(
        key=key,
        base_dim=frontend.base_dim,
        feat_dim=frontend.feat_dim,
        dtype=options.dtype,
        pdf_dtype=np.dtype(stored_as).name,
        num_utts=sum(len(result.utterances) for result in results),
        num_frames=num_frames,
        num_pdfs=model.num_pdfs,
        shard_num_frames=sizes,
        shard_checksums=[result.checksums for result in results],
        utts_checksum=zlib.crc32((directory / "utts.tsv").read_bytes()),
        pdf_counts=np.sum([result.pdf_counts for result in results], 0).tolist(),
        fingerprints=fingerprints,
        sources=[dataclasses.asdict(source) for source in sources],
        mean=mean.tolist(),
        var=np.maximum(var, 0.0).tolist(),
    )


def _alignments_fingerprint(directory: Path, results: list[ShardResult], stored_as: str) -> str:
    """SHA-256 over the utterances' ids and pdf ids (as int32), in their order."""
    digest = hashlib.sha256()
    for shard, result in enumerate(results):
        pdf_ids = np.fromfile(shard_path(directory, shard, "pdfs"), dtype=stored_as).astype("<i4")
        begin = 0
        for utt, _, num_frames in result.utterances:
            digest.update(utt.encode() + b"\0" + pdf_ids[begin : begin + num_frames].tobytes())
            begin += num_frames
    return digest.hexdigest()
