"""Adagrad as Zeiler et al. 2013 state it: each weight's own rate falls with the gradients it has seen, no epsilon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Adagrad(torch.optim.Optimizer):
    """theta_i -= eta g_i / (sqrt(sum_s g_{s,i}^2) + epsilon).

    The first update of every weight is eta long, so learning rates are far below those of SGD. With `epsilon` 1e-10
    this is torch.optim.Adagrad, whose fused form, the one that honours `found_inf`, not every device has.

    Args:
        parameters: what to optimise.
        learning_rate: eta.
        epsilon: 0 in the paper; a weight whose gradients were all zero, or too small to square, then stays.
        weight_decay: times the weight, added to its gradient.
    """

    found_inf: Tensor | None = None  # scalar on the device: where it is not 0, `step` changes nothing

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, epsilon: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "epsilon": epsilon, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["sum"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update from the gradients that are there; returns what `closure`, if given, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one tensor; a bad gradient counts as zero, which leaves sum and weights as they are."""
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if self.found_inf is not None:
            gradient = torch.where(self.found_inf > 0, 0.0, gradient)
        total = self.state[parameter]["sum"]
        total.addcmul_(gradient, gradient)
        step = gradient / (total.sqrt() + group["epsilon"])
        parameter.sub_(torch.where(total > 0, step, 0.0), alpha=group["lr"])
