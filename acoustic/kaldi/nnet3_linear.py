"""The linear components of Kaldi's nnet3 nets (Kaldi: nnet3/nnet-simple-component.cc), and the base of all.

Each class has the name and the fields of Kaldi's, in the order in which Kaldi writes them; how a field lies in a file
is said by `stored` (nnet3_fields.py). x is a row of the input, y of the output. What only training needs is kept so
that a file can be written back, and has Kaldi's defaults.
"""

# ruff: noqa: RUF009 (`stored` is dataclasses.field with other arguments)
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from acoustic.kaldi.nnet3_fields import stored

FloatArray = NDArray[np.float32]


@dataclass(kw_only=True, eq=False)
class Component:
    """Base of all components."""

    legacy: ClassVar[dict[str, str]] = {}
    """Tokens of older files and their kinds: read, but of no use any more."""

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        raise NotImplementedError

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.input_dim

    def fault(self) -> str | None:
        """What is wrong with the fields, or None."""
        return None if self.input_dim > 0 else "no inputs"


@dataclass(kw_only=True, eq=False)
class Updatable(Component):
    """A component that Kaldi can train."""

    learning_rate_factor: float = stored("<LearningRateFactor>", "float", 1.0, optional=True)
    is_gradient: bool = stored("<IsGradient>", "bool", False, optional=True)
    max_change: float = stored("<MaxChange>", "float", 0.0, optional=True)
    l2_regularize: float = stored("<L2Regularize>", "float", 0.0, optional=True)
    learning_rate: float = stored("<LearningRate>", "float", 0.001)


@dataclass(kw_only=True, eq=False)
class Affine(Updatable):
    """y = weight x + bias; weight float32 [output_dim, input_dim], bias float32 [output_dim]."""

    weight: FloatArray = stored("<LinearParams>", "matrix")
    bias: FloatArray = stored("<BiasParams>", "vector")

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.weight.shape[1]

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.weight.shape[0]

    def fault(self) -> str | None:
        """What is wrong with the fields, or None."""
        return _affine_fault(self.weight, self.bias)


@dataclass(kw_only=True, eq=False)
class AffineComponent(Affine):
    """y = weight x + bias."""

    orthonormal_constraint: float = stored("<OrthonormalConstraint>", "float", 0.0, optional=True)


@dataclass(kw_only=True, eq=False)
class NaturalGradientAffineComponent(Affine):
    """y = weight x + bias, trained by natural gradient."""

    rank_in: int = stored("<RankIn>", "int", 20)
    rank_out: int = stored("<RankOut>", "int", 80)
    orthonormal_constraint: float = stored("<OrthonormalConstraint>", "float", 0.0, optional=True)
    update_period: int = stored("<UpdatePeriod>", "int", 4)
    num_samples_history: float = stored("<NumSamplesHistory>", "float", 2000.0)
    alpha: float = stored("<Alpha>", "float", 4.0)

    legacy: ClassVar[dict[str, str]] = {
        "<MaxChangePerSample>": "float",
        "<UpdateCount>": "double",
        "<ActiveScalingCount>": "double",
        "<MaxChangeScaleStats>": "double",
    }


@dataclass(kw_only=True, eq=False)
class LinearComponent(Updatable):
    """y = weight x; weight float32 [output_dim, input_dim]."""

    weight: FloatArray = stored("<Params>", "matrix")
    orthonormal_constraint: float = stored("<OrthonormalConstraint>", "float", 0.0, optional=True)
    use_natural_gradient: bool = stored("<UseNaturalGradient>", "bool", True)
    rank_in_out: tuple[int, int] = stored("<RankInOut>", "int_pair", (20, 80))
    alpha: float = stored("<Alpha>", "float", 4.0)
    num_samples_history: float = stored("<NumSamplesHistory>", "float", 2000.0)
    update_period: int = stored("<UpdatePeriod>", "int", 4)

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.weight.shape[1]

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.weight.shape[0]


@dataclass(kw_only=True, eq=False)
class FixedAffineComponent(Component):
    """y = weight x + bias, never trained: `lda.mat` of Kaldi's recipes."""

    weight: FloatArray = stored("<LinearParams>", "matrix")
    bias: FloatArray = stored("<BiasParams>", "vector")

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.weight.shape[1]

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.weight.shape[0]

    def fault(self) -> str | None:
        """What is wrong with the fields, or None."""
        return _affine_fault(self.weight, self.bias)


@dataclass(kw_only=True, eq=False)
class FixedScaleComponent(Component):
    """y = scales x by element, never trained; scales float32 [dim]."""

    scales: FloatArray = stored("<Scales>", "vector")

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return len(self.scales)


@dataclass(kw_only=True, eq=False)
class FixedBiasComponent(Component):
    """y = x + bias, never trained; bias float32 [dim]."""

    bias: FloatArray = stored("<Bias>", "vector")

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return len(self.bias)


@dataclass(kw_only=True, eq=False)
class PerElementScaleComponent(Updatable):
    """y = scales x by element; scales float32 [dim]."""

    scales: FloatArray = stored("<Params>", "vector")

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return len(self.scales)


@dataclass(kw_only=True, eq=False)
class PerElementOffsetComponent(Updatable):
    """y = x + offsets, where offsets float32 [block_dim] repeat to fill `dim`; dim 0 stands for block_dim."""

    offsets: FloatArray = stored("<Offsets>", "vector")
    dim: int = stored("<Dim>", "int", 0)
    use_natural_gradient: bool = stored("<UseNaturalGradient>", "bool", True)

    def __post_init__(self) -> None:
        self.dim = self.dim or len(self.offsets)

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim

    def fault(self) -> str | None:
        """What is wrong with the fields, or None."""
        return block_fault(self.dim, len(self.offsets))


def _affine_fault(weight: FloatArray, bias: FloatArray) -> str | None:
    if weight.size == 0 or len(bias) != len(weight):
        return f"{len(bias)} biases for a matrix of {weight.shape[0]} x {weight.shape[1]}"
    return None


def block_fault(dim: int, block_dim: int) -> str | None:
    """What is wrong with a dimension that is to consist of blocks, or None."""
    if dim <= 0 or block_dim <= 0 or dim % block_dim:
        return f"dimension {dim} in blocks of {block_dim}"
    return None
