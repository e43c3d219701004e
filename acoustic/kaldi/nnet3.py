"""Nets of Kaldi's nnet3: `final.raw`, and `final.mdl` with transition model and priors (Kaldi: nnet3/nnet-nnet.cc)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi import basic
from acoustic.kaldi.matrix import read_vector, write_vector
from acoustic.kaldi.nnet3_components import COMPONENTS, Component, Nonlinear
from acoustic.kaldi.nnet3_config import (
    ComponentNode,
    Descriptor,
    DimRangeNode,
    InputNode,
    Node,
    OutputNode,
    parse_node,
    sources,
)
from acoustic.kaldi.nnet3_fields import read_fields, write_fields
from acoustic.kaldi.stream import ByteReader, open_reader, open_writer
from acoustic.kaldi.transitions import TransitionModel


@dataclass(eq=False)
class Nnet3:
    """A net: a graph of nodes, some of which apply a component.

    Attributes:
        nodes: in file order.
        components: name -> component, in file order.
    """

    nodes: list[Node]
    components: dict[str, Component]

    @classmethod
    def read(cls, path: str | Path) -> Nnet3:
        """Read a net from `final.raw` or from a `final.mdl`, text or binary.

        Raises:
            DataError: no net, a damaged one, or one with a component that is not supported here.
        """
        with open_reader(path) as reader:
            reader.read_binary_header()
            if reader.peek_token() == "<TransitionModel>":
                return Nnet3Model.read_from(reader).nnet
            return cls.read_from(reader)

    @classmethod
    def read_from(cls, reader: ByteReader) -> Nnet3:
        """Read the net at the reader's position.

        Raises:
            DataError: as `read`.
        """
        reader.expect_token("<Nnet3>")
        lines = _read_config_lines(reader)
        reader.expect_token("<NumComponents>")
        components: dict[str, Component] = {}
        for _ in range(reader.read_count("components")):
            reader.expect_token("<ComponentName>")
            name = reader.read_token()
            if name in components:
                raise reader.error(f"nnet3 component {name} is there twice")
            components[name] = _read_component(reader, name)
        reader.expect_token("</Nnet3>")
        try:
            net = cls([parse_node(line) for line in lines], components)
            net.check()
        except DataError as error:
            raise reader.error(error.problem) from error
        return net

    def write(self, path: str | Path, binary: bool = True) -> None:
        """Write `final.raw` as Kaldi does."""
        with open_writer(path) as file:
            if binary:
                basic.write_binary_header(file)
            self.write_to(file, binary)

    def write_to(self, file: IO[bytes], binary: bool) -> None:
        """Write the net without the file's binary header."""
        end_line = b"" if binary else b"\n"
        basic.write_token(file, "<Nnet3>")
        file.write(b"\n" + b"".join(f"{node}\n".encode() for node in self.nodes) + b"\n")
        basic.write_token(file, "<NumComponents>")
        basic.write_int32(file, len(self.components), binary)
        file.write(end_line)
        for name, component in self.components.items():
            basic.write_token(file, "<ComponentName>")
            basic.write_token(file, name)
            write_fields(file, component, binary)
            file.write(end_line)
        basic.write_token(file, "</Nnet3>")

    @property
    def node_of(self) -> dict[str, Node]:
        """Name -> node."""
        return {node.name: node for node in self.nodes}

    def output(self, name: str = "output") -> OutputNode:
        """The output node of that name.

        Raises:
            DataError: there is none.
        """
        node = self.node_of.get(name)
        if not isinstance(node, OutputNode):
            raise DataError(f"the nnet3 net has no output node {name!r}")
        return node

    def node_dim(self, name: str) -> int:
        """Elements of what a node that is no output gives."""
        node = self.node_of[name]
        if isinstance(node, ComponentNode):
            return self.components[node.component].output_dim
        if isinstance(node, OutputNode):
            raise DataError(f"output node {name} of the nnet3 net is used as an input")
        return node.dim

    def descriptor_dim(self, descriptor: Descriptor) -> int:
        """Elements of what a descriptor gives.

        Raises:
            DataError: it joins things that do not fit.
        """
        if not descriptor.is_function:
            return self.node_dim(descriptor.name)
        if descriptor.name == "Const":
            return int(descriptor.arguments[1].name)
        dims = [self.descriptor_dim(source) for source in descriptor.inputs]
        if descriptor.name == "Append":
            return sum(dims)
        if len(set(dims)) > 1:
            raise DataError(f"inputs of {dims} elements in the nnet3 descriptor {str(descriptor)[:200]}")
        return dims[0]

    def context(self) -> tuple[int, int]:
        """How many frames to the left and to the right of a frame its output depends on.

        Raises:
            DataError: a recurrent net, or a descriptor other than Append, Sum, Offset, Scale, IfDefined and Const.
        """
        reach: dict[str, tuple[int, int]] = {}
        pending = list(self.nodes)
        while pending:
            ready = [node for node in pending if all(name in reach for name in sources(node))]
            if not ready:
                raise DataError(f"the nnet3 net is recurrent at node {pending[0].name}")
            for node in ready:
                reach[node.name] = _reach(node, reach)
            pending = [node for node in pending if node.name not in reach]
        first, last = reach[self.output().name]
        return max(-first, 0), max(last, 0)

    def check(self) -> None:
        """Make sure that nodes and components fit together.

        Raises:
            DataError: they do not.
        """
        if len(self.node_of) < len(self.nodes):
            raise DataError("two nodes of the nnet3 net have one name")
        for node in self.nodes:
            for name in sources(node):
                if name not in self.node_of:
                    raise DataError(f"the nnet3 net has no node {name!r}")
            if isinstance(node, DimRangeNode):
                if node.dim_offset + node.dim > self.node_dim(node.input_node):
                    raise DataError(f"node {node.name} of the nnet3 net reaches beyond its input")
            elif not isinstance(node, InputNode):
                self._check_input(node)

    def _check_input(self, node: ComponentNode | OutputNode) -> None:
        if isinstance(node, ComponentNode) and node.component not in self.components:
            raise DataError(f"the nnet3 net has no component {node.component!r}")
        dim = self.descriptor_dim(node.input)
        if isinstance(node, ComponentNode) and dim != self.components[node.component].input_dim:
            raise DataError(
                f"node {node.name} of the nnet3 net gets {dim} elements, its component takes "
                f"{self.components[node.component].input_dim}"
            )


