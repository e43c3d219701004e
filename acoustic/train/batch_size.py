"""How many frames an update takes, and at which rate, where the configuration leaves it open."""

from __future__ import annotations

from dataclasses import replace

import torch

from acoustic import log
from acoustic.train.config import TrainConfig
from acoustic.train.optim import RATE_FRAMES
from acoustic.train.ranks import Ranks

logger = log.get_logger(__name__)
# Frames that a device should have at once. A GPU works through fewer as slowly as through these: reading weights and
# launching kernels take as long. Two cores do 512 1.1 to 1.2 times as fast as 256.
BUSY_FRAMES = {"cpu": 512, "cuda": 4096}
# Of an epoch. With few and large ones a network learns less from the same frames: where 2,923 updates of 256 frames and
# 1,461 of 512 taught the same, 731 of 1,024 taught less (docs/performance.md).
LEAST_UPDATES = 1400


def with_batches_chosen(
    config: TrainConfig, device: torch.device, num_frames: int, ranks: Ranks
) -> tuple[TrainConfig, int]:
    """The configuration with a batch size and a learning rate, and that size; the log says why, where it had none.

    Args:
        config: where optim.learning_rate is given and data.batch_size is not, batches are those of RATE_FRAMES.
        device: where each rank computes.
        num_frames: of the training data.
        ranks: the processes that train together.
    """
    batch_size, rate = config.data.batch_size, config.optim.learning_rate
    if batch_size is None:
        batch_size, reason = RATE_FRAMES, "since optim.learning_rate is given, and data.batch_size is not"
        if rate is None:
            batch_size, reason = suitable(device.type, num_frames, ranks.world_size)
        logger.info("batches of %d frames, %s", batch_size, reason)
    if rate is None:
        # Where ranks average their weights instead of adding up gradients, what counts is the frames of each.
        in_gradient = batch_size if ranks.average_steps is not None else batch_size * ranks.world_size
        rate = config.optim.rate_for(in_gradient)
        usual = config.optim.rate_for(RATE_FRAMES)
        logger.info("learning rate %g for updates of %d: %g is usual for %d", rate, in_gradient, usual, RATE_FRAMES)
    data, optim = replace(config.data, batch_size=batch_size), replace(config.optim, learning_rate=rate)
    return replace(config, data=data, optim=optim), batch_size


def suitable(device: str, num_frames: int, world_size: int) -> tuple[int, str]:
    """Frames of each rank's part of an update, and why."""
    wanted = batch_size = BUSY_FRAMES[device]
    while batch_size > RATE_FRAMES and num_frames < LEAST_UPDATES * batch_size * world_size:
        batch_size //= 2
    if batch_size < wanted:
        return batch_size, f"since {wanted} would leave fewer than {LEAST_UPDATES} updates of {num_frames} frames"
    return batch_size, f"as many as keep a {'GPU' if device == 'cuda' else 'CPU'} busy"
