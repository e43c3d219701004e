"""The page: one file that needs nothing else, light or dark as its reader likes, for phones and wide screens."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from acoustic.analysis.figures.panel import MODEL_COLOURS, Panel

DARK_MODEL_COLOURS = ("#7fb0ff", "#f2a065", "#59c79b", "#cb96ec", "#f08ba0", "#bfc26a")

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f6f8fa; --ink: #1c2128; --muted: #59636e;
  --grid: #d9dee4; --shade: #eceff3; --line: #d9dee4; --link: #1f57b8; --sub: #9a5b00; --ins: #1d6f8f; --del: #b3261e;
  LIGHT
  --figure-font: var(--sans); --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
  sans-serif; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --card: #1c2229; --ink: #e4e8ed; --muted: #9aa5b1;
  --grid: #333c46; --shade: #262e37; --line: #333c46; --link: #8ab4ff; --sub: #f0b35a; --ins: #6fc7e8; --del: #ff8f86;
  DARK } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 var(--sans); }
.layout { max-width: 1320px; margin: 0 auto; padding: 1.5rem 1rem 5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 3.2rem 0 .4rem; padding-top: 1.1rem;
  border-top: 1px solid var(--line); letter-spacing: -.005em; }
h3 { font-size: 1.02rem; margin: 2rem 0 .3rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.lead { color: var(--muted); margin-top: 0; }
a { color: var(--link); }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
nav { font-size: .9rem; }
nav summary { cursor: pointer; font-weight: 600; padding: .5rem 0; }
nav ol { list-style: none; margin: 0; padding: 0; }
nav li { margin: .15rem 0; }
nav a { color: var(--muted); text-decoration: none; display: block; padding: .12rem 0; }
nav a:hover { color: var(--link); text-decoration: underline; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .6rem 0 0; padding: 0; list-style: none;
  font-size: .92rem; }
.key li::before { content: ""; display: inline-block; width: .75em; height: .75em; border-radius: 50%;
  background: var(--c); margin-right: .45em; }
figure { margin: 1rem 0 1.6rem; }
figcaption { font-size: .9rem; color: var(--muted); max-width: 46rem; margin-top: .5rem; }
figcaption b { color: var(--ink); font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: .9rem;
  align-items: start; }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem; overflow-x: auto; }
.panel svg { display: block; width: 100%; height: auto; max-width: calc(var(--width) * 1.5); margin: 0 auto; }
.panel.wide { grid-column: 1 / -1; }
.panel.wide svg { min-width: 620px; max-width: none; }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: .9rem; padding-bottom: .4rem; }
th, td { padding: .28rem .7rem .28rem 0; text-align: left; white-space: nowrap; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid var(--muted); }
td { border-bottom: 1px solid var(--line); }
.number { text-align: right; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; background: var(--c);
  margin-right: .45em; }
.utterance { margin: .9rem 0 1.2rem; }
.utterance .name { font-size: .88rem; color: var(--muted); overflow-wrap: anywhere; }
.words { display: flex; flex-wrap: wrap; gap: .15rem .5rem; margin: .25rem 0 .5rem; line-height: 1.25; }
.pair { display: inline-flex; flex-direction: column; align-items: center; padding: .1rem .15rem; border-radius: 4px; }
.pair span { min-height: 1.25em; }
.pair .hyp { font-size: .92em; color: var(--muted); }
.sub .hyp { color: var(--sub); font-weight: 600; } .ins .hyp { color: var(--ins); font-weight: 600; }
.del .ref { color: var(--del); text-decoration: line-through; }
.pair.sub, .pair.ins, .pair.del { background: var(--shade); }
details { margin: .6rem 0; }
details > summary { cursor: pointer; color: var(--link); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .88rem; }
@media (min-width: 1100px) {
  .layout { display: grid; grid-template-columns: 13rem minmax(0, 1fr); gap: 2.5rem; padding-top: 2.5rem; }
  nav { position: sticky; top: 2rem; align-self: start; max-height: calc(100vh - 4rem); overflow-y: auto; }
}
@media print { nav { display: none; } .layout { display: block; } .panel { break-inside: avoid; } }
"""


# Text that a table aligns as it does numbers.
IS_NUMBER = re.compile(r"[-+]?[\d.,]+ ?%?( \([\d.,]+ ?%\))?")


