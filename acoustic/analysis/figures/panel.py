"""One figure in two forms: SVG that takes its colours from the page it stands in, and PNG for elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Colours by what they are for. In SVG each becomes a variable of the page's style sheet, for light and dark.
INK, MUTED, GRID, SHADE = "#1c2128", "#59636e", "#d9dee4", "#eceff3"
MODEL_COLOURS = ("#2563c9", "#d9702b", "#1d8f68", "#9a4fc4", "#c2405f", "#77792c")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", SHADE: "--shade"} | {
    colour: f"--m{number}" for number, colour in enumerate(MODEL_COLOURS)
}
STYLE = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "acoustic",
    "savefig.facecolor": "none",
}
PNG_DPI = 150
WIDTH = 4.0  # of a panel that stands beside others [inches]
SIZE = (WIDTH, 2.9)
# Maps that end in nothing, so that they stand on a light page as on a dark one.
AMOUNT = LinearSegmentedColormap.from_list("amount", [(0.15, 0.39, 0.79, 0.0), (0.15, 0.39, 0.79, 1.0)])
SIGNED = LinearSegmentedColormap.from_list(
    "signed", [(0.12, 0.40, 0.80, 1.0), (0.5, 0.5, 0.5, 0.0), (0.84, 0.30, 0.18, 1.0)]
)


@dataclass(frozen=True)
class Panel:
    """A finished figure.

    Attributes:
        name: of its files, unique in the report.
        alt: what it shows, for those who cannot see it.
        svg: for inlining in HTML.
        png: its bytes, on white.
        wide: takes the page's whole width.
    """

    name: str
    alt: str
    svg: str
    png: bytes
    wide: bool = False


def colour_of(number: int) -> str:
    """The colour of the model with this number."""
    return MODEL_COLOURS[number % len(MODEL_COLOURS)]


def draw(
    name: str,
    alt: str,
    paint: Callable[[Figure], Any],
    size: tuple[float, float] = SIZE,
    wide: bool = False,
) -> Panel:
    """Make a panel.

    Args:
        name, alt, wide: as in `Panel`.
        paint: draws into an empty figure.
        size: in inches of 72 units.
    """
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        figure.set_layout_engine("none")  # it has done its work
        figure.savefig(png, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
    return Panel(name, alt, _for_page(svg.getvalue(), name, alt), png.getvalue(), wide)


def plot(
    name: str, alt: str, paint: Callable[[Axes], Any], size: tuple[float, float] = SIZE, wide: bool = False
) -> Panel:
    """A panel of a single pair of axes, which `paint` draws into."""
    return draw(name, alt, lambda figure: paint(figure.subplots()), size, wide)


def _for_page(svg: str, name: str, alt: str) -> str:
    """An SVG file as an element: colours by variables, the page's typeface, ids that are unique in the page."""
    body = svg[svg.index("<svg") :]
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r'(\bid=")([^"]+")', rf"\1{name}-\2", body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'(href="#)([^"]+")', rf"\1{name}-\2", body)
    body = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--figure-font)", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    opening = re.match(r"<svg[^>]*>", body)
    view_box = re.search(r'viewBox="([^"]+)"', body)
    if opening is None or view_box is None:
        raise RuntimeError("matplotlib wrote an SVG of an unknown form")
    width = float(view_box[1].split()[2])
    return (
        f'<svg viewBox="{view_box[1]}" style="--width:{width:.0f}px" role="img" aria-label="{_escape(alt)}" '
        f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{body[opening.end() :]}'
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def model_legend(axis: Axes, labels: list[str]) -> None:
    """A legend over the axes that tells the models apart; none for a single model."""
    if len(labels) > 1:
        handles = [axis.plot([], [], color=colour_of(number), linewidth=2.5)[0] for number in range(len(labels))]
        axis.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=3, borderaxespad=0.2,
            handlelength=1.1, columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip


def reference_line(axis: Axes, value: float, text: str) -> None:
    """A dashed horizontal line at what a paper reports, named at its right end."""
    axis.axhline(value, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axis.annotate(
        text, (1, value), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
        ha="right", va="bottom", fontsize=7.5, color=MUTED,
    )  # fmt: skip


def layer_ticks(names: list[str]) -> list[str]:
    """Short names of layers for an axis."""
    return [name.replace("hidden ", "") for name in names]


def shifts(count: int, width: float = 0.16) -> Iterator[float]:
    """Where the marks of several models stand beside each other around a tick."""
    for number in range(count):
        yield 0.0 if count == 1 else width * (number / (count - 1) - 0.5)
