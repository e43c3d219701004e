"""Figures of the recogniser's view: phones, states, confusions, posteriors, speakers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acoustic.analysis.examine import Examined
from acoustic.analysis.figures.hidden import labels_of
from acoustic.analysis.figures.panel import (
    AMOUNT,
    INK,
    MUTED,
    WIDTH,
    Panel,
    colour_of,
    draw,
    model_legend,
    plot,
    shifts,
)
from acoustic.analysis.recogniser import NUM_BINS
from acoustic.analysis.speakers import SpeakerWer

MAX_SPEAKERS_SHOWN = 40


def phones(models: list[Examined], names: list[str]) -> list[Panel]:
    """Frame accuracy and cross-entropy of every phone, the most frequent on top."""
    frames = models[0].frames.frames.sum(axis=1)
    order = [int(phone) for phone in np.argsort(-frames, kind="stable") if frames[phone]]

    def paint(axis: Axes, what: str, factor: float, xlabel: str) -> None:
        for number, (model, shift) in enumerate(zip(models, shifts(len(models), 0.5), strict=True)):
            sums, counts = getattr(model.frames, what).sum(axis=1), model.frames.frames.sum(axis=1)
            values = [factor * sums[phone] / counts[phone] if counts[phone] else np.nan for phone in order]
            axis.plot(
                values,
                np.arange(len(order)) + shift,
                marker="o",
                markersize=4,
                linestyle="none",
                color=colour_of(number),
            )
        axis.set_yticks(range(len(order)), [f"{names[phone]}  {frames[phone] / frames.sum():.1%}" for phone in order])
        axis.set_ylim(len(order) - 0.4, -0.6)
        axis.set(xlabel=xlabel)
        axis.set_xlim(0, 100 if what == "correct" else None)
        model_legend(axis, labels_of(models))

    size = (WIDTH, 1.0 + 0.19 * len(order))
    return [
        plot("phone-accuracy", "Frame accuracy by phone",
             lambda axis: paint(axis, "correct", 100.0, "frames with the right pdf [%]"), size),
        plot("phone-loss", "Cross-entropy by phone",
             lambda axis: paint(axis, "loss", 1.0, "cross-entropy [nats per frame]"), size),
    ]  # fmt: skip


def states(models: list[Examined], names: list[str]) -> list[Panel]:
    """For each model the frame accuracy of every HMM state."""

    def paint(axis: Axes, model: Examined) -> None:
        frames = model.frames.frames
        rows = [phone for phone in range(len(names)) if frames[phone].sum()]
        with np.errstate(invalid="ignore"):
            accuracy = (model.frames.correct / frames)[rows].T
        axis.imshow(np.ma.masked_invalid(accuracy), cmap=AMOUNT, vmin=0, vmax=1, aspect="auto")
        for state in range(accuracy.shape[0]):
            for column in range(accuracy.shape[1]):
                if np.isfinite(accuracy[state, column]):
                    value = accuracy[state, column]
                    axis.text(
                        column, state, f"{100 * value:.0f}", ha="center", va="center", fontsize=6.5,
                        color="white" if value > 0.6 else INK,
                    )  # fmt: skip
        axis.set_xticks(range(len(rows)), [names[phone] for phone in rows], rotation=90)
        axis.set_yticks(range(accuracy.shape[0]), [str(state) for state in range(accuracy.shape[0])])
        axis.set_ylabel("HMM state")
        axis.grid(False)
        axis.set_title(model.label)

    return [
        plot(
            f"states-{number + 1}",
            f"Frame accuracy of {model.label} by phone and HMM state",
            lambda axis, model=model: paint(axis, model),  # type: ignore[misc]
            size=(9.4, 0.9 + 0.26 * model.frames.frames.shape[1]),
            wide=True,
        )
        for number, model in enumerate(models)
    ]


def confusions(models: list[Examined], names: list[str]) -> list[Panel]:
    """For each model which phone frames of each phone are taken for."""

    def paint(axis: Axes, model: Examined) -> None:
        totals = model.frames.confusion.sum(axis=1)
        rows = [phone for phone in range(len(names)) if totals[phone]]
        shares = model.frames.confusion[np.ix_(rows, rows)] / totals[rows][:, None]
        axis.imshow(shares**0.5, cmap=AMOUNT, vmin=0, vmax=1, interpolation="nearest")
        ticks = [names[phone] for phone in rows]
        axis.set_xticks(range(len(rows)), ticks, rotation=90, fontsize=6.5)
        axis.set_yticks(range(len(rows)), ticks, fontsize=6.5)
        axis.set(xlabel="most probable phone", ylabel="phone of the alignment")
        axis.grid(False)
        axis.set_title(model.label)

    return [
        plot(
            f"confusion-{number + 1}",
            f"Phone confusion matrix of {model.label}",
            lambda axis, model=model: paint(axis, model),  # type: ignore[misc]
            size=(WIDTH, 3.9),
        )
        for number, model in enumerate(models)
    ]


def calibration(models: list[Examined]) -> Panel:
    """Accuracy against confidence, above a histogram of the confidences."""

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for number, model in enumerate(models):
            found = model.frames.calibration
            full = found.counts > 0
            upper.plot(
                found.confidence[full], found.accuracy[full], color=colour_of(number), marker="o", markersize=3.5,
                linewidth=1.3,
            )  # fmt: skip
            edges = np.linspace(0, 1, NUM_BINS + 1)
            lower.stairs(found.counts / found.counts.sum(), edges, color=colour_of(number), linewidth=1.2)
        upper.set(ylabel="share that is right", ylim=(0, 1), xlim=(0, 1))
        lower.set(xlabel="highest posterior of the frame", ylabel="frames")
        model_legend(upper, labels_of(models))

    return draw("calibration", "Reliability diagram of the highest posteriors", paint, (WIDTH, 3.4))


def entropies(models: list[Examined], num_pdfs: int) -> Panel:
    """How the posteriors' entropy is spread, over right and wrong frames."""

    def paint(axis: Axes) -> None:
        edges = np.linspace(0, np.log(max(2, num_pdfs)), NUM_BINS + 1)
        for number, model in enumerate(models):
            total = model.frames.entropy_counts.sum()
            for row, style in ((1, "-"), (0, ":")):
                shares = model.frames.entropy_counts[row] / total
                axis.stairs(shares, edges, color=colour_of(number), linestyle=style, linewidth=1.4)
        axis.set(xlabel="entropy of the posteriors [nats]", ylabel="share of frames")
        axis.set_xlim(0, edges[-1])
        model_legend(axis, labels_of(models))

    return plot(
        "entropy", "Histogram of posterior entropies, right frames solid, wrong ones dotted", paint, (WIDTH, 3.4)
    )


