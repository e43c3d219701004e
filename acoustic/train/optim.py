"""Optimizers and the momentum schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acoustic.train.adagrad import Adagrad
from acoustic.train.hessian_free import HessianFree

# Learning rates where none is given, for updates of so many frames.
RATE_FRAMES = 256
RATES = {"sgd": 0.02, "adagrad": 0.005, "adam": 0.001, "adamw": 0.001, "hessian_free": 0.02}
MOST_FRAMES = 4096  # beyond which they grow no more: rates for larger updates have not been tried


@dataclass(kw_only=True)
class OptimConfig:
    """The optimizer. Learning rates are for the mean loss over the minibatch.

    Kaldi's nnet1 sums the gradient instead: its learning rate times the minibatch size is the one to give here
    (0.008 at minibatch 256 is 2.05).
    """

    name: str = "sgd"  # sgd, adagrad, adam, adamw, hessian_free
    learning_rate: float | None = None  # null: by the optimizer and the frames of an update (rate_for)
    momentum: float = 0.9
    nesterov: bool = True
    initial_momentum: float | None = None  # used for the first `momentum_steps` updates; null: momentum from the start
    momentum_steps: int = 40_000
    momentum_ramp: int | None = None  # momentum rises as 1/2, 3/4, 5/6, 7/8, ..., after so many updates each time
    weight_decay: float = 0.0
    betas: list[float] | None = None  # adam, adamw; null: 0.9 and 0.999
    adagrad_epsilon: float = 0.0  # added to Adagrad's root; 1e-10 is what torch.optim.Adagrad adds
    clip_norm: float | None = None  # gradients longer than this are scaled down to it
    max_norm: float | None = None  # radius within which the incoming weights of each hidden unit are kept
    label_smoothing: float = 0.0  # share of each target's probability spread over all senones; priors follow
    # hessian_free, which has use for label_smoothing alone of the options above
    damping: float = 1.0  # what is first added to the curvature; it adapts itself after every update
    max_cg_iterations: int = 50
    cg_decay: float = 0.95  # share of the last update that conjugate gradients start from
    curvature_fraction: float = 0.1  # share of a batch that the curvature is taken from

    def __post_init__(self) -> None:
        if self.name not in ("sgd", "adagrad", "adam", "adamw", "hessian_free"):
            raise ValueError(f"optim.name={self.name!r}: choose sgd, adagrad, adam, adamw or hessian_free")
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"optim.{name}={value}: must be finite")
        if self.damping <= 0 or self.max_cg_iterations < 1:
            raise ValueError("optim.damping must be positive and optim.max_cg_iterations at least 1")
        if not 0 <= self.cg_decay <= 1 or not 0 < self.curvature_fraction <= 1:
            raise ValueError("optim.cg_decay must lie in [0, 1] and optim.curvature_fraction in (0, 1]")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError("optim.learning_rate must be positive")
        if not 0 <= self.momentum < 1 or not 0 <= (self.initial_momentum or 0) < 1:
            raise ValueError("optim.momentum and optim.initial_momentum must lie in [0, 1)")
        if self.momentum_ramp is not None and (self.momentum_ramp < 1 or self.initial_momentum is not None):
            raise ValueError("optim.momentum_ramp must be at least 1, and goes without optim.initial_momentum")
        if self.adagrad_epsilon < 0 or self.weight_decay < 0:
            raise ValueError("optim.adagrad_epsilon and optim.weight_decay must not be negative")
        if self.betas is not None and not (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)):
            raise ValueError("optim.betas must be two numbers in [0, 1)")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError("optim.clip_norm must be positive")
        if self.max_norm is not None and self.max_norm <= 0:
            raise ValueError("optim.max_norm must be positive")
        if self.name == "hessian_free" and (self.weight_decay or self.clip_norm or self.max_norm):
            raise ValueError("optim.weight_decay, clip_norm and max_norm mean nothing to hessian_free: leave them out")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("optim.label_smoothing must lie in [0, 1)")

    def rate_for(self, num_frames: int) -> float:
        """The learning rate for updates of so many frames: `learning_rate`, or where that is null by what is usual.

        It grows with the root of the number of frames, which keeps the variance of an update (Krizhevsky 2014, arXiv
        1404.5997, section 5). In proportion to it, rectifiers diverged within ten updates from 2048 frames on: that
        needs a warm-up (Goyal et al. 2017, arXiv 1706.02677).
        """
        if self.learning_rate is not None:
            return self.learning_rate
        return RATES[self.name] * math.sqrt(min(max(num_frames, RATE_FRAMES), MOST_FRAMES) / RATE_FRAMES)

    def momentum_at(self, step: int) -> float:
        """Momentum of update `step` (from 0).

        Maas et al. 2013 go from 0.5 to 0.9 after 40,000 updates. Sutskever et al. 2013 (eq. 5), and after them Maas et
        al. 2014, let it rise as 1 - 2^(-1 - log2(floor(step / 250) + 1)) up to a maximum, here `momentum`.
        """
        if self.momentum_ramp is not None:
            return min(1 - 0.5 / (step // self.momentum_ramp + 1), self.momentum)
        early = self.initial_momentum is not None and step < self.momentum_steps
        return self.initial_momentum if early and self.initial_momentum is not None else self.momentum


def make_optimizer(
    config: OptimConfig, parameters: Iterable[nn.Parameter], hidden_weights: Iterable[Tensor] = ()
) -> torch.optim.Optimizer:
    """The optimizer of `config` for some parameters; `max_norm` binds those among them that are `hidden_weights`."""
    optimizer = _make_unbound(config, parameters)
    if config.max_norm is not None:
        optimizer.register_step_post_hook(MaxNorm(config.max_norm, hidden_weights))
    return optimizer


class MaxNorm:
    """After each update, scales the incoming weights of every hidden unit down to a radius, where they are longer.

    The constraint that Hinton et al. 2012 (arXiv 1207.0580, section 2) and Srivastava et al. 2014 (section 5.1) use
    with dropout.

    Args:
        radius: the greatest L2 norm of a unit's incoming weights; its bias does not count.
        weights: the matrices [units, inputs] that are kept so.
    """

    def __init__(self, radius: float, weights: Iterable[Tensor]) -> None:
        self.radius, self.weights = radius, list(weights)

    @torch.no_grad()
    def __call__(self, optimizer: torch.optim.Optimizer, *step_arguments: Any) -> None:
        """Project the weights, unless the optimizer's `found_inf` says that they must stay as they are."""
        found_inf: Tensor | None = getattr(optimizer, "found_inf", None)
        for weight in self.weights:
            norms = weight.norm(dim=1, keepdim=True)
            scales = torch.where(norms > self.radius, self.radius / norms, 1.0)
            if found_inf is not None:
                scales = torch.where(found_inf > 0, 1.0, scales)
            weight.mul_(scales)


