"""Nets of Kaldi's nnet1 (`final.nnet`, `final.feature_transform`) as lists of components (Kaldi: nnet/nnet-nnet.cc)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi import basic
from acoustic.kaldi.matrix import read_matrix, read_vector, write_matrix, write_vector
from acoustic.kaldi.nnet1_components import (
    AddShift,
    AffineTransform,
    Component,
    Copy,
    Dropout,
    FloatArray,
    IntArray,
    LinearTransform,
    ParametricRelu,
    Rescale,
    Sigmoid,
    Softmax,
    Splice,
    Tanh,
)
from acoustic.kaldi.stream import ByteReader, open_reader, open_writer

END_OF_COMPONENT = "<!EndOfComponent>"


@dataclass(frozen=True)
class _Layout:
    """How a component's content lies in a file: tagged numbers in any order, then arrays in this order."""

    kind: type[Component]
    tags: dict[str, str]  # token -> attribute
    arrays: tuple[str, ...] = ()
    line_after_tags: bool = False


_LAYOUTS = {
    layout.kind.marker: layout
    for layout in (
        _Layout(
            AffineTransform,
            {
                "<LearnRateCoef>": "learn_rate_coef",
                "<BiasLearnRateCoef>": "bias_learn_rate_coef",
                "<MaxNorm>": "max_norm",
            },
            ("weight", "bias"),
            line_after_tags=True,
        ),
        _Layout(LinearTransform, {"<LearnRateCoef>": "learn_rate_coef"}, ("weight",), line_after_tags=True),
        _Layout(
            ParametricRelu,
            {"<AlphaLearnRateCoef>": "alpha_learn_rate_coef", "<BetaLearnRateCoef>": "beta_learn_rate_coef"},
            ("alpha", "beta"),
            line_after_tags=True,
        ),
        _Layout(AddShift, {"<LearnRateCoef>": "learn_rate_coef"}, ("shift",)),
        _Layout(Rescale, {"<LearnRateCoef>": "learn_rate_coef"}, ("scale",)),
        _Layout(Splice, {}, ("frame_offsets",)),
        _Layout(Copy, {}, ("indices",)),
        _Layout(Sigmoid, {}),
        _Layout(Tanh, {}),
        _Layout(Softmax, {}),
        _Layout(Dropout, {"<DropoutRate>": "dropout_rate"}),
    )
}

_NO_TAGS = {*_LAYOUTS, END_OF_COMPONENT, "</Nnet>"}
"""Tokens that end a component; in nets of before 2015 the next component follows without a separator."""


@dataclass(eq=False)
class Nnet1:
    """A net: components applied one after the other."""

    components: list[Component]

    @property
    def input_dim(self) -> int:
        """Elements of an input frame."""
        return self.components[0].input_dim

    @property
    def output_dim(self) -> int:
        """Elements of an output frame."""
        return self.components[-1].output_dim

    @classmethod
    def read(cls, path: str | Path) -> Nnet1:
        """Read a net, text or binary.

        Raises:
            DataError: no net, a damaged one, or one with a component that is not supported here.
        """
        with open_reader(path) as reader:
            reader.read_binary_header()
            reader.expect_token("<Nnet>")
            components: list[Component] = []
            while (marker := reader.read_token()) != "</Nnet>":
                component = _read_component(reader, marker)
                if components and components[-1].output_dim != component.input_dim:
                    raise reader.error(
                        f"component {len(components) + 1} {marker} takes {component.input_dim} inputs, the one before "
                        f"it has {components[-1].output_dim} outputs"
                    )
                components.append(component)
            if not components:
                raise reader.error("a net without components")
            return cls(components)

    def write(self, path: str | Path, binary: bool = True) -> None:
        """Write the net as Kaldi does."""
        end_line = b"" if binary else b"\n"
        with open_writer(path) as file:
            if binary:
                basic.write_binary_header(file)
            basic.write_token(file, "<Nnet>")
            file.write(end_line)
            for component in self.components:
                _write_component(file, component, binary)
                basic.write_token(file, END_OF_COMPONENT)
                file.write(end_line)
            basic.write_token(file, "</Nnet>")
            file.write(end_line)