def priors(models: list[Examined]) -> Panel:
    """Each pdf's mean posterior on this data against its prior."""

    def paint(axis: Axes) -> None:
        shown = []
        for number, model in enumerate(models):
            there = model.prior > 0
            shown += [model.prior[there], model.frames.mean_posterior[there]]
            axis.plot(
                model.prior[there], model.frames.mean_posterior[there], color=colour_of(number), marker="o",
                markersize=3, linestyle="none", alpha=0.75,
            )  # fmt: skip
        low, high = min(map(np.min, shown)), max(map(np.max, shown))
        axis.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axis.set(xlabel="prior (training alignments)", ylabel="mean posterior (this data)", xscale="log", yscale="log")
        model_legend(axis, labels_of(models))

    return plot("priors", "Mean posterior of every pdf against its prior", paint, (WIDTH, 3.4))


def speakers(rows: list[list[SpeakerWer]], labels: list[str]) -> Panel:
    """Word error rate and its interval for every speaker and model; of many speakers those with the most errors."""
    by_name = [{row.speaker: row for row in of_model} for of_model in rows]
    names = sorted(by_name[0], key=lambda name: -by_name[0][name].wer)[:MAX_SPEAKERS_SHOWN]

    def paint(axis: Axes) -> None:
        for number, (found, shift) in enumerate(zip(by_name, shifts(len(rows), 0.5), strict=True)):
            for place, name in enumerate(names):
                row = found.get(name)
                if row is not None:
                    axis.plot([row.low, row.high], [place + shift] * 2, color=colour_of(number), linewidth=1.4)
                    axis.plot(row.wer, place + shift, color=colour_of(number), marker="o", markersize=5)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set(xlabel="word error rate [%]")
        axis.set_xlim(0, None)
        model_legend(axis, labels)

    return plot(
        "speakers", "Word error rate of every speaker with its interval", paint, (WIDTH, 1.2 + 0.3 * len(names))
    )
