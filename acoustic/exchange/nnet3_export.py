"""Export to Kaldi's nnet3: final.raw, and final.mdl for nnet3-latgen-faster and Kaldi's servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from acoustic.decode.priors import DISABLED, PRIOR_FLOOR, log_priors
from acoustic.exchange.kaldi_model import copy_companions, output_dir, read_transition_model, to_float32
from acoustic.exchange.layers import Layer, LayerNorm, layers_of
from acoustic.exchange.online import write_online_conf
from acoustic.exchange.pipeline import write_pipeline
from acoustic.exchange.stages import Affine, Deltas, GlobalCmvn, Scaling, Splice, Stage, output_dim, split
from acoustic.features.frontend import Frontend
from acoustic.kaldi import nnet3_components as components
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.nnet3_config import ComponentNode, Descriptor, OutputNode
from acoustic.kaldi.nnet3_graph import Graph
from acoustic.log import get_logger
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import SenoneClassifier

logger = get_logger(__name__)


def export_nnet3(
    bundle: Bundle,
    frontend: Frontend,
    directory: str | Path,
    model: str | Path | None = None,
    binary: bool = True,
    exact_edges: bool = True,
    global_cmvn: str | Path | None = None,
) -> None:
    """Write final.raw, which gives log posteriors, with `model` final.mdl too, and what says how to make the features.

    nnet3 repeats the first and the last frame of its *input* beyond an utterance's edges. One splicing inside the net
    is then exact, but not deltas or another splicing before it, whose own results would have to be repeated.

    Args:
        bundle: what training wrote.
        frontend: its front end.
        directory: where to; see `output_dir`.
        model: final.mdl of the alignments, whose transitions final.mdl gets.
        binary: Kaldi's binary or text form.
        exact_edges: leave to the feature pipeline what cannot be exact inside. Otherwise all that does not depend on
            the speaker is inside, and the first and last frames (`inexact_frames`) get other outputs, which is told.
        global_cmvn: CMVN statistics of the training data, for online decoding by a net behind CMVN of a speaker.

    Raises:
        ConfigError: an activation that nnet3 does not have.
        DataError: `model` is not the one the bundle was trained on, or `global_cmvn` holds something else.
    """
    cut = split(frontend, max_contexts=1 if exact_edges else None)
    transition_model = None if model is None else read_transition_model(model, bundle)
    graph = build_graph(cut.inside, cut.dim, bundle.classifier)
    net = graph.net()
    with output_dir(directory) as folder:
        net.write(folder / "final.raw", binary)
        write_pipeline(folder, cut)
        write_online_conf(folder, Path(directory), cut, bundle.fbank_options, global_cmvn)
        if model is not None and transition_model is not None:
            priors = _divide_by_priors(graph, bundle)
            Nnet3Model(transition_model, graph.net(), priors).write(folder / "final.mdl", binary)
            copy_companions(model, folder)
    left, right = net.context()
    logger.info("a net of %d inputs a frame with %d frames of left and %d of right context", cut.dim, left, right)
    first, last = inexact_frames(net)
    if first or last:
        logger.warning(
            "outputs of %s; --edges=exact leaves to the feature pipeline what causes it", inexact(first, last)
        )


def inexact_frames(net: Nnet3) -> tuple[int, int]:
    """How many frames at the beginning and the end of an utterance get other outputs from an exported net than ours.

    Those whose last joining of frames reaches beyond the edge, where what is joined is of repeated inputs and should be
    repeated itself: the net's context but for that of the first joining.
    """
    joinings = [node.input.time_offsets() for node in net.nodes if isinstance(node, ComponentNode | OutputNode)]
    first = next((offsets for offsets in joinings if any(offsets)), [0])
    left, right = net.context()
    return left + min(0, *first), right - max(0, *first)


def inexact(first: int, last: int) -> str:
    """Which frames these are, in words."""
    return f"the first {first} and the last {last} frames of an utterance differ from those of acoustic loglikes"


def build_graph(stages: list[Stage], dim: int, classifier: SenoneClassifier) -> Graph:
    """Stages and classifier as a net that gives log posteriors; `dim` is that of an input frame.

    Raises:
        ConfigError: an activation that nnet3 does not have.
    """
    hidden, output = layers_of(classifier)
    graph = Graph(dim)
    for number, stage in enumerate(stages, 1):
        _add_stage(graph, f"frontend{number}", stage, dim)
        dim = output_dim(stage, dim)
    for layer in hidden:
        _add_layer(graph, layer)
    graph.apply("output.affine", _affine(output))
    graph.apply("output.log-softmax", components.LogSoftmaxComponent(dim=len(output.bias)))
    return graph


def _add_stage(graph: Graph, name: str, stage: Stage, dim: int) -> None:
    match stage:
        case Splice():
            graph.splice(f"{name}.frame", range(-stage.left, stage.right + 1), dim)
        case Deltas():
            graph.splice(f"{name}.frame", range(-stage.reach, stage.reach + 1), dim)
            _add_stage(graph, f"{name}.deltas", stage.affine(dim), dim)
        case Affine():
            weight, bias = to_float32(stage.weight), to_float32(stage.bias)
            graph.apply(f"{name}.affine", components.FixedAffineComponent(weight=weight, bias=bias))
        case GlobalCmvn():
            _add_stage(graph, name, stage.scaling(), dim)
        case Scaling():
            graph.apply(f"{name}.shift", components.FixedBiasComponent(bias=to_float32(stage.shift)))
            graph.apply(f"{name}.scale", components.FixedScaleComponent(scales=to_float32(stage.scale)))
        case _:
            raise ValueError(f"{type(stage).__name__} cannot be inside a net")


def _add_layer(graph: Graph, layer: Layer) -> None:
    if layer.layer_norm is None:
        graph.apply(f"{layer.name}.affine", _affine(layer))
    else:
        _add_normalised_affine(graph, layer, layer.layer_norm)
    _add_activation(graph, layer)


def _affine(layer: Layer) -> components.Component:
    return components.NaturalGradientAffineComponent(weight=to_float32(layer.weight), bias=to_float32(layer.bias))


def _add_normalised_affine(graph: Graph, layer: Layer, norm: LayerNorm) -> None:
    """An affine map with layer normalisation.

    The mean is taken off in the affine map. An element more, whose square is dim * epsilon, makes the sum of squares
    that of dim * (var + epsilon), so that nnet3's division by the root mean square is ours.
    """
    dim = len(layer.bias)
    weight = np.vstack([layer.weight - layer.weight.mean(0), np.zeros(layer.weight.shape[1])])
    bias = np.append(layer.bias - layer.bias.mean(), np.sqrt(dim * norm.epsilon))
    graph.apply(f"{layer.name}.affine", _affine(Layer(layer.name, weight, bias, layer.activation)))
    target_rms = float(np.sqrt(dim / (dim + 1)))
    graph.apply(f"{layer.name}.rms", components.NormalizeComponent(dim=dim + 1, target_rms=target_rms))
    graph.keep_first(f"{layer.name}.normalised", dim)
    graph.apply(f"{layer.name}.gain", components.PerElementScaleComponent(scales=to_float32(norm.gain)))
    graph.apply(f"{layer.name}.offset", components.PerElementOffsetComponent(offsets=to_float32(norm.bias)))


def _add_activation(graph: Graph, layer: Layer) -> None:
    dim, before = len(layer.bias), graph.source
    match layer.activation:
        case "relu":
            graph.apply(f"{layer.name}.relu", components.RectifiedLinearComponent(dim=dim))
        case "prelu" if layer.slope is not None:
            graph.apply_rectifier(f"{layer.name}.relu", to_float32(layer.slope))
        case "sigmoid":
            graph.apply(f"{layer.name}.sigmoid", components.SigmoidComponent(dim=dim))
        case "tanh":
            graph.apply(f"{layer.name}.tanh", components.TanhComponent(dim=dim))
        case "silu":  # x sigmoid(x)
            sigmoid = graph.apply(f"{layer.name}.sigmoid", components.SigmoidComponent(dim=dim))
            graph.source = Descriptor("Append", (before, sigmoid))
            graph.apply(f"{layer.name}.silu", components.ElementwiseProductComponent(dim=2 * dim, product_dim=dim))
        case other:
            alternatives = (
                "relu, leaky_relu, prelu, sigmoid, tanh, silu, gaaf_relu, gaaf_tanh, maxout without layer norm"
            )
            raise layer.refuse(f"activation {other}", "nnet3", alternatives)


def _divide_by_priors(graph: Graph, bundle: Bundle) -> np.ndarray:
    """The priors of final.mdl, by which Kaldi divides; a pdf that was never seen is disabled in the net.

    Kaldi would divide by a prior of zero and prefer such a pdf to all others.
    """
    log_prior = log_priors(bundle.pdf_counts).numpy()
    disabled = log_prior == np.float32(DISABLED)
    if disabled.any():
        bias = np.where(disabled, -DISABLED, 0.0)
        graph.apply("output.disabled", components.FixedBiasComponent(bias=to_float32(bias)))
    return to_float32(np.where(disabled, PRIOR_FLOOR, np.exp(np.where(disabled, 0.0, log_prior), dtype=np.float64)))
