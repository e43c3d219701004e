"""Learning rates of the grid, chosen as the papers chose theirs: by dev loss, for each activation and optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from acoustic import fsio, log
from acoustic.decode.jobs import in_processes
from acoustic.study.cell import Cell, Compose, run_cell, runtime_overrides
from acoustic.study.folds import Fold
from acoustic.study.result import Result
from acoustic.study.scale import BASE_DEPTH, Scale

logger = log.get_logger(__name__)
# Rate -> the setting that it is chosen with; the others take it over.
CHOSEN_WITH = {
    "relu": f"relu-{BASE_DEPTH}",
    "tanh": f"tanh-{BASE_DEPTH}",
    "sigmoid": f"sigmoid-{BASE_DEPTH}",
    "gaaf_relu": "gaaf_relu",
    "gaaf_tanh": "gaaf_tanh",
    "sgd_relu": "relu-sgd",
    "sgd_sigmoid": "sigmoid-sgd",
    "adagrad_relu": "relu-adagrad",
    "adagrad_sigmoid": "sigmoid-adagrad",
}


def choose_rates(
    fold: Fold, out_dir: Path, scale: Scale, settings: Sequence[str], compose: Compose, num_jobs: int, device: str
) -> Scale:
    """The scale with the rates that have the lowest dev loss, among multiples of its own.

    A rate with which training diverged is not chosen, though one that learns nothing may have a higher loss; where
    training diverged with all of them it is the lowest.

    Only rates that some of the settings use are looked at, each with one setting on one fold with the first seed.
    Activations and optimizers that are compared have each their own; other depths, dropout and pre-training take over
    that of the plain net of BASE_DEPTH layers.

    Args:
        fold: prepared.
        out_dir: trainings go into its folder `rates`, what is chosen into rates.json.
        scale: with `rate_factors`; a single factor leaves the rates as they are.
        settings: that will be trained.
        compose, num_jobs, device: as of `run_grid`.
    """
    if len(scale.rate_factors) == 1:
        return scale
    used = {name for name in CHOSEN_WITH if any(uses(scale, setting, name) for setting in settings)}
    tried = [
        (name, scale.rates[name] * factor) for name in scale.rates if name in used for factor in scale.rate_factors
    ]

    def run_one(item: tuple[int, tuple[str, float]]) -> Result:
        number, (name, rate) = item
        cell, folder = Cell(fold, CHOSEN_WITH[name], scale.seeds[0]), out_dir / "rates" / f"{name}_{rate:.3g}"
        runtime = runtime_overrides(num_jobs, number, device)
        return run_cell(cell, with_rates(scale, {name: rate}), folder, compose, runtime, decodes=False)

    losses: dict[str, dict[float, float]] = {}
    diverged: dict[str, set[float]] = {name: set() for name in used}
    with contextlib.closing(in_processes(run_one, enumerate(tried), num_jobs)) as done:
        for (name, rate), result in zip(tried, done, strict=True):
            losses.setdefault(name, {})[rate] = result.dev_loss
            if result.diverged:
                diverged[name].add(rate)
            logger.info(
                "rate of %s: %.3g gives dev %.4f%s", name, rate, result.dev_loss, ", diverged" * bool(result.diverged)
            )
    best = {name: best_rate(name, found, diverged[name]) for name, found in losses.items()}
    for name, rate in best.items():
        if rate in (min(losses[name]), max(losses[name])):
            logger.warning("the best rate of %s, %.3g, is at the edge of those tried", name, rate)
    fsio.write_json(out_dir / "rates.json", {"chosen": best, "dev_losses": losses})
    return with_rates(scale, best)


def best_rate(name: str, losses: dict[float, float], diverged: set[float]) -> float:
    """The rate with the lowest dev loss of those with which training did not diverge."""
    kept = losses.keys() - diverged
    if not kept:
        logger.warning("training diverged with every rate of %s", name)
        return min(losses)
    return min(sorted(kept), key=lambda rate: losses[rate])


def uses(scale: Scale, setting: str, name: str) -> bool:
    """Whether a setting's learning rate is the one of this name."""
    doubled = with_rates(scale, {name: 2 * scale.rates[name]})
    return doubled.settings()[setting] != scale.settings()[setting]


def with_rates(scale: Scale, rates: dict[str, float]) -> Scale:
    """The scale with some other rates."""
    return replace(scale, rates={**scale.rates, **rates})
