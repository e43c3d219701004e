"""Bayesian optimisation of hyperparameters: Snoek et al. 2012, as Dahl, Sainath & Hinton 2013 used it.

A Gaussian process with expected improvement proposes configurations (optuna's GPSampler, asked and told); a training
that diverges or is impossible violates a constraint, which a process of its own models. Everything is in a journal on
the disk, so that a search goes on where it was broken off, and several processes take part in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic import fsio, log
from acoustic.data.build import BASE_FIELDS
from acoustic.decode.forward import AcousticModel
from acoustic.decode.jobs import in_processes
from acoustic.errors import ConfigError, TrainingError
from acoustic.kaldi.alignments import read_model
from acoustic.study.cell import Compose, only_warnings, runtime_overrides
from acoustic.study.extra import needed, optuna
from acoustic.study.folds import GRAPH_FILES, files_fingerprint
from acoustic.study.space import Space
from acoustic.study.words import Task
from acoustic.train.config import TrainConfig
from acoustic.train.loop import Trainer
from acoustic.train.metrics import Metrics
from acoustic.train.run import fingerprint_of, loop_for, prepare, train

logger = log.get_logger(__name__)
NUM_RANDOM = 10  # trials, ended or given up, before the Gaussian process has enough to go by
FOLD_STEPS = 10_000  # more than a training has intervals, so that each fold's are compared with themselves
CONSTRAINT = "diverged"
FAILURES = ("diverged", "impossible")  # marks of trials without a value of their own; they hold the reason
MAX_IMPOSSIBLE = 3  # trials, and no other: then it is not their values that are at fault
GIVEN_UP = "given_up"  # mark of a trial whose value is an estimate
HAND_SET = {"hand_set": True}  # mark of the trial of the hand-set configuration
FOLD = "{fold}"  # in overrides stands for a fold's name
OBJECTIVES = ("dev_loss", "dev_wer")


@dataclass(frozen=True)
class Search:
    """What to search and how.

    Attributes:
        space: the parameters and their ranges.
        study_dir: the journal, the trials, the report.
        overrides: the user's, over those of the space; `{fold}` stands for a fold's name.
        folds: names; a trial is worth the mean over them.
        objective: dev_loss, cross-entropy on dev, or dev_wer, with the best scales of a small grid.
        graph_dir: for dev_wer; `{fold}` as in overrides.
        seed: of the proposals.
        prune: give up trials whose dev loss is worse than the median of others at the same fold and epoch, or whose
            mean word error rate is after the same fold.
    """

    space: Space
    study_dir: Path
    overrides: list[str]
    folds: list[str]
    objective: str = "dev_loss"
    graph_dir: str | None = None
    seed: int = 1
    prune: bool = True

    def __post_init__(self) -> None:
        """ConfigError on a search that cannot be made."""
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"--objective={self.objective}: choose one of {', '.join(OBJECTIVES)}")
        if "" in self.folds or len(set(self.folds)) < len(self.folds):
            raise ConfigError(f"--folds={','.join(self.folds)}: give the name of each fold once")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"--seed={self.seed}: must lie in [0, 2^31)")
        if self.objective == "dev_wer" and self.graph_dir is None:
            raise ConfigError("--objective=dev_wer: words are decoded with the graph of --graph-dir")

    def graph_of(self, fold: str) -> str:
        """The graph's folder for a fold."""
        return (self.graph_dir or "").replace(FOLD, fold)

    def trial_overrides(self, values: dict[str, Any] | None, fold: str) -> list[str]:
        """All overrides of a trial on a fold but its exp_dir; without values those of the hand-set configuration."""
        searched = [] if values is None else self.space.to_overrides(values)
        return [item.replace(FOLD, fold) for item in [*self.space.overrides, *self.overrides, *searched]]

    def config(self, compose: Compose, values: dict[str, Any] | None, fold: str, more: Sequence[str]) -> TrainConfig:
        """The configuration of a trial on a fold.

        Its frames caches are those of all trials whose frames are the same before deltas and splicing.
        """
        config = compose([*self.trial_overrides(values, fold), *more])
        frames = {name: getattr(config.features, name) for name in (*BASE_FIELDS, "kaldi_dir", "transform_mat")}
        digest = hashlib.sha256(json.dumps(frames, sort_keys=True).encode()).hexdigest()
        config.data.cache_dir = str(self.study_dir.resolve() / "cache" / fold / digest[:8])
        return config


