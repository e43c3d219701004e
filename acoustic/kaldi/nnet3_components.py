"""The components of Kaldi's nnet3 nets that feed-forward classifiers use (Kaldi: nnet3/nnet-*-component.cc).

Those that are linear lie in nnet3_linear.py, which also says how the classes are laid out.
"""

# ruff: noqa: RUF009 (`stored` is dataclasses.field with other arguments)
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from acoustic.kaldi.nnet3_fields import stored
from acoustic.kaldi.nnet3_linear import (
    AffineComponent,
    Component,
    FixedAffineComponent,
    FixedBiasComponent,
    FixedScaleComponent,
    FloatArray,
    LinearComponent,
    NaturalGradientAffineComponent,
    PerElementOffsetComponent,
    PerElementScaleComponent,
    block_fault,
)

UNSET_THRESHOLD = -1000.0
"""Kaldi's value for a self-repair threshold that is left to its default."""

NO_STATS = np.zeros(0, dtype=np.float32)


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
class ElementwiseProductComponent(Component):
    """y[i] = the product of x[i], x[i + dim], x[i + 2 dim] ..., where dim is that of y."""

    dim: int = stored("<InputDim>", "int")
    product_dim: int = stored("<OutputDim>", "int")

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.product_dim

    def fault(self) -> str | None:
        """What is wrong with the fields, or None."""
        return block_fault(self.dim, self.product_dim)


@dataclass(kw_only=True, eq=False)
class NormalizeComponent(Component):
    """y = x target_rms / sqrt(mean(x^2)), for each block of x.

    With add_log_stddev a block of y has log sqrt(mean(x^2)) behind it. The mean is floored at 2^-66 target_rms^2.
    """

    dim: int = stored("<InputDim>", "int")
    block_dim: int | None = stored("<BlockDim>", "int", None, optional=True)
    target_rms: float = stored("<TargetRms>", "float", 1.0)
    add_log_stddev: bool = stored("<AddLogStddev>", "bool", False)

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return self.dim

    @property
    def output_dim(self) -> int:
        """Elements of y."""
        return self.dim + (self.dim // (self.block_dim or self.dim) if self.add_log_stddev else 0)

    def fault(self) -> str | None:
        """What is wrong with the fields, or None."""
        if not self.target_rms > 0.0:
            return "target-rms must be positive"
        return block_fault(self.dim, self.dim if self.block_dim is None else self.block_dim)


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
        return block_fault(self.dim, self.block_dim)


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
        ElementwiseProductComponent,
        NormalizeComponent,
        BatchNormComponent,
        DropoutComponent,
        GeneralDropoutComponent,
        NoOpComponent,
    )
}
"""The types that can be in a net, by Kaldi's names."""
