"""The graph of an nnet3 net: its nodes and the descriptors between them (Kaldi: nnet3/nnet-descriptor.cc).

A descriptor says what a node takes as input, e.g. `Append(Offset(input, -1), input, Offset(input, 1))`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from acoustic.errors import DataError

_FUNCTIONS = {
    "Append", "Sum", "Failover", "IfDefined", "Offset", "Switch", "Scale", "Const", "Round", "ReplaceIndex",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_KEY = re.compile(r"(?:^|[ \t])([A-Za-z][A-Za-z0-9_-]*)=")
_MAX_DEPTH = 50

_INTEGER = r"[+-]?[0-9]{1,9}"
_REAL = r"[+-]?[0-9.]{1,20}(e[+-]?[0-9]{1,3})?"
_NUMBERS = {
    "Offset": f"{_INTEGER}( {_INTEGER})?",
    "Round": _INTEGER,
    "ReplaceIndex": f"[tx] {_INTEGER}",
    "Scale": _REAL,
    "Const": f"{_REAL} [0-9]{{1,9}}",
}
"""What the arguments of a function that are no descriptors look like, joined by spaces."""


@dataclass(frozen=True)
class Descriptor:
    """A function of Kaldi's descriptors with its arguments, or a node's name or a number without any.

    Attributes:
        name: e.g. "Append", "Offset", "affine1", "-2".
        arguments: of a function; empty for a name or a number.
    """

    name: str
    arguments: tuple[Descriptor, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Descriptor:
        """Parse a descriptor.

        Raises:
            DataError: it is malformed.
        """
        tokens = re.findall(r"[(),]|[^(),\s]+", text)
        descriptor = _parse(tokens, text, depth=0)
        if tokens:
            raise DataError(f"{tokens[-1]!r} is too much in the nnet3 descriptor {text[:200]!r}")
        return descriptor

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})" if self.arguments else self.name

    @property
    def is_function(self) -> bool:
        """Whether it is a function rather than a node's name or a number."""
        return bool(self.arguments)

    @property
    def inputs(self) -> tuple[Descriptor, ...]:
        """The arguments that are descriptors themselves, not numbers."""
        if self.name in ("Offset", "Round", "ReplaceIndex"):
            return self.arguments[:1]
        if self.name == "Scale":
            return self.arguments[1:]
        return () if self.name == "Const" else self.arguments

    @property
    def time_offset(self) -> int:
        """By how many frames an Offset shifts; 0 for anything else."""
        return int(self.arguments[1].name) if self.name == "Offset" else 0

    def time_offsets(self) -> list[int]:
        """By how many frames its functions Offset shift, 0 among them where it has none."""
        return [self.time_offset, *(offset for source in self.inputs for offset in source.time_offsets())]

    def node_names(self) -> Iterator[str]:
        """The names of all nodes it refers to, repetitions included."""
        if not self.is_function:
            yield self.name
        for source in self.inputs:
            yield from source.node_names()


def _parse(tokens: list[str], text: str, depth: int) -> Descriptor:
    """Take one descriptor off the front of `tokens`."""
    word = tokens.pop(0) if tokens else ""
    is_function = bool(tokens) and tokens[0] == "("
    if not _WORD.fullmatch(word) or is_function != (word in _FUNCTIONS) or depth > _MAX_DEPTH:
        raise DataError(f"cannot parse the nnet3 descriptor {text[:200]!r} at {word!r}")
    if not is_function:
        return Descriptor(word)
    arguments = []
    while tokens.pop(0) != ")":
        arguments.append(_parse(tokens, text, depth + 1))
        if not tokens or tokens[0] not in (",", ")"):
            raise DataError(f"cannot parse the nnet3 descriptor {text[:200]!r}")
    _check_arguments(word, arguments, text)
    return Descriptor(word, tuple(arguments))


def _check_arguments(function: str, arguments: list[Descriptor], text: str) -> None:
    """Refuse numbers where names should be, and the other way round."""
    descriptor = Descriptor(function, tuple(arguments))
    inputs = descriptor.inputs
    numbers = [argument.name for argument in arguments if argument not in inputs]
    right = re.fullmatch(_NUMBERS.get(function, ""), " ".join(numbers)) and (inputs or function == "Const")
    if not right or not all(source.is_function or _NAME.fullmatch(source.name) for source in inputs):
        raise DataError(f"wrong arguments of {function} in the nnet3 descriptor {text[:200]!r}")


@dataclass(frozen=True)
class InputNode:
    """Where features (`input`) or i-vectors come in."""

    name: str
    dim: int

    def __str__(self) -> str:
        return f"input-node name={self.name} dim={self.dim}"


@dataclass(frozen=True)
class ComponentNode:
    """A component applied to what `input` describes."""

    name: str
    component: str
    input: Descriptor

    def __str__(self) -> str:
        return f"component-node name={self.name} component={self.component} input={self.input}"


@dataclass(frozen=True)
class OutputNode:
    """An output; its objective is "linear" (of log-probabilities) or "quadratic"."""

    name: str
    input: Descriptor
    objective: str = "linear"

    def __str__(self) -> str:
        return f"output-node name={self.name} input={self.input} objective={self.objective}"


@dataclass(frozen=True)
class DimRangeNode:
    """Elements dim_offset .. dim_offset + dim - 1 of another node."""

    name: str
    input_node: str
    dim_offset: int
    dim: int

    def __str__(self) -> str:
        return (
            f"dim-range-node name={self.name} input-node={self.input_node} dim-offset={self.dim_offset} dim={self.dim}"
        )


def sources(node: Node) -> list[str]:
    """The names of the nodes a node takes its input from, repetitions included."""
    if isinstance(node, DimRangeNode):
        return [node.input_node]
    return [] if isinstance(node, InputNode) else list(node.input.node_names())


Node: TypeAlias = InputNode | ComponentNode | OutputNode | DimRangeNode

_NODE_KEYS = {
    "input-node": {"name", "dim"},
    "component-node": {"name", "component", "input"},
    "output-node": {"name", "input", "objective"},
    "dim-range-node": {"name", "input-node", "dim-offset", "dim"},
}


def parse_node(line: str) -> Node:
    """Parse a line of the config section.

    Raises:
        DataError: it is malformed.
    """
    kind, _, rest = line.partition(" ")
    pieces = _KEY.split(rest)
    values = dict(zip(pieces[1::2], (value.strip() for value in pieces[2::2]), strict=True))
    if kind == "output-node":
        values.setdefault("objective", "linear")
    if (
        kind not in _NODE_KEYS
        or set(values) != _NODE_KEYS[kind]
        or pieces[0].strip()
        or not _NAME.fullmatch(values["name"])
    ):
        raise DataError(f"cannot parse the nnet3 config line {line[:200]!r}")
    if kind == "input-node":
        return InputNode(values["name"], _positive(values["dim"], line))
    if kind == "component-node":
        return ComponentNode(values["name"], values["component"], Descriptor.parse(values["input"]))
    if kind == "output-node":
        return OutputNode(values["name"], Descriptor.parse(values["input"]), values["objective"])
    offset = _positive(values["dim-offset"], line, least=0)
    return DimRangeNode(values["name"], values["input-node"], offset, _positive(values["dim"], line))


def _positive(text: str, line: str, least: int = 1) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least:
        raise DataError(f"expected a dimension, found {text!r}, in the nnet3 config line {line[:200]!r}")
    return int(text)
