"""Figures of hidden units: Maas 2013 and GAAF."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from acoustic.analysis.examine import Examined
from acoustic.analysis.figures.panel import (
    MUTED,
    SHADE,
    Panel,
    colour_of,
    layer_ticks,
    model_legend,
    plot,
    reference_line,
    shifts,
)
from acoustic.analysis.layers import CORRELATION_EDGES, Layer


def labels_of(models: list[Examined]) -> list[str]:
    """What the models are called."""
    return [model.label for model in models]


def layer_names(models: list[Examined]) -> list[str]:
    """The hidden layers that any of the models has."""
    return max(([layer.name for layer in model.layers] for model in models), key=len)


def layers_called(models: list[Examined], name: str) -> list[tuple[int, Layer]]:
    """The layer of that name of each model that has it, with the model's number."""
    return [(number, layer) for number, model in enumerate(models) for layer in model.layers if layer.name == name]


def activation_probabilities(models: list[Examined]) -> list[Panel]:
    """For each layer the units' activation probabilities, sorted (Maas 2013, Figure 2)."""

    def paint(axis: Axes, name: str) -> None:
        for number, layer in layers_called(models, name):
            curve = np.sort(layer.probability)[::-1]
            axis.plot(np.linspace(0, 1, len(curve)), curve, color=colour_of(number))
            if not np.array_equal(layer.probability, layer.lower_probability):
                lower = np.sort(layer.lower_probability)[::-1]
                axis.plot(np.linspace(0, 1, len(lower)), lower, color=colour_of(number), linestyle=":", linewidth=1.2)
        axis.set(xlabel="units, sorted (share of the layer)", ylabel="activation probability", ylim=(-0.02, 1.02))
        axis.set_xlim(0, 1)
        axis.set_title(name, loc="right", fontweight="normal", color=MUTED)
        model_legend(axis, labels_of(models))

    return [
        plot(
            f"activation-{name.replace(' ', '-')}",
            f"Sorted activation probabilities of the units of {name}",
            lambda axis, name=name: paint(axis, name),  # type: ignore[misc]
        )
        for name in layer_names(models)
    ]


def by_layer(
    name: str,
    alt: str,
    ylabel: str,
    series: list[tuple[list[str], list[float]]],
    labels: list[str],
    references: dict[str, float] | None = None,
    log: bool = False,
    errors: list[list[float]] | None = None,
    hollow: list[list[float]] | None = None,
) -> Panel:
    """A number for each layer of each model.

    Args:
        name, alt: of the panel.
        ylabel: what the number is.
        series: for each model the layers' names and values.
        labels: of the models.
        references: name -> value of lines to compare with.
        log: logarithmic axis.
        errors: for each model half the length of a bar at each value.
        hollow: for each model a second value for each layer, as a ring.
    """

    def paint(axis: Axes) -> None:
        names = max((layers for layers, _ in series), key=len)
        for number, ((layers, values), shift) in enumerate(zip(series, shifts(len(series)), strict=True)):
            x = [names.index(layer) + shift for layer in layers]
            colour = colour_of(number)
            axis.plot(x, values, color=colour, marker="o", markersize=5, linewidth=1)
            if errors:
                axis.errorbar(x, values, errors[number], color=colour, linestyle="none", elinewidth=1)
            if hollow:
                axis.plot(x, hollow[number], color=colour, marker="o", markersize=5, linestyle="none", fillstyle="none")
        for text, value in (references or {}).items():
            reference_line(axis, value, text)
        axis.set_xticks(range(len(names)), layer_ticks(names))
        axis.set(xlabel="hidden layer", ylabel=ylabel)
        axis.set_xlim(-0.5, len(names) - 0.5)
        axis.grid(axis="x", visible=False)
        if log:
            axis.set_yscale("log")
        else:
            axis.set_ylim(0, None)
        model_legend(axis, labels)

    return plot(name, alt, paint)


def of_layers(models: list[Examined], attribute: str) -> list[tuple[list[str], list[float]]]:
    """A number of every hidden layer of each model, for `by_layer`."""
    return [
        ([layer.name for layer in model.layers], [float(getattr(layer, attribute)) for layer in model.layers])
        for model in models
    ]


def of_gradients(models: list[Examined], attribute: str) -> list[tuple[list[str], list[float]]]:
    """A number of every layer of each model, the output layer's too."""
    return [
        ([layer.name for layer in model.gradients], [float(getattr(layer, attribute)) for layer in model.gradients])
        for model in models
    ]


def correlation_histograms(models: list[Examined]) -> list[Panel]:
    """For each layer how correlations of pairs of units are spread."""

    def paint(axis: Axes, name: str) -> None:
        for number, layer in layers_called(models, name):
            shares = layer.correlation_histogram / max(1, layer.num_pairs)
            axis.stairs(shares, CORRELATION_EDGES, color=colour_of(number), linewidth=1.4)
        axis.set_yscale("log")
        axis.set(xlabel="correlation of two units", ylabel="share of pairs in a bin", xlim=(-1, 1))
        axis.set_title(name, loc="right", fontweight="normal", color=MUTED)
        model_legend(axis, labels_of(models))

    return [
        plot(
            f"correlation-{name.replace(' ', '-')}",
            f"Histogram of the correlations between units of {name}",
            lambda axis, name=name: paint(axis, name),  # type: ignore[misc]
        )
        for name in layer_names(models)
    ]


def pre_activations(models: list[Examined]) -> list[Panel]:
    """For each model the distributions of its layers' pre-activations, over the area where they saturate."""

    def paint(axis: Axes, number: int) -> None:
        layers = models[number].layers
        low = min(float(layer.pre_edges[0]) for layer in layers)
        high = max(float(layer.pre_edges[-1]) for layer in layers)
        for begin, end in ((low, layers[-1].interval[0]), (layers[-1].interval[1], high)):
            if begin < end:
                axis.axvspan(begin, end, color=SHADE, linewidth=0, zorder=0)
        for depth, layer in enumerate(layers):
            style = ["-", "--", "-.", ":"][depth % 4]
            label = f"{layer.name}: {layer.saturated_share:.0%} saturated"
            axis.stairs(
                layer.pre_histogram, layer.pre_edges, color=colour_of(number), linestyle=style, label=label,
                linewidth=1.3,
            )  # fmt: skip
        axis.set(xlabel=f"pre-activation ({layers[-1].activation})", ylabel="density")
        axis.set_xlim(low, high)
        axis.set_title(models[number].label)
        axis.set_ylim(0, 1.45 * axis.get_ylim()[1])
        axis.legend(loc="upper left", fontsize=7.5)

    return [
        plot(
            f"preactivation-{number + 1}",
            f"Distribution of the pre-activations of {model.label}, saturated area shaded",
            lambda axis, number=number: paint(axis, number),  # type: ignore[misc]
        )
        for number, model in enumerate(models)
        if model.layers
    ]
