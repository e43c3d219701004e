"""A trained classifier as plain layers, free of what matters in training only: dropout, batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from acoustic.errors import ConfigError
from acoustic.exchange.stages import Array
from acoustic.nn.activations import Maxout
from acoustic.nn.classifier import HiddenLayer, SenoneClassifier

# Activations that are another's special case; gradient acceleration is for training only.
PLAIN = {"gaaf_tanh": "tanh", "gaaf_relu": "relu", "leaky_relu": "prelu"}


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """y = gain (x - mean(x)) / sqrt(var(x) + epsilon) + bias; gain and bias [dim]."""

    gain: Array
    bias: Array
    epsilon: float


@dataclass(frozen=True, eq=False)
class Layer:
    """y = activation(weight x + bias).

    Attributes:
        name: such as "hidden2", for messages and for components.
        weight: float64 [dim, input_dim].
        bias: float64 [dim].
        activation: relu, prelu, sigmoid, tanh, or what else ACTIVATIONS has.
        slope: [dim], of prelu: the factor on negative values; else None.
        layer_norm: normalisation before the activation.
    """

    name: str
    weight: Array
    bias: Array
    activation: str
    slope: Array | None = None
    layer_norm: LayerNorm | None = None

    def refuse(self, what: str, file_format: str, alternatives: str) -> ConfigError:
        """The error that says that a format cannot hold this layer."""
        return ConfigError(f"{self.name}: {what} cannot be expressed in {file_format}, only {alternatives}")


def layers_of(classifier: SenoneClassifier) -> tuple[list[Layer], Layer]:
    """The hidden layers and the output layer, whose activation is "softmax"."""
    hidden = [
        _hidden_layer(f"hidden{number}", layer, activation)
        for number, (layer, activation) in enumerate(
            zip(classifier.hidden, classifier.config.layer_activations, strict=True), 1
        )
    ]
    weight, bias = _affine(classifier.output)
    return _without_maxout([*hidden, Layer("output", weight, bias, "softmax")])


def _affine(linear: nn.Linear) -> tuple[Array, Array]:
    return linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()


def _hidden_layer(name: str, layer: HiddenLayer, activation: str) -> Layer:
    """One hidden layer, batch normalisation folded into its affine map."""
    weight, bias = _affine(layer.affine)
    layer_norm = None
    if isinstance(layer.norm, nn.BatchNorm1d):
        moments = [layer.norm.weight, layer.norm.bias, layer.norm.running_mean, layer.norm.running_var]
        gain, offset, mean, var = (tensor.detach().double().numpy() for tensor in moments if tensor is not None)
        gain = gain / np.sqrt(var + layer.norm.eps)
        weight, bias = weight * gain[:, None], (bias - mean) * gain + offset
    elif isinstance(layer.norm, nn.LayerNorm):
        gain, offset = (tensor.detach().double().numpy() for tensor in (layer.norm.weight, layer.norm.bias))
        layer_norm = LayerNorm(gain, offset, layer.norm.eps)
    slope = None
    if isinstance(layer.activation, nn.PReLU):
        slope = layer.activation.weight.detach().double().numpy()
    elif isinstance(layer.activation, nn.LeakyReLU):
        slope = np.full(len(bias), layer.activation.negative_slope)
    return Layer(name, weight, bias, PLAIN.get(activation, activation), slope, layer_norm)


def _without_maxout(layers: list[Layer]) -> tuple[list[Layer], Layer]:
    """Split off the output layer, and write maxout of two pieces as rectifiers: max(a, b) = a + max(b - a, 0).

    The layer gives a (a rectifier of slope 1) and max(b - a, 0); the next layer's weights add them up.
    """
    for number in range(len(layers) - 1):
        layer = layers[number]
        if layer.activation != "maxout" or layer.layer_norm is not None:
            continue
        pieces = Maxout().pieces
        a, b = (_piece(layer, piece, pieces) for piece in range(pieces))
        layers[number] = Layer(
            layer.name,
            np.vstack([a[0], b[0] - a[0]]),
            np.concatenate([a[1], b[1] - a[1]]),
            "prelu",
            np.repeat([1.0, 0.0], len(a[1])),
        )
        following = layers[number + 1]
        layers[number + 1] = replace(following, weight=np.tile(following.weight, (1, pieces)))
    return layers[:-1], layers[-1]


def _piece(layer: Layer, piece: int, pieces: int) -> tuple[Array, Array]:
    """The affine map of one linear unit of each maxout unit."""
    return layer.weight[piece::pieces], layer.bias[piece::pieces]
