"""Figures of Zeiler 2013: filters, the inputs they fit, phone detectors."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from acoustic.analysis.examine import Examined
from acoustic.analysis.figures.hidden import labels_of
from acoustic.analysis.figures.panel import SIGNED, WIDTH, Panel, colour_of, model_legend, plot, shifts
from acoustic.analysis.filters import Filters

TILES_PER_ROW = 8
GAP = 2  # pixels between tiles
NUM_UNITS_WITH_PATCHES = 6


def _mosaic(tiles: list[list[NDArray[np.float32]]]) -> NDArray[np.float64]:
    """Rows of tiles [S, base_dim] as one image with gaps of NaN, time to the right and features upwards; the strongest
    value of each tile is 1."""
    frames, features = tiles[0][0].shape
    columns = max(map(len, tiles))
    image = np.full((len(tiles) * (features + GAP) - GAP, columns * (frames + GAP) - GAP), np.nan)
    for row, of_row in enumerate(tiles):
        for column, tile in enumerate(of_row):
            y, x = row * (features + GAP), column * (frames + GAP)
            image[y : y + features, x : x + frames] = tile.T[::-1] / (float(np.abs(tile).max()) or 1.0)
    return image


def _show(axis: Axes, image: NDArray[np.float64], title: str) -> None:
    axis.imshow(np.ma.masked_invalid(image), aspect="auto", cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_title(title)


def filters(models: list[Examined]) -> list[Panel]:
    """For each model its strongest first-layer filters."""

    def paint(axis: Axes, label: str, found: Filters) -> None:
        tiles = [list(found.tiles[row : row + TILES_PER_ROW]) for row in range(0, len(found.tiles), TILES_PER_ROW)]
        _show(axis, _mosaic(tiles), label)

    return [
        plot(
            f"filters-{number + 1}",
            f"First-layer weights of {model.label} as tiles of time and feature",
            lambda axis, label=model.label, found=model.filters: paint(axis, label, found),  # type: ignore[misc]
            size=(WIDTH, 0.66 * -(-len(model.filters.units) // TILES_PER_ROW) + 0.3),
        )
        for number, model in enumerate(models)
        if model.filters is not None
    ]


def patches(models: list[Examined]) -> list[Panel]:
    """For each model a few filters beside the inputs that drive them most, with the phone in the middle of each."""

    def paint(axis: Axes, label: str, found: Filters) -> None:
        count = min(NUM_UNITS_WITH_PATCHES, len(found.units))
        _show(axis, _mosaic([[found.tiles[row], *found.patches[row]] for row in range(count)]), label)
        frames, features = found.tiles[0].shape
        height = features + GAP
        axis.set_yticks([row * height + features / 2 for row in range(count)], [str(u) for u in found.units[:count]])
        axis.set_ylabel("unit")
        for row in range(count):
            for column, phone in enumerate(found.patch_phones[row], 1):
                axis.text(
                    (column + 0.5) * (frames + GAP), row * height + 0.03 * features, phone, ha="center", va="top",
                    fontsize=7, fontweight="bold",
                )  # fmt: skip

    return [
        plot(
            f"patches-{number + 1}",
            f"Filters of {model.label} and the inputs that drive them most",
            lambda axis, label=model.label, found=model.filters: paint(axis, label, found),  # type: ignore[misc]
            size=(WIDTH, 0.7 * min(NUM_UNITS_WITH_PATCHES, len(model.filters.units)) + 0.3),
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
