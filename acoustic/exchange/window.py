"""Linear functions of a window of frames, composed: what a chain of splicings, matrices, shifts and scales does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acoustic.exchange.stages import Affine, Array, Scaling, Splice, Stage


@dataclass(frozen=True, eq=False)
class WindowMap:
    """y(t) = bias + sum over k of weight[:, k] x(t - left + k).

    Attributes:
        left: how many frames before the current one the window reaches; it covers the current one.
        weight: [dim, num_frames, input_dim].
        bias: [dim].
    """

    left: int
    weight: Array
    bias: Array

    @classmethod
    def identity(cls, dim: int) -> WindowMap:
        """y(t) = x(t)."""
        return cls(0, np.eye(dim)[:, None, :], np.zeros(dim))

    @property
    def right(self) -> int:
        """How many frames behind the current one the window reaches."""
        return self.weight.shape[1] - 1 - self.left

    def mapped(self, weight: Array, bias: Array) -> WindowMap:
        """weight y + bias."""
        return WindowMap(self.left, np.einsum("od,dki->oki", weight, self.weight), weight @ self.bias + bias)

    def scaled(self, scale: Array, bias: Array) -> WindowMap:
        """scale y + bias by element."""
        return WindowMap(self.left, scale[:, None, None] * self.weight, scale * self.bias + bias)

    def spliced(self, frame_offsets: Sequence[int]) -> WindowMap:
        """y(t + offset) of all offsets, joined."""
        left = self.left - min(0, *frame_offsets)
        right = self.right + max(0, *frame_offsets)
        dim, num_frames, input_dim = self.weight.shape
        weight = np.zeros((len(frame_offsets), dim, left + 1 + right, input_dim))
        for slot, offset in enumerate(frame_offsets):
            begin = left - self.left + offset
            weight[slot, :, begin : begin + num_frames] = self.weight
        return WindowMap(left, weight.reshape(-1, left + 1 + right, input_dim), np.tile(self.bias, len(frame_offsets)))

    def stages(self) -> list[Stage]:
        """The same as splicing, then a scaling or, where that does not do, an affine map."""
        spliced: list[Stage] = [Splice(self.left, self.right)] if self.weight.shape[1] > 1 else []
        matrix = self.weight.reshape(len(self.bias), -1)
        diagonal = np.diagonal(matrix)
        is_diagonal = matrix.shape[0] == matrix.shape[1] and np.count_nonzero(matrix) == np.count_nonzero(diagonal)
        if not is_diagonal or not diagonal.all():
            return [*spliced, Affine(matrix, self.bias)]
        if np.all(diagonal == 1.0) and not self.bias.any():
            return spliced
        return [*spliced, Scaling(self.bias / diagonal, diagonal)]