def _read_component(reader: ByteReader, marker: str) -> Component:
    """Read a component behind its marker."""
    layout = _LAYOUTS.get(marker)
    if layout is None:
        raise reader.error(
            f"nnet1 component {marker} is not supported", f"only nets of {', '.join(sorted(_LAYOUTS))} can be read"
        )
    output_dim, input_dim = reader.read_count("outputs"), reader.read_count("inputs")
    values: dict[str, Any] = _read_tags(reader, layout)
    for name in layout.arrays:
        values[name] = _READ_ARRAY.get(name, _read_vector)(reader)
        if not np.all(np.isfinite(values[name])):
            raise reader.error(f"{name} of {marker} holds values that are not finite")
    if "input_dim" in (field.name for field in fields(layout.kind)):
        values["input_dim"] = input_dim
    component = layout.kind(**values)
    if (component.input_dim, component.output_dim) != (input_dim, output_dim) or not _fits(component):
        raise reader.error(f"parameters of {marker} do not have the announced {input_dim} inputs, {output_dim} outputs")
    if _next_is_tag(reader) and reader.peek(2) == b"<!":
        reader.expect_token(END_OF_COMPONENT)
    return component


def _read_tags(reader: ByteReader, layout: _Layout) -> dict[str, float]:
    values = {}
    while _next_is_tag(reader) and reader.peek_token() not in _NO_TAGS:
        token = reader.read_token()
        if token == "<DropoutRetention>" and layout.kind is Dropout:  # in nets of before 2016
            values["dropout_rate"] = 1.0 - reader.read_float()
        elif token in layout.tags:
            values[layout.tags[token]] = reader.read_float()
        else:
            raise reader.error(f"unknown field {token} of nnet1 component {layout.kind.marker}")
    return values


def _next_is_tag(reader: ByteReader) -> bool:
    if not reader.binary:
        reader.skip_space()
    return reader.peek(1) == b"<"


def _fits(component: Component) -> bool:
    """Whether the arrays of a component agree with each other."""
    if isinstance(component, AffineTransform):
        return len(component.bias) == component.output_dim
    if isinstance(component, Copy):
        return bool(np.all((component.indices >= 0) & (component.indices < component.input_dim)))
    return True


def _read_vector(reader: ByteReader) -> FloatArray:
    return read_vector(reader).astype(np.float32)


def _read_weight(reader: ByteReader) -> FloatArray:
    return read_matrix(reader).astype(np.float32)


def _read_indices(reader: ByteReader) -> IntArray:
    return reader.read_int32_vector() - 1


_READ_ARRAY: dict[str, Callable[[ByteReader], NDArray[Any]]] = {
    "weight": _read_weight,
    "frame_offsets": ByteReader.read_int32_vector,
    "indices": _read_indices,
}


def _write_component(file: IO[bytes], component: Component, binary: bool) -> None:
    end_line = b"" if binary else b"\n"
    layout = _LAYOUTS[component.marker]
    basic.write_token(file, component.marker)
    basic.write_int32(file, component.output_dim, binary)
    basic.write_int32(file, component.input_dim, binary)
    file.write(end_line)
    for token, name in layout.tags.items():
        basic.write_token(file, token)
        basic.write_float(file, getattr(component, name), binary)
    if layout.line_after_tags:
        file.write(end_line)
    for name in layout.arrays:
        values = getattr(component, name)
        if name == "weight":
            write_matrix(file, values.astype(np.float32), binary)
        elif name == "frame_offsets":
            basic.write_int32_vector(file, values, binary)
        elif name == "indices":
            basic.write_int32_vector(file, values + 1, binary)
        else:
            write_vector(file, values.astype(np.float32), binary)


def write_class_counts(path: str | Path, counts: NDArray[Any]) -> None:
    """Write how many training frames each pdf_id has, as `nnet-forward --class-frame-counts` reads it.

    Args:
        path: the file.
        counts: whole numbers [num_pdfs], none negative.

    Raises:
        DataError: counts that are not whole or negative.
    """
    values = np.asarray(counts)
    if np.any(values < 0) or np.any(values != np.round(values)):
        raise DataError("class counts must be whole numbers and not negative")
    with open_writer(path) as file:
        file.write(b" [ " + b"".join(b"%d " % int(count) for count in values) + b"]\n")
