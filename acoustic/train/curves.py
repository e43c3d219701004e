"""The learning curves of a run as one picture, drawn from its metrics.jsonl.

python -m acoustic.train.curves METRICS.jsonl CURVES.png
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from acoustic import fsio
from acoustic.train.metrics import Metrics

# title, whether the axis is logarithmic, and the lines: label, key of the record, factor. A key with a dot looks into
# a part of the record; a list there is drawn as one line for each layer.
PLOTS: list[tuple[str, bool, list[tuple[str, str, float]]]] = [
    ("cross-entropy [nats per frame]", False, [("train", "train_loss", 1), ("dev", "dev_loss", 1)]),
    ("frame accuracy [%]", False, [("train", "train_accuracy", 100), ("dev", "dev_accuracy", 100)]),
    ("learning rate", True, [("", "learning_rate", 1)]),
    ("gradient norm", True, [("", "probe.gradient_norm", 1)]),
    ("update / weight by layer", True, [("", "probe.update_to_weight", 1)]),
    ("saturated by layer [%]: values (-), whole units (:)", False,
     [("", "probe.saturated_values", 100), (":", "probe.dead_units", 100)]),
]  # fmt: skip
COLUMNS = 3
MAX_MARKED = 50  # points of a line that are marked


def draw_curves(records: list[dict[str, Any]], path: str | Path) -> None:
    """Draw the records of metrics.jsonl into a PNG, over epochs."""
    figure: Any = _new_figure()
    for axis, (_, logarithmic, lines) in zip(figure.axes, PLOTS, strict=True):
        for label, key, factor in lines:
            if label == ":":
                axis.set_prop_cycle(None)  # the two lines of a layer have one colour
            for number, points in enumerate(_points(records, key, factor), 1):
                x, y = zip(*points, strict=True)
                axis.plot(
                    x, y, label=label or f"layer {number}",
                    linestyle=":" if label == ":" else "-", linewidth=1.3,
                    marker="o" if len(x) <= MAX_MARKED else "", markersize=3,
                )  # fmt: skip
        positive = any(value > 0 for line in axis.lines for value in line.get_ydata())
        axis.set_yscale("log" if logarithmic and positive else "linear")
        if axis.lines and (lines[0][0] == "train" or lines[0][1].endswith("update_to_weight")):
            axis.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with fsio.atomic_write(path) as file:
        file.write(buffer.getvalue())


def _points(records: list[dict[str, Any]], key: str, factor: float) -> list[list[tuple[float, float]]]:
    """The lines of a key: (epoch, value) of the records that have it, one line for each item of a list."""
    lines: dict[int, list[tuple[float, float]]] = {}
    for record in records:
        value: Any = record
        for part in key.split("."):
            value = (value or {}).get(part)
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if item is not None:
                lines.setdefault(number, []).append((record["epoch"], factor * item))
    return list(lines.values())


def _new_figure() -> Figure:
    """A figure with the empty plots."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, _, _) in zip(figure.subplots(-(-len(PLOTS) // COLUMNS), COLUMNS).flat, PLOTS, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    draw_curves(Metrics(sys.argv[1]).read(), sys.argv[2])
