"""A network's hidden layers on a sample of frames: the statistics of Maas 2013, GAAF and Zeiler 2013."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from acoustic.analysis import gaaf, maas2013, zeiler2013
from acoustic.nn.classifier import SenoneClassifier
from acoustic.nn.dropout import Dropout
from acoustic.nn.saturation import active_interval, is_active

FRAMES_AT_ONCE = 2048
MAX_CORRELATED_UNITS = 1024  # of a wider layer the first so many; units of a layer are exchangeable
NUM_HISTOGRAM_BINS = 80
CORRELATION_EDGES = np.linspace(-1, 1, 81)


@dataclass(frozen=True)
class Gradients:
    """How a layer's weights are moved: the output layer has these statistics too.

    Attributes:
        trained: G_k with dropout and activations as in training.
        evaluated: G_k of the network as it is used.
        net_variance: over dropout masks.
    """

    name: str
    trained: float
    evaluated: float
    net_variance: float


@dataclass(frozen=True)
class Layer:
    """Statistics of a hidden layer over the sample.

    Attributes:
        name: "hidden 1" is next to the input.
        activation: its name.
        probability: [D], activation probability of each unit.
        lower_probability: [D], likewise with units saturated at the lower end alone; the same for rectifiers.
        code_length, code_length_std: mean and standard deviation over inputs.
        zero_share: of outputs that are exactly zero.
        saturated_share: of pre-activations where the activation is saturated.
        pre_histogram, pre_edges: density of pre-activations between its 0.1 and 99.9 percentiles.
        interval: pre-activations between which the activation is not saturated.
        correlation_histogram: pairs of units in each bin of CORRELATION_EDGES.
        pairs_above: threshold -> pairs with |r| above it.
        num_pairs: pairs that have a correlation.
    """

    name: str
    activation: str
    probability: NDArray[np.float64]
    lower_probability: NDArray[np.float64]
    code_length: float
    code_length_std: float
    zero_share: float
    saturated_share: float
    pre_histogram: NDArray[np.float64]
    pre_edges: NDArray[np.float64]
    interval: tuple[float, float]
    correlation_histogram: NDArray[np.int64]
    pairs_above: dict[float, int]
    num_pairs: int

    @property
    def sparsity(self) -> float:
        """Lifetime sparsity."""
        return maas2013.lifetime_sparsity(self.probability)

    @property
    def dispersion(self) -> float:
        """Standard deviation of the activation probabilities."""
        return maas2013.dispersion(self.probability)

    @property
    def dead_share(self) -> float:
        """Share of units that no input activates."""
        return maas2013.never_active(self.probability)


@dataclass(frozen=True)
class Outputs:
    """What the layers gave for the sample: pre-activations and outputs of each hidden layer, [N, D]."""

    pre_activations: list[NDArray[np.float32]]
    outputs: list[NDArray[np.float32]]


@torch.inference_mode()
def run_layers(classifier: SenoneClassifier, inputs: Tensor) -> Outputs:
    """Pass network inputs [N, input_dim] through the hidden layers, dropout off."""
    pre: list[list[Tensor]] = [[] for _ in classifier.hidden]
    out: list[list[Tensor]] = [[] for _ in classifier.hidden]
    for x in inputs.split(FRAMES_AT_ONCE):
        for number, layer in enumerate(classifier.hidden):
            z = layer.pre_activation(x)
            x = layer.activation(z)
            pre[number].append(z.cpu())
            out[number].append(x.cpu())
    return Outputs([torch.cat(part).numpy() for part in pre], [torch.cat(part).numpy() for part in out])


def describe_layers(classifier: SenoneClassifier, outputs: Outputs) -> list[Layer]:
    """The statistics of every hidden layer."""
    names = classifier.config.layer_activations
    return [
        _describe(f"hidden {number + 1}", names[number], pre, out)
        for number, (pre, out) in enumerate(zip(outputs.pre_activations, outputs.outputs, strict=True))
    ]


def _describe(name: str, activation: str, pre: NDArray[np.float32], out: NDArray[np.float32]) -> Layer:
    active = is_active(torch.from_numpy(out), activation).numpy()
    lower = is_active(torch.from_numpy(out), activation, lower_end_only=True).numpy()
    lengths = maas2013.code_lengths(active)
    interval = active_interval(activation)
    low, high = np.percentile(pre[:: max(1, len(pre) // 2000)], [0.1, 99.9]).tolist()
    edges = np.linspace(low, high, NUM_HISTOGRAM_BINS + 1)
    histogram = np.histogram(pre, edges)[0] / (pre.size * (edges[1] - edges[0] or 1.0))
    correlations = gaaf.node_correlations(out[:, :MAX_CORRELATED_UNITS])
    return Layer(
        name=name,
        activation=activation,
        probability=maas2013.activation_probability(active),
        lower_probability=maas2013.activation_probability(lower),
        code_length=float(lengths.mean()),
        code_length_std=float(lengths.std()),
        zero_share=zeiler2013.zero_share(out),
        saturated_share=gaaf.saturated_share(pre, *interval),
        pre_histogram=histogram,
        pre_edges=edges,
        interval=interval,
        correlation_histogram=np.histogram(correlations, CORRELATION_EDGES)[0],
        pairs_above=gaaf.pairs_above(correlations),
        num_pairs=len(correlations),
    )


# -- gradients and dropout masks ------------------------------------------------------------------------------------


def describe_gradients(classifier: SenoneClassifier, inputs: Tensor, targets: Tensor, seed: int = 0) -> list[Gradients]:
    """G_k and net variance of every layer, the output's too; the network is left in evaluation mode.

    Args:
        classifier: the network.
        inputs: [N, input_dim].
        targets: int64 [N], pdf ids.
        seed: of the dropout masks.
    """
    with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
        torch.manual_seed(seed)
        evaluated = gradient_information(classifier.eval(), inputs, targets)
        trained = gradient_information(_as_in_training(classifier), inputs, targets)
        variances = net_variances(_as_in_training(classifier), inputs[: gaaf.NUM_MASKED_FRAMES])
    classifier.eval()
    names = [f"hidden {number + 1}" for number in range(len(evaluated) - 1)] + ["output"]
    return [Gradients(*row) for row in zip(names, trained, evaluated, variances, strict=True)]


def gradient_information(classifier: SenoneClassifier, inputs: Tensor, targets: Tensor) -> list[float]:
    """GAAF's G_k of every layer, the output's last, with dropout as the network's mode says."""
    sums = np.zeros(len(classifier.hidden_affines) + 1)
    for x, y in zip(inputs.split(FRAMES_AT_ONCE), targets.split(FRAMES_AT_ONCE), strict=True):
        with torch.enable_grad():
            layer_inputs, nets = _nets(classifier, x)
            loss = functional.cross_entropy(nets[-1], y, reduction="sum")
            deltas = torch.autograd.grad(loss, nets)
        for number, (delta, layer_input) in enumerate(zip(deltas, layer_inputs, strict=True)):
            mean = gaaf.gradient_information(delta.cpu().numpy(), layer_input.detach().cpu().numpy())
            sums[number] += mean * len(x)
    return (sums / len(inputs)).tolist()


@torch.no_grad()
def net_variances(classifier: SenoneClassifier, inputs: Tensor) -> list[float]:
    """GAAF's net variance of every layer over passes of the same frames, with dropout as the network's mode says."""
    passes = [[net.cpu().numpy() for net in _nets(classifier, inputs)[1]] for _ in range(gaaf.NUM_MASKS)]
    return [gaaf.net_variance(np.stack(nets)) for nets in zip(*passes, strict=True)]


def _nets(classifier: SenoneClassifier, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What each affine map is given, and what it makes of that; the output layer's come last."""
    inputs, nets = [], []
    x = classifier.input_dropout(x)
    for layer in classifier.hidden:
        inputs.append(x)
        nets.append(layer.affine(x))
        x = layer.dropout(layer.activation(layer.norm(nets[-1])))
    return [*inputs, x], [*nets, classifier.output(x)]


def _as_in_training(classifier: SenoneClassifier) -> SenoneClassifier:
    """The network with dropout and activations as in training; normalisation keeps to its running statistics."""
    classifier.eval()
    for layer in classifier.hidden:
        layer.activation.train()
    for module in classifier.modules():
        if isinstance(module, Dropout):
            module.train()
    return classifier
