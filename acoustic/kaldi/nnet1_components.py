"""The components of Kaldi's nnet1 nets that feed-forward classifiers use (Kaldi: nnet/nnet-*.h).

Each is a dataclass holding numpy arrays; x is a row of its input, y of its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]


@dataclass(eq=False)
class AffineTransform:
    """y = weight x + bias.

    Attributes:
        weight: float32 [output_dim, input_dim].
        bias: float32 [output_dim].
        learn_rate_coef, bias_learn_rate_coef, max_norm: used by Kaldi's training only.
    """

    weight: FloatArray
    bias: FloatArray
    learn_rate_coef: float = 1.0
    bias_learn_rate_coef: float = 1.0
    max_norm: float = 0.0

    marker: ClassVar[str] = "<AffineTransform>"

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.weight.shape[1]

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.weight.shape[0]


@dataclass(eq=False)
class LinearTransform:
    """y = weight x, with weight float32 [output_dim, input_dim]."""

    weight: FloatArray
    learn_rate_coef: float = 1.0

    marker: ClassVar[str] = "<LinearTransform>"

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.weight.shape[1]

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.weight.shape[0]


@dataclass(eq=False)
class ParametricRelu:
    """y = alpha x where x > 0, else beta x, by element: ReLU has alpha 1 and beta 0, leaky ReLU a small beta.

    Attributes:
        alpha, beta: float32 [dim].
        alpha_learn_rate_coef, beta_learn_rate_coef: used by Kaldi's training only.
    """

    alpha: FloatArray
    beta: FloatArray
    alpha_learn_rate_coef: float = 0.0
    beta_learn_rate_coef: float = 0.0

    marker: ClassVar[str] = "<ParametricRelu>"

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return len(self.alpha)

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return len(self.beta)


@dataclass(eq=False)
class AddShift:
    """y = x + shift, with shift float32 [dim]."""

    shift: FloatArray
    learn_rate_coef: float = 0.0

    marker: ClassVar[str] = "<AddShift>"

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return len(self.shift)

    output_dim = input_dim


@dataclass(eq=False)
class Rescale:
    """y = scale x by element, with scale float32 [dim]."""

    scale: FloatArray
    learn_rate_coef: float = 0.0

    marker: ClassVar[str] = "<Rescale>"

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return len(self.scale)

    output_dim = input_dim


@dataclass(eq=False)
class Splice:
    """y = the frames at `frame_offsets` from the current one, joined; edge frames are repeated.

    Attributes:
        input_dim: elements of one frame.
        frame_offsets: int32 [num_frames].
    """

    input_dim: int
    frame_offsets: IntArray

    marker: ClassVar[str] = "<Splice>"

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.input_dim * len(self.frame_offsets)


@dataclass(eq=False)
class Copy:
    """y = x[indices].

    Attributes:
        input_dim: elements of x.
        indices: int32 [output_dim], 0-based (files count from 1).
    """

    input_dim: int
    indices: IntArray

    marker: ClassVar[str] = "<Copy>"

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return len(self.indices)


@dataclass(eq=False)
class _Elementwise:
    """A component with as many outputs as inputs and no parameters."""

    input_dim: int

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.input_dim


@dataclass(eq=False)
class Sigmoid(_Elementwise):
    """y = 1 / (1 + exp(-x))."""

    marker: ClassVar[str] = "<Sigmoid>"


@dataclass(eq=False)
class Tanh(_Elementwise):
    """y = tanh(x)."""

    marker: ClassVar[str] = "<Tanh>"


@dataclass(eq=False)
class Softmax(_Elementwise):
    """y = exp(x) / sum(exp(x))."""

    marker: ClassVar[str] = "<Softmax>"


@dataclass(eq=False)
class Dropout(_Elementwise):
    """y = x at test time; while Kaldi trains, elements are dropped with probability `dropout_rate`."""

    dropout_rate: float = 0.5

    marker: ClassVar[str] = "<Dropout>"


Component: TypeAlias = (
    AffineTransform
    | LinearTransform
    | ParametricRelu
    | AddShift
    | Rescale
    | Splice
    | Copy
    | Sigmoid
    | Tanh
    | Softmax
    | Dropout
)
