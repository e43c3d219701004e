"""The components of Kaldi's nnet3 nets that feed-forward classifiers use (Kaldi: nnet3/nnet-*-component.cc).

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

UNSET_THRESHOLD = -1000.0
"""Kaldi's value for a self-repair threshold that is left to its default."""

NO_STATS = np.zeros(0, dtype=np.float32)


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
        return _block_fault(self.dim, len(self.offsets))


@dataclass(kw_only=True, eq=False)
class Nonlinear(Component):
    """An elementwise function (softmax: of the row) of x [dim], with statistics of training."""

    dim: int = stored("<Dim>", "int")
    block_dim: int | None = stored("<BlockDim>", "int", None, optional=True)
    value_avg: FloatArray = stored("<ValueAvg>", "vector", NO_STATS)
    deriv_avg: FloatArray = stored("<DerivAvg>", "vector", NO_STATS)
    count: float = stored("<Count>", "double", 0.0)
    oderiv_rms: FloatArray = stored("<OderivRms>", "vector", NO_STATS)
    oderiv_count: float = stored("<OderivCount>", "double", 0.0)
    num_dims_self_repaired: float = stored("<NumDimsSelfRepaired>", "double", 0.0)
    num_dims_processed: float = stored("<NumDimsProcessed>", "double", 0.0)
    self_repair_lower_threshold: float = stored("<SelfRepairLowerThreshold>", "float", UNSET_THRESHOLD, optional=True)
    self_repair_upper_threshold: float = stored("<SelfRepairUpperThreshold>", "float", UNSET_THRESHOLD, optional=True)
    self_repair_scale: float = stored("<SelfRepairScale>", "float", 0.0, optional=True)

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim


@dataclass(kw_only=True, eq=False)
class RectifiedLinearComponent(Nonlinear):
    """y = max(x, 0)."""


@dataclass(kw_only=True, eq=False)
class SigmoidComponent(Nonlinear):
    """y = 1 / (1 + exp(-x))."""


@dataclass(kw_only=True, eq=False)
class TanhComponent(Nonlinear):
    """y = tanh(x)."""


@dataclass(kw_only=True, eq=False)
class SoftmaxComponent(Nonlinear):
    """y = exp(x) / sum(exp(x))."""


@dataclass(kw_only=True, eq=False)
class LogSoftmaxComponent(Nonlinear):
    """y = x - log(sum(exp(x)))."""


@dataclass(kw_only=True, eq=False)
class BatchNormComponent(Component):
    """y = target_rms (x - stats_mean) / sqrt(max(stats_var, 0) + epsilon) in test mode.

    Attributes:
        stats_mean, stats_var: float32 [block_dim], repeated to fill `dim`.
    """

    dim: int = stored("<Dim>", "int")
    block_dim: int = stored("<BlockDim>", "int")
    epsilon: float = stored("<Epsilon>", "float", 1e-3)
    target_rms: float = stored("<TargetRms>", "float", 1.0)
    test_mode: bool = stored("<TestMode>", "bool", True)
    count: float = stored("<Count>", "double", 1.0)
    stats_mean: FloatArray = stored("<StatsMean>", "vector")
    stats_var: FloatArray = stored("<StatsVar>", "vector")

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim

    def fault(self) -> str | None:
        """What is wrong with the fields, or None."""
        if not (len(self.stats_mean) == len(self.stats_var) == self.block_dim):
            return "statistics of another dimension"
        if not (self.epsilon > 0.0 and self.target_rms > 0.0):
            return "epsilon and target-rms must be positive"
        return _block_fault(self.dim, self.block_dim)


@dataclass(kw_only=True, eq=False)
class DropoutComponent(Component):
    """y = x at test time; while Kaldi trains, elements or frames are dropped."""

    dim: int = stored("<Dim>", "int")
    dropout_proportion: float = stored("<DropoutProportion>", "float", 0.0)
    dropout_per_frame: bool = stored("<DropoutPerFrame>", "bool", False)
    test_mode: bool = stored("<TestMode>", "bool", False)

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim


@dataclass(kw_only=True, eq=False)
class GeneralDropoutComponent(Component):
    """y = x at test time; while Kaldi trains, y is x with a mask over blocks and frames."""

    dim: int = stored("<Dim>", "int")
    block_dim: int = stored("<BlockDim>", "int")
    time_period: int = stored("<TimePeriod>", "int", 0)
    dropout_proportion: float = stored("<DropoutProportion>", "float", 0.5)
    specaugment_max_proportion: float = stored("<SpecAugmentMaxProportion>", "float", 0.0, optional=True)
    specaugment_max_regions: int = stored("<SpecAugmentMaxRegions>", "int", 1, optional=True)
    test_mode: bool = stored("<TestMode>", "flag", False, optional=True)
    continuous: bool = stored("<Continuous>", "flag", False, optional=True)

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim


@dataclass(kw_only=True, eq=False)
class NoOpComponent(Component):
    """y = x."""

    dim: int = stored("<Dim>", "int")
    backprop_scale: float = stored("<BackpropScale>", "float", 1.0)

    legacy: ClassVar[dict[str, str]] = {
        "<ValueAvg>": "vector",
        "<DerivAvg>": "vector",
        "<Count>": "double",
        "<OderivRms>": "vector",
        "<OderivCount>": "double",
        "<NumDimsSelfRepaired>": "double",
        "<NumDimsProcessed>": "double",
    }

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim


def _affine_fault(weight: FloatArray, bias: FloatArray) -> str | None:
    if weight.size == 0 or len(bias) != len(weight):
        return f"{len(bias)} biases for a matrix of {weight.shape[0]} x {weight.shape[1]}"
    return None


def _block_fault(dim: int, block_dim: int) -> str | None:
    if dim <= 0 or block_dim <= 0 or dim % block_dim:
        return f"dimension {dim} in blocks of {block_dim}"
    return None


COMPONENTS: dict[str, type[Component]] = {
    kind.__name__: kind
    for kind in (
        AffineComponent,
        NaturalGradientAffineComponent,
        LinearComponent,
        FixedAffineComponent,
        FixedScaleComponent,
        FixedBiasComponent,
        PerElementScaleComponent,
        PerElementOffsetComponent,
        RectifiedLinearComponent,
        SigmoidComponent,
        TanhComponent,
        SoftmaxComponent,
        LogSoftmaxComponent,
        BatchNormComponent,
        DropoutComponent,
        GeneralDropoutComponent,
        NoOpComponent,
    )
}
"""The types that can be in a net, by Kaldi's names."""
