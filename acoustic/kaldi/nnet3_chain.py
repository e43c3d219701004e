"""nnet3 nets that are a chain: frames of the input joined, then components one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from acoustic.errors import DataError
from acoustic.kaldi.nnet3 import Nnet3
from acoustic.kaldi.nnet3_components import FixedScaleComponent, RectifiedLinearComponent
from acoustic.kaldi.nnet3_config import ComponentNode, Descriptor, InputNode
from acoustic.kaldi.nnet3_graph import Graph
from acoustic.kaldi.nnet3_linear import Component, FloatArray


@dataclass(kw_only=True, eq=False)
class Rectifier(Component):
    """y = x where x > 0, else slope x, by element; slope float32 [dim].

    No component of Kaldi's, but in a net slope x + (1 - slope) max(x, 0), which Graph.apply_rectifier makes.
    """

    slope: FloatArray

    @property
    def input_dim(self) -> int:
        """Elements of x."""
        return len(self.slope)


@dataclass(eq=False)
class Chain:
    """A plain feed-forward net.

    Attributes:
        input_dim: elements of an input frame.
        frame_offsets: which frames, relative to the current one, are joined.
        components: (name, component) pairs in the order of their application to the joined frames.
        frame_components: those applied to each frame before.
    """

    input_dim: int
    frame_offsets: Sequence[int]
    components: list[tuple[str, Component]]
    frame_components: list[tuple[str, Component]] = field(default_factory=list)

    def to_net(self) -> Nnet3:
        """The net with nodes `input`, one for each component under its name, and `output`.

        Raises:
            DataError: components whose dimensions do not fit.
        """
        graph = Graph(self.input_dim)
        for name, component in self.frame_components:
            graph.apply(name, component)
        graph.splice("frame", self.frame_offsets, self.input_dim)
        for name, component in self.components:
            if isinstance(component, Rectifier):
                graph.apply_rectifier(name, component.slope)
            else:
                graph.apply(name, component)
        return graph.net()

    @classmethod
    def of_net(cls, net: Nnet3) -> Chain:
        """The chain that a net is.

        Raises:
            DataError: it is none: it branches, adds up, recurs, splices hidden layers or takes i-vectors.
        """
        components, joined = _components_behind(net, net.output().input)
        parts = joined.inputs if joined.name == "Append" else (joined,)
        frames = {str(part.inputs[0] if part.name == "Offset" else part) for part in parts}
        if len(frames) > 1 or any(len(part.arguments) > 2 for part in parts if part.name == "Offset"):
            raise _no_chain(joined)
        frame_components, source = _components_behind(net, Descriptor.parse(frames.pop()))
        frame = net.node_of.get("input")
        if str(source) != "input" or not isinstance(frame, InputNode):
            raise _no_chain(source)
        if not any(part.time_offset for part in parts):
            frame_components, components = [], frame_components + components
        names = [name for name, _ in frame_components + components]
        if len(set(names)) < len(names):
            raise DataError("the nnet3 net applies one component twice")
        return cls(frame.dim, [part.time_offset for part in parts], components, frame_components)


def _components_behind(net: Nnet3, source: Descriptor) -> tuple[list[tuple[str, Component]], Descriptor]:
    """The components that lead to `source` without joining frames, and what the first of them takes."""
    components: list[tuple[str, Component]] = []
    while True:
        if rectifier := _rectifier(net, source):
            name, component, source = rectifier
        elif not source.is_function and isinstance(node := net.node_of[source.name], ComponentNode):
            name, component, source = node.component, net.components[node.component], node.input
        else:
            return components, source
        if len(components) == len(net.nodes):
            raise DataError(f"the nnet3 net is recurrent at node {source.name}")
        components.insert(0, (name, component))


def _rectifier(net: Nnet3, source: Descriptor) -> tuple[str, Component, Descriptor] | None:
    """Name, component and input of what Graph.apply_rectifier made, if `source` is that."""
    nodes = [net.node_of.get(part.name) for part in source.inputs if not part.is_function]
    if source.name != "Sum" or len(nodes) != 2 or len(source.inputs) != 2:
        return None
    below, above = nodes
    if not isinstance(below, ComponentNode) or not isinstance(above, ComponentNode):
        return None
    slope, rest = net.components[below.component], net.components[above.component]
    relu = net.node_of.get(above.input.name)
    if (
        isinstance(slope, FixedScaleComponent)
        and isinstance(rest, FixedScaleComponent)
        and isinstance(relu, ComponentNode)
        and isinstance(net.components[relu.component], RectifiedLinearComponent)
        and relu.input == below.input
        and np.array_equal(rest.scales, np.float32(1.0) - slope.scales)
    ):
        return relu.component, Rectifier(slope=slope.scales), below.input
    return None


def _no_chain(source: Descriptor) -> DataError:
    remedy = None
    if any(source.time_offsets()):
        remedy = "only the input may be spliced, and once; export with --edges=exact what is to be imported again"
    return DataError(f"the nnet3 net is no chain of components: it uses {str(source)[:200]}", remedy=remedy)
