"""Which shard of the parameter server has which parameters, and how they stand in one flat tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acoustic.errors import ConfigError
from acoustic.nn.classifier import SenoneClassifier


@dataclass(frozen=True)
class Layout:
    """The parameters of one shard, end to end in a flat float32 tensor, as they are sent.

    Attributes:
        names: of the parameters, as the classifier calls them.
        shapes: of each.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def size(self) -> int:
        """Values in all parameters."""
        return sum(math.prod(shape) for shape in self.shapes)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters as views of a flat tensor [size]."""
        parts = flat.split([math.prod(shape) for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """A flat float32 tensor [size] on the CPU with the parameters of these names, or their gradients."""
        return torch.cat([tensors[name].detach().reshape(-1) for name in self.names]).to("cpu", torch.float32)


def split_layers(classifier: SenoneClassifier, num_shards: int) -> list[Layout]:
    """Spread whole layers over shards, so that the fullest has as few parameters as a greedy choice allows.

    Raises:
        ConfigError: more shards than layers.
    """
    parameters = dict(classifier.named_parameters())
    layers = [list(names) for _, names in itertools.groupby(parameters, key=layer_of)]
    if num_shards > len(layers):
        raise ConfigError(f"async.shards={num_shards}, but the network has {len(layers)} layers with parameters")
    sizes = [sum(parameters[name].numel() for name in names) for names in layers]
    loads, owners = [0] * num_shards, [0] * len(layers)
    for layer in sorted(range(len(layers)), key=lambda layer: -sizes[layer]):
        owners[layer] = loads.index(min(loads))
        loads[owners[layer]] += sizes[layer]
    found = []
    for shard in range(num_shards):
        names = [name for layer, owner in zip(layers, owners, strict=True) if owner == shard for name in layer]
        found.append(Layout(tuple(names), tuple(parameters[name].shape for name in names)))
    return found


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to: `hidden.2` of `hidden.2.affine.weight`, or `output`."""
    parts = parameter.split(".")
    return ".".join(parts[:2]) if parts[0] == "hidden" else parts[0]


# -- the state of an optimizer ----------------------------------------------------------------------------------------


def split_optimizer(state: dict, names: Sequence[str], layout: Layout) -> dict:
    """The part of a whole optimizer's state_dict that belongs to one shard's.

    Args:
        state: of the optimizer over all parameters.
        names: of all parameters, in the order of that optimizer.
        layout: of the shard.
    """
    numbers = [names.index(name) for name in layout.names]
    (group,) = state["param_groups"]
    return {
        "state": {mine: state["state"][number] for mine, number in enumerate(numbers) if number in state["state"]},
        "param_groups": [group | {"params": list(range(len(numbers)))}],
    }


def join_optimizers(states: Sequence[dict], names: Sequence[str], layouts: Sequence[Layout]) -> dict:
    """The state_dict of one optimizer over all parameters from those of the shards."""
    joined = {}
    for state, layout in zip(states, layouts, strict=True):
        for mine, name in enumerate(layout.names):
            if mine in state["state"]:
                joined[names.index(name)] = state["state"][mine]
    (group,) = states[0]["param_groups"]
    return {"state": joined, "param_groups": [group | {"params": list(range(len(names)))}]}