class PrunedError(Exception):
    """A trial is given up: it does worse than the median of others."""


def open_study(search: Search, item: int = 0) -> Any:
    """The study in the journal of `search.study_dir`; `item` makes the proposals of processes differ."""
    module = optuna()
    needed("scipy")  # of the Gaussian process
    journal = needed("optuna.storages.journal")
    storage = module.storages.JournalStorage(journal.JournalFileBackend(str(search.study_dir / "journal.log")))
    sampler = module.samplers.GPSampler(seed=search.seed + item, n_startup_trials=NUM_RANDOM)
    pruner = module.pruners.MedianPruner(n_startup_trials=5) if search.prune else module.pruners.NopPruner()
    return module.create_study(
        storage=storage, study_name="tune", sampler=sampler, pruner=pruner, direction="minimize", load_if_exists=True
    )


def tune(search: Search, compose: Compose, num_trials: int, num_jobs: int, device: str) -> Any:
    """Search until `num_trials` trials have ended, those of earlier runs included; the study.

    The first trial is the hand-set configuration, if it lies in the space. Trials that were going on when an earlier
    run ended are begun again.

    Raises:
        ConfigError: a search of other ranges or data, or of what the data held before, is in the folder, or an option
            is wrong.
    """
    by_hand = [*runtime_overrides(num_jobs, 0, device), "exp_dir=hand-set"]
    first = search.config(compose, None, search.folds[0], by_hand)
    if search.objective == "dev_wer" and len(first.dev.data_dir) != 1:
        raise ConfigError("--objective=dev_wer decodes dev data: give dev.data_dir and dev.ali_dir, one of each")
    if len(search.folds) > 1 and not any(FOLD in item for item in [*search.overrides, *search.space.overrides]):
        logger.warning("no override names the fold by %s: the %d folds are the same data", FOLD, len(search.folds))
    with fsio.sole_owner(search.study_dir):
        claim_study_dir(search)

        def prepare_one(fold: str) -> str:
            with only_warnings():
                more = ["runtime.num_threads=1", f"exp_dir='{search.study_dir}/cache'"]
                return contents(search, search.config(compose, None, fold, more), fold)

        claim_study_dir(search, list(in_processes(prepare_one, search.folds, num_jobs)))
        study = open_study(search)
        states = optuna().trial.TrialState
        for trial in study.get_trials(states=(states.RUNNING,)):
            study.tell(trial.number, state=states.FAIL)
            values = trial.system_attrs.get("fixed_params", {}) | trial.params  # the former not suggested yet
            study.enqueue_trial(values, user_attrs=HAND_SET if trial.user_attrs.get("hand_set") else None)
        start = search.space.from_config(first)
        if start is None:
            logger.warning("the configuration that was set by hand is outside the search space, and is not tried")
        elif not study.trials:
            study.enqueue_trial(start, user_attrs=HAND_SET)
        num_ended = len(ended(study))

        def run_one(item: int) -> str:
            runtime = runtime_overrides(num_jobs, item, device)
            return run_trial(search, open_study(search, item), compose, runtime)

        with contextlib.closing(in_processes(run_one, range(num_ended, num_trials), num_jobs)) as done:
            for number, line in enumerate(done, num_ended + 1):
                logger.info("%d of %d: %s", number, num_trials, line)
        return open_study(search)


