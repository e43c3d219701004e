"""hydra: config groups and `key=value` overrides composed into the dataclass that owns the configuration."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from acoustic.errors import ConfigError
from acoustic.sequence.config import SequenceConfig
from acoustic.train.config import TrainConfig

AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)

# With the dataclass first among the defaults, every field can be overridden, whether its group's file names it or not.
ConfigStore.instance().store(name="schema", node=TrainConfig)
ConfigStore.instance().store(name="sequence_schema", node=SequenceConfig)


def conf_dir() -> Path:
    """The folder of config groups: inside an installed package, beside the package in a checkout."""
    packaged = Path(str(resources.files("acoustic"))) / "conf"
    return packaged if packaged.is_dir() else packaged.parents[1] / "conf"


def compose_train_config(overrides: Sequence[str], config_dir: str | None = None) -> TrainConfig:
    """The training configuration under `overrides`.

    Args:
        overrides: hydra's syntax: `model.hidden_layers=4`, `model=sigmoid`, `experiment=maas2013`, ...
        config_dir: a folder of the user's own groups, searched before ours.

    Raises:
        ConfigError: an unknown key or group, a value of the wrong type or out of range, a missing mandatory key.
    """
    return to_config(compose_raw("config", overrides, config_dir), TrainConfig)


def compose_sequence_config(overrides: Sequence[str], config_dir: str | None = None) -> SequenceConfig:
    """As `compose_train_config`, for a run of sequence training."""
    return to_config(compose_raw("sequence", overrides, config_dir), SequenceConfig)


def compose_raw(name: str, overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """conf/`name`.yaml under `overrides`, not yet checked against its dataclass."""
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir={config_dir}: is no directory")
    searched = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir().resolve()), version_base=None):
            return compose(name, overrides=[*map(in_full, overrides), *searched])
    except OverrideParseException as error:
        quoted = "an override is key=value, a value with special characters in quotes: \"key='value'\""
        raise ConfigError(f"{error.override}: cannot be read; {quoted}") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_first_lines(error)) from error


def in_full(override: str) -> str:
    """An override whose group is called `async`, a name that Python keeps for itself, under the name of its field."""
    return re.sub(r"^([+~]*)async\.", r"\1asynchronous.", override)


def to_config(raw: DictConfig, kind: type[AnyConfig]) -> AnyConfig:
    """Check a composed configuration against its dataclass and build it."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), raw)
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise ConfigError(f"missing: {', '.join(f'{key}=...' for key in sorted(missing))}")
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_lines(error)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    assert isinstance(config, kind)
    unknown = unknown_keys(OmegaConf.to_container(raw), kind)
    if unknown:  # brought in by `+key=value`, which hydra takes for any key
        raise ConfigError(f"there is no key {', '.join(unknown)}")
    return config


def unknown_keys(values: Any, owner: type, prefix: str = "") -> list[str]:
    """The dotted keys of nested values that are no fields of a dataclass, nor of those that are its fields."""
    hints = typing.get_type_hints(owner)
    unknown = []
    for key, value in values.items():
        if key not in hints:
            unknown.append(f"{prefix}{key}")
        elif dataclasses.is_dataclass(hints[key]):
            unknown += unknown_keys(value, hints[key], f"{prefix}{key}.")
    return unknown


def to_yaml(config: TrainConfig) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(config.to_dict()))


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration written by `to_yaml`.

    Raises:
        ConfigError: it is not one.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be read ({_first_lines(error)})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a configuration")
    return {str(key): value for key, value in values.items()}


def _first_lines(error: BaseException) -> str:
    """The part of a hydra or omegaconf message, and of its cause's, that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = (
        "object_type", "reference_type", "set_struct", "To append to your", "See https", "^", "Config search path",
        "provider=",
    )  # fmt: skip
    kept = [line for line in lines if not line.startswith(noise)]
    message = "; ".join(kept).replace(":; ", ": ").replace("Could not override", "there is no key")
    return (
        f"{message}; {_first_lines(error.__cause__)}"
        if isinstance(error.__cause__, OmegaConfBaseException)
        else message
    )