def _make_unbound(config: OptimConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of `config`, without `max_norm`.

    torch's fused ones, because they take one pass over the weights and because they honour `found_inf`, the flag on the
    device by which the guard keeps the weights still when a gradient is not finite (torch.optim's own protocol with
    GradScaler). Adagrad is ours, and honours it too.

    SGD with `nesterov=False` is the momentum of Zeiler et al. 2013, Delta = 0.9 Delta + g, theta -= eta Delta: torch
    keeps the learning rate out of the buffer as they do, so that both are the same also when the rate changes.
    """
    parameters = list(parameters)
    if config.name == "sgd":
        # With the momentum that there will be, for it may begin at zero; `set_rates` sets that of each update.
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            parameters,
            lr=config.rate_for(RATE_FRAMES),
            momentum=config.momentum,
            nesterov=config.nesterov and config.momentum > 0,
            weight_decay=config.weight_decay,
            fused=True,
        )
        if config.momentum > 0:
            # A first step that found_inf skips would leave torch's new momentum buffers uninitialised.
            for parameter in parameters:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    if config.name == "hessian_free":
        return HessianFree(parameters, config.damping, config.max_cg_iterations, config.cg_decay)
    if config.name == "adagrad":
        return Adagrad(parameters, config.rate_for(RATE_FRAMES), config.adagrad_epsilon, config.weight_decay)
    beta1, beta2 = config.betas or (0.9, 0.999)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(
        parameters, lr=config.rate_for(RATE_FRAMES), betas=(beta1, beta2), weight_decay=config.weight_decay, fused=True
    )


def set_rates(optimizer: torch.optim.Optimizer, learning_rate: float, momentum: float) -> None:
    """Set the learning rate and, where the optimizer has one, the momentum of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        if "momentum" in group:
            group["momentum"] = momentum
