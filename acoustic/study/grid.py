"""All trainings that some claims need: in parallel, each only once, whatever broke off before."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic import fsio, log
from acoustic.decode.jobs import in_processes
from acoustic.decode.wer_bootstrap import Comparison
from acoustic.errors import TrainingError
from acoustic.study.cell import Cell, Compose, only_warnings, run_cell, runtime_overrides
from acoustic.study.claims import Claim
from acoustic.study.folds import Corpus, fold_at, prepare_fold
from acoustic.study.rates import choose_rates
from acoustic.study.result import Result
from acoustic.study.scale import Scale
from acoustic.study.verdict import Judgement, compare_words, judge
from acoustic.train.run import prepare

logger = log.get_logger(__name__)


@dataclass(frozen=True)
class Grid:
    """Finished trainings.

    Attributes:
        scale: their sizes.
        folds: names.
        results: (fold, setting, seed) -> result.
    """

    scale: Scale
    folds: list[str]
    results: dict[tuple[str, str, int], Result]

    @property
    def settings(self) -> list[str]:
        """The settings that were trained, in their usual order."""
        there = {setting for _, setting, _ in self.results}
        return [name for name in self.scale.settings() if name in there]

    def of(self, fold: str, seed: int) -> dict[str, Result]:
        """Setting -> result of one fold and seed."""
        return {name: self.results[fold, name, seed] for name in self.settings}

    def each(self, setting: str) -> list[Result]:
        """The results of a setting over all folds and seeds."""
        return [self.results[fold, setting, seed] for fold in self.folds for seed in self.scale.seeds]

    def values(self, claim: Claim) -> NDArray[np.float64]:
        """The claim's quantity, [num_folds, num_seeds]."""
        return np.array([[claim.measure(self.of(fold, seed)) for seed in self.scale.seeds] for fold in self.folds])

    def judge(self, claim: Claim) -> Judgement:
        """What the trainings say of a claim."""
        return judge(self.values(claim), claim.bounds, 0.0 if claim.is_comparison else float("nan"))

    def compare(self, claim: Claim) -> Comparison | None:
        """The bootstrap of the claim's word errors; None where it has none, or a network diverged."""
        if claim.compared is None:
            return None
        first, second = (self.each(setting) for setting in claim.compared)
        if not all(result.utts for result in [*first, *second]):
            return None
        return compare_words([result.scores() for result in first], [result.scores() for result in second])


def run_grid(
    corpus: Corpus,
    out_dir: Path,
    scale: Scale,
    claims: Sequence[Claim],
    folds: Sequence[str],
    compose: Compose,
    num_jobs: int,
    device: str,
) -> Grid:
    """Train what is missing of the grid.

    Args:
        corpus: the data.
        out_dir: where everything goes; what is there of the same options is not done again.
        scale: sizes.
        claims: only what they need is trained.
        folds: names of divisions.
        compose: makes configurations of hydra's overrides.
        num_jobs: trainings at a time.
        device: cpu or cuda.

    Raises:
        AcousticError: what preparing data or a training met, other than divergence.
    """
    needed = {setting for claim in claims for setting in claim.settings}
    settings = [name for name in scale.settings() if name in needed]

    def prepare_one(fold: str) -> None:
        """Features, and the caches that all trainings of the fold share."""
        with only_warnings():
            cell = Cell(prepare_fold(corpus, fold, out_dir), settings[0], scale.seeds[0])
            prepare(cell.config(scale, out_dir, compose, runtime_overrides(num_jobs, 0, "cpu")))

    def run_one(item: tuple[int, tuple[Scale, Cell]]) -> Result:
        number, (scale, cell) = item
        return run_cell(cell, scale, out_dir, compose, runtime_overrides(num_jobs, number, device))

    results = {}
    with fsio.sole_owner(out_dir):
        for _ in in_processes(prepare_one, folds, num_jobs):
            pass
        scale = choose_rates(fold_at(corpus, folds[0], out_dir), out_dir, scale, settings, compose, num_jobs, device)
        # Folds and seeds go round slowest, so that a grid broken off has whole folds.
        cells = [
            Cell(fold_at(corpus, fold, out_dir), setting, seed)
            for fold in folds
            for seed in scale.seeds
            for setting in settings
        ]
        with contextlib.closing(in_processes(run_one, enumerate((scale, cell) for cell in cells), num_jobs)) as done:
            for number, (cell, result) in enumerate(zip(cells, done, strict=True), 1):
                results[cell.fold.name, cell.setting, cell.seed] = result
                logger.info("%d of %d: %s", number, len(cells), describe(cell, result))
    return Grid(scale, list(folds), results)


def describe(cell: Cell, result: Result) -> str:
    """One line on a training."""
    what = f"dev {result.dev_loss:.4f} ({100 * result.dev_accuracy:.2f} %), WER {result.wer:.2f}"
    if result.features_accuracy:
        what = "linear classifiers " + ", ".join(f"{100 * share:.2f} %" for share in result.features_accuracy)
    diverged = f", {TrainingError.__name__}: {result.diverged}" if result.diverged else ""
    return f"{cell.fold.name} {cell.setting} seed {cell.seed}: {what}, {result.seconds:.0f} s{diverged}"
