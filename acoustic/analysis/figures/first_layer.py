"""Figures of Zeiler 2013: filters, the inputs they fit, phone detectors."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acoustic.analysis.examine import Examined
from acoustic.analysis.figures.hidden import labels_of
from acoustic.analysis.figures.panel import SIGNED, WIDTH, Panel, colour_of, draw, model_legend, plot, shifts
from acoustic.analysis.filters import Filters

TILES_PER_ROW = 8
NUM_UNITS_WITH_PATCHES = 6


def _picture(axis: Axes, tile: np.ndarray, limit: float) -> None:
    """A tile [S, base_dim]: time to the right, features upwards."""
    axis.imshow(tile.T, origin="lower", aspect="auto", cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(True)
    axis.spines[:].set_linewidth(0.4)


def filters(models: list[Examined]) -> list[Panel]:
    """For each model its strongest first-layer filters."""

    def paint(figure: Figure, model: Examined, found: Filters) -> None:
        rows = -(-len(found.units) // TILES_PER_ROW)
        axes = figure.subplots(rows, TILES_PER_ROW, squeeze=False)
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr]
        for axis, tile in zip(axes.flat, found.tiles, strict=False):
            _picture(axis, tile, float(np.abs(tile).max()) or 1.0)
        for axis in axes.flat[len(found.units) :]:
            axis.set_visible(False)
        figure.suptitle(model.label, x=0.01, ha="left", fontsize=9.5, fontweight="bold")

    return [
        draw(
            f"filters-{number + 1}",
            f"First-layer weights of {model.label} as tiles of time and feature",
            lambda figure, model=model, found=model.filters: paint(figure, model, found),  # type: ignore[misc]
            size=(WIDTH, 0.66 * -(-len(model.filters.units) // TILES_PER_ROW) + 0.3),
        )
        for number, model in enumerate(models)
        if model.filters is not None
    ]


def patches(models: list[Examined]) -> list[Panel]:
    """For each model a few filters beside the inputs that drive them most, with the phone in the middle of each."""

    def paint(figure: Figure, model: Examined, found: Filters) -> None:
        count = min(NUM_UNITS_WITH_PATCHES, len(found.units))
        axes = figure.subplots(count, 1 + found.patches.shape[1], squeeze=False)
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr]
        for row in range(count):
            _picture(axes[row, 0], found.tiles[row], float(np.abs(found.tiles[row]).max()) or 1.0)
            axes[row, 0].set_ylabel(str(found.units[row]), fontsize=7, rotation=0, ha="right", va="center")
            for column, patch in enumerate(found.patches[row], 1):
                _picture(axes[row, column], patch, float(np.abs(found.patches[row]).max()) or 1.0)
                axes[row, column].set_title(
                    found.patch_phones[row][column - 1], loc="center", fontsize=7.5, fontweight="normal", pad=2
                )
        figure.suptitle(model.label, x=0.01, ha="left", fontsize=9.5, fontweight="bold")

    return [
        draw(
            f"patches-{number + 1}",
            f"Filters of {model.label} and the inputs that drive them most",
            lambda figure, model=model, found=model.filters: paint(figure, model, found),  # type: ignore[misc]
            size=(WIDTH, 0.76 * min(NUM_UNITS_WITH_PATCHES, len(model.filters.units)) + 0.3),
        )
        for number, model in enumerate(models)
        if model.filters is not None
    ]


def detectors(models: list[Examined]) -> list[Panel]:
    """For each phone the F1 measure of its best single unit, in the first and in the last hidden layer."""
    phones = sorted({row.phone for model in models for row in model.detectors})
    if not phones:
        return []

    def paint(axis: Axes) -> None:
        for number, (model, shift) in enumerate(zip(models, shifts(len(models), 0.5), strict=True)):
            for layer, style in ((model.layers[0].name, "none"), (model.layers[-1].name, "full")):
                rows = [row for row in model.detectors if row.layer == layer and row.criterion == "f1"]
                y = [phones.index(row.phone) + shift for row in rows]
                axis.plot(
                    [row.detector.f1 for row in rows], y, marker="o", markersize=4, linestyle="none",
                    fillstyle=style, color=colour_of(number), markeredgewidth=1,
                )  # fmt: skip
        axis.set_yticks(range(len(phones)), phones)
        axis.set_ylim(len(phones) - 0.4, -0.6)
        axis.set(xlabel="F1 of the best single unit", xlim=(0, 1))
        model_legend(axis, labels_of(models))

    return [
        plot("detectors", "F1 of the best single-unit detector of each phone", paint, (WIDTH, 1.0 + 0.19 * len(phones)))
    ]
