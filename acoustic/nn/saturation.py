"""When a hidden unit is active, that is not saturated: the definitions of Maas, Hannun & Ng 2013, section 3.

A rectifier, leaky or not, is saturated where its output is not positive. tanh is saturated within 0.05 of either end of
its range ("both"), or of the lower end alone ("neg"). The logistic function is tanh on another scale,
tanh(x) = 2 sigmoid(2x) - 1, so that its ends are 0.025 wide. Units that bend smoothly at zero count as rectifiers.
Maxout has no flat part: it is always active.
"""

from __future__ import annotations

import math

from torch import Tensor

# Outputs between which a squashing unit is active.
TANH_RANGE = (-0.95, 0.95)
SIGMOID_RANGE = (0.025, 0.975)
ACTIVE_RANGE = {"tanh": TANH_RANGE, "gaaf_tanh": TANH_RANGE, "sigmoid": SIGMOID_RANGE}


def is_active(output: Tensor, activation: str, lower_end_only: bool = False) -> Tensor:
    """Which outputs of a layer are not saturated.

    Args:
        output: [..., D], what the activation gave, before dropout.
        activation: its name, a key of nn.activations.ACTIVATIONS.
        lower_end_only: of a squashing unit take only the lower end for saturated (Maas et al.: tanh "neg").

    Returns:
        bool [..., D].
    """
    if activation == "maxout":
        return output.isfinite()
    if activation not in ACTIVE_RANGE:
        return output > 0
    low, high = ACTIVE_RANGE[activation]
    return output > low if lower_end_only else (output > low) & (output < high)


def active_interval(activation: str) -> tuple[float, float]:
    """The pre-activations (low, high) between which a unit is active; infinite where it never saturates."""
    if activation == "maxout":
        return -math.inf, math.inf
    if activation not in ACTIVE_RANGE:
        return 0.0, math.inf
    if activation == "sigmoid":
        low, high = SIGMOID_RANGE
        return math.log(low / (1 - low)), math.log(high / (1 - high))
    low, high = TANH_RANGE
    return math.atanh(low), math.atanh(high)
