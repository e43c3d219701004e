"""Steps of a foreign feed-forward net to our front end and classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from acoustic import fsio
from acoustic.errors import ConfigError, DataError
from acoustic.exchange.stages import Affine, Array, Scaling, Splice, Stage
from acoustic.exchange.steps import Join, Linear, Rectifier, Scale, Softmax, Squash, Step
from acoustic.exchange.window import WindowMap
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

# Priors, which are fractions, become counts of so many frames.
FRAMES_OF_PRIORS = 10**12


@dataclass(frozen=True, eq=False)
class ImportedLayer:
    """y = activation(weight x + bias); slope [dim] is the factor that rectifiers apply below zero."""

    weight: Array
    bias: Array
    activation: str
    slope: Array | None = None


def assemble(
    steps: Sequence[Step],
    config: FrontendConfig,
    input_dim: int,
    counts: Array | None,
    transition_model: TransitionModel | None,
) -> Bundle:
    """A bundle that computes what the steps compute.

    Args:
        steps: of features [T, input_dim] to posteriors.
        config: CMVN and deltas that the features have gone through before.
        input_dim: elements of a frame behind the deltas.
        counts: [num_pdfs] frames or priors of each pdf; None: all alike.
        transition_model: whose pdfs the outputs are, where it is known.

    Raises:
        DataError: a net that is no stack of layers under a softmax, or counts of other pdfs.
    """
    feat_dim, rest = divmod(input_dim, config.delta_order + 1)
    if rest:
        raise DataError(f"a net of {input_dim} inputs cannot take features with deltas of order {config.delta_order}")
    begin = _first_of_network(steps)
    frontend = _frontend(steps[:begin], config, feat_dim, input_dim)
    classifier = _classifier(_layers(steps[begin:]))
    num_pdfs = classifier.num_pdfs
    if transition_model is not None and transition_model.num_pdfs != num_pdfs:
        raise DataError(f"a net of {num_pdfs} outputs beside a transition model of {transition_model.num_pdfs} pdfs")
    return Bundle(
        classifier=classifier.eval(),
        frontend_config=frontend.config_dict(),
        frontend_state=frontend.state_dict(),
        feat_dim=feat_dim,
        pdf_counts=_pdf_counts(np.ones(num_pdfs) if counts is None else counts, num_pdfs),
        fingerprints={} if transition_model is None else {"transition_model": transition_model.fingerprint()},
    )


def add_tree(bundle: Bundle, directory: Path) -> None:
    """Note the decision tree of a model's directory, if it is there."""
    if (directory / "tree").exists():
        bundle.fingerprints["tree"] = DecisionTree.read(directory / "tree").fingerprint()


def write_bundle(bundle: Bundle, exp_dir: str | Path) -> None:
    """Write exp_dir/final.pt.

    Raises:
        ConfigError: there is one.
    """
    path = Path(exp_dir) / "final.pt"
    if path.exists():
        raise ConfigError(f"{path} is there already: choose another exp_dir")
    with fsio.atomic_write(path) as file:
        file.write(bundle.to_bytes())


def _first_of_network(steps: Sequence[Step]) -> int:
    """Where the network begins: its first trained matrix, or the last one before an activation."""
    last_matrix = 0
    for number, step in enumerate(steps):
        if isinstance(step, Linear):
            last_matrix = number
            if step.trained:
                return number
        elif isinstance(step, Rectifier | Squash | Softmax):
            break
    return last_matrix


# -- the front end ------------------------------------------------------------------------------------------------


