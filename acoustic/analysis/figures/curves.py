"""The course of training: cross-entropy and frame accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from acoustic.analysis.figures.panel import Panel, colour_of, model_legend, plot
from acoustic.analysis.records import evaluations

MAX_MARKED = 20  # points of a curve that is drawn with marks


def learning_curves(labels: Sequence[str], runs: Sequence[list[dict[str, Any]]]) -> list[Panel]:
    """Cross-entropy and frame accuracy of training (dashed) and dev data; none if no run has been evaluated.

    Args:
        labels: of the runs.
        runs: the lines of each one's metrics.jsonl.
    """
    if not any(map(evaluations, runs)):
        return []

    def paint(axis: Axes, quantity: str, factor: float, ylabel: str) -> None:
        for number, records in enumerate(runs):
            for part, style in (("train", "--"), ("dev", "-")):
                key = f"{part}_{quantity}"
                points = [(r["epoch"], factor * r[key]) for r in evaluations(records) if r.get(key) is not None]
                if points:
                    marker = "o" if len(points) <= MAX_MARKED else ""
                    x, y = zip(*points, strict=True)
                    axis.plot(
                        x, y, color=colour_of(number), linestyle=style, linewidth=1.3, marker=marker, markersize=3.5
                    )
        axis.set(xlabel="epoch", ylabel=ylabel)
        model_legend(axis, list(labels))

    return [
        plot("training-loss", "Cross-entropy of training and dev data over epochs",
             lambda axis: paint(axis, "loss", 1.0, "cross-entropy [nats per frame]")),
        plot("training-accuracy", "Frame accuracy of training and dev data over epochs",
             lambda axis: paint(axis, "accuracy", 100.0, "frame accuracy [%]")),
    ]  # fmt: skip
