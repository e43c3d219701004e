"""SpecAugment on network inputs: bands of frequency and stretches of time are hidden while the network trains.

Park et al. 2019, section 2, without the warping of time. They mask whole utterances; a network of spliced frames sees
one window at a time, so each frame of a minibatch gets masks of its own within its window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acoustic.errors import ConfigError
from acoustic.features.frontend import Frontend


@dataclass(kw_only=True)
class MaskingConfig:
    """How much of the network's input is hidden; each mask's width is drawn uniformly from 0 to the greatest."""

    num_freq_masks: int = 0
    max_freq_width: int = 8  # filterbank channels
    num_time_masks: int = 0
    max_time_width: int = 3  # frames of the splicing window

    def __post_init__(self) -> None:
        if min(self.num_freq_masks, self.num_time_masks) < 0:
            raise ValueError("masking.num_freq_masks and masking.num_time_masks must not be negative")
        if min(self.max_freq_width, self.max_time_width) < 1:
            raise ValueError("masking.max_freq_width and masking.max_time_width must be at least 1")


class InputMasking:
    """Sets masked values to zero, which after the front end's normalisation is their mean.

    The masks come from torch's default generator of the device, which the training loop seeds for every step.

    Args:
        config: how many masks, and how wide.
        frontend: whose inputs are masked; it tells where time and frequency lie in them.

    Raises:
        ConfigError: inputs without an axis that is to be masked, or masks wider than it.
    """

    def __init__(self, config: MaskingConfig, frontend: Frontend) -> None:
        self.config = config
        self.num_frames, self.num_channels = frontend.num_spliced, frontend.base_dim
        features = frontend.config
        if not (config.num_freq_masks or config.num_time_masks):
            return
        if features.lda_dim:
            raise ConfigError("masking needs network inputs with a time axis, but features.lda_dim mixes the frames")
        if not features.global_norm:
            raise ConfigError("masking puts zero in place of the mean: it needs features.global_norm=true")
        if config.num_freq_masks and (features.transform_dim or features.fmllr != "none"):
            raise ConfigError("masking.num_freq_masks needs channels in order, but a transform or fMLLR mixes them")
        if config.num_freq_masks and config.max_freq_width > self.num_channels:
            raise ConfigError(f"masking.max_freq_width exceeds the {self.num_channels} channels of a frame")
        if config.num_time_masks and config.max_time_width > self.num_frames:
            raise ConfigError(f"masking.max_time_width exceeds the {self.num_frames} frames of the splicing window")

    def __call__(self, inputs: Tensor) -> Tensor:
        """[B, input_dim] -> [B, input_dim], deltas masked together with their channel."""
        config, batch = self.config, len(inputs)
        if config.num_freq_masks:
            hidden = random_spans(batch, config.num_freq_masks, config.max_freq_width, self.num_channels, inputs.device)
            inputs = inputs.unflatten(1, (-1, self.num_channels)).masked_fill(hidden.unsqueeze(1), 0.0).flatten(1)
        if config.num_time_masks:
            hidden = random_spans(batch, config.num_time_masks, config.max_time_width, self.num_frames, inputs.device)
            inputs = inputs.unflatten(1, (self.num_frames, -1)).masked_fill(hidden.unsqueeze(2), 0.0).flatten(1)
        return inputs


def random_spans(batch: int, num_masks: int, max_width: int, length: int, device: torch.device) -> Tensor:
    """bool [batch, length], true inside any of `num_masks` spans a row: width 0 ... max_width, anywhere it fits."""
    draws = torch.rand(2, batch, num_masks, 1, device=device)
    widths = (draws[0] * (max_width + 1)).floor()
    begins = (draws[1] * (length - widths + 1)).floor()
    places = torch.arange(length, device=device)
    return ((places >= begins) & (places < begins + widths)).any(1)