def _frontend(steps: Sequence[Step], config: FrontendConfig, feat_dim: int, input_dim: int) -> Frontend:
    """The stages before the network, at most two splicings with a linear transform behind each."""
    maps = _window_maps(steps, input_dim)
    if len(maps) > 2:
        raise DataError(f"frames are spliced {len(maps)} times before the network, a front end does so twice at most")
    *before, last = ([stage for stage in window.stages()] for window in maps)
    values: dict[str, Array] = {}
    if before:
        config = replace(
            config,
            delta_order=0,
            transform_delta_order=config.delta_order,
            transform_delta_window=config.delta_window,
        )
        config = _as_transform(before[0], maps[0], config, values)
    config = _as_network_input(last, config, values)
    frontend = Frontend.from_config(config, feat_dim)
    for name, value in values.items():
        getattr(frontend, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return frontend


def _window_maps(steps: Sequence[Step], input_dim: int) -> list[WindowMap]:
    """The steps as maps of windows; a new one begins at a splicing of what is spliced or transformed already."""
    maps = [WindowMap.identity(input_dim)]
    for step in steps:
        match step:
            case Join():
                if any(isinstance(stage, Splice | Affine) for stage in maps[-1].stages()):
                    maps.append(WindowMap.identity(len(maps[-1].bias)))
                maps[-1] = maps[-1].spliced(step.frame_offsets)
            case Linear():
                maps[-1] = maps[-1].mapped(step.weight, step.bias)
            case Scale():
                maps[-1] = maps[-1].scaled(step.scale, step.bias)
            case _:
                raise DataError("an activation with no matrix before it")
    return maps


def _as_transform(
    stages: list[Stage], window: WindowMap, config: FrontendConfig, values: dict[str, Array]
) -> FrontendConfig:
    """The first of two maps: splicing and transform of the base frames."""
    if any(isinstance(stage, Affine | Scaling) for stage in stages):
        matrix = window.weight.reshape(len(window.bias), -1)
        values["transform"] = np.hstack([matrix, window.bias[:, None]])
        config = replace(config, transform_dim=len(matrix))
    return replace(config, transform_splice_left=window.left, transform_splice_right=window.right)


def _as_network_input(stages: list[Stage], config: FrontendConfig, values: dict[str, Array]) -> FrontendConfig:
    """The map before the network: splicing, then LDA or global normalisation."""
    config = replace(config, global_norm=False)
    for stage in stages:
        match stage:
            case Splice():
                config = replace(config, splice_left=stage.left, splice_right=stage.right)
            case Affine():
                values["lda_weight"], values["lda_bias"] = stage.weight, stage.bias
                config = replace(config, lda_dim=len(stage.bias))
            case Scaling():
                values["shift"], values["scale"] = stage.shift, stage.scale
                config = replace(config, global_norm=True)
    return config


# -- the network --------------------------------------------------------------------------------------------------


def _layers(steps: Sequence[Step]) -> list[ImportedLayer]:
    """Linear steps between activations taken together; the last layer's activation is "softmax"."""
    layers: list[ImportedLayer] = []
    weight: Array | None = None
    bias: Array = np.zeros(0)
    for step in steps:
        if layers and layers[-1].activation == "softmax":
            raise DataError("the softmax is not the net's last component")
        match step:
            case Join():
                raise DataError("hidden layers are spliced: not a plain feed-forward net")
            case Linear():
                bias = step.bias if weight is None else step.weight @ bias + step.bias
                weight = step.weight if weight is None else step.weight @ weight
            case Scale():
                weight = np.diag(step.scale) if weight is None else step.scale[:, None] * weight
                bias = step.bias + (step.scale * bias if len(bias) else 0.0)
            case _:
                if weight is None:
                    raise DataError("two activations with no matrix between them")
                layers.append(_layer(weight, bias, step))
                weight, bias = None, np.zeros(0)
    if not layers or layers[-1].activation != "softmax" or weight is not None:
        raise DataError(
            "the net does not end in a softmax, so that its outputs are no posteriors",
            remedy="only nets trained with cross-entropy can be imported",
        )
    return layers


def _layer(weight: Array, bias: Array, step: Rectifier | Squash | Softmax) -> ImportedLayer:
    match step:
        case Squash():
            return ImportedLayer(weight, bias, step.activation)
        case Softmax():
            return ImportedLayer(weight, bias, "softmax")
        case Rectifier():
            if np.any(step.alpha <= 0.0):
                raise DataError("a ParametricRelu with alpha at or below zero has no counterpart")
            # alpha max(x, 0) + beta min(x, 0) is a rectifier of alpha x with the slope beta / alpha.
            slope = step.beta / step.alpha
            activation = "prelu" if slope.any() else "relu"
            return ImportedLayer(step.alpha[:, None] * weight, step.alpha * bias, activation, slope)


def _classifier(layers: list[ImportedLayer]) -> SenoneClassifier:
    """The layers as our network."""
    *hidden, output = layers
    uniform = [float(layer.slope[0]) for layer in hidden if _has_one_slope(layer) and layer.slope is not None]
    negative_slope = uniform[0] if uniform else ClassifierConfig.negative_slope
    activations = [_activation(layer, negative_slope) for layer in hidden]
    config = ClassifierConfig(
        hidden_layers=len(hidden),
        hidden_dims=[len(layer.bias) for layer in hidden],
        activation=activations[0] if activations else ClassifierConfig.activation,
        activations=activations if len(set(activations)) > 1 else None,
        negative_slope=negative_slope,
    )
    classifier = SenoneClassifier(config, layers[0].weight.shape[1], len(output.bias))
    state = {"output.weight": output.weight, "output.bias": output.bias}
    for number, (layer, activation) in enumerate(zip(hidden, activations, strict=True)):
        state[f"hidden.{number}.affine.weight"] = layer.weight
        state[f"hidden.{number}.affine.bias"] = layer.bias
        if activation == "prelu" and layer.slope is not None:
            state[f"hidden.{number}.activation.weight"] = layer.slope
    classifier.load_state_dict({name: torch.from_numpy(value).float() for name, value in state.items()})
    return classifier


def _has_one_slope(layer: ImportedLayer) -> bool:
    return layer.activation == "prelu" and layer.slope is not None and bool(np.all(layer.slope == layer.slope[0]))


def _activation(layer: ImportedLayer, negative_slope: float) -> str:
    """Our name: leaky_relu where all units have the slope of the configuration, prelu where they have their own."""
    if _has_one_slope(layer) and layer.slope is not None and layer.slope[0] == negative_slope:
        return "leaky_relu"
    return layer.activation


def _pdf_counts(values: Array, num_pdfs: int) -> torch.Tensor:
    """Whole numbers in proportion to counts or priors."""
    if len(values) != num_pdfs:
        raise DataError(f"counts or priors of {len(values)} pdfs for a net of {num_pdfs} outputs")
    if not np.all(np.isfinite(values)) or np.any(values < 0) or not np.any(values > 0):
        raise DataError("counts or priors must not be negative nor all zero")
    if np.any(values != np.round(values)):
        values = np.round(values / values.sum() * FRAMES_OF_PRIORS)
    return torch.from_numpy(values.astype(np.int64))
