"""A front end as a list of stages, so that an exported net can hold some and leave the others to its features.

What a stage does to an utterance is what the class says; arrays are float64. Stages that need more than the frames
around a frame (statistics or transforms of a speaker) can never be inside a net.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from acoustic.features.cmvn import cmvn_shift_scale
from acoustic.features.deltas import delta_filters
from acoustic.features.frontend import Frontend

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cmvn:
    """CMVN by statistics of a speaker, an utterance or a sliding window; fields as in FrontendConfig."""

    kind: str
    norm_vars: bool
    window: int
    min_window: int
    center: bool


@dataclass(frozen=True, eq=False)
class GlobalCmvn:
    """CMVN by statistics [2, dim + 1] that are part of the model."""

    stats: Array
    norm_vars: bool

    def scaling(self) -> Scaling:
        """The same for a net."""
        shift, scale = cmvn_shift_scale(torch.from_numpy(self.stats), self.norm_vars)
        return Scaling(shift.numpy(), np.ones(len(shift)) if scale is None else scale.numpy())


@dataclass(frozen=True, eq=False)
class Deltas:
    """add-deltas: each frame [dim] becomes [dim * (order + 1)]."""

    order: int
    window: int

    @property
    def reach(self) -> int:
        """How many frames to either side a frame's deltas depend on."""
        return self.order * self.window

    def affine(self, dim: int) -> Affine:
        """The deltas as a map of the 2 * reach + 1 joined frames of `dim` elements."""
        filters = delta_filters(self.order, self.window).double().numpy()
        weight = np.einsum("of,ij->oifj", filters, np.eye(dim))
        return Affine(weight.reshape(dim * (self.order + 1), -1), np.zeros(dim * (self.order + 1)))


@dataclass(frozen=True, eq=False)
class Splice:
    """splice-feats: frames t - left .. t + right joined, the edge frames repeated."""

    left: int
    right: int


@dataclass(frozen=True, eq=False)
class Affine:
    """y = weight x + bias; weight [rows, dim], bias [rows]."""

    weight: Array
    bias: Array

    @property
    def matrix(self) -> Array:
        """Kaldi's form of it, [rows, dim] or, with a bias, [rows, dim + 1]."""
        return np.hstack([self.weight, self.bias[:, None]]) if np.any(self.bias) else self.weight


@dataclass(frozen=True, eq=False)
class Fmllr:
    """A transform of each speaker or utterance; kind as in FrontendConfig."""

    kind: str


@dataclass(frozen=True, eq=False)
class Scaling:
    """y = (x + shift) scale by element, both [dim]."""

    shift: Array
    scale: Array


Stage: TypeAlias = Cmvn | GlobalCmvn | Deltas | Splice | Affine | Fmllr | Scaling


def stages_of(frontend: Frontend) -> list[Stage]:
    """All stages of a front end that do something, in their order."""
    config = frontend.config
    stages: list[Stage] = []
    if frontend.global_cmvn is not None and config.norm_means:
        stages.append(GlobalCmvn(frontend.global_cmvn.double().numpy(), config.norm_vars))
    elif config.cmvn != "none" and config.norm_means:
        stages.append(
            Cmvn(config.cmvn, config.norm_vars, config.cmvn_window, config.cmvn_min_window, config.cmvn_center)
        )
    if config.transform_delta_order:
        stages.append(Deltas(config.transform_delta_order, config.transform_delta_window))
    if config.transform_splice_left or config.transform_splice_right:
        stages.append(Splice(config.transform_splice_left, config.transform_splice_right))
    if frontend.transform is not None:
        matrix = frontend.transform.double().numpy()
        stages.append(Affine(matrix[:, :-1], matrix[:, -1]))
    if config.fmllr != "none":
        stages.append(Fmllr(config.fmllr))
    if config.delta_order:
        stages.append(Deltas(config.delta_order, config.delta_window))
    if config.splice_left or config.splice_right:
        stages.append(Splice(config.splice_left, config.splice_right))
    if frontend.lda_weight is not None and frontend.lda_bias is not None:
        stages.append(Affine(frontend.lda_weight.double().numpy(), frontend.lda_bias.double().numpy()))
    if frontend.shift is not None and frontend.scale is not None:
        stages.append(Scaling(frontend.shift.double().numpy(), frontend.scale.double().numpy()))
    return stages


@dataclass(frozen=True, eq=False)
class Split:
    """A front end cut in two.

    Attributes:
        outside: the stages that the features must have gone through before the net.
        inside: those that the net does itself.
        dim: elements of a frame between the two.
    """

    outside: list[Stage]
    inside: list[Stage]
    dim: int


def split(frontend: Frontend, deltas_outside: bool = False, max_contexts: int | None = None) -> Split:
    """Cut a front end so that as much as possible is inside.

    Args:
        frontend: with everything set.
        deltas_outside: leave deltas outside when they are the first stage that could be inside.
        max_contexts: how many of the stages inside may look at neighbouring frames; None: any number.
    """
    stages = stages_of(frontend)
    cut = 1 + max((i for i, stage in enumerate(stages) if isinstance(stage, Cmvn | Fmllr)), default=-1)
    if deltas_outside and cut < len(stages) and isinstance(stages[cut], Deltas):
        cut += 1
    contexts = [i for i in range(cut, len(stages)) if isinstance(stages[i], Deltas | Splice)]
    if max_contexts is not None and len(contexts) > max_contexts:
        cut = contexts[-max_contexts - 1] + 1
    dim = frontend.feat_dim
    for stage in stages[:cut]:
        dim = output_dim(stage, dim)
    return Split(stages[:cut], stages[cut:], dim)


def output_dim(stage: Stage, dim: int) -> int:
    """Elements of a frame that a stage makes of one with `dim`."""
    match stage:
        case Deltas():
            return dim * (stage.order + 1)
        case Splice():
            return dim * (stage.left + 1 + stage.right)
        case Affine():
            return len(stage.bias)
        case _:
            return dim