def claim_study_dir(search: Search, data: list[str] | None = None) -> None:
    """Write down what is searched, or check that what is there is the same.

    A search in which no trial got as far as training, on data that could not be used, does not hold the folder.

    Args:
        search: what is searched.
        data: `contents` of each fold, once they are known.

    Raises:
        ConfigError: another search is there.
    """
    path = search.study_dir / "search.json"
    parameters = [vars(parameter) for parameter in search.space.parameters]
    now = {
        "parameters": parameters, "overrides": [*search.space.overrides, *search.overrides], "folds": search.folds,
        "objective": search.objective, "graph_dir": search.graph_dir,
    } | ({} if data is None else {"contents": data})  # fmt: skip
    there = fsio.read_json(path) if path.exists() else {}
    if any(there.get(key, value) != value for key, value in now.items()):  # an older one does not name all of them
        if (search.study_dir / "trials").exists() or ended(open_study(search)):
            what = "a search of other ranges, data or objective, or of what the data held before"
            raise ConfigError(f"{search.study_dir} holds {what}: choose another folder")
        fsio.remove_file(search.study_dir / "journal.log")
        there = {}
    fsio.write_json(path, there | now)


def contents(search: Search, config: TrainConfig, fold: str) -> str:
    """SHA-256 of what trials on a fold are trained and judged by; its frames caches are made if they are not there."""
    prepared = prepare(config)
    parts: list[Any] = [cache.meta.content_fingerprints() for cache in (prepared.train, prepared.dev)]
    parts += [fingerprint_of(prepared.frontend.state_dict()), config.init_sha256]
    if search.objective == "dev_wer":
        files = [(Path(config.dev.data_dir[0]), ("text",)), (Path(search.graph_of(fold)), GRAPH_FILES)]
        parts.append(files_fingerprint(files))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def run_trial(search: Search, study: Any, compose: Compose, runtime: Sequence[str]) -> str:
    """Ask for a configuration, train it on every fold, tell what it is worth; one line about it."""
    with fsio.in_turn(search.study_dir):  # or processes that ask at the same moment are given the same values
        trial = study.ask()
        values = search.space.suggest(trial)
    losses: list[float] = []
    try:
        with only_warnings():
            for number, fold in enumerate(search.folds):
                losses.append(run_fold(search, trial, compose, values, number, fold, runtime))
                if search.objective == "dev_wer" and len(losses) < len(search.folds):
                    give_up_if_hopeless(trial, sum(losses) / len(losses), number)
    except PrunedError:
        # optuna's own "pruned" trials are nothing to its Gaussian process, which would propose the like again.
        trial.set_user_attr(GIVEN_UP, True)
        trial.set_constraint(CONSTRAINT, -1.0)
        study.tell(trial, expected_end(study, trial.number))
        return f"trial {trial.number} given up after {len(losses)} of {len(search.folds)} folds"
    except (TrainingError, ConfigError) as error:
        # What the hand-set configuration cannot do is the fault of what all trials share, and begun again with it.
        if isinstance(error, ConfigError) and trial.user_attrs.get("hand_set"):
            raise
        mark = FAILURES[isinstance(error, ConfigError)]
        trial.set_user_attr(mark, str(error))
        trial.set_constraint(CONSTRAINT, 1.0)
        # The constraint keeps proposals away. What is worse than all others by far would only blur what these tell.
        worst = max((other.value for other in finished(study)), default=nothing_learnt(search, compose))
        study.tell(trial, worst)
        if mark == "impossible" and only_impossible(study):
            raise
        return f"trial {trial.number} {mark} in fold {search.folds[len(losses)]}: {error}"
    trial.set_constraint(CONSTRAINT, -1.0)
    trial.set_user_attr("folds", losses)
    value = sum(losses) / len(losses)
    study.tell(trial, value)
    return f"trial {trial.number}: {search.objective} {value:.4f}"


def ended(study: Any) -> list[Any]:
    """The trials that ended or were given up; those that were cut off were begun again under other numbers."""
    return list(study.get_trials(deepcopy=False, states=(optuna().trial.TrialState.COMPLETE,)))


def finished(study: Any) -> list[Any]:
    """The trials that ended on all folds with a value of their own, best first."""
    kept = (trial for trial in ended(study) if not {*FAILURES, GIVEN_UP} & set(trial.user_attrs))
    return sorted(kept, key=lambda trial: trial.value)


