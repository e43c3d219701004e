"""The comparison of runs as a page."""

from __future__ import annotations

from collections.abc import Sequence

import acoustic
from acoustic.analysis.compare import Grid, Run
from acoustic.analysis.figures.curves import learning_curves
from acoustic.analysis.html import Section, model_key, page


def as_html(runs: Sequence[Run], grids: Sequence[Grid]) -> str:
    """One self-contained file: the tables, and the dev curves as figures."""
    labels, sections = [run.label for run in runs], []
    for number, grid in enumerate(grids):
        section = Section(f"table-{number + 1}", grid.title)
        if grid.header[0] == "epoch":
            panels = learning_curves(labels, [run.records for run in runs])
            section.figure(panels, "The course of training: dev solid, training dashed.")
        section.table(grid.header, grid.rows)
        sections.append(section)
    lead = f"{len(runs)} training runs side by side."
    note = f"Made by acoustic {acoustic.__version__}. A star: the 95 % interval of the difference leaves out zero."
    return page(", ".join(labels), lead, model_key(labels), sections, note)
