"""The senone classifier: a stack of fully connected hidden layers under a softmax over pdf ids."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from acoustic.nn.activations import ACTIVATIONS, SATURATING, ActivationShape, make_activation
from acoustic.nn.dropout import Dropout

PADDED_ON = {"cuda"}  # devices where the output layer computes a multiple of ROW_MULTIPLE logits
ROW_MULTIPLE = 64


@dataclass(kw_only=True)
class ClassifierConfig:
    """Shape and regularisation of the network.

    Raises ValueError, naming the field, when a value is out of range.
    """

    hidden_layers: int = 4
    hidden_dim: int = 1024  # units of each hidden layer
    hidden_dims: list[int] | None = None  # a width for each layer; overrides the two above
    activation: str = "relu"
    activations: list[str] | None = None  # one for each hidden layer; overrides `activation`
    negative_slope: float = 0.01  # of leaky_relu; prelu starts from it
    gaaf_width: float = 4.0  # gaaf_tanh's shape function is exp(-x^2 / width): read off the paper's Figure 4b
    gaaf_steepness: float = 5.0  # gaaf_relu's is sigmoid(steepness (x + shift)): read off its Figure 4c
    gaaf_shift: float = 0.5
    input_dropout: float = 0.0  # rate on the network's input
    dropout: float = 0.0  # rate on each hidden layer's output
    dropouts: list[float] | None = None  # a rate for each hidden layer; overrides `dropout`
    norm: str = "none"  # none, batch or layer, before each activation
    init: str = "auto"  # he, glorot, or auto: he for rectifiers, glorot for sigmoid and tanh

    def __post_init__(self) -> None:
        for name in [self.activation, *self.layer_activations]:
            if name not in ACTIVATIONS:
                raise ValueError(f"model.activation={name!r}: choose one of {', '.join(ACTIVATIONS)}")
        if self.norm not in ("none", "batch", "layer"):
            raise ValueError(f"model.norm={self.norm!r}: choose none, batch or layer")
        if self.init not in ("auto", "he", "glorot"):
            raise ValueError(f"model.init={self.init!r}: choose auto, he or glorot")
        if self.hidden_layers < 0 or min(self.widths, default=1) < 1:
            raise ValueError("model.hidden_layers must not be negative and every hidden width at least 1")
        if self.gaaf_width <= 0 or self.gaaf_steepness <= 0:
            raise ValueError("model.gaaf_width and model.gaaf_steepness must be positive")
        if len(self.rates) != len(self.widths):
            raise ValueError(f"model.dropouts names {len(self.rates)} rates for {len(self.widths)} hidden layers")
        if len(self.layer_activations) != len(self.widths):
            raise ValueError(
                f"model.activations names {len(self.layer_activations)} for {len(self.widths)} hidden layers"
            )
        if any(not 0.0 <= rate < 1.0 for rate in [self.input_dropout, *self.rates]):
            raise ValueError("model dropout rates must lie in [0, 1)")

    @property
    def widths(self) -> list[int]:
        """Units of each hidden layer."""
        return list(self.hidden_dims) if self.hidden_dims is not None else [self.hidden_dim] * self.hidden_layers

    @property
    def layer_activations(self) -> list[str]:
        """Activation of each hidden layer."""
        return list(self.activations) if self.activations is not None else [self.activation] * len(self.widths)

    @property
    def activation_shape(self) -> ActivationShape:
        """What activations are told."""
        return ActivationShape(self.negative_slope, self.gaaf_width, self.gaaf_steepness, self.gaaf_shift)

    @property
    def rates(self) -> list[float]:
        """Dropout rate of each hidden layer."""
        return list(self.dropouts) if self.dropouts is not None else [self.dropout] * len(self.widths)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation; a single frame, which has no variance, is normalised in training as in evaluation.

    An epoch's last minibatch may be one frame, and a rank's part of it none.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        if self.training and len(x) < 2:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )  # fmt: skip
        return super().forward(x)


class HiddenLayer(nn.Module):
    """Affine map, normalisation, activation, dropout: [B, in_dim] -> [B, dim]."""

    def __init__(self, in_dim: int, dim: int, config: ClassifierConfig, activation: str, rate: float) -> None:
        super().__init__()
        affine_dim = 2 * dim if activation == "maxout" else dim
        self.affine = nn.Linear(in_dim, affine_dim)
        norms = {"none": nn.Identity, "batch": BatchNorm, "layer": nn.LayerNorm}
        self.norm = norms[config.norm](affine_dim)
        self.activation = make_activation(activation, config.activation_shape, dim)
        self.dropout = Dropout(rate)

    def pre_activation(self, x: Tensor) -> Tensor:
        """What the activation sees: [B, in_dim] -> [B, dim] (maxout: [B, 2 * dim])."""
        return self.norm(self.affine(x))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_dim] -> [B, dim]."""
        return self.dropout(self.activation(self.pre_activation(x)))


