"""How a network does beyond its loss, on the same dev frames at the end of every interval.

Everything here is a function of weights, optimizer and step, so that a resumed run measures what an unbroken one does;
and nothing of it touches the run: the update that is measured is made on a copy.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from acoustic.data.batches import Store
from acoustic.nn.classifier import SenoneClassifier
from acoustic.nn.saturation import is_active
from acoustic.train.guard import clip_gradients, total_norm
from acoustic.train.optim import OptimConfig, make_optimizer, set_rates

NUM_FRAMES = 2048


def probe_frames(store: Store, count: int = NUM_FRAMES) -> tuple[Tensor, Tensor]:
    """Frames spread evenly over a store: inputs [N, input_dim] and pdf ids [N]."""
    count = min(count, store.num_frames)
    return store.batch(torch.arange(count, device=store.device) * store.num_frames // count)


@torch.no_grad()
def unit_shares(classifier: SenoneClassifier, inputs: Tensor) -> dict[str, list[float]]:
    """How much of each hidden layer is saturated, dropout off.

    Returns:
        `saturated_values`: the share of values where the unit is saturated (nn.saturation: rectifiers at zero or
        below, squashing units at either end); `dead_units`: the share of units that are so for every frame.
    """
    shares: dict[str, list[float]] = {"dead_units": [], "saturated_values": []}
    x = inputs
    for layer, activation in zip(classifier.hidden, classifier.config.layer_activations, strict=True):
        x = layer.activation(layer.pre_activation(x))
        active = is_active(x, activation)
        shares["dead_units"].append(float((~active.any(0)).double().mean()))
        shares["saturated_values"].append(float((~active).double().mean()))
    return shares


def next_update(
    classifier: SenoneClassifier,
    optimizer: torch.optim.Optimizer,
    config: OptimConfig,
    inputs: Tensor,
    targets: Tensor,
    rate: float,
    momentum: float,
) -> dict[str, Any]:
    """The gradient of the frames, with dropout, and the update that the optimizer would make of it.

    Args:
        classifier, optimizer: the run's; they are left as they are.
        config: of the optimizer.
        inputs, targets: the frames.
        rate, momentum: of the update.

    Returns:
        `gradient_norm`, and for each layer, the output's last, `update_to_weight`: length of the update of its weights
        over the length of the weights.
    """
    twin = copy.deepcopy(classifier).train()
    twin_optimizer = make_optimizer(config, twin.parameters(), [affine.weight for affine in twin.hidden_affines])
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    set_rates(twin_optimizer, rate, momentum)
    twin_optimizer.zero_grad(set_to_none=True)
    with torch.enable_grad():
        functional.cross_entropy(twin(inputs).float(), targets, label_smoothing=config.label_smoothing).backward()
    norm = total_norm(parameter.grad for parameter in twin.parameters())
    clip_gradients(twin.parameters(), config.clip_norm)
    twin_optimizer.step()
    pairs = zip([*classifier.hidden_affines, classifier.output], [*twin.hidden_affines, twin.output], strict=True)
    with torch.no_grad():
        ratios = [float((new.weight - old.weight).norm() / old.weight.norm()) for old, new in pairs]
    return {"gradient_norm": float(norm), "update_to_weight": ratios}


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers that are not finite as None, which JSON has a word for."""

    def said(value: Any) -> Any:
        return [said(item) for item in value] if isinstance(value, list) else value if math.isfinite(value) else None

    return {name: said(value) for name, value in values.items()}
