"""The nonlinearities of the four papers, and those people use beside them.

Every activation maps [..., D] to [..., D], except maxout, which maps [..., pieces * D] to [..., D].
"""

from __future__ import annotations

from collections.abc import Callable
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


# name -> (negative_slope, width of the layer) -> module
ACTIVATIONS: dict[str, Callable[[float, int], nn.Module]] = {
    "relu": lambda slope, dim: nn.ReLU(),
    "leaky_relu": lambda slope, dim: nn.LeakyReLU(slope),
    "prelu": lambda slope, dim: nn.PReLU(dim, init=slope),
    "sigmoid": lambda slope, dim: nn.Sigmoid(),
    "tanh": lambda slope, dim: nn.Tanh(),
    "elu": lambda slope, dim: nn.ELU(),
    "gelu": lambda slope, dim: nn.GELU(),
    "silu": lambda slope, dim: nn.SiLU(),
    "maxout": lambda slope, dim: Maxout(2),
    "gaaf_tanh": lambda slope, dim: GaafTanh(),
    "gaaf_relu": lambda slope, dim: GaafReLU(),
}
# Activations that squash: Glorot's initialisation fits them, He's the rectifiers.
SATURATING = {"sigmoid", "tanh", "gaaf_tanh"}


def make_activation(name: str, negative_slope: float, dim: int) -> nn.Module:
    """The activation called `name` for a layer of `dim` units; `negative_slope` serves leaky_relu and prelu."""
    return ACTIVATIONS[name](negative_slope, dim)
