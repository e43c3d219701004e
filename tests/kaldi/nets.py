"""Nets of Kaldi computed with numpy, component by component."""

from __future__ import annotations

import numpy as np

from acoustic.kaldi import nnet1_components as nnet1
from acoustic.kaldi import nnet3_components as nnet3
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3
from acoustic.kaldi.nnet3_config import ComponentNode, Descriptor, DimRangeNode, InputNode
from acoustic.kaldi.nnet3_linear import Affine, Component


def propagate_nnet1(component: nnet1.Component, x: np.ndarray) -> np.ndarray:
    """What `component` makes of x [num_frames, input_dim]."""
    match component:
        case nnet1.AffineTransform():
            return x @ component.weight.T + component.bias
        case nnet1.LinearTransform():
            return x @ component.weight.T
        case nnet1.ParametricRelu():
            return np.where(x > 0, component.alpha * x, component.beta * x)
        case nnet1.AddShift():
            return x + component.shift
        case nnet1.Rescale():
            return x * component.scale
        case nnet1.Splice():
            index = np.arange(len(x))[:, None] + component.frame_offsets
            return x[index.clip(0, len(x) - 1)].reshape(len(x), -1)
        case nnet1.Copy():
            return x[:, component.indices]
        case nnet1.Sigmoid():
            return 1.0 / (1.0 + np.exp(-x))
        case nnet1.Tanh():
            return np.tanh(x)
        case nnet1.Softmax():
            e = np.exp(x - x.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)
        case nnet1.Dropout():
            return x


def nnet1_output(net: Nnet1, x: np.ndarray) -> np.ndarray:
    """What `net` makes of the frames x [num_frames, input_dim] of one utterance."""
    for component in net.components:
        x = propagate_nnet1(component, x.astype(np.float64))
    return x


def propagate_nnet3(component: Component, x: np.ndarray) -> np.ndarray:
    """What `component` makes of x [num_frames, input_dim] at test time."""
    match component:
        case Affine() | nnet3.FixedAffineComponent():
            return x @ component.weight.T + component.bias
        case nnet3.LinearComponent():
            return x @ component.weight.T
        case nnet3.FixedScaleComponent() | nnet3.PerElementScaleComponent():
            return x * component.scales
        case nnet3.FixedBiasComponent():
            return x + component.bias
        case nnet3.PerElementOffsetComponent():
            return x + np.tile(component.offsets, component.dim // len(component.offsets))
        case nnet3.RectifiedLinearComponent():
            return np.maximum(x, 0.0)
        case nnet3.SigmoidComponent():
            return 1.0 / (1.0 + np.exp(-x))
        case nnet3.TanhComponent():
            return np.tanh(x)
        case nnet3.SoftmaxComponent():
            return np.exp(propagate_log_softmax(x))
        case nnet3.LogSoftmaxComponent():
            return propagate_log_softmax(x)
        case nnet3.ElementwiseProductComponent():
            return x.reshape(len(x), -1, component.output_dim).prod(1)
        case nnet3.NormalizeComponent():
            return x * component.target_rms / np.sqrt(np.mean(x**2, axis=1, keepdims=True))
        case nnet3.BatchNormComponent():
            scale = component.target_rms / np.sqrt(np.maximum(component.stats_var, 0.0) + component.epsilon)
            repeats = component.dim // component.block_dim
            return (x - np.tile(component.stats_mean, repeats)) * np.tile(scale, repeats)
        case _:  # dropout and no-op
            return x


def propagate_log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


class _Evaluation:
    """The values of a net's nodes for padded frames [num_frames, input_dim]; times beyond them are clamped."""

    def __init__(self, net: Nnet3, frames: np.ndarray) -> None:
        self.net, self.frames = net, frames
        self.values: dict[str, np.ndarray] = {}

    def node(self, name: str) -> np.ndarray:
        if name not in self.values:
            node = self.net.node_of[name]
            if isinstance(node, InputNode):
                self.values[name] = self.frames
            elif isinstance(node, DimRangeNode):
                self.values[name] = self.node(node.input_node)[:, node.dim_offset : node.dim_offset + node.dim]
            else:
                assert isinstance(node, ComponentNode)
                self.values[name] = propagate_nnet3(self.net.components[node.component], self.descriptor(node.input))
        return self.values[name]

    def descriptor(self, descriptor: Descriptor) -> np.ndarray:
        if not descriptor.is_function:
            return self.node(descriptor.name)
        inputs = [self.descriptor(source) for source in descriptor.inputs]
        if descriptor.name == "Append":
            return np.hstack(inputs)
        if descriptor.name == "Sum":
            return sum(inputs)
        assert descriptor.name == "Offset"
        index = np.arange(len(self.frames)) + descriptor.time_offset
        return inputs[0][index.clip(0, len(self.frames) - 1)]


def nnet3_output(net: Nnet3, x: np.ndarray) -> np.ndarray:
    """What `net` makes of the frames x [num_frames, input_dim] of one utterance, its edge frames repeated."""
    left, right = net.context()
    index = np.arange(-left, len(x) + right).clip(0, len(x) - 1)
    evaluation = _Evaluation(net, x.astype(np.float64)[index])
    return evaluation.descriptor(net.output().input)[left : left + len(x)]
