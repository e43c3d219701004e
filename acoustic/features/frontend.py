"""The one path from features to network input, used in training and carried inside the trained model.

Two phases. `per_utterance` does what needs a whole utterance or its speaker (CMVN, transforms) and gives base frames,
which the frames cache stores. `window` makes network input of any frames by their index, on any device: the neighbours
a frame needs are gathered, deltas are a small matrix product, and nothing is ever read across an utterance's edge.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from acoustic.errors import ConfigError, DataError
from acoustic.features.cmvn import apply_cmvn, cmvn_stats, sliding_cmvn
from acoustic.features.config import MAX_REACH, FrontendConfig
from acoustic.features.deltas import add_deltas, delta_filters
from acoustic.features.splice import splice
from acoustic.features.transforms import apply_transform, split_transform

__all__ = ["Frontend", "FrontendConfig"]

# A dimension whose variance over the training frames is smaller is constant: it is shifted but not scaled.
CONSTANT_VARIANCE = 1e-10


class Frontend(nn.Module):
    """Features [T, feat_dim] to network input [T, input_dim], under a FrontendConfig.

    Everything needed at test time is in `config`, `feat_dim` and the state dict. Buffers whose values come from data
    (global CMVN, transforms) are NaN until set or loaded.

    Attributes:
        feat_dim: values in a stored feature frame.
        base_dim: values in a base frame, what `per_utterance` gives.
        spliced_dim: values after deltas and splicing.
        input_dim: values in the network's input.
    """

    offsets: Tensor
    slots: Tensor
    delta_splice: Tensor | None
    global_cmvn: Tensor | None
    transform: Tensor | None
    lda_weight: Tensor | None
    lda_bias: Tensor | None
    shift: Tensor | None
    scale: Tensor | None

    def __init__(self, config: FrontendConfig, feat_dim: int) -> None:
        """Lay out the stages for features of `feat_dim` values a frame.

        Raises:
            ValueError: no values, or splicing and deltas reach over more than `MAX_REACH` frames.
        """
        super().__init__()
        if feat_dim < 1:
            raise ValueError(f"feat_dim must be at least 1, it is {feat_dim}")
        self.config, self.feat_dim = config, feat_dim
        self.reach = config.delta_order * config.delta_window
        _check_reach("transform_", config.transform_delta_order * config.transform_delta_window, config)
        _check_reach("", self.reach, config)
        self.transform_input_dim = (
            feat_dim
            * (config.transform_delta_order + 1)
            * (config.transform_splice_left + 1 + config.transform_splice_right)
        )
        self.base_dim = config.transform_dim or self.transform_input_dim
        self.num_spliced = config.splice_left + 1 + config.splice_right
        self.spliced_dim = self.base_dim * (config.delta_order + 1) * self.num_spliced
        self.input_dim = config.lda_dim or self.spliced_dim

        offsets = torch.arange(-config.splice_left - self.reach, config.splice_right + self.reach + 1)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("slots", torch.arange(-config.splice_left, config.splice_right + 1), persistent=False)
        self.register_buffer("delta_splice", self._delta_splice_matrix(), persistent=False)
        self.register_buffer("global_cmvn", _unset(2, feat_dim + 1).double() if config.cmvn == "global" else None)
        self.register_buffer(
            "transform", _unset(config.transform_dim, self.transform_input_dim + 1) if config.transform_dim else None
        )
        self.register_buffer("lda_weight", _unset(config.lda_dim, self.spliced_dim) if config.lda_dim else None)
        self.register_buffer("lda_bias", _unset(config.lda_dim) if config.lda_dim else None)
        self.register_buffer("shift", torch.zeros(self.input_dim) if config.global_norm else None)
        self.register_buffer("scale", torch.ones(self.input_dim) if config.global_norm else None)

    @classmethod
    def from_config(cls, config: FrontendConfig | dict[str, Any], feat_dim: int) -> Frontend:
        """Build from a config or its dictionary.

        Raises:
            ConfigError: an unknown field or a value out of range.
        """
        try:
            return cls(config if isinstance(config, FrontendConfig) else FrontendConfig(**config), feat_dim)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"front end: {error}") from error

    @classmethod
    def restored(cls, config: FrontendConfig | dict[str, Any], feat_dim: int, state: dict[str, Any]) -> Frontend:
        """Build from a config and a state dict.

        Raises:
            ConfigError: as `from_config`, or the state is that of another front end.
        """
        frontend = cls.from_config(config, feat_dim)
        try:
            frontend.load_state_dict(state)
        except RuntimeError as error:
            raise ConfigError("front end: its values are those of another front end") from error
        return frontend

    def config_dict(self) -> dict[str, Any]:
        """The config as a dictionary of plain values; with `feat_dim` and the state dict it rebuilds this front end."""
        return dataclasses.asdict(self.config)

    def _delta_splice_matrix(self) -> Tensor | None:
        """Deltas of every spliced frame as one matrix: [num_spliced * (delta_order + 1), len(offsets)]."""
        if self.config.delta_order == 0:
            return None
        filters = delta_filters(self.config.delta_order, self.config.delta_window)
        matrix = torch.zeros(self.num_spliced, *filters.shape[:1], len(self.offsets))
        for slot in range(self.num_spliced):
            matrix[slot, :, slot : slot + filters.shape[1]] = filters
        return matrix.flatten(0, 1)

    # -- values that come from data ------------------------------------------------------------------------------

    def set_global_cmvn(self, stats: Tensor) -> None:
        """Set the statistics [2, feat_dim + 1] of global CMVN."""
        if self.global_cmvn is None:
            raise ConfigError(f"global CMVN statistics given, but cmvn={self.config.cmvn}")
        _fill(self.global_cmvn, stats, "global CMVN statistics")

    def set_transform(self, matrix: Tensor) -> None:
        """Set the per-utterance transform: [transform_dim, D] linear or [transform_dim, D + 1] affine."""
        if self.transform is None:
            raise ConfigError("a transform given, but transform_dim=0")
        weight, bias = split_transform(matrix, self.transform_input_dim)
        _fill(self.transform, torch.cat([weight, bias.unsqueeze(1)], 1), "transform")

    def set_lda(self, matrix: Tensor) -> None:
        """Set the transform after splicing: [lda_dim, spliced_dim] linear or [lda_dim, spliced_dim + 1] affine."""
        if self.lda_weight is None or self.lda_bias is None:
            raise ConfigError("an LDA matrix given, but lda_dim=0")
        weight, bias = split_transform(matrix, self.spliced_dim)
        _fill(self.lda_weight, weight, "LDA matrix")
        _fill(self.lda_bias, bias, "LDA bias")

    def set_global_norm(self, mean: Tensor, var: Tensor) -> None:
        """Set the network input's normalisation from the moments [input_dim] of the training frames' `window` output.

        The moments are those seen before any normalisation: estimate them while it is still the identity.
        """
        if self.shift is None or self.scale is None:
            raise ConfigError("moments of the network input given, but global_norm=false")
        _fill(self.shift, -mean, "mean")
        _fill(self.scale, torch.where(var > CONSTANT_VARIANCE, var, 1.0).rsqrt(), "variance")

    def check_ready(self) -> None:
        """Check that everything which `per_utterance` takes from data was set.

        Raises:
            ConfigError: naming what is not.
        """
        for name in ("global_cmvn", "transform"):
            value = getattr(self, name)
            if value is not None and bool(value.isnan().any()):
                raise ConfigError(f"the front end's {name} was never set, or holds NaN")

    # -- phase 1: whole utterances --------------------------------------------------------------------------------

    @torch.no_grad()
    def per_utterance(self, feats: Tensor, cmvn_stats: Tensor | None = None, fmllr: Tensor | None = None) -> Tensor:
        """Base frames of one utterance: CMVN, deltas and splicing before the transform, the transform, fMLLR.

        Args:
            feats: [T, feat_dim], T >= 1.
            cmvn_stats: [2, feat_dim + 1] of the speaker; of the utterance they are computed here when not given.
            fmllr: linear or affine matrix [base_dim, base_dim (+ 1)] of the speaker or utterance.

        Returns:
            float32 [T, base_dim].

        Raises:
            DataError: frames of another dimension, none at all, or a missing matrix.
        """
        config = self.config
        if feats.ndim != 2 or feats.shape[1] != self.feat_dim or feats.shape[0] == 0:
            raise DataError(f"features of shape {tuple(feats.shape)} instead of [T, {self.feat_dim}], T >= 1")
        base = self._normalised(feats.float(), cmvn_stats)
        if config.transform_delta_order:
            base = add_deltas(base, config.transform_delta_order, config.transform_delta_window)
        if config.transform_splice_left or config.transform_splice_right:
            base = splice(base, config.transform_splice_left, config.transform_splice_right)
        if self.transform is not None:
            base = apply_transform(base, self.transform)
        if config.fmllr == "none":
            return base
        if fmllr is None:
            raise DataError(f"no fMLLR transform given for this utterance, but fmllr={config.fmllr}")
        if not fmllr.isfinite().all():
            raise DataError("an fMLLR transform with NaN or infinity", remedy="estimate it again")
        transformed = apply_transform(base, fmllr)
        if transformed.shape[1] != self.base_dim:
            raise DataError(f"an fMLLR transform with {transformed.shape[1]} rows instead of {self.base_dim}")
        return transformed

    def _normalised(self, feats: Tensor, stats: Tensor | None) -> Tensor:
        """Features after CMVN."""
        config = self.config
        if config.cmvn == "none" or not config.norm_means:
            return feats
        if config.cmvn == "sliding":
            window, min_window = config.cmvn_window, config.cmvn_min_window
            return sliding_cmvn(feats, window, min_window, config.cmvn_center, config.norm_vars)
        if config.cmvn == "global":
            stats = self.global_cmvn
        elif config.cmvn == "utterance" and stats is None:
            stats = cmvn_stats(feats)
        if stats is None:
            raise DataError("no CMVN statistics given for this utterance's speaker")
        return apply_cmvn(feats, stats, config.norm_vars)

    # -- phase 2: frames by index ---------------------------------------------------------------------------------

    def spliced(self, frames: Tensor, index: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Deltas and splicing of chosen frames, exactly Kaldi's add-deltas on the utterance, then splice-feats.

        Args:
            frames: [N, base_dim] base frames of any number of utterances, one after another; any float type.
            index: int64 [B], the frames wanted.
            left: int64 [B], how many frames of the same utterance lie before each.
            right: int64 [B], how many lie after it.

        Returns:
            [B, spliced_dim]: float32 with deltas, else of the type of `frames`.
        """
        if self.delta_splice is None:
            return _gather(frames, index, left, right, self.slots).flatten(1)
        context = _gather(frames, index, left, right, self.offsets).float()
        batch, order = len(index), self.config.delta_order + 1
        # Deltas are wanted as computed: autocast would round this product to half precision.
        with torch.autocast(frames.device.type, enabled=False):
            slots = torch.matmul(self.delta_splice, context).view(batch * self.num_spliced, order * self.base_dim)
        # Beyond an edge splicing repeats the edge frame's deltas, which are not the deltas of repeated frames.
        slot = _clamped(self.slots, left, right) + self.config.splice_left
        row = slot + torch.arange(batch, device=slot.device).unsqueeze(1) * self.num_spliced
        return slots.index_select(0, row.view(-1)).view(batch, self.spliced_dim)

    def normalise(self, spliced: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """LDA and global normalisation of spliced frames [B, spliced_dim]: [B, input_dim] of type `dtype`."""
        if self.lda_weight is not None:
            with torch.autocast(spliced.device.type, enabled=False):
                spliced = torch.nn.functional.linear(spliced.float(), self.lda_weight, self.lda_bias)
        if self.shift is not None and self.scale is not None:
            spliced = torch.addcmul(self.shift * self.scale, spliced.float(), self.scale)
        return spliced.to(dtype)

    def window(
        self, frames: Tensor, index: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Network input of chosen frames: `spliced`, then `normalise`; arguments and device are theirs.

        Returns:
            [B, input_dim] of type `dtype`, on the device of `frames`.
        """
        return self.normalise(self.spliced(frames, index, left, right), dtype)

    def utterance(self, base: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Network input of all frames of one utterance: base frames [T, base_dim] to [T, input_dim]."""
        index = torch.arange(len(base), device=base.device)
        return self.window(base, index, index, len(base) - 1 - index, dtype)


def _check_reach(stage: str, of_deltas: int, config: FrontendConfig) -> None:
    """ValueError when the splicing of a stage, with its deltas, takes more neighbours than anybody has use for."""
    for name in (f"{stage}splice_left", f"{stage}splice_right"):
        if getattr(config, name) + of_deltas > MAX_REACH:
            sizes = f"{name}={getattr(config, name)} and {of_deltas} frames of {stage}delta_order and its window"
            raise ValueError(f"{sizes} reach over more than {MAX_REACH} frames")


def _clamped(offsets: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Offsets [S] kept within each frame's utterance: [B, S]."""
    return torch.minimum(torch.maximum(offsets, -left.unsqueeze(1)), right.unsqueeze(1))


def _gather(frames: Tensor, index: Tensor, left: Tensor, right: Tensor, offsets: Tensor) -> Tensor:
    """The frames at `offsets` [S] from each of `index` [B]: [B, S, dim]."""
    position = index.unsqueeze(1) + _clamped(offsets, left, right)
    return frames.index_select(0, position.view(-1)).view(len(index), len(offsets), frames.shape[1])


def _unset(*shape: int) -> Tensor:
    """A tensor to be filled from data."""
    return torch.full(shape, torch.nan)


def _fill(buffer: Tensor, value: Tensor, what: str) -> None:
    """Copy `value` into `buffer`, which must have its shape and be finite."""
    if value.shape != buffer.shape:
        raise DataError(f"{what} of shape {tuple(value.shape)} instead of {tuple(buffer.shape)}")
    if not bool(value.isfinite().all()):
        raise DataError(f"{what}: NaN or infinite values")
    buffer.copy_(value)