def only_impossible(study: Any) -> bool:
    """Whether every trial met a ConfigError, and it was more than one or two; none is going on that may do better."""
    states = optuna().trial.TrialState
    trials = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.RUNNING))
    return len(trials) >= MAX_IMPOSSIBLE and all("impossible" in trial.user_attrs for trial in trials)


def expected_end(study: Any, number: int) -> float:
    """What a trial that is given up would have come to, had it gone on as most that ended did from there.

    Not as the best alone did: that may have been far behind at this place, and the trial would seem to be better still.
    """
    reported = study.get_trials(deepcopy=False)[number].intermediate_values
    last = max(reported)
    value = float(reported[last])
    there = [(other.value, other.intermediate_values.get(last)) for other in finished(study)]
    return value * statistics.median([end / then for end, then in there if then] or [1.0])


def nothing_learnt(search: Search, compose: Compose) -> float:
    """The objective of a network that knows nothing."""
    if search.objective == "dev_wer":
        return 100.0
    config = search.config(compose, None, search.folds[0], ["exp_dir=diverged"])
    return math.log(read_model(config.train.ali_dir[0]).num_pdfs)


def run_fold(
    search: Search,
    trial: Any,
    compose: Compose,
    values: dict[str, Any],
    number: int,
    fold: str,
    runtime: Sequence[str],
) -> float:
    """Train a trial's configuration on a fold; its objective there.

    Raises:
        PrunedError: not worth going on.
        TrainingError: it diverged.
        ConfigError: the values go together with each other, or with the machine, in no way.
    """
    exp_dir = search.study_dir / "trials" / f"{trial.number:04d}" / fold
    config = search.config(compose, values, fold, [*runtime, f"exp_dir='{exp_dir}'"])
    loop = loop_for(config)
    shutil.rmtree(exp_dir, ignore_errors=True)  # of a journal that is no more: it would count as this trial's
    if search.objective == "dev_loss":
        loop = watched(loop, trial, number * FOLD_STEPS)
    try:
        train(config, trainer_class=loop)
    finally:
        for leftover in ("checkpoints", "pretrain"):
            shutil.rmtree(exp_dir / leftover, ignore_errors=True)
    if search.objective == "dev_loss":
        return best_dev_loss(exp_dir)
    task = Task(config.dev.ali_dir[0], search.graph_of(fold))
    network = AcousticModel.load(exp_dir, device=config.runtime.device)
    return task.tune(network, config.dev.data_dir[0]).wer


def best_dev_loss(exp_dir: Path) -> float:
    """The lowest dev loss of a run: that of the network that it kept.

    Raises:
        TrainingError: none was finite.
    """
    records = Metrics(exp_dir / "metrics.jsonl").read()
    losses = [record["dev_loss"] for record in records if record.get("dev_loss") is not None]
    if not losses:
        raise TrainingError(f"no dev loss of {exp_dir} is finite")
    return min(losses)


def give_up_if_hopeless(trial: Any, value: float, step: int) -> None:
    """Tell a trial how it stands, and end it when the pruner says so.

    Raises:
        PrunedError: not worth going on.
    """
    trial.report(value, step)
    if trial.should_prune():
        raise PrunedError


def watched(loop: type[Trainer], trial: Any, first_step: int) -> type[Trainer]:
    """A loop that tells the trial each dev loss, and ends when the pruner says so.

    Args:
        loop: how the configuration is trained.
        trial: optuna's.
        first_step: number of the first interval among those of all folds.
    """

    class Watched(loop):  # type: ignore[misc, valid-type]
        def end_interval(self, seconds: float, num_steps: int) -> None:
            super().end_interval(seconds, num_steps)
            loss = self.metrics.read()[-1].get("dev_loss")
            if loss is not None and self.position.step and not self.position.finished:
                give_up_if_hopeless(trial, loss, first_step + self.position.interval)

    return Watched
