"""The report of one or several models on one data set: report.html, with figures/*.png and tables/*.csv beside it."""

from __future__ import annotations

from pathlib import Path

import acoustic
from acoustic.analysis import sections_hidden, sections_speech
from acoustic.analysis.dataset import DataSet
from acoustic.analysis.examine import Examined
from acoustic.analysis.figures.panel import Panel
from acoustic.analysis.html import Section, model_key, page
from acoustic.analysis.tables import tables

REPORT = "report.html"


def write_report(models: list[Examined], data: DataSet, folder: Path, num_worst: int = 3) -> None:
    """Write the report.

    Args:
        models: at least one, examined on `data`.
        data: the data set.
        folder: an empty one.
        num_worst: pictures of so many utterances of each model.
    """
    page, panels = make_report(models, data, num_worst)
    (folder / REPORT).write_text(page, encoding="utf-8")
    figures = {f"figures/{panel.name}.png": panel.png for panel in panels}
    numbers = {f"tables/{name}": text.encode() for name, text in tables(models, data).items()}
    for name, content in (figures | numbers).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def make_report(models: list[Examined], data: DataSet, num_worst: int) -> tuple[str, list[Panel]]:
    """The page, and its figures."""
    sections: list[Section] = [sections_speech.overview(models, data)]
    panels: list[Panel] = []
    makers = [sections_speech.training(models)]
    if any(model.layers for model in models):
        makers += [
            sections_hidden.maas(models),
            sections_hidden.gradient_flow(models),
            sections_hidden.zeiler(models),
        ]
    makers += [sections_speech.recogniser(models, data), sections_speech.errors(models, data, num_worst)]
    for section, drawn in makers:
        if section.parts:
            sections.append(section)
            panels += drawn
    labels = [model.label for model in models]
    title = f"{', '.join(labels)} on {data.name}"
    lead = f"What {'the network' if len(models) == 1 else 'each network'} learnt, and where it errs."
    footer = (
        f"Made by acoustic {acoustic.__version__}. Figures as PNG are in figures/, all numbers as CSV in tables/. "
        "Maas, Hannun & Ng 2013, Rectifier nonlinearities improve neural network acoustic models; Hahn & Choi 2018, "
        "Gradient acceleration in activation functions (GAAF); Zeiler et al. 2013, On rectified linear units for "
        "speech processing."
    )
    return page(title, lead, model_key(labels), sections, footer), panels
