"""Generative pre-training: hidden layers one by one, each on what the layers below make of the training frames.

Every finished layer is a file, so that a run that was broken off goes on with the layer it was at; since the draws of a
layer depend on seed, layer and step alone, it ends with the same network.
"""

from __future__ import annotations

import abc
import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acoustic import fsio, log
from acoustic.data.batches import Store
from acoustic.errors import CheckpointError, TrainingError
from acoustic.nn.bundle import load_weights_only
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig
from acoustic.train.draws import seed_draws
from acoustic.train.guard import NonFinite
from acoustic.train.optim import OptimConfig, make_optimizer, set_rates
from acoustic.train.pretrain_config import RBM_UNITS, PretrainConfig
from acoustic.train.rbm import MEANS, Rbm, logit_of_mean, reconstruction_error
from acoustic.train.sparse_autoencoder import SparseAutoencoder

logger = log.get_logger(__name__)
# How often the host asks a GPU whether a number was not finite.
GUARD_STEPS = 100
MEAN_BATCHES = 40  # minibatches from which the means of a layer's inputs are taken


class LayerTrainer(abc.ABC):
    """Trains one hidden layer on its inputs.

    Args:
        config: options.
        layer: number of the hidden layer, from 0.
        units: kind of every hidden unit up to this layer: bernoulli or rectified.
    """

    def __init__(self, config: PretrainConfig, layer: int, units: list[str]) -> None:
        self.config, self.layer = config, layer
        self.visible_kind, self.hidden_kind = units[layer - 1] if layer else "gaussian", units[layer]

    @abc.abstractmethod
    def update(self, inputs: Tensor, momentum: float) -> Tensor:
        """Learn from inputs [B, in_dim]; the squared reconstruction error, summed over inputs (mean over frames)."""

    @property
    @abc.abstractmethod
    def result(self) -> tuple[Tensor, Tensor]:
        """Weight [dim, in_dim] and bias [dim] for the classifier."""


class RbmTrainer(LayerTrainer):
    """An RBM by CD-1; `mean` [in_dim] of the layer's inputs is where Bernoulli visible units start from."""

    def __init__(self, config: PretrainConfig, layer: int, units: list[str], dim: int, mean: Tensor) -> None:
        super().__init__(config, layer, units)
        weight = config.init_stddev * torch.randn(dim, len(mean), device=mean.device)
        bernoulli = self.visible_kind == "bernoulli"
        self.rbm = Rbm(
            self.visible_kind, self.hidden_kind, weight, logit_of_mean(mean) if bernoulli else torch.zeros_like(mean)
        )
        both = bernoulli and self.hidden_kind == "bernoulli"
        self.rate = config.learning_rate if both else config.linear_learning_rate

    def update(self, inputs: Tensor, momentum: float) -> Tensor:
        """As `LayerTrainer.update`."""
        statistics = self.rbm.statistics(inputs)
        self.rbm.update(statistics, (1 - momentum) * self.rate, momentum, self.config.l2)
        return reconstruction_error(statistics)

    @property
    def result(self) -> tuple[Tensor, Tensor]:
        """As `LayerTrainer.result`."""
        return self.rbm.weight, self.rbm.hidden_bias


class AutoencoderTrainer(LayerTrainer):
    """A sparse autoencoder by SGD with momentum."""

    def __init__(self, config: PretrainConfig, layer: int, units: list[str], dim: int, mean: Tensor) -> None:
        super().__init__(config, layer, units)
        self.net = SparseAutoencoder(len(mean), dim, linear_output=layer == 0).to(mean.device)
        optim = OptimConfig(momentum=config.initial_momentum, nesterov=False)
        self.optimizer = make_optimizer(optim, self.net.parameters())

    def update(self, inputs: Tensor, momentum: float) -> Tensor:
        """As `LayerTrainer.update`."""
        set_rates(self.optimizer, (1 - momentum) * self.config.linear_learning_rate, momentum)
        error, penalty = self.net.losses(inputs)
        self.optimizer.zero_grad(set_to_none=True)
        (error + self.config.sparsity * penalty).backward()
        self.optimizer.step()
        return error.detach()

    @property
    def result(self) -> tuple[Tensor, Tensor]:
        """As `LayerTrainer.result`."""
        return self.net.encoder.weight.detach(), self.net.encoder.bias.detach()


TRAINERS: dict[str, type[RbmTrainer] | type[AutoencoderTrainer]] = {
    "rbm": RbmTrainer,
    "sparse_autoencoder": AutoencoderTrainer,
}


