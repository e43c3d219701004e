"""What an update computes with, and how it changes the weights: the network's own, or bfloat16 copies of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acoustic.nn.classifier import SenoneClassifier
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
    """bfloat16 copies of the affine maps, made anew by the optimizer's step, for updates on a CPU under autocast.

    The arithmetic is autocast's, bit for bit, with fewer passes over memory: autocast reads the float32 weights to cast
    them, and writes every gradient once in bfloat16 and again in float32. A tenth of an update of 4 x 2048 units.
    Normalisations and learnt slopes stay in float32, as autocast has them.
    """

    def __init__(self, classifier: SenoneClassifier, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(classifier, optimizer)
        affine_maps = {name for name, module in classifier.named_modules() if isinstance(module, nn.Linear)}
        self.masters = dict(classifier.named_parameters())
        self.computed_with = {
            name: master.detach().to(torch.bfloat16).requires_grad_()
            if name.rpartition(".")[0] in affine_maps
            else master
            for name, master in self.masters.items()
        }
        self.leaves = list(self.computed_with.values())
        self.gradient = torch.empty(PIECE)
        self.is_widened = False

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
            master.grad = None if leaf.grad is None else leaf.grad.float()
        self.is_widened = True

    @torch.no_grad()
    def change(self) -> None:
        """As Weights.change; the copies follow."""
        if not self.is_widened:
            if self.can_go_in_pieces():
                return self.sgd_in_pieces()
            self.widen()
        self.optimizer.step()
        self.is_widened = False
        self.refresh()

    def can_go_in_pieces(self) -> bool:
        """Whether the update is plain SGD, its momentum under way, and nothing comes after it."""
        if type(self.optimizer) is not torch.optim.SGD or self.optimizer._optimizer_step_post_hooks:
            return False
        (group,) = self.optimizer.param_groups
        return group["momentum"] == 0 or all(self.optimizer.state[master] for master in self.masters.values())

    def sgd_in_pieces(self) -> None:
        """torch's fused SGD piece by piece, so that gradients are widened and weights rounded while in the cache."""
        (group,) = self.optimizer.param_groups
        found_inf: Tensor = self.optimizer.found_inf  # type: ignore[attr-defined]
        for master, leaf in zip(self.masters.values(), self.leaves, strict=True):
            momentum = self.optimizer.state[master]["momentum_buffer"] if group["momentum"] else master  # or unused
            assert leaf.grad is not None, "every weight takes part in every update"
            tensors = (tensor.view(-1).split(PIECE) for tensor in (master, momentum, leaf.grad, leaf))
            for weights, buffer, narrow_gradient, copy in zip(*tensors, strict=True):
                gradient = self.gradient[: len(narrow_gradient)].copy_(narrow_gradient)
                torch._fused_sgd_(
                    [weights], [gradient], [buffer] if group["momentum"] else [], lr=group["lr"],
                    momentum=group["momentum"], weight_decay=group["weight_decay"], nesterov=group["nesterov"],
                    dampening=0.0, maximize=False, is_first_step=False, found_inf=found_inf,
                )  # fmt: skip
                if leaf is not master:
                    copy.copy_(weights)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights anew."""
        for master, leaf in zip(self.masters.values(), self.leaves, strict=True):
            if leaf is not master:
                leaf.copy_(master)


def make_weights(
    classifier: SenoneClassifier, optimizer: torch.optim.Optimizer, dtype: torch.dtype, adds_gradients: bool = False
) -> Weights:
    """What serves a run in `dtype` best; `adds_gradients`: up over ranks, for which they are better in float32."""
    on_cpu = next(classifier.parameters()).device.type == "cpu"
    kind = Bfloat16Copies if on_cpu and dtype == torch.bfloat16 and not adds_gradients else Weights
    return kind(classifier, optimizer)
