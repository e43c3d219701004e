"""claims.md and its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acoustic import fsio
from acoustic.analysis.figures.panel import Panel, colour_of, draw
from acoustic.analysis.zeiler2013 import REPORTED_DETECTORS
from acoustic.decode.wer_bootstrap import Comparison
from acoustic.study.claims import Claim
from acoustic.study.grid import Grid
from acoustic.study.scale import BASE_DEPTH, Scale
from acoustic.study.verdict import Judgement, Verdict

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid")
OPTIMIZERS = (f"-{BASE_DEPTH}", "-sgd", "-adagrad")
READING = """
The interval is Student's 95 % interval of the mean over folds, seeds averaged, since seeds of a fold share its
speakers. A claim holds when the whole interval lies where the paper puts the quantity, does not hold when the whole
interval lies elsewhere, and cannot be told otherwise. p: paired t-test over folds; Wilcoxon's signed-rank test over
folds x seeds. Agree: how many of the single trainings (folds x seeds) are where the claim says. WER: difference on
test in points of the two settings named, with the 95 % interval of the paired bootstrap over utterances and the
probability of improvement. No correction is made for the number of claims. A training that diverged counts as a
network that knows nothing. Rates of relu, tanh and sigmoid are chosen with 4 layers, by the dev loss of the first fold,
and serve other depths, leaky rectifiers, dropout and pre-training unchanged; those of GAAF, plain SGD and Adagrad are
chosen with the setting itself. Scales of the decoder are chosen on the fold's dev speakers, in a search that keeps at
least 20 states at a frame; on test it keeps 200. Pass: the fastest of 30 passes of a minibatch forward and backward, on
a CPU in time of the process alone.
"""


def write_report(grid: Grid, claims: Sequence[Claim], about: Sequence[str], out_dir: Path) -> dict[str, Verdict]:
    """Write claims.md and PNGs beside it.

    Args:
        grid: the trainings.
        claims: those to judge.
        about: paragraphs on corpus, sizes, time and machine.
        out_dir: where to.

    Returns:
        Claim -> verdict.
    """
    judged = [(claim, grid.judge(claim), grid.compare(claim)) for claim in claims]
    counts = {verdict: sum(judgement.verdict is verdict for _, judgement, _ in judged) for verdict in Verdict}
    panels = figures(grid)
    lines = [
        "# What the papers claim, measured here",
        "",
        *(line for paragraph in about for line in (paragraph, "")),
        f"Of {len(judged)} claims: {', '.join(f'{count} {verdict.value}' for verdict, count in counts.items())}.",
        READING,
        *claims_table(judged),
        "",
        "## Trainings",
        "",
        *settings_table(grid),
        "",
        *(f"![{panel.alt}]({panel.name}.png)" for panel in panels),
        "",
        *(detectors_table(grid) if "unsupervised" in grid.settings else ()),
    ]  # fmt: skip
    for panel in panels:
        with fsio.atomic_write(out_dir / f"{panel.name}.png") as file:
            file.write(panel.png)
    fsio.write_text(out_dir / "claims.md", "\n".join(lines))
    return {claim.name: judgement.verdict for claim, judgement, _ in judged}


def describe_scale(scale: Scale) -> str:
    """The sizes of the grid in a paragraph."""
    rates = ", ".join(f"{name} {rate:g}" for name, rate in scale.rates.items())
    return (
        f"Nets of {scale.width} units a layer, {scale.epochs} epochs, the rate halved after each, minibatch "
        f"{scale.batch_size}, momentum 0.9 unless said otherwise; pre-training {scale.pretrain_epochs:g} epochs a "
        f"layer, {scale.num_features} units where the features themselves are judged; dropout {scale.dropout:g}, of "
        f"the input {scale.input_dropout:g}; `-deeper` is {scale.deeper} layers, "
        f"`-deep` {scale.deep}, all without a number {BASE_DEPTH}. Learning rates: {rates}. Seeds: "
        f"{', '.join(map(str, scale.seeds))}. Common to all: `{' '.join(scale.common)}`."
    )


def claims_table(judged: Sequence[tuple[Claim, Judgement, Comparison | None]]) -> list[str]:
    """A row for each claim."""
    lines = [
        "| claim | paper | quantity | measured | claimed | p, t / Wilcoxon | agree | WER: bootstrap | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for claim, judgement, comparison in judged:
        unit = f" {claim.unit}" if claim.unit else ""
        interval = f" [{number(judgement.low)}, {number(judgement.high)}]" if math.isfinite(judgement.low) else ""
        words = "-"
        if claim.compared is not None and comparison is not None:
            words = (
                f"{claim.compared[1]} - {claim.compared[0]}: {comparison.difference:+.2f} [{comparison.low:+.2f}, "
                f"{comparison.high:+.2f}], {100 * comparison.probability_of_improvement:.0f} %"
            )
        cells = [
            claim.text, claim.paper, claim.quantity, f"{number(judgement.mean)}{interval}{unit}", bounds(claim.bounds),
            f"{probability(judgement.p_value)} / {probability(judgement.p_wilcoxon)}",
            f"{judgement.num_inside} of {judgement.num_values}", words, f"**{judgement.verdict.value}**",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def number(value: float) -> str:
    """A number with enough digits."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def probability(value: float) -> str:
    """A p, or a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def bounds(limits: tuple[float, float]) -> str:
    """A range in words."""
    low, high = limits
    if low == -math.inf:
        return f"below {high:g}"
    return f"above {low:g}" if high == math.inf else f"{low:g} to {min(high, 100) if high > 100 else high:g}"


def settings_table(grid: Grid) -> list[str]:
    """A row for each setting: means over folds and seeds, standard deviation over folds."""
    lines = [
        "| setting | dev cross-entropy | dev accuracy [%] | test WER [%] | zeros [%] | pass [ms] | diverged |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in grid.settings:
        results = grid.each(setting)
        if setting == "unsupervised":
            rows = [result.features_accuracy for result in results if result.features_accuracy]
            depths = ", ".join(f"{100 * value:.2f}" for value in np.mean(rows, axis=0)) if rows else "-"
            lines.append(f"| linear classifier over 0, 1, 2, 3 unsupervised layers | - | {depths} | - | - | - | - |")
            continue
        columns = [
            spread(grid, setting, "dev_loss", 1.0, 3), spread(grid, setting, "dev_accuracy", 100.0, 2),
            spread(grid, setting, "wer", 1.0, 2), f"{100 * np.mean([result.zero_share for result in results]):.0f}",
            f"{1000 * np.mean([result.pass_seconds for result in results]):.2f}",
            str(sum(bool(result.diverged) for result in results)),
        ]  # fmt: skip
        lines.append(f"| {setting} | " + " | ".join(columns) + " |")
    return lines


def detectors_table(grid: Grid) -> list[str]:
    """Single unsupervised units as detectors of phones, as in Table 2 of Zeiler et al. 2013, a row for each phone."""
    found: dict[str, list[list[float]]] = {}
    for result in grid.each("unsupervised"):
        for phone, measures in result.detectors.items():
            found.setdefault(phone, []).append(measures)
    reported = ", ".join(
        f"{phone} {' '.join(f'{100 * measure:.1f}' for measure in measures)}"
        for phone, measures in REPORTED_DETECTORS.items()
    )
    return [
        "## Single units as detectors of phones",
        "",
        "The unit of the first unsupervised layer, and the threshold, that tell a phone's frames best on training",
        "data, measured on dev: means over the trainings (folds x seeds) in which it fires there. Zeiler 2013, Table",
        f"2, reports (precision, recall, accuracy) {reported}.",
        "",
        "| phone | precision [%] | recall [%] | accuracy [%] | trainings |",
        "|---|---|---|---|---|",
        *(
            f"| {phone} | " + " | ".join(f"{100 * value:.1f}" for value in np.mean(rows, axis=0)) + f" | {len(rows)} |"
            for phone, rows in sorted(found.items())
        ),
        "",
    ]


def spread(grid: Grid, setting: str, field: str, factor: float, digits: int) -> str:
    """Mean, and standard deviation over folds, of a number of a setting's results."""
    values = factor * np.array([getattr(result, field) for result in grid.each(setting)])
    folds = values.reshape(len(grid.folds), -1).mean(axis=1)
    deviation = f" ({folds.std(ddof=1):.{digits}f})" if len(folds) > 1 else ""
    return f"{folds.mean():.{digits}f}{deviation}"