@dataclass(eq=False)
class Nnet3Model:
    """What nnet3-latgen-faster and Kaldi's servers load.

    Attributes:
        transition_model: its pdf_ids number the elements of the output.
        nnet: with nodes `input` and `output`.
        priors: float32 [num_pdfs] probabilities by whose log the decoder divides; empty: none.
    """

    transition_model: TransitionModel
    nnet: Nnet3
    priors: NDArray[np.float32]

    @classmethod
    def read(cls, path: str | Path) -> Nnet3Model:
        """Read `final.mdl`.

        Raises:
            DataError: no such model, a damaged one, or one with a component that is not supported here.
        """
        with open_reader(path) as reader:
            reader.read_binary_header()
            return cls.read_from(reader)

    @classmethod
    def read_from(cls, reader: ByteReader) -> Nnet3Model:
        """Read the model at the reader's position.

        Raises:
            DataError: as `read`.
        """
        transition_model = TransitionModel.read_from(reader)
        nnet = Nnet3.read_from(reader)
        for token in ("<LeftContext>", "<RightContext>"):  # Kaldi computes them anew too
            reader.expect_token(token)
            reader.read_int32()
        reader.expect_token("<Priors>")
        model = cls(transition_model, nnet, read_vector(reader).astype(np.float32))
        try:
            model.check()
        except DataError as error:
            raise reader.error(error.problem) from error
        return model

    def check(self) -> None:
        """Make sure that net, priors and transition model belong together.

        Raises:
            DataError: they do not.
        """
        dim = self.nnet.descriptor_dim(self.nnet.output().input)
        if not isinstance(self.nnet.node_of.get("input"), InputNode):
            raise DataError("the nnet3 net has no input node 'input'")
        if dim < self.transition_model.num_pdfs:
            raise DataError(f"an nnet3 net of {dim} outputs for {self.transition_model.num_pdfs} pdfs")
        if len(self.priors) not in (0, dim) or not np.all(np.isfinite(self.priors)) or np.any(self.priors < 0):
            raise DataError(f"{len(self.priors)} priors for {dim} outputs of the nnet3 net, or priors that are none")

    def write(self, path: str | Path, binary: bool = True) -> None:
        """Write `final.mdl` as Kaldi does."""
        left_context, right_context = self.nnet.context()
        with open_writer(path) as file:
            if binary:
                basic.write_binary_header(file)
            self.transition_model.write(file, binary)
            self.nnet.write_to(file, binary)
            basic.write_token(file, "<LeftContext>")
            basic.write_int32(file, left_context, binary)
            basic.write_token(file, "<RightContext>")
            basic.write_int32(file, right_context, binary)
            basic.write_token(file, "<Priors>")
            write_vector(file, self.priors, binary)


def _reach(node: Node, reach: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """The first and last input frame, relative to the current one, that a node needs, given those of its sources."""
    if isinstance(node, DimRangeNode):
        return reach[node.input_node]
    return (0, 0) if isinstance(node, InputNode) else _reach_of_descriptor(node.input, reach)


def _reach_of_descriptor(descriptor: Descriptor, reach: dict[str, tuple[int, int]]) -> tuple[int, int]:
    if not descriptor.is_function:
        return reach[descriptor.name]
    if descriptor.name not in ("Append", "Sum", "Offset", "Scale", "IfDefined", "Const"):
        raise DataError(f"nnet3 descriptor {descriptor.name} is not supported")
    inputs = [_reach_of_descriptor(source, reach) for source in descriptor.inputs] or [(0, 0)]
    shift = descriptor.time_offset
    return min(first for first, _ in inputs) + shift, max(last for _, last in inputs) + shift


def _read_config_lines(reader: ByteReader) -> list[str]:
    """The lines up to the empty one that ends the config section."""
    if reader.read_line().strip():
        raise reader.error("expected the end of the line behind <Nnet3>")
    lines = []
    while line := reader.decode(reader.read_line()).strip():
        lines.append(line)
    return lines


def _read_component(reader: ByteReader, name: str) -> Component:
    """Read a component from its opening token on."""
    token = reader.read_token()
    kind = COMPONENTS.get(token[1:-1]) if token.startswith("<") else None
    if kind is None:
        raise reader.error(
            f"nnet3 component {name} of type {token} is not supported", f"only {', '.join(COMPONENTS)} can be read"
        )
    component = kind(**read_fields(reader, kind, kind.legacy))
    fault = component.fault() or _non_finite(component)
    if fault:
        raise reader.error(f"nnet3 component {name} of type {token}: {fault}")
    return component


def _non_finite(component: Component) -> str | None:
    """Which parameters hold values that are not finite, if any. Statistics of training may, they are of no use."""
    if isinstance(component, Nonlinear):
        return None
    arrays = {item.name: getattr(component, item.name) for item in fields(component)}
    return next(
        (
            f"{name} holds values that are not finite"
            for name, array in arrays.items()
            if isinstance(array, np.ndarray) and not np.all(np.isfinite(array))
        ),
        None,
    )
