"""An nnet3 net put together node by node, from its input to its output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acoustic.kaldi.nnet3 import Nnet3
from acoustic.kaldi.nnet3_components import FixedScaleComponent, NoOpComponent, RectifiedLinearComponent
from acoustic.kaldi.nnet3_config import ComponentNode, Descriptor, DimRangeNode, InputNode, Node, OutputNode
from acoustic.kaldi.nnet3_linear import Component, FloatArray


class Graph:
    """A net being built; each node has the name of its component.

    Attributes:
        source: what the next component will take as its input.
    """

    def __init__(self, input_dim: int) -> None:
        self.nodes: list[Node] = [InputNode("input", input_dim)]
        self.components: dict[str, Component] = {}
        self.source = Descriptor("input")

    def apply(self, name: str, component: Component) -> Descriptor:
        """Apply a component to `source`; its output becomes the new one."""
        self.nodes.append(ComponentNode(name, name, self.source))
        self.components[name] = component
        self.source = Descriptor(name)
        return self.source

    def apply_rectifier(self, name: str, slope: FloatArray) -> None:
        """Apply x where x > 0, else slope x, as slope x + (1 - slope) max(x, 0); slope float32 [dim]."""
        before = self.source
        below = self.apply(f"{name}.slope", FixedScaleComponent(scales=slope))
        self.source = before
        self.apply(name, RectifiedLinearComponent(dim=len(slope)))
        above = self.apply(f"{name}.above", FixedScaleComponent(scales=np.float32(1.0) - slope))
        self.source = Descriptor("Sum", (below, above))

    def splice(self, name: str, frame_offsets: Sequence[int], dim: int) -> None:
        """Join frames of `source`, which have `dim` elements; `name` is for a node where one is needed."""
        if self.source.is_function:  # descriptors join the frames of nodes only
            self.apply(name, NoOpComponent(dim=dim))
        node = self.source
        parts = [Descriptor("Offset", (node, Descriptor(str(t)))) if t else node for t in frame_offsets]
        self.source = parts[0] if len(parts) == 1 else Descriptor("Append", tuple(parts))

    def keep_first(self, name: str, dim: int) -> None:
        """Keep only the first `dim` elements of `source`, which must be a node."""
        self.nodes.append(DimRangeNode(name, self.source.name, 0, dim))
        self.source = Descriptor(name)

    def net(self) -> Nnet3:
        """The net whose output is `source`.

        Raises:
            DataError: dimensions do not fit.
        """
        net = Nnet3([*self.nodes, OutputNode("output", self.source)], dict(self.components))
        net.check()
        return net
