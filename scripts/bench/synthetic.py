"""Frames caches of any size, of random frames, written as fast as the disk takes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from acoustic import fsio
from acoustic.data.build import SHARD_FRAMES
from acoustic.data.cache import CacheMeta, FramesCache, shard_path

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
        lines = []
        for shard, size in enumerate(sizes):
            frames, pdf_ids = patterns[shard % len(patterns)]
            frames[:size].tofile(shard_path(unfinished, shard, "feats"))
            pdf_ids[:size].tofile(shard_path(unfinished, shard, "pdfs"))
            for begin in range(0, size, UTTERANCE_FRAMES):
                length = min(UTTERANCE_FRAMES, size - begin)
                lines.append(f"utt-{shard:05d}-{begin:06d}\tspeaker-{shard:05d}\t{shard}\t{begin}\t{length}\n")
        fsio.write_text(unfinished / "utts.tsv", "".join(lines))
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
            pdf_counts=[num_frames // num_pdfs] * num_pdfs,
            fingerprints={},
            sources=[],
            mean=[0.0] * base_dim,
            var=[1.0] * base_dim,
        )
        fsio.write_json(unfinished / "meta.json", dataclasses.asdict(meta))
    return FramesCache.open(directory)


def _random_shard(
    rng: np.random.Generator, num_frames: int, base_dim: int, num_pdfs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels of one shard."""
    frames = rng.standard_normal((num_frames, base_dim), dtype=np.float32).astype(np.float16)
    return frames, rng.integers(0, num_pdfs, num_frames).astype(np.uint16)
