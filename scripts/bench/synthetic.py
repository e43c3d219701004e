"""Frames caches of any size, of random frames, written as fast as the disk takes them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from acoustic import fsio
from acoustic.data.build import SHARD_FRAMES
from acoustic.data.cache import CacheMeta, FramesCache, write_shard_file

UTTERANCE_FRAMES = 512  # five seconds


def synthetic_cache(directory: Path, num_frames: int, base_dim: int, num_pdfs: int) -> FramesCache:
    """Write a cache of float16 frames drawn from a normal distribution, and labels all equally likely.

    A few random shards are drawn and written again and again: shards differ no further than training can notice, and
    writing is bound by the disk.
    """
    rng = np.random.default_rng(0)
    patterns = [_random_shard(rng, min(num_frames, SHARD_FRAMES), base_dim, num_pdfs) for _ in range(4)]
    sizes = [min(SHARD_FRAMES, num_frames - begin) for begin in range(0, num_frames, SHARD_FRAMES)]
    with fsio.atomic_dir(directory) as unfinished:
        lines, checksums = [], []
        for shard, size in enumerate(sizes):
            frames, pdf_ids = patterns[shard % len(patterns)]
            checksums.append(
                [
                    write_shard_file(unfinished, shard, "feats", frames[:size]),
                    write_shard_file(unfinished, shard, "pdfs", pdf_ids[:size]),
                ]
            )
            for begin in range(0, size, UTTERANCE_FRAMES):
                length = min(UTTERANCE_FRAMES, size - begin)
                lines.append(f"utt-{shard:05d}-{begin:06d}\tspeaker-{shard:05d}\t{shard}\t{begin}\t{length}\n")
        table = "".join(lines)
        fsio.write_text(unfinished / "utts.tsv", table)
        meta = CacheMeta(
            key="synthetic",
            base_dim=base_dim,
            feat_dim=base_dim,
            dtype="float16",
            pdf_dtype="uint16",
            num_utts=len(lines),
            num_frames=num_frames,
            num_pdfs=num_pdfs,
            shard_num_frames=sizes,
            shard_checksums=checksums,
            utts_checksum=zlib.crc32(table.encode()),
            pdf_counts=[num_frames // num_pdfs] * num_pdfs,
            fingerprints={},
            sources=[],
            mean=[0.0] * base_dim,
            var=[1.0] * base_dim,
        )
        meta.write(unfinished)
    return FramesCache.open(directory)


def _random_shard(
    rng: np.random.Generator, num_frames: int, base_dim: int, num_pdfs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels of one shard."""
    frames = rng.standard_normal((num_frames, base_dim), dtype=np.float32).astype(np.float16)
    return frames, rng.integers(0, num_pdfs, num_frames).astype(np.uint16)
