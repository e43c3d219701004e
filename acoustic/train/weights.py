"""What an update computes with, and how it changes the weights: the network's own, or bfloat16 copies of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from acoustic.nn.classifier import OutputLayer, SenoneClassifier
from acoustic.train import kernels
from acoustic.train.guard import clip_gradients

PIECE = 1 << 20  # weights that are updated together: they, their momentum and gradient stay in a CPU's cache meanwhile


class Weights:
    """The network's own weights: autocast, where there is one, casts them in every update.

    Args:
        classifier: the network.
        optimizer: of its parameters.

    Attributes:
        leaves: the tensors that backward leaves its gradients in, one for each parameter.
    """

    def __init__(self, classifier: SenoneClassifier, optimizer: torch.optim.Optimizer) -> None:
        self.classifier, self.optimizer = classifier, optimizer
        self.leaves: list[Tensor] = list(classifier.parameters())

    def __call__(self, inputs: Tensor) -> Tensor:
        """Network inputs [B, input_dim] -> logits [B, num_pdfs]."""
        return self.classifier(inputs)

    @property
    def training(self) -> bool:
        """Whether the network is in training."""
        return self.classifier.training

    def clip(self, clip_norm: float | None) -> Tensor:
        """Scale the gradients down to `clip_norm` where they are longer; gives what `guard.clip_gradients` does."""
        return clip_gradients(self.leaves, clip_norm)

    def step(self, found_inf: Tensor) -> None:
        """Have the optimizer change the weights by the gradients in `leaves`, and let go of these.

        Args:
            found_inf: float32 scalar; the weights stay as they are where it is not 0.
        """
        self.optimizer.found_inf = found_inf  # type: ignore[attr-defined]
        self.change()
        for leaf in self.leaves:
            leaf.grad = None

    def change(self) -> None:
        """What `step` does to the weights."""
        self.optimizer.step()

    def refresh(self) -> None:
        """Take notice that something else than an update changed the weights."""


class Bfloat16Copies(Weights):
    """bfloat16 copies of the affine maps, made anew by the optimizer's step, for updates under autocast.

    The arithmetic is autocast's, with fewer passes over memory: autocast reads the float32 weights to cast them, and
    writes every gradient once in bfloat16 and again in float32. A tenth of an update of 4 x 2048 units on a CPU, where
    the weights are the same bit for bit; on a GPU, SGD is a kernel of our own and differs from torch's by rounding.
    Normalisations and learnt slopes stay in float32, as autocast has them. Copies of the output layer are as many rows
    as it computes on the device, so that they need not be appended in every update.
    """

    def __init__(self, classifier: SenoneClassifier, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(classifier, optimizer)
        self.masters = dict(classifier.named_parameters())
        self.computed_with = {name: self.copy_of(name, master) for name, master in self.masters.items()}
        self.leaves = list(self.computed_with.values())
        self.on_gpu = self.leaves[0].device.type == "cuda"
        self.gradient = torch.empty(0 if self.on_gpu else PIECE)
        self.is_widened = False

    def copy_of(self, name: str, master: Tensor) -> Tensor:
        """What an update computes with in place of a weight."""
        module = self.classifier.get_submodule(name.rpartition(".")[0])
        if not isinstance(module, nn.Linear):
            return master
        copy = master.detach().to(torch.bfloat16)
        return nn.Parameter(module.padded(copy) if isinstance(module, OutputLayer) else copy)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Network inputs [B, input_dim] -> logits [B, num_pdfs]."""
        return torch.func.functional_call(self.classifier, self.computed_with, (inputs,))

    def clip(self, clip_norm: float | None) -> Tensor:
        """As Weights.clip, in float32: what is scaled is not rounded once more."""
        if clip_norm is None:
            return super().clip(None)
        self.widen()
        return clip_gradients(self.masters.values(), clip_norm)

    def widen(self) -> None:
        """Give the weights the gradients of their copies, in float32."""
        for master, leaf in zip(self.masters.values(), self.leaves, strict=True):
            master.grad = None if leaf.grad is None else leaf.grad[: len(master)].float()
        self.is_widened = True

    @torch.no_grad()
    def change(self) -> None:
        """As Weights.change; the copies follow."""
        if not self.is_widened:
            if self.is_plain_sgd() and not (self.on_gpu and not kernels.are_usable(self.leaves[0].device)):
                return self.sgd()
            self.widen()
        self.optimizer.step()
        self.is_widened = False
        self.refresh()

    def is_plain_sgd(self) -> bool:
        """Whether the update is plain SGD, its momentum under way, and nothing comes after it."""
        if type(self.optimizer) is not torch.optim.SGD or self.optimizer._optimizer_step_post_hooks:
            return False
        (group,) = self.optimizer.param_groups
        return group["momentum"] == 0 or all(self.optimizer.state[master] for master in self.masters.values())

    def sgd(self) -> None:
        """torch's fused SGD, and the copies, in one pass."""
        (group,) = self.optimizer.param_groups
        found_inf: Tensor = self.optimizer.found_inf  # type: ignore[attr-defined]
        change = kernels.sgd if self.on_gpu else self.in_pieces
        for master, leaf in zip(self.masters.values(), self.leaves, strict=True):
            momenta = self.optimizer.state[master]["momentum_buffer"] if group["momentum"] else None
            assert leaf.grad is not None, "every weight takes part in every update"
            change(master, momenta, leaf.grad, leaf, group, found_inf)

    def in_pieces(
        self, master: Tensor, momenta: Tensor | None, gradients: Tensor, copies: Tensor, group: dict[str, Any],
        found_inf: Tensor,
    ) -> None:  # fmt: skip
        """As kernels.sgd, piece by piece: gradients are widened and weights rounded while they are in a CPU's cache."""
        buffers = master if momenta is None else momenta  # or unused
        tensors = (tensor.view(-1).split(PIECE) for tensor in (master, buffers, gradients, copies))
        for weights, buffer, narrow_gradient, copy in zip(*tensors, strict=True):
            gradient = self.gradient[: len(narrow_gradient)].copy_(narrow_gradient)
            torch._fused_sgd_(
                [weights], [gradient], [] if momenta is None else [buffer], lr=group["lr"],
                momentum=group["momentum"], weight_decay=group["weight_decay"], nesterov=group["nesterov"],
                dampening=0.0, maximize=False, is_first_step=False, found_inf=found_inf,
            )  # fmt: skip
            if copies is not master:
                copy.copy_(weights)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights anew."""
        for master, leaf in zip(self.masters.values(), self.leaves, strict=True):
            if leaf is not master:
                leaf[: len(master)].copy_(master)


def make_weights(
    classifier: SenoneClassifier, optimizer: torch.optim.Optimizer, dtype: torch.dtype, adds_gradients: bool = False
) -> Weights:
    """What serves a run in `dtype` best; `adds_gradients`: up over ranks, for which they are better in float32."""
    kind = Bfloat16Copies if dtype == torch.bfloat16 and not adds_gradients else Weights
    return kind(classifier, optimizer)
