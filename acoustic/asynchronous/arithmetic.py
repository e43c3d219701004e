"""What replicas and shards compute. The engine of processes and the simulation both are made of this, and of nothing
else that touches a number, so that the same order of events gives the same weights in both."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from acoustic.asynchronous.dispatch import Lease
from acoustic.asynchronous.layout import Layout
from acoustic.data.batches import Store
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig
from acoustic.train.draws import seed_draws
from acoustic.train.guard import clip_gradients, total_norm
from acoustic.train.masking import InputMasking
from acoustic.train.optim import OptimConfig, make_optimizer, set_rates
from acoustic.train.ranks import Ranks

HALF_EXPONENT = 14  # a half-precision gradient is scaled so that its largest value lies in [2^14, 2^15)


class Shard:
    """One part of the parameter server: the parameters of some layers and the optimizer that moves them.

    The optimizer is an ordinary one (plain SGD, momentum, Adagrad, ...; weight decay and max-norm included), since all
    of them look at one parameter tensor at a time.

    Args:
        layout: of its parameters.
        config: of the optimizer.
        classifier: with the first weights.

    Attributes:
        flat: float32 [layout.size], the parameters.
        version: pushes applied so far.
    """

    def __init__(self, layout: Layout, config: OptimConfig, classifier: SenoneClassifier) -> None:
        self.layout, self.config = layout, config
        self.flat = layout.pack(dict(classifier.named_parameters()))
        self.parameters = {name: torch.nn.Parameter(view) for name, view in layout.views(self.flat).items()}
        hidden = {id(affine.weight) for affine in classifier.hidden_affines}
        bound = [name for name, weight in classifier.named_parameters() if id(weight) in hidden]
        self.optimizer = make_optimizer(
            config, self.parameters.values(), [self.parameters[name] for name in bound if name in self.parameters]
        )
        self.version = 0

    def apply(self, gradient: Tensor, rate: float, momentum: float) -> None:
        """One update from a flat gradient [layout.size]."""
        set_rates(self.optimizer, rate, momentum)
        for name, view in self.layout.views(gradient).items():
            self.parameters[name].grad = view
        self.optimizer.step()
        self.version += 1

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimizer and version, for a snapshot."""
        return {"flat": self.flat, "optimizer": self.optimizer.state_dict(), "version": self.version}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        self.flat.copy_(state["flat"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.version = state["version"]


@dataclass(frozen=True)
class Gradient:
    """What a replica found in the batches of a lease.

    Attributes:
        parts: flat float32 gradients, one for each shard.
        totals: float64 [2], sum of losses and number of right frames.
        num_frames: in those batches.
        bad_step: the first batch whose loss, gradient or weights are not finite, or None; such a lease is not pushed.
    """

    parts: list[Tensor]
    totals: Tensor
    num_frames: int
    bad_step: int | None


class Replica:
    """A copy of the network that computes gradients.

    Between fetches it moves its copy by plain SGD with each gradient, as algorithm 7.1 of Dean et al. 2012 does; that
    shows only where `fetch_every` exceeds 1 or `push_every` does.

    Args:
        config: the whole configuration.
        classifier: on `device`; becomes the replica's own.
        store: training frames.
        layouts: of the shards.
        dtype: as of Trainer.

    Attributes:
        versions: of each shard, as last fetched.
    """

    def __init__(
        self,
        config: TrainConfig,
        classifier: SenoneClassifier,
        store: Store,
        layouts: Sequence[Layout],
        dtype: torch.dtype,
    ) -> None:
        self.config, self.store, self.layouts, self.dtype = config, store, layouts, dtype
        self.classifier = classifier.train()
        self.masking = InputMasking(config.masking, store.frontend)
        self.parameters = dict(classifier.named_parameters())
        self.versions = [0] * len(layouts)
        self._moves_itself = config.asynchronous.fetch_every > 1 or config.asynchronous.push_every > 1
        plain = OptimConfig(name="sgd", momentum=0.0, nesterov=False)
        self._own_step = make_optimizer(plain, self.parameters.values())

    @torch.no_grad()
    def take(self, shard: int, flat: Tensor, version: int) -> None:
        """Take over a shard's parameters."""
        for name, view in self.layouts[shard].views(flat).items():
            self.parameters[name].copy_(view)
        self.versions[shard] = version

    def compute(self, lease: Lease) -> Gradient:
        """The gradients of a lease's batches, added up."""
        totals, num_frames, bad_step = torch.zeros(2, dtype=torch.float64), 0, None
        parts: list[Tensor] = []
        for step in range(lease.first, lease.end):
            batch_totals, batch_frames, is_finite = self._one_batch(step)
            if not is_finite and bad_step is None:
                bad_step = step
            totals += batch_totals
            num_frames += batch_frames
            gradients = {
                name: parameter.grad for name, parameter in self.parameters.items() if parameter.grad is not None
            }
            found = [layout.pack(gradients) for layout in self.layouts]
            parts = [old + new for old, new in zip(parts, found, strict=True)] if parts else found
            if self._moves_itself:
                set_rates(self._own_step, lease.rate, 0.0)
                self._own_step.step()
        return Gradient(parts, totals, num_frames, bad_step)

    def _one_batch(self, step: int) -> tuple[Tensor, int, bool]:
        """Put the gradient of batch `step` into the parameters: as Trainer.update, up to the optimizer."""
        batch_size = self.config.data.batch_size
        assert batch_size is not None, "TrainConfig fills it in"
        epoch, batch = divmod(step, self.store.num_batches(batch_size))
        inputs, targets = self.store.numbered_batch(batch_size, self.config.seed, epoch, batch)
        seed_draws(Ranks().seed(self.config.seed, step), inputs.device)
        with torch.autocast(inputs.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.classifier(self.masking(inputs))
        logits = logits.float()
        loss_sum = functional.cross_entropy(
            logits, targets, reduction="sum", label_smoothing=self.config.optim.label_smoothing
        )
        loss = loss_sum / len(targets)
        self._own_step.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_gradients(self.parameters.values(), self.config.optim.clip_norm)
        norms = torch.stack([loss.detach(), norm, total_norm(self.parameters.values())])
        totals = torch.stack([loss_sum.detach(), (logits.argmax(1) == targets).sum()]).double().cpu()
        return totals, len(targets), bool(norms.isfinite().all())


# -- on the way -------------------------------------------------------------------------------------------------------


def to_half(gradient: Tensor) -> tuple[Tensor, float]:
    """A flat gradient in half precision, and what to multiply it by.

    A power of two brings its largest value just below the top of the range, so that rounding to 11 bits is all that is
    lost, save for values 2^-29 of the largest and less.
    """
    largest = float(gradient.abs().max()) if gradient.numel() else 0.0
    exponent = HALF_EXPONENT - int(torch.frexp(torch.tensor(largest)).exponent) + 1 if largest > 0 else 0
    exponent = max(-100, min(100, exponent))
    return (gradient * 2.0**exponent).half(), 2.0**-exponent


def from_half(gradient: Tensor, scale: float) -> Tensor:
    """What `to_half` sent, in float32."""
    return gradient.float() * scale
