"""A search space: which options vary, in which ranges, and how their values become hydra's overrides."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Any

from acoustic.errors import ConfigError
from acoustic.train.config import TrainConfig
from acoustic.train.optim import RATE_FRAMES

ITEM = re.compile(r"(?P<key>.+)\[(?P<item>\d+)\]")  # model.dropouts[2]: an item of a list


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter.

    Attributes:
        name: its option, `group.key`, or `group.key[i]` for an item of a list.
        low, high: the range, both ends included.
        log: search evenly over the logarithm.
        integer: whole numbers only.
        base: above 1; the range is of the exponent, the option's value is `base` to that power.
        choices: instead of a range; null may be among them.

    Raises:
        ConfigError: a range that is none.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    integer: bool = False
    base: float | None = None
    choices: list[Any] | None = None

    def __post_init__(self) -> None:
        if self.choices is not None:
            if not isinstance(self.choices, list) or not self.choices:
                raise ConfigError(f"{self.name}: choices={self.choices}: give a list of some values")
            return
        ends = (self.low, self.high)
        if not all(isinstance(end, int | float) for end in ends) or not self.low < self.high:
            raise ConfigError(f"{self.name}: the range [{self.low}, {self.high}] cannot be searched")
        if self.log and self.low <= 0:
            raise ConfigError(f"{self.name}: the range [{self.low}, {self.high}] has no logarithm")
        if self.integer and not all(float(end).is_integer() for end in ends):
            raise ConfigError(f"{self.name}: the range [{self.low}, {self.high}] of whole numbers has other ends")
        if self.base is not None and not self.base > 1:
            raise ConfigError(f"{self.name}: base={self.base} must be above 1")

    def suggest(self, trial: Any) -> Any:
        """A value that optuna's trial chooses."""
        if self.choices is not None:
            return trial.suggest_categorical(self.name, self.choices)
        if self.integer:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def option(self, value: Any) -> Any:
        """The option's value of a suggested one."""
        return value if self.base is None else self.base**value

    def suggested(self, option: Any) -> Any:
        """The inverse of `option`.

        Raises:
            ValueError: no suggestion gives that value.
        """
        if self.choices is not None:
            return self.choices[self.choices.index(option)]
        if not isinstance(option, int | float):
            raise ValueError(f"{option} is no number")
        value = float(option) if self.base is None else math.log(option, self.base)
        if self.integer:
            if not math.isclose(value, round(value), abs_tol=1e-9):
                raise ValueError(f"{value} is no whole number")
            value = round(value)
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is outside [{self.low}, {self.high}]")
        return value


@dataclass(frozen=True)
class Space:
    """What is searched: a file of conf/tune.

    Attributes:
        overrides: hydra's overrides of every trial, under the user's.
        parameters: what varies.
    """

    overrides: list[str]
    parameters: list[Parameter]

    @classmethod
    def from_dict(cls, values: dict[str, Any], name: str) -> Space:
        """From a file's values: `overrides`, and `space`, option -> fields of Parameter.

        Raises:
            ConfigError: a key that is missing or unknown, or a range that is none.
        """
        known = {field.name for field in fields(Parameter)} - {"name"}
        if set(values) != {"overrides", "space"} or not values["space"]:
            raise ConfigError(f"{name}: a search space has overrides and a space that is not empty")
        if not isinstance(values["overrides"], list) or not isinstance(values["space"], dict):
            raise ConfigError(f"{name}: overrides are a list, and a space maps options to ranges")
        for key, options in values["space"].items():
            if not isinstance(options, dict) or set(options) - known:
                raise ConfigError(f"{name}: {key}: give some of {', '.join(sorted(known))}")
        return cls(list(values["overrides"]), [Parameter(key, **options) for key, options in values["space"].items()])

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Parameter -> suggested value."""
        return {parameter.name: parameter.suggest(trial) for parameter in self.parameters}

    def to_overrides(self, values: dict[str, Any]) -> list[str]:
        """hydra's overrides of suggested values; items of a list become one override.

        Raises:
            ConfigError: a list of which an item is missing.
        """
        found: list[str] = []
        lists: dict[str, dict[int, Any]] = {}
        for parameter in self.parameters:
            option = parameter.option(values[parameter.name])
            if match := ITEM.fullmatch(parameter.name):
                lists.setdefault(match["key"], {})[int(match["item"])] = option
            else:
                found.append(f"{parameter.name}={'null' if option is None else option}")
        for key, items in lists.items():
            if sorted(items) != list(range(len(items))):
                raise ConfigError(f"{key}: items {sorted(items)} are searched; a list is searched as a whole, from [0]")
            found.append(f"{key}=[{','.join(str(items[number]) for number in range(len(items)))}]")
        return found

    def from_config(self, config: TrainConfig) -> dict[str, Any] | None:
        """The suggested values that give a configuration; None where it lies outside the space.

        Raises:
            ConfigError: a parameter is no option.
        """
        options = {parameter.name: option_of(config, parameter.name) for parameter in self.parameters}
        try:
            return {parameter.name: parameter.suggested(options[parameter.name]) for parameter in self.parameters}
        except ValueError:
            return None


def left_open(config: TrainConfig, name: str) -> Any:
    """What training takes for an option that is null, wherever it computes, if the other of the two is given."""
    if name == "optim.learning_rate":
        return config.optim.rate_for(config.data.batch_size or RATE_FRAMES)
    return RATE_FRAMES if name == "data.batch_size" else None


def option_of(config: TrainConfig, name: str) -> Any:
    """The value of a configuration's option `group.key` or `group.key[i]`; None for an item that a list lacks.

    Raises:
        ConfigError: there is no such option.
    """
    match = ITEM.fullmatch(name)
    option: Any = config
    for part in (match["key"] if match else name).split("."):
        if not hasattr(option, part):
            raise ConfigError(f"{name}: is searched, but there is no such option")
        option = getattr(option, part)
    if match is None:
        return left_open(config, name) if option is None else option
    items = config.model.rates if match["key"] == "model.dropouts" else option or []
    if not isinstance(items, list):
        raise ConfigError(f"{name}: is searched as an item, but {match['key']} is no list")
    return items[int(match["item"])] if int(match["item"]) < len(items) else None
