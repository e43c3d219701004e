"""What the front end learns from a sample of training frames: an LDA, mean and variance of the network's input."""

from __future__ import annotations

import torch
from torch import Tensor

from acoustic.data.batches import Store
from acoustic.data.cache import FramesCache
from acoustic.data.pool import edge_distances
from acoustic.features.frontend import Frontend
from acoustic.features.lda import LdaStats

SAMPLE_FRAMES = 100_000
LDA_FRAMES = 1_000_000
BATCH_FRAMES = 4096


def lda_stats(cache: FramesCache, frontend: Frontend, max_frames: int = LDA_FRAMES) -> LdaStats:
    """Statistics of spliced frames [*, spliced_dim] by pdf id, for Frontend.set_lda.

    Args:
        cache: training frames.
        frontend: on the CPU; its splicing and deltas.
        max_frames: of a larger cache every second, third, ... frame is taken, so that all speakers count.
    """
    stats = LdaStats(cache.num_pdfs, frontend.spliced_dim)
    stride = -(-cache.num_frames // max_frames)
    for shard in range(cache.num_shards):
        frames, pdf_ids = (torch.from_numpy(values) for values in (cache.read_frames(shard), cache.read_pdf_ids(shard)))
        left, right = (torch.from_numpy(values).long() for values in edge_distances(cache.utterance_lengths(shard)))
        for index in torch.arange(0, len(frames), stride).split(BATCH_FRAMES):
            stats.accumulate(frontend.spliced(frames, index, left[index], right[index]), pdf_ids[index])
    return stats


def input_moments(store: Store, seed: int) -> tuple[Tensor, Tensor]:
    """Moments of each dimension of the network input, for Frontend.set_global_norm.

    Taken over the first 100,000 frames of the shuffled training data, as Kaldi's steps/nnet/train.sh takes the first
    10,000 utterances of its shuffled list; the front end's normalisation must still be the identity.

    Args:
        store: training frames.
        seed: of the shuffle.

    Returns:
        mean and variance, float32 [input_dim] each, on the store's device.
    """
    dim = store.frontend.input_dim
    total, squares = (torch.zeros(dim, dtype=torch.float64, device=store.device) for _ in range(2))
    num_frames = 0
    num_batches = min(-(-SAMPLE_FRAMES // BATCH_FRAMES), store.num_batches(BATCH_FRAMES))
    for inputs, _ in store.batches(BATCH_FRAMES, seed=seed, end_batch=num_batches):
        wide = inputs.double()
        total += wide.sum(0)
        squares += (wide * wide).sum(0)
        num_frames += len(inputs)
    mean = total / num_frames
    return mean.float(), (squares / num_frames - mean * mean).clamp_(min=0).float()
