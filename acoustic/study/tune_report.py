"""What a search found: history, importance of parameters, the best configuration as an experiment file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from acoustic import fsio
from acoustic.analysis.figures.panel import MUTED, colour_of, draw
from acoustic.errors import ConfigError
from acoustic.study.extra import optuna
from acoustic.study.tune import FAILURES, GIVEN_UP, Search, ended, finished
from acoustic.train.config import TrainConfig

# What of a configuration decides the network; the rest says where data are and how to compute.
SECTIONS = ("features", "model", "pretrain", "optim", "schedule", "masking", "average", "guard")
NUM_BEST = 10  # trials shown in the table
MIN_IMPORTANCE = 5  # finished trials from which importance can be told


def write_report(search: Search, study: Any, best: TrainConfig, to_yaml: Callable[[dict[str, Any]], str]) -> Path:
    """Write report.md, history.png and experiment/best.yaml into the study's folder.

    Args:
        search: what was searched.
        study: its trials.
        best: the configuration of the best trial.
        to_yaml: plain values -> text.

    Returns:
        The experiment file.
    """
    folder = search.study_dir
    path = folder / "experiment" / "best.yaml"
    path.parent.mkdir(exist_ok=True)
    fsio.write_text(path, experiment_file(search, study, best, to_yaml))
    panel = draw("history", "the objective of each trial", lambda figure: paint_history(figure, search, study))
    with fsio.atomic_write(folder / "history.png") as file:
        file.write(panel.png)
    fsio.write_text(folder / "report.md", "\n".join(report_lines(search, study)))
    return path


def best_values(study: Any) -> dict[str, Any]:
    """The parameters of the best trial.

    Raises:
        ConfigError: none ended well.
    """
    trials = finished(study)
    if not trials:
        reason = "".join(f" ({line})" for line in failures(study)[:1])
        raise ConfigError(
            f"no trial ended well{reason}: widen the ranges downwards, or look at train.log of the trials"
        )
    return dict(trials[0].params)


def hand_set(study: Any) -> Any | None:
    """The trial of the hand-set configuration, if it ended well."""
    return next((trial for trial in finished(study) if trial.user_attrs.get("hand_set")), None)


def experiment_file(search: Search, study: Any, best: TrainConfig, to_yaml: Callable[[dict[str, Any]], str]) -> str:
    """The best configuration as a file for conf/experiment."""
    trial, by_hand = finished(study)[0], hand_set(study)
    values = {section: best.to_dict()[section] for section in SECTIONS}
    values["data"] = {"batch_size": best.data.batch_size}
    compared = f"; the one set by hand {by_hand.value:.4f}" if by_hand else ""
    head = [
        "# @package _global_",
        f"# Found by acoustic tune on {date.today()}: trial {trial.number}; {len(ended(study))} trials, "
        f"{len(search.folds)} fold{'s'[: len(search.folds) != 1]}.",
        f"# Mean {search.objective}: {trial.value:.4f}{compared}.",
        "#",
        f"# acoustic train --config-dir={search.study_dir.name} experiment=best exp_dir=... train.data_dir=...",
    ]
    return "\n".join([*head, to_yaml(values)])


def report_lines(search: Search, study: Any) -> list[str]:
    """report.md."""
    trials = ended(study)
    num_given_up = sum(GIVEN_UP in trial.user_attrs for trial in trials)
    num_failed = [sum(mark in trial.user_attrs for trial in trials) for mark in FAILURES]
    failed = "".join(f", {count} {mark}" for count, mark in zip(num_failed, FAILURES, strict=True))
    best, by_hand = finished(study)[0], hand_set(study)
    names = [parameter.name for parameter in search.space.parameters]
    gain = f"; set by hand: {by_hand.value:.4f} ({100 * (best.value / by_hand.value - 1):+.1f} %)" if by_hand else ""
    lines = [
        "# Search for hyperparameters",
        "",
        f"{len(trials)} trials: {len(finished(study))} ended, {num_given_up} given up early{failed}. "
        f"Objective: {search.objective}, mean over {', '.join(search.folds)}.",
        "",
        f"Best: trial {best.number}, {best.value:.4f}{gain}.",
        "",
        "![the objective of each trial](history.png)",
        "",
        "| trial | " + search.objective + " | " + " | ".join(names) + " |",
        "|---" * (2 + len(names)) + "|",
    ]
    for trial in finished(study)[:NUM_BEST]:
        cells = [shown(parameter.option(trial.params[parameter.name])) for parameter in search.space.parameters]
        lines.append(f"| {trial.number} | {trial.value:.4f} | " + " | ".join(cells) + " |")
    if reasons := failures(study):
        lines += ["", "## Trials that failed", "", *(f"- {reason}" for reason in reasons)]
    lines += ["", "## Importance", ""]
    found = importance(study)
    if not found:
        return [*lines, f"Too few trials ended to tell; {MIN_IMPORTANCE} are needed.", ""]
    lines += ["PED-ANOVA (Watanabe et al. 2023): by how much the better trials prefer some values.", ""]
    lines += ["| parameter | importance |", "|---|---|"]
    return [*lines, *(f"| {name} | {share:.3f} |" for name, share in found.items()), ""]


def failures(study: Any) -> list[str]:
    """Each trial that diverged or was impossible, and why."""
    marked = ((trial, mark) for trial in ended(study) for mark in FAILURES if mark in trial.user_attrs)
    return [f"trial {trial.number} {mark}: {trial.user_attrs[mark]}" for trial, mark in marked]


def shown(value: Any) -> str:
    """A value in few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def importance(study: Any) -> dict[str, float]:
    """Parameter -> importance, most important first; empty with too few trials to tell."""
    if len(finished(study)) < MIN_IMPORTANCE:
        return {}
    evaluator = optuna().importance.PedAnovaImportanceEvaluator()
    return dict(optuna().importance.get_param_importances(study, evaluator=evaluator))


def paint_history(figure: Figure, search: Search, study: Any) -> None:
    """Each finished trial as a dot, the best so far as a line."""
    axis = figure.subplots()
    trials = sorted(finished(study), key=lambda trial: trial.number)
    numbers, values = [trial.number for trial in trials], [trial.value for trial in trials]
    axis.plot(numbers, values, "o", markersize=3, color=MUTED)
    axis.step(numbers, np.minimum.accumulate(values), where="post", color=colour_of(0))
    axis.set_title(search.objective)
    axis.set_xlabel("trial")
