"""`acoustic tune`: hyperparameters by Bayesian optimisation."""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path

from omegaconf import OmegaConf

from acoustic.cli.hydra_config import compose_train_config, conf_dir, read_yaml
from acoustic.cli.train import complete
from acoustic.errors import ConfigError
from acoustic.log import get_logger
from acoustic.study.cell import device_of
from acoustic.study.space import Space
from acoustic.study.tune import OBJECTIVES, Search, ended, tune
from acoustic.study.tune_report import best_values, write_report
from acoustic.train.config import TrainConfig

HELP = "search hyperparameters by Bayesian optimisation (hydra overrides as of train)"
EXAMPLE = (
    "acoustic tune --space=digits --folds=1,2,3 --trials=40 --num-jobs=2 exp/tuning experiment=digits \\\n"
    "    train.data_dir=exp/fold{fold}/data/train train.ali_dir=exp/tri1_ali dev.data_dir=exp/fold{fold}/data/dev \\\n"
    "    dev.ali_dir=exp/tri1_ali"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to search, how long, by what measure."""
    parser.add_argument("study_dir", help="journal, trials, report.md, experiment/best.yaml; a begun search goes on")
    parser.add_argument("overrides", nargs="*", help="of acoustic train; {fold} stands for a fold's name")
    parser.add_argument("--space", default="digits", help="of conf/tune: digits, dahl2013, or a .yaml file of yours")
    parser.add_argument("--trials", type=int, default=40, help="to end in all, also earlier ones (default: 40)")
    parser.add_argument("--folds", default="all", help="names, separated by commas: a trial is worth their mean")
    parser.add_argument("--objective", default="dev_loss", choices=OBJECTIVES, help="(default: dev_loss)")
    parser.add_argument("--graph-dir", help="for dev_wer: HCLG.fst and words.txt; {fold} as above")
    parser.add_argument("--seed", type=int, default=1, help="of the proposals")
    parser.add_argument("--no-pruning", action="store_true", help="train every trial to its end")
    parser.add_argument("--num-jobs", type=int, default=1, help="trials at a time; each GPU takes some (default: 1)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda if there is one")
    parser.add_argument("--config-dir", help="a folder with config groups of your own")


def run(args: argparse.Namespace) -> None:
    """Search, then write what was found."""
    if args.trials < 1 or args.num_jobs < 1:
        raise ConfigError("--trials and --num-jobs must be at least 1")
    search = Search(
        read_space(args.space),
        Path(args.study_dir),
        args.overrides,
        args.folds.split(","),
        args.objective,
        args.graph_dir,
        args.seed,
        not args.no_pruning,
    )
    compose = functools.partial(composed, config_dir=args.config_dir)
    start = time.monotonic()
    study = tune(search, compose, args.trials, args.num_jobs, device_of(args.device))
    best = search.config(compose, best_values(study), search.folds[0], ["exp_dir=best"])
    path = write_report(search, study, best, lambda values: OmegaConf.to_yaml(OmegaConf.create(values)))
    logger.info("%d trials, %.0f s; the best configuration: %s", len(ended(study)), time.monotonic() - start, path)


def composed(overrides: list[str], config_dir: str | None) -> TrainConfig:
    """A complete configuration of hydra's overrides."""
    config = compose_train_config(overrides, config_dir)
    complete(config)
    return config


def read_space(name: str) -> Space:
    """A search space of conf/tune, or of a file of the user's.

    Raises:
        ConfigError: there is none of that name, or its file is faulty.
    """
    path = Path(name) if name.endswith(".yaml") else conf_dir() / "tune" / f"{name}.yaml"
    if not path.is_file():
        spaces = ", ".join(sorted(item.stem for item in (conf_dir() / "tune").glob("*.yaml")))
        raise ConfigError(f"--space={name}: there are {spaces}, or a .yaml file")
    return Space.from_dict(read_yaml(path), str(path))
