"""Export to Kaldi's nnet1: the directory that steps/nnet/train.sh leaves and steps/nnet/decode.sh reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from acoustic.exchange.kaldi_model import copy_companions, output_dir, read_transition_model, to_float32
from acoustic.exchange.layers import Layer, layers_of
from acoustic.exchange.pipeline import write_pipeline
from acoustic.exchange.stages import Affine, Deltas, GlobalCmvn, Scaling, Splice, Stage, output_dim, split
from acoustic.features.frontend import Frontend
from acoustic.kaldi import nnet1_components as components
from acoustic.kaldi.nnet1 import Nnet1, write_class_counts
from acoustic.kaldi.stream import open_writer
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import SenoneClassifier


def export_nnet1(
    bundle: Bundle, frontend: Frontend, directory: str | Path, model: str | Path | None = None, binary: bool = True
) -> None:
    """Write final.nnet, final.feature_transform, ali_train_pdf.counts and what says how to make the features.

    Deltas stay in the feature pipeline (`delta_opts`) where they come first, as Kaldi's scripts have them; everything
    else that does not depend on the speaker is in the feature transform, exact at an utterance's edges too.

    Args:
        bundle: what training wrote.
        frontend: its front end.
        directory: where to; see `output_dir`.
        model: final.mdl of the alignments: its transitions go into the directory, for decoding.
        binary: nets in Kaldi's binary or text form.

    Raises:
        ConfigError: an activation or normalisation that nnet1 does not have.
        DataError: `model` is not the one the bundle was trained on.
    """
    cut = split(frontend, deltas_outside=True)
    net = classifier_net(bundle.classifier)
    transition_model = None if model is None else read_transition_model(model, bundle)
    with output_dir(directory) as folder:
        net.write(folder / "final.nnet", binary)
        feature_transform(cut.inside, cut.dim).write(folder / "final.feature_transform", binary)
        write_class_counts(folder / "ali_train_pdf.counts", bundle.pdf_counts.numpy())
        write_pipeline(folder, cut)
        if model is not None and transition_model is not None:
            with open_writer(folder / "final.mdl") as file:
                transition_model.write(file, binary=False)
            copy_companions(model, folder)


def feature_transform(stages: list[Stage], dim: int) -> Nnet1:
    """The stages inside as a net; `dim` is that of the features. Without any it is a splice of the frame alone."""
    net: list[components.Component] = []
    for stage in stages:
        net += _stage_components(stage, dim)
        dim = output_dim(stage, dim)
    return Nnet1(net or [components.Splice(dim, np.zeros(1, np.int32))])


def _stage_components(stage: Stage, dim: int) -> list[components.Component]:
    match stage:
        case Splice():
            return [components.Splice(dim, np.arange(-stage.left, stage.right + 1, dtype=np.int32))]
        case Deltas():
            context = components.Splice(dim, np.arange(-stage.reach, stage.reach + 1, dtype=np.int32))
            return [context, components.LinearTransform(to_float32(stage.affine(dim).weight))]
        case Affine():
            return [components.AffineTransform(to_float32(stage.weight), to_float32(stage.bias))]
        case GlobalCmvn():
            return _stage_components(stage.scaling(), dim)
        case Scaling():
            return [components.AddShift(to_float32(stage.shift)), components.Rescale(to_float32(stage.scale))]
        case _:
            raise ValueError(f"{type(stage).__name__} cannot be inside a net")


def classifier_net(classifier: SenoneClassifier) -> Nnet1:
    """The classifier as a net of affine maps and activations, ending in a softmax.

    Raises:
        ConfigError: an activation or normalisation that nnet1 does not have.
    """
    hidden, output = layers_of(classifier)
    net: list[components.Component] = []
    for layer in hidden:
        net += [_affine(layer), _activation(layer)]
    return Nnet1([*net, _affine(output), components.Softmax(len(output.bias))])


def _affine(layer: Layer) -> components.AffineTransform:
    return components.AffineTransform(to_float32(layer.weight), to_float32(layer.bias))


def _activation(layer: Layer) -> components.Component:
    if layer.layer_norm is not None:
        raise layer.refuse("layer normalisation", "nnet1", "batch normalisation or none")
    dim = len(layer.bias)
    match layer.activation:
        case "relu" | "prelu":
            slope = np.zeros(dim) if layer.slope is None else layer.slope
            return components.ParametricRelu(np.ones(dim, np.float32), to_float32(slope))
        case "sigmoid":
            return components.Sigmoid(dim)
        case "tanh":
            return components.Tanh(dim)
        case other:
            alternatives = "relu, leaky_relu, prelu, sigmoid, tanh, maxout, gaaf_relu and gaaf_tanh"
            raise layer.refuse(f"activation {other}", "nnet1", alternatives)