def escape(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text))


@dataclass
class Section:
    """A part of the page: a heading with its anchor, and HTML below it.

    Attributes:
        anchor: id of the heading.
        title: text of the heading.
        parts: HTML, in order.
    """

    anchor: str
    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, paragraph: str) -> None:
        """Add a paragraph of plain text."""
        self.parts.append(f"<p>{escape(paragraph)}</p>")

    def heading(self, title: str) -> None:
        """Add a heading below the section's."""
        self.parts.append(f"<h3>{escape(title)}</h3>")

    def figure(self, panels: Sequence[Panel], shows: str, reported: str = "") -> None:
        """Add panels under one caption: what they show, and what a paper reported."""
        if not panels:
            return
        drawn = "".join(f'<div class="panel{" wide" if panel.wide else ""}">{panel.svg}</div>' for panel in panels)
        more = f" <b>Reported:</b> {escape(reported)}" if reported else ""
        self.parts.append(
            f'<figure><div class="panels">{drawn}</div><figcaption>{escape(shows)}{more}</figcaption></figure>'
        )

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
        """Add a table; see `table`."""
        self.parts.append(table(header, rows, caption))

    def html(self) -> str:
        """The section as HTML."""
        return f'<section><h2 id="{self.anchor}">{escape(self.title)}</h2>{"".join(self.parts)}</section>'


def number(value: float) -> str:
    """A number for people: three digits that count."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "infinite"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.2e}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def cell(value: object) -> str:
    """A table's cell; numbers are aligned to the right."""
    if isinstance(value, float):
        return f'<td class="number">{number(value)}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    if isinstance(value, str) and IS_NUMBER.fullmatch(value):
        return f'<td class="number">{escape(value)}</td>'
    return f"<td>{value.html if isinstance(value, Markup) else escape(value)}</td>"


@dataclass(frozen=True)
class Markup:
    """HTML that is not to be escaped."""

    html: str


def table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table that scrolls by itself where the page is narrow."""
    body = list(rows)
    numeric = [bool(body) and 'class="number"' in cell(body[0][column]) for column in range(len(header))]
    head = "".join(
        f"<th{' class=number' if is_number else ''}>{escape(name)}</th>"
        for name, is_number in zip(header, numeric, strict=True)
    )
    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in body)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def model_name(position: int, label: str) -> Markup:
    """A model's label behind a dot of its colour."""
    return Markup(f'<span class="dot" style="--c: var(--m{position % len(MODEL_COLOURS)})"></span>{escape(label)}')


def model_key(labels: Sequence[str]) -> str:
    """The list of the models' colours."""
    items = "".join(
        f'<li style="--c: var(--m{position % len(MODEL_COLOURS)})">{escape(label)}</li>'
        for position, label in enumerate(labels)
    )
    return f'<ul class="key">{items}</ul>'


def aligned(pairs: Iterable[tuple[str, str]]) -> str:
    """Reference words above hypothesis words, errors marked."""
    cells = []
    for ref, hyp in pairs:
        kind = "" if ref == hyp else "ins" if not ref else "del" if not hyp else "sub"
        cells.append(
            f'<span class="pair {kind}"><span class="ref">{escape(ref or "·")}</span>'
            f'<span class="hyp">{escape(hyp or "·")}</span></span>'
        )
    return f'<div class="words">{"".join(cells)}</div>'


def page(title: str, lead: str, intro: str, sections: Sequence[Section], footer: str) -> str:
    """The whole file.

    Args:
        title: of the page.
        lead: a line below it.
        intro: HTML above the first section.
        sections: in order.
        footer: text of the last lines.
    """
    light = " ".join(f"--m{position}: {colour};" for position, colour in enumerate(MODEL_COLOURS))
    dark = " ".join(f"--m{position}: {colour};" for position, colour in enumerate(DARK_MODEL_COLOURS))
    style = STYLE.replace("LIGHT", light).replace("DARK", dark).strip()
    links = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in sections)
    body = "\n".join(section.html() for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}
</style>
</head>
<body>
<div class="layout">
<nav aria-label="Contents"><details open><summary>Contents</summary><ol>{links}</ol></details></nav>
<main>
<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{intro}</header>
{body}
<footer>{escape(footer)}</footer>
</main>
</div>
</body>
</html>
"""
