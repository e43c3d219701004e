"""nnet3 nets that are a chain: frames of the input joined, then components one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acoustic.errors import DataError
from acoustic.kaldi.nnet3 import Nnet3
from acoustic.kaldi.nnet3_components import Component
from acoustic.kaldi.nnet3_config import ComponentNode, Descriptor, InputNode, Node, OutputNode


@dataclass(eq=False)
class Chain:
    """A plain feed-forward net.

    Attributes:
        input_dim: elements of an input frame.
        frame_offsets: which frames, relative to the current one, are joined for the first component.
        components: (name, component) pairs in the order of their application.
    """

    input_dim: int
    frame_offsets: Sequence[int]
    components: list[tuple[str, Component]]

    def to_net(self) -> Nnet3:
        """The net with nodes `input`, one for each component under its name, and `output`.

        Raises:
            DataError: components whose dimensions do not fit, or two of one name.
        """
        nodes: list[Node] = [InputNode("input", self.input_dim)]
        source = join_frames("input", self.frame_offsets)
        for name, _ in self.components:
            nodes.append(ComponentNode(name, name, source))
            source = Descriptor(name)
        nodes.append(OutputNode("output", source))
        net = Nnet3(nodes, dict(self.components))
        net.check()
        return net

    @classmethod
    def of_net(cls, net: Nnet3) -> Chain:
        """The chain that a net is.

        Raises:
            DataError: it is none: it branches, adds up, recurs, splices hidden layers or takes i-vectors.
        """
        components: list[tuple[str, Component]] = []
        source = net.output().input
        while not source.is_function and isinstance(node := net.node_of[source.name], ComponentNode):
            if len(components) == len(net.nodes):
                raise DataError(f"the nnet3 net is recurrent at node {node.name}")
            components.insert(0, (node.component, net.components[node.component]))
            source = node.input
        frame_offsets = [_frame_offset(part) for part in (source.inputs if source.name == "Append" else (source,))]
        if len({name for name, _ in components}) < len(components):
            raise DataError("the nnet3 net applies one component twice")
        frame = net.node_of["input"]
        if not isinstance(frame, InputNode):
            raise DataError("the nnet3 net has no input node 'input'")
        return cls(frame.dim, frame_offsets, components)


def join_frames(node: str, frame_offsets: Sequence[int]) -> Descriptor:
    """The descriptor that joins the frames of a node."""
    frame = Descriptor(node)
    parts = [Descriptor("Offset", (frame, Descriptor(str(t)))) if t else frame for t in frame_offsets]
    return parts[0] if len(parts) == 1 else Descriptor("Append", tuple(parts))


def _frame_offset(part: Descriptor) -> int:
    """Which frame of `input` a part of the first descriptor is."""
    source = part.inputs[0] if part.name == "Offset" else part
    if str(source) != "input" or len(part.arguments) > 2:
        raise DataError(f"the nnet3 net is no chain of components: it uses {str(part)[:200]}")
    return part.time_offset
