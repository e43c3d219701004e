"""One shard of a frames cache: its utterances read, joined, rounded and written, in whatever process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acoustic.data.cache import write_shard_file
from acoustic.data.join import JoinOptions, Skip, SourceReader, Utterance
from acoustic.errors import DataError
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.kaldi.datadir import DataDir


@dataclass(frozen=True)
class Label:
    """Where the pdf ids of an utterance stand among all: `num_frames` from `begin` on."""

    source: int
    utt: str
    begin: int
    num_frames: int


@dataclass(frozen=True)
class ShardJob:
    """Everything a process needs to build one shard.

    `data_dirs` and `cmvn` hold, for each source, what the shard's utterances need of it; `frontend_config`, `feat_dim`
    and `frontend_state` make the front end. All matrices are arrays: torch would hand each tensor to another process as
    a file that both have open, of which there may be too many, and whose sender complains when that process is killed.
    """

    shard: int
    directory: Path
    labels_path: Path
    labels: list[Label]
    data_dirs: list[DataDir]
    cmvn: list[dict[str, np.ndarray] | None]
    fmllr: list[str | None]
    frontend_config: FrontendConfig
    feat_dim: int
    frontend_state: dict[str, np.ndarray]
    join: JoinOptions
    dtype: str
    num_pdfs: int


@dataclass
class ShardResult:
    """What came out of a shard: its utterances, what was skipped, sums over its frames, CRC-32 of its files."""

    utterances: list[tuple[str, str, int]]
    skips: list[tuple[str, str, str]]
    sum: np.ndarray
    square_sum: np.ndarray
    pdf_counts: np.ndarray
    checksums: list[int]


def build_shard(job: ShardJob) -> ShardResult:
    """Read, join and write the utterances of one shard.

    On one thread: the product of frames and a transform differs in its last bits with the number of threads, and a
    cache must not differ with the number of processes that build it, between which the threads are shared.
    """
    with _one_thread():
        return _build_shard(job)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread within the block."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _build_shard(job: ShardJob) -> ShardResult:
    """As `build_shard`, on whatever threads."""
    label_file = np.memmap(job.labels_path, dtype=np.int32, mode="r") if job.labels_path.stat().st_size else np.zeros(0)
    state = {name: torch.from_numpy(matrix) for name, matrix in job.frontend_state.items()}
    frontend = Frontend.restored(job.frontend_config, job.feat_dim, state)
    utterances: list[Utterance] = []
    skips = []
    for number, (data_dir, cmvn, fmllr) in enumerate(zip(job.data_dirs, job.cmvn, job.fmllr, strict=True)):
        if not data_dir.feats:
            continue
        stats = None if cmvn is None else {owner: torch.from_numpy(matrix) for owner, matrix in cmvn.items()}
        with SourceReader(data_dir, frontend, job.join, stats, fmllr) as reader:
            for label in (label for label in job.labels if label.source == number):
                try:
                    pdf_ids = np.array(label_file[label.begin : label.begin + label.num_frames], dtype=np.int32)
                    utterances.append(reader.read(label.utt, pdf_ids))
                except Skip as skip:
                    skips.append((skip.reason, label.utt, skip.detail))
    frames = _stored_frames(utterances, job.dtype, frontend.base_dim)
    pdf_ids = np.concatenate([np.zeros(0, np.int32), *(utterance.pdf_ids for utterance in utterances)])
    checksums = [
        write_shard_file(job.directory, job.shard, "feats", frames),
        write_shard_file(job.directory, job.shard, "pdfs", pdf_ids.astype(pdf_dtype(job.num_pdfs))),
    ]
    sums, squares = _sums(frames)
    return ShardResult(
        [(utterance.id, utterance.speaker, len(utterance.pdf_ids)) for utterance in utterances],
        skips, sums, squares, np.bincount(pdf_ids, minlength=job.num_pdfs), checksums,
    )  # fmt: skip


def _stored_frames(utterances: list[Utterance], dtype: str, base_dim: int) -> np.ndarray:
    """The frames of some utterances one after another, rounded to `dtype`.

    Raises:
        DataError: a value beyond the range of half precision.
    """
    limit = float(np.finfo(dtype).max)
    for utterance in utterances:
        largest = float(np.abs(utterance.frames).max(initial=0.0))
        if largest > limit:
            raise DataError(
                f"a value of {largest:g} does not fit half precision (at most {limit:g})",
                utt=utterance.id,
                remedy="normalise the features (features.cmvn) or cache them as data.dtype=float32",
            )
    frames = [np.zeros((0, base_dim), dtype), *(utterance.frames.astype(dtype) for utterance in utterances)]
    return np.ascontiguousarray(np.concatenate(frames)).astype(np.dtype(dtype).newbyteorder("<"), copy=False)


def _sums(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of frames, float64 [base_dim] each, a few at a time."""
    sums, squares = np.zeros(frames.shape[1]), np.zeros(frames.shape[1])
    for begin in range(0, len(frames), 8192):
        part = frames[begin : begin + 8192].astype(np.float64)
        sums += part.sum(0)
        squares += (part * part).sum(0)
    return sums, squares


def pdf_dtype(num_pdfs: int) -> str:
    """The smallest type of those we use that holds all pdf ids."""
    return "<u2" if num_pdfs <= 1 << 16 else "<i4"
