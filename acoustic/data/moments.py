"""Mean and variance of network inputs over a sample of training frames."""

from __future__ import annotations

import torch
from torch import Tensor

from acoustic.data.batches import Store

SAMPLE_FRAMES = 100_000
BATCH_FRAMES = 4096


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