def pretrain(config: TrainConfig, classifier: SenoneClassifier, store: Store) -> None:
    """Give the hidden layers of `classifier` pre-trained weights; layers finished earlier are read from exp_dir.

    Raises:
        CheckpointError: the finished layers are of another run.
        TrainingError: a number was not finite.
    """
    units = [RBM_UNITS[activation] for activation in config.model.layer_activations]
    affines = classifier.hidden_affines
    below: list[tuple[Tensor, Tensor]] = []
    for layer, affine in enumerate(affines):
        path = Path(config.exp_dir) / "pretrain" / f"layer-{layer}.pt"
        identity = layer_identity(config, store, layer)
        state = read_layer(path, identity)
        if state is None:
            state = train_layer(config, store, layer, units, below, affine.out_features) | {"identity": identity}
            buffer = io.BytesIO()
            torch.save(state, buffer)
            fsio.remove_abandoned(path)
            with fsio.atomic_write(path) as file:
                file.write(buffer.getvalue())
        logger.info(
            "layer %d pre-trained: reconstruction error %s", layer + 1,
            " -> ".join(f"{error:.4g}" for error in state["errors"]),
        )  # fmt: skip
        below.append((state["weight"].to(store.device), state["bias"].to(store.device)))
        with torch.no_grad():
            affine.weight.copy_(state["weight"])
            affine.bias.copy_(state["bias"])


def train_layer(
    config: TrainConfig, store: Store, layer: int, units: list[str], below: list[tuple[Tensor, Tensor]], dim: int
) -> dict[str, Any]:
    """Train a hidden layer of `dim` units above the finished ones.

    Returns:
        `weight` [dim, in_dim] and `bias` [dim] on the CPU, and `errors`, the mean squared reconstruction error of a
        frame in each epoch.
    """
    options = config.pretrain
    first_seed = (config.seed << 32) + (1 << 31) + (layer << 26)  # the classifier's updates have the numbers below
    seed_draws(first_seed, store.device)
    trainer = TRAINERS[options.name](options, layer, units, dim, mean_inputs(config, store, units, below))
    guard = NonFinite(store.device)
    per_epoch = store.num_batches(options.batch_size)
    num_steps = max(1, round(per_epoch * (options.epochs if layer else options.first_epochs)))
    errors: list[float] = []
    step = 0
    while step < num_steps:
        total, end = torch.zeros((), dtype=torch.float64, device=store.device), min(per_epoch, num_steps - step)
        batches = store.batches(options.batch_size, config.seed, len(errors), 0, end, workers=config.runtime.workers)
        for inputs, _ in log.progress(batches, f"pre-training layer {layer + 1}", end, "batch"):
            seed_draws(first_seed + 1 + step, store.device)
            error = trainer.update(propagate(inputs, units, below), options.momentum_after(step * options.batch_size))
            guard.update(step, error, torch.nn.utils.get_total_norm(trainer.result))
            if store.device.type == "cpu" or step % GUARD_STEPS == 0:
                stop_if_bad(guard, layer)
            total += error
            step += 1
        stop_if_bad(guard, layer)
        errors.append(float(total) / end)
    weight, bias = trainer.result
    return {"weight": weight.cpu(), "bias": bias.cpu(), "errors": errors}


def propagate(inputs: Tensor, units: list[str], below: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Network inputs [B, input_dim] through the finished layers, without noise: [B, in_dim]."""
    for unit, (weight, bias) in zip(units, below, strict=False):
        inputs = MEANS[unit](torch.nn.functional.linear(inputs, weight, bias))
    return inputs


def mean_inputs(config: TrainConfig, store: Store, units: list[str], below: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean [in_dim] of a layer's inputs over some minibatches."""
    size = config.pretrain.batch_size
    count = min(MEAN_BATCHES, store.num_batches(size))
    batches = store.batches(size, config.seed, 0, 0, count)
    return torch.stack([propagate(inputs, units, below).mean(0) for inputs, _ in batches]).mean(0)


def stop_if_bad(guard: NonFinite, layer: int) -> None:
    """Stop when an update met a number that is not finite.

    Raises:
        TrainingError: naming layer and update.
    """
    step = guard.bad_step()
    if step is not None:
        raise TrainingError(
            f"pre-training of hidden layer {layer + 1}: reconstruction error or weights of update {step} are not "
            "finite. Try lower pretrain learning rates; acoustic doctor checks the features"
        )


def layer_identity(config: TrainConfig, store: Store, layer: int) -> str:
    """SHA-256 of what decides a pre-trained layer: options, seed, the layers up to it, the data."""
    parts = {
        "pretrain": asdict(config.pretrain),
        "seed": config.seed,
        "widths": config.model.widths[: layer + 1],
        "activations": config.model.layer_activations[: layer + 1],
        "features": asdict(config.features),
        "data": store.cache.meta.content_fingerprints(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_layer(path: Path, identity: str) -> dict[str, Any] | None:
    """A finished layer, or None where there is none yet.

    Raises:
        CheckpointError: it is damaged, or of another run.
    """
    if not path.exists():
        return None
    state = load_weights_only(path)
    if not isinstance(state, dict) or state.get("identity") != identity:
        raise CheckpointError(f"{path}: pre-trained with other data or options; remove it, or choose another exp_dir")
    return state
