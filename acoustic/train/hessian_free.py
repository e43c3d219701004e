"""Hessian-free optimisation: truncated Newton steps by conjugate gradients over Gauss-Newton products.

Martens, "Deep learning via Hessian-free optimization", ICML 2010; Kingsbury, Sainath and Soltau, Interspeech 2012, who
trained by sequence criteria with it, as did Dahl, Sainath and Hinton 2013 after them. One update looks at many frames:
the gradient is that of all of them, the curvature that of a part. Nothing random may be left in the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import vector_to_parameters

MIN_CG_PROGRESS = 5e-4  # relative decrease of the quadratic, per iteration, below which CG ends (Martens' epsilon)
KEPT_RATIO = 1.3  # iterations of CG whose result is kept for backtracking: 1, 2, 3, 4, 5, 7, 9, ...
PRECONDITIONER_POWER = 0.75
LINE_SEARCH_FACTOR, SUFFICIENT_DECREASE, MAX_HALVINGS = 0.8, 1e-2, 60

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Part:
    """Some frames of an update that go through the network together.

    Attributes:
        inputs: [num_frames, input_dim].
        loss: from logits [num_frames, num_pdfs] to the sum of their loss.
    """

    inputs: Tensor
    loss: Callable[[Tensor], Tensor]


class Problem:
    """The loss of an update as a function of the weights, as one vector.

    Args:
        network: gives logits; in evaluation mode.
        parts: all frames.
        num_curvature_parts: how many of the parts, from the first, the curvature is taken from.
    """

    def __init__(self, network: nn.Module, parts: Sequence[Part], num_curvature_parts: int) -> None:
        self.network, self.parts, self.curvature_parts = network, parts, parts[:num_curvature_parts]
        self.parameters: dict[str, Tensor] = dict(network.named_parameters())
        self._linearised: list[tuple[Tensor, Tensor, Tensor, Tensor]] | None = None
        self.num_frames = sum(len(part.inputs) for part in parts)

    def tensors(self) -> list[Tensor]:
        """The weights, one tensor after another."""
        return list(self.parameters.values())

    def weights(self) -> Tensor:
        """The weights that the network has, as one vector."""
        return _flat(self.parameters.values()).detach()

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector over all weights, taken apart."""
        pieces = vector.split([parameter.numel() for parameter in self.parameters.values()])
        return {
            name: piece.view_as(parameter)
            for (name, parameter), piece in zip(self.parameters.items(), pieces, strict=True)
        }

    def logits(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """The network's output under other weights."""
        logits: Tensor = functional_call(self.network, weights, (inputs,))
        return logits.float()

    @torch.no_grad()
    def loss(self, weights: Tensor) -> float:
        """The mean loss of a frame."""
        named = self.named(weights)
        total = sum(part.loss(self.logits(named, part.inputs)).double() for part in self.parts)
        return float(total) / self.num_frames

    def gradient(self) -> tuple[Tensor, Tensor]:
        """The gradient of `loss` at the network's weights, and the sum of the squares of the parts' gradients."""
        total = torch.zeros_like(self.weights())
        squares = torch.zeros_like(total)
        for part in self.parts:
            loss = part.loss(self.logits(self.parameters, part.inputs)) / self.num_frames
            gradient = _flat(torch.autograd.grad(loss, self.tensors()))
            total += gradient
            squares += gradient.square()
        return total, squares

    def gauss_newton(self, vector: Tensor) -> Tensor:
        """The product J' H J `vector` at the network's weights, of the curvature parts, per frame.

        J is the Jacobian of the logits. H is the Hessian of cross-entropy by the logits, diag(p) - p p', for whatever
        loss: for cross-entropy this is the Gauss-Newton matrix, for sequence criteria, whose own Hessian is not
        positive, the Fisher matrix of the network's posteriors.
        """
        total = torch.zeros_like(vector)
        for logits, posteriors, dual, pulled_back in self.linearised():
            (change,) = torch.autograd.grad(pulled_back, dual, vector, retain_graph=True)
            curved = posteriors * (change - (posteriors * change).sum(1, keepdim=True))
            total += _flat(torch.autograd.grad(logits, self.tensors(), curved, retain_graph=True))
        return total / sum(len(part.inputs) for part in self.curvature_parts)

    def linearised(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each curvature part its logits, their softmax, a vector u of their shape, and J' u.

        J' u is linear in u, so that its derivative by u in the direction v is J v: forward-mode differentiation by
        going backward twice, with the network's own pass made once.
        """
        if self._linearised is None:
            self._linearised = []
            for part in self.curvature_parts:
                logits = self.logits(self.parameters, part.inputs)
                dual = torch.zeros_like(logits, requires_grad=True)
                pulled_back = _flat(torch.autograd.grad(logits, self.tensors(), dual, create_graph=True))
                self._linearised.append((logits, logits.detach().softmax(1), dual, pulled_back))
        return self._linearised


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """Tensors as one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def conjugate_gradients(
    product: Operator, right_side: Tensor, start: Tensor, preconditioner: Tensor, max_iterations: int
) -> list[tuple[Tensor, float]]:
    """Solve A x = b approximately by preconditioned conjugate gradients, keeping results on the way.

    Args:
        product: x -> A x, A positive definite.
        right_side: b.
        start: where to begin.
        preconditioner: diagonal of the matrix whose inverse is applied, positive.
        max_iterations: of CG; it ends earlier when the quadratic x' A x / 2 - b' x hardly falls any more.

    Returns:
        some of the iterates, the last among them, each with the value of the quadratic.
    """
    x = start.clone()
    residual = right_side - product(x)
    conditioned = residual / preconditioner
    direction = conditioned.clone()
    size = residual @ conditioned
    kept: list[tuple[Tensor, float]] = []
    values: list[float] = []
    next_kept = 1.0
    for iteration in range(1, max_iterations + 1):
        curved = product(direction)
        step = size / (direction @ curved)
        if not bool(step.isfinite()) or float(size) <= 0.0:  # solved exactly
            break
        x = x + step * direction
        residual = residual - step * curved
        values.append(float(-0.5 * (x @ (residual + right_side))))
        if iteration >= next_kept:
            kept.append((x, values[-1]))
            next_kept = max(math.ceil(next_kept * KEPT_RATIO), iteration + 1)
        window = max(10, iteration // 10)
        if iteration > window and values[-1] < 0:
            progress = (values[-1] - values[-1 - window]) / values[-1]
            if progress < window * MIN_CG_PROGRESS:
                break
        conditioned = residual / preconditioner
        new_size = residual @ conditioned
        direction = conditioned + new_size / size * direction
        size = new_size
    if values and (not kept or kept[-1][1] != values[-1]):
        kept.append((x, values[-1]))
    return kept


class HessianFree(torch.optim.Optimizer):
    """Hessian-free steps; `solve` gives one for a Problem.

    Args:
        parameters: the weights.
        damping: the Levenberg-Marquardt term lambda that is first added to the curvature; it adapts itself.
        max_cg_iterations: of CG in a step.
        cg_decay: share of the last step that CG starts from.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], damping: float, max_cg_iterations: int, cg_decay: float
    ) -> None:
        super().__init__(parameters, {"damping": damping})
        self.max_cg_iterations, self.cg_decay = max_cg_iterations, cg_decay
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["last_step"] = torch.zeros_like(parameter)

    @property
    def damping(self) -> float:
        """The present Levenberg-Marquardt term."""
        return float(self.param_groups[0]["damping"])

    def solve(self, problem: Problem) -> tuple[Tensor, float, float]:
        """The weights after a step, the loss before it and after.

        CG's iterates are gone back through as long as the loss falls, and the step is shortened until it is worth it.
        """
        before, weights = problem.loss(problem.weights()), problem.weights()
        gradient, squares = problem.gradient()
        damping = self.damping
        # The squares are of sums over a part's frames; only their proportions matter beside the damping.
        preconditioner = (squares * len(problem.parts) + damping) ** PRECONDITIONER_POWER
        iterates = conjugate_gradients(
            lambda vector: problem.gauss_newton(vector) + damping * vector,
            -gradient, self.cg_decay * self.last_step(), preconditioner, self.max_cg_iterations,
        )  # fmt: skip
        if not iterates:
            return weights, before, before
        step, predicted = iterates.pop()
        self.keep_step(step)
        after = problem.loss(weights + step)
        self.adapt_damping(after - before, predicted)
        while iterates:
            shorter, _ = iterates.pop()
            loss = problem.loss(weights + shorter)
            if not loss < after:
                break
            step, after = shorter, loss
        slope, rate = float(gradient @ step), 1.0
        for _ in range(MAX_HALVINGS):
            if after <= before + SUFFICIENT_DECREASE * rate * min(slope, 0.0):
                return weights + rate * step, before, after
            rate *= LINE_SEARCH_FACTOR
            after = problem.loss(weights + rate * step)
        return weights, before, before

    def adapt_damping(self, change: float, predicted: float) -> None:
        """Less damping where the loss fell as the quadratic said, more where it did not (Levenberg-Marquardt)."""
        ratio = change / predicted if predicted < 0 else -1.0
        factor = 2 / 3 if ratio > 0.75 else 3 / 2 if not ratio >= 0.25 else 1.0
        self.param_groups[0]["damping"] = self.damping * factor

    def last_step(self) -> Tensor:
        """What CG ended with last time."""
        return _flat(self.state[p]["last_step"] for p in self.param_groups[0]["params"])

    def keep_step(self, step: Tensor) -> None:
        """Remember what CG ended with."""
        vector_to_parameters(step, [self.state[p]["last_step"] for p in self.param_groups[0]["params"]])

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Nothing: the loop takes its steps by `solve`, and what a probe would try moves no weight."""
