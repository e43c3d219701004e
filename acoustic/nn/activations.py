"""The nonlinearities of the four papers, and those people use beside them.

Every activation maps [..., D] to [..., D], except maxout, which maps [..., pieces * D] to [..., D].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

GAAF_K = 10_000.0


class GradientAcceleration(torch.autograd.Function):
    """phi(x) + g(x) s(x), g(x) = (xK - floor(xK) - 1/2) / K: GAAF, equations 7 and 8, with K = 10,000.

    The value moves by at most s(x) / 2K; the gradient becomes phi'(x) + s(x), since g' = 1 almost everywhere. The
    backward pass states that gradient itself: automatic differentiation of the forward pass would give it as well,
    but float32 has no digits left for the fraction of xK once |x| passes a few hundred.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor, shape: Tensor) -> Tensor:
        """phi(x) = `value`, phi'(x) = `slope`, s(x) = `shape`, all [..., D]."""
        ctx.save_for_backward(slope + shape)
        scaled = x.double() * GAAF_K
        return value + ((scaled - scaled.floor() - 0.5) / GAAF_K).to(x.dtype) * shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient phi'(x) + s(x); the term g(x) s'(x), at most 5e-5 |s'(x)|, is left out as in the paper."""
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None, None


class GaafTanh(nn.Module):
    """tanh with gradient acceleration; shape s(x) = exp(-x^2 / width). In evaluation it is tanh.

    The paper gives no formula: exp(-x^2/4) is read off its Figure 4b; a third-party code uses width 3.
    """

    def __init__(self, width: float = 4.0) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        if not self.training:
            return torch.tanh(x)
        value = torch.tanh(x.detach())
        return GradientAcceleration.apply(x, value, 1 - value * value, torch.exp(-(x.detach() ** 2) / self.width))


class GaafReLU(nn.Module):
    """ReLU with gradient acceleration; shape s(x) = sigmoid(steepness (x + shift)). In evaluation it is ReLU.

    The paper calls s "a shifted sigmoid": steepness 5 and shift 0.5 are read off its Figure 4c.
    """

    def __init__(self, steepness: float = 5.0, shift: float = 0.5) -> None:
        super().__init__()
        self.steepness, self.shift = steepness, shift

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        if not self.training:
            return torch.relu(x)
        fixed = x.detach()
        shape = torch.sigmoid(self.steepness * (fixed + self.shift))
        return GradientAcceleration.apply(x, torch.relu(fixed), (fixed > 0).to(x.dtype), shape)


class Maxout(nn.Module):
    """The largest of `pieces` linear units: [..., D * pieces] -> [..., D] (Goodfellow et al. 2013)."""

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """[..., D * pieces] -> [..., D]."""
        return x.unflatten(-1, (-1, self.pieces)).amax(-1)


@dataclass(frozen=True)
class ActivationShape:
    """What some activations can be told.

    Attributes:
        negative_slope: of leaky_relu; prelu starts from it.
        gaaf_width: of gaaf_tanh's shape function, see GaafTanh.
        gaaf_steepness, gaaf_shift: of gaaf_relu's, see GaafReLU.
    """

    negative_slope: float = 0.01
    gaaf_width: float = 4.0
    gaaf_steepness: float = 5.0
    gaaf_shift: float = 0.5


# name -> (shape, width of the layer) -> module
ACTIVATIONS: dict[str, Callable[[ActivationShape, int], nn.Module]] = {
    "relu": lambda shape, dim: nn.ReLU(),
    "leaky_relu": lambda shape, dim: nn.LeakyReLU(shape.negative_slope),
    "prelu": lambda shape, dim: nn.PReLU(dim, init=shape.negative_slope),
    "sigmoid": lambda shape, dim: nn.Sigmoid(),
    "tanh": lambda shape, dim: nn.Tanh(),
    "elu": lambda shape, dim: nn.ELU(),
    "gelu": lambda shape, dim: nn.GELU(),
    "silu": lambda shape, dim: nn.SiLU(),
    "maxout": lambda shape, dim: Maxout(2),
    "gaaf_tanh": lambda shape, dim: GaafTanh(shape.gaaf_width),
    "gaaf_relu": lambda shape, dim: GaafReLU(shape.gaaf_steepness, shape.gaaf_shift),
}
# Activations that squash: Glorot's initialisation fits them, He's the rectifiers.
SATURATING = {"sigmoid", "tanh", "gaaf_tanh"}


def make_activation(name: str, shape: ActivationShape, dim: int) -> nn.Module:
    """The activation called `name` for a layer of `dim` units."""
    return ACTIVATIONS[name](shape, dim)