# -- figures ----------------------------------------------------------------------------------------------------------


def figures(grid: Grid) -> list[Panel]:
    """The pictures that the trainings allow."""
    found = []
    if any(len(depths_of(grid, activation)) > 1 for activation in ACTIVATIONS):
        alt = "cross-entropy on dev and word error rate on test over the number of layers"
        found.append(draw("depth", alt, lambda figure: paint_depths(figure, grid), (9.0, 3.2)))
    if any(f"{activation}-sgd" in grid.settings for activation in ("relu", "sigmoid")):
        alt = "cross-entropy on dev after each epoch, by optimizer"
        found.append(draw("optimizers", alt, lambda figure: paint_optimizers(figure, grid), (9.0, 3.2)))
    return found


def depths_of(grid: Grid, activation: str) -> dict[int, str]:
    """Number of layers -> setting, of an activation trained with momentum."""
    scale = grid.scale
    names = {depth: f"{activation}-{depth}" for depth in (1, 2, 3, 4)}
    names |= {scale.deeper: f"{activation}-deeper", scale.deep: f"{activation}-deep"}
    return {depth: name for depth, name in sorted(names.items()) if name in grid.settings}


def paint_depths(figure: Figure, grid: Grid) -> None:
    """Loss and WER over depth for each activation."""
    axes: Sequence[Axes] = figure.subplots(1, 2)
    for axis, field, title in zip(
        axes, ("dev_loss", "wer"), ("dev cross-entropy [nats]", "test WER [%]"), strict=True
    ):  # fmt: skip
        for row, activation in enumerate(ACTIVATIONS):
            depths = depths_of(grid, activation)
            means = [np.mean([getattr(result, field) for result in grid.each(name)]) for name in depths.values()]
            axis.plot(list(depths), means, marker="o", markersize=3, color=colour_of(row), label=activation)
        axis.set_title(title)
        axis.set_xlabel("hidden layers")
    axes[0].legend()


def paint_optimizers(figure: Figure, grid: Grid) -> None:
    """Loss after each epoch for each optimizer, rectifiers left, logistic units right."""
    axes: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    for axis, activation in zip(axes, ("relu", "sigmoid"), strict=True):
        for row, (ending, label) in enumerate(zip(OPTIMIZERS, ("momentum", "plain SGD", "Adagrad"), strict=True)):
            if f"{activation}{ending}" in grid.settings:
                losses = np.mean([result.dev_losses for result in grid.each(f"{activation}{ending}")], axis=0)
                epochs = range(1, len(losses) + 1)
                axis.plot(epochs, losses, marker="o", markersize=3, color=colour_of(row), label=label)
        axis.set_title(f"{activation}, {BASE_DEPTH} layers: dev cross-entropy [nats]")
        axis.set_xlabel("epoch")
        axis.legend()
