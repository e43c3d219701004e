"""The training loop with Hessian-free updates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from acoustic import log
from acoustic.errors import ConfigError
from acoustic.train.hessian_free import HessianFree, Part, Problem
from acoustic.train.loop import Trainer

logger = log.get_logger(__name__)
PART_FRAMES = 4096  # that go through the network together


class HessianFreeTrainer(Trainer):
    """As Trainer; each batch is large, and one update of it is a Hessian-free step.

    Dropout and masking are off: conjugate gradients need a loss that stays the same at every look.
    """

    optimizer: HessianFree

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """One update from network inputs [B, input_dim] and pdf ids [B].

        Raises:
            ConfigError: several ranks.
        """
        if self.ranks.world_size > 1:
            raise ConfigError("optim.name=hessian_free works in one process")
        self.classifier.eval()
        num_frames = self.frames_of_update()
        with torch.no_grad():
            loss, totals = self.training_loss(self.forward(self.classifier, inputs), targets, num_frames)
        parts = self.parts(inputs, targets)
        num_curvature_parts = max(1, round(self.config.optim.curvature_fraction * len(parts)))
        weights, before, after = self.optimizer.solve(Problem(self.classifier, parts, num_curvature_parts))
        self.guard.update(self.position.step, loss, weights.norm())
        if not bool(self.guard.found_inf):
            vector_to_parameters(weights, self.classifier.parameters())
        logger.info("update %d: %.5f to %.5f, damping %.3g", self.position.step, before, after, self.optimizer.damping)
        self.average.after_update()
        self.totals += totals
        self.position.num_frames += num_frames
        self.position.step += 1
        self.stop_if_bad()

    def parts(self, inputs: Tensor, targets: Tensor) -> list[Part]:
        """The batch in pieces, with their losses."""
        smoothing = self.config.optim.label_smoothing

        def part(inputs: Tensor, targets: Tensor) -> Part:
            return Part(
                inputs,
                lambda logits: functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing),
            )

        return [part(*pieces) for pieces in zip(inputs.split(PART_FRAMES), targets.split(PART_FRAMES), strict=True)]
