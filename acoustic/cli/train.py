"""`acoustic train`: the frames cache if it is not there yet, then training, then `final.pt`."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

from acoustic import fsio, log
from acoustic.asynchronous.engine import EngineTrainer, join_run
from acoustic.asynchronous.trainer import SimulatedTrainer
from acoustic.cli.hydra_config import compose_train_config, read_yaml, to_yaml
from acoustic.cli.options import Parser, add_dataclass_options, dataclass_from_args, read_config_option
from acoustic.errors import ConfigError
from acoustic.features.fbank import FbankOptions
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.config import ELASTIC, TrainConfig
from acoustic.train.frontend import resolve_features
from acoustic.train.initial import take_over
from acoustic.train.loop import Trainer
from acoustic.train.ranks import join
from acoustic.train.run import train

HELP = "train a senone classifier (hydra overrides: key=value, group=choice)"
EXAMPLE = (
    "acoustic train exp_dir=exp/relu train.data_dir=data/train train.ali_dir=exp/tri3_ali \\\n"
    "    dev.data_dir=data/dev dev.ali_dir=exp/tri3_ali_dev model.hidden_layers=6 model.dropout=0.2"
)

# Trainers of strategies other than the synchronous one.
TRAINERS: dict[str, type[Trainer]] = {"async_sgd": EngineTrainer, "async_simulation": SimulatedTrainer}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """hydra's overrides, and where else to look for config groups."""
    parser.add_argument("overrides", nargs="*", help="hydra overrides, such as model=sigmoid optim.learning_rate=0.05")
    parser.add_argument("--config-dir", help="a folder with config groups of your own, e.g. DIR/experiment/mine.yaml")


def run(args: argparse.Namespace) -> None:
    """Train, or go on where an interrupted run of the same configuration stopped."""
    config = compose_train_config(args.overrides, args.config_dir)
    complete(config)
    if config.asynchronous.join is not None:
        join_run(config)
        return
    train_as(config)


def train_as(config: TrainConfig, trainer_class: type[Trainer] | None = None) -> None:
    """Train under a configuration, in an exp_dir that is its own; rank 0 writes and speaks for all."""
    with join(config.runtime.device, config.ranks) as ranks:
        with ranks.first_goes_ahead():
            if ranks.is_first:
                claim_exp_dir(config)
                log.set_up(file=Path(config.exp_dir) / "train.log")
            else:
                log.set_up(logging.WARNING)
        trainer_class = trainer_class or TRAINERS.get(config.train.strategy)
        train(config, ranks, trainer_class, when_chosen=write_config)


def complete(config: TrainConfig) -> None:
    """Fill in what the configuration leaves to the files it names, so that config.yaml and the model tell it all."""
    remember_fbank_options(config)
    if config.init_from is None:
        resolve_features(config.features)
    else:
        take_over(config)


def remember_fbank_options(config: TrainConfig) -> None:
    """Put the options of `features.fbank_config` into the configuration, so that the model carries them."""
    if config.features.fbank_config is not None:
        parser = Parser(prog="acoustic fbank")
        add_dataclass_options(parser, FbankOptions)
        try:
            args = parser.parse_args(read_config_option([f"--config={config.features.fbank_config}"]))
            config.features.fbank = dataclasses.asdict(dataclass_from_args(FbankOptions, args))
        except ConfigError as error:
            raise ConfigError(f"features.fbank_config={config.features.fbank_config}: {error}") from error


def claim_exp_dir(config: TrainConfig) -> None:
    """Write exp_dir/config.yaml, or check that what is there is the same run.

    A run that ended before its first checkpoint, on data that could not be used, does not hold exp_dir.

    Raises:
        ConfigError: exp_dir belongs to a run of another configuration; names the keys that differ. Or it holds a
            network that was not trained there.
        DataError: another process is training there, or it cannot be written.
    """
    path = Path(config.exp_dir) / "config.yaml"
    if path.exists() and has_begun(path.parent):
        there = with_defaults(read_yaml(path), type(config)(**config.without_default()).to_dict())
        take_choices(config, there)
        differing = sorted(different_keys(there, config.to_dict()))
        if differing:
            raise ConfigError(
                f"{config.exp_dir} holds a run of another configuration: {', '.join(differing)}; "
                "choose another exp_dir, or remove that one to start anew"
            )
        return
    if (path.parent / "final.pt").exists() and not path.exists():
        raise ConfigError(f"{config.exp_dir} holds a network that was not trained there: choose another exp_dir")
    with fsio.sole_owner(config.exp_dir):
        write_config(config)


def write_config(config: TrainConfig) -> None:
    """Write exp_dir/config.yaml."""
    fsio.write_text(Path(config.exp_dir) / "config.yaml", to_yaml(config))


def take_choices(config: TrainConfig, there: dict[str, Any]) -> None:
    """Leave batch size and learning rate as the run in exp_dir has them, where the configuration leaves them open."""
    if config.data.batch_size is None:
        config.data.batch_size = there["data"]["batch_size"]
    if config.optim.learning_rate is None:
        config.optim.learning_rate = there["optim"]["learning_rate"]


def has_begun(exp_dir: Path) -> bool:
    """Whether a run has left anything in exp_dir that another configuration must not touch."""
    return (exp_dir / "final.pt").exists() or bool(Checkpoints(exp_dir / "checkpoints").steps())


def with_defaults(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Nested values, with the defaults of keys that were not there yet when they were written."""
    return defaults | {
        key: with_defaults(value, default) if isinstance(value, dict) and isinstance(default, dict) else value
        for key, value in values.items()
        for default in [defaults.get(key)]
    }


def different_keys(one: object, other: object, prefix: str = "") -> list[str]:
    """The dotted keys under which two nested configurations differ, leaving out where and how fast a run computes."""
    elastic = (f"asynchronous.{name}" for name in ELASTIC)
    if prefix in ("exp_dir", "data.cache_dir", "data.num_jobs", *elastic) or (
        prefix.startswith("runtime.") and prefix not in ("runtime.precision", "runtime.deterministic")
    ):
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(set(one) | set(other))
        return [
            name
            for key in keys
            for name in different_keys(one.get(key), other.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if one == other else [f"{prefix} ({one} there, {other} now)"]
