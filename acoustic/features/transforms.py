"""Linear and affine feature transforms: LDA, MLLT, fMLLR, as Kaldi's transform-feats applies them."""

from __future__ import annotations

import torch
from torch import Tensor

from acoustic.errors import DataError


def split_transform(matrix: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Weight [rows, dim] and bias [rows] of a transform of frames with `dim` values.

    A matrix with `dim` columns is linear (bias 0); with `dim + 1` it is affine, its last column the bias.

    Raises:
        DataError: any other number of columns.
    """
    if matrix.ndim != 2 or matrix.shape[1] not in (dim, dim + 1):
        raise DataError(
            f"a transform of shape {tuple(matrix.shape)} fits no frames of dimension {dim}",
            remedy=f"it must have {dim} columns, or {dim + 1} when it is affine",
        )
    bias = matrix[:, dim] if matrix.shape[1] == dim + 1 else torch.zeros_like(matrix[:, 0])
    return matrix[:, :dim], bias


def apply_transform(feats: Tensor, matrix: Tensor) -> Tensor:
    """Transform `feats` [T, dim] by a linear [rows, dim] or affine [rows, dim + 1] matrix: float32 [T, rows]."""
    weight, bias = split_transform(matrix.to(feats.device).float(), feats.shape[1])
    return torch.addmm(bias, feats.float(), weight.t())