class OutputLayer(nn.Linear):
    """Affine map to one logit per pdf id: [B, in_dim] -> [B, num_pdfs].

    The number of senones is what the tree came to, 7969 or 8986. Rows of so many bfloat16 values begin at any even
    address, where GPUs cannot use their fast kernels for matrix products; so products are made there with rows of zeros
    appended to the weights, whose logits are cut off again. (On CPUs this gains one percent, and is not done.)
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_dim] -> [B, num_pdfs]; the weights may be `padded` already."""
        device = x.device.type
        if device not in PADDED_ON or self.out_features % ROW_MULTIPLE == 0:
            return super().forward(x)
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        weight, bias = (self.padded(tensor.to(dtype)) for tensor in (self.weight, self.bias))  # in the narrower type
        return functional.linear(x, weight, bias)[:, : self.out_features]

    def padded(self, tensor: Tensor) -> Tensor:
        """Weights or biases with the zeros appended that the device wants, unless they have them."""
        if tensor.device.type not in PADDED_ON or len(tensor) % ROW_MULTIPLE == 0:
            return tensor
        return functional.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, -len(tensor) % ROW_MULTIPLE))


class SenoneClassifier(nn.Module):
    """Maps network inputs to one logit per pdf id.

    Args:
        config: shape and regularisation.
        input_dim: values per frame after splicing.
        num_pdfs: senones.
    """

    def __init__(self, config: ClassifierConfig, input_dim: int, num_pdfs: int) -> None:
        super().__init__()
        self.config, self.input_dim, self.num_pdfs = config, input_dim, num_pdfs
        self.input_dropout = Dropout(config.input_dropout)
        dims = [input_dim, *config.widths]
        self.hidden: Iterable[HiddenLayer] = nn.ModuleList(  # type: ignore[assignment]
            HiddenLayer(in_dim, dim, config, activation, rate)
            for (in_dim, dim), activation, rate in zip(
                pairwise(dims), config.layer_activations, config.rates, strict=True
            )
        )
        self.output = OutputLayer(dims[-1], num_pdfs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from torch's default generator; biases start at zero.

        He et al. 2015 (normal, variance 2 / fan_in) for rectifiers, Glorot & Bengio 2010 (uniform within
        sqrt(6 / (fan_in + fan_out))) for squashing units, as Maas et al. 2013 use. The output layer is always
        Glorot's: no rectifier follows it.
        """
        for affine, activation in zip(self.hidden_affines, self.config.layer_activations, strict=True):
            if self.config.init == "he" or (self.config.init == "auto" and activation not in SATURATING):
                nn.init.normal_(affine.weight, std=math.sqrt(2.0 / affine.in_features))
            else:
                nn.init.xavier_uniform_(affine.weight)
            nn.init.zeros_(affine.bias)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def hidden_affines(self) -> list[nn.Linear]:
        """The affine map of each hidden layer."""
        return [layer.affine for layer in self.hidden]

    def forward(self, x: Tensor) -> Tensor:
        """Network inputs [B, input_dim] -> logits [B, num_pdfs]."""
        x = self.input_dropout(x)
        for layer in self.hidden:
            x = layer(x)
        return self.output(x)

    @torch.no_grad()
    def log_posteriors(self, x: Tensor) -> Tensor:
        """Network inputs [B, input_dim] -> log p(pdf | frame) [B, num_pdfs], float32."""
        return torch.log_softmax(self(x).float(), dim=-1)

    @property
    def num_parameters(self) -> int:
        """Trainable weights and biases."""
        return sum(parameter.numel() for parameter in self.parameters())
