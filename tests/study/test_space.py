"""Search spaces: what varies, in which ranges, and what of it is told to be faulty."""

from __future__ import annotations

from typing import Any

import pytest

from acoustic.cli.hydra_config import compose_train_config
from acoustic.cli.tune import read_space
from acoustic.errors import ConfigError
from acoustic.study.space import Parameter, Space


def test_the_papers_space_has_twelve_parameters_and_composes() -> None:
    space = read_space("dahl2013")
    assert len(space.parameters) == 12
    values = {parameter.name: parameter.high for parameter in space.parameters}
    data = ["exp_dir=x", "train.data_dir=d", "train.ali_dir=a"]
    config = compose_train_config([*space.overrides, *space.to_overrides(values), *data])
    assert config.model.rates == [0.5] * 6 and config.model.input_dropout == 0.5
    assert config.schedule.gamma == pytest.approx(2**2.5) and config.schedule.max_annealings == 11
    by_hand = space.from_config(compose_train_config([*space.overrides, *data]))
    assert by_hand is not None and by_hand["schedule.gamma"] == pytest.approx(1.0)
    assert by_hand["model.dropouts[3]"] == 0.2 and by_hand["optim.learning_rate"] == 0.02


def test_the_space_of_digits_holds_its_hand_set_configuration() -> None:
    space = read_space("digits")
    config = compose_train_config([*space.overrides, "exp_dir=x", "train.data_dir=d", "train.ali_dir=a"])
    by_hand = space.from_config(config)
    assert by_hand is not None
    again = compose_train_config([*space.overrides, *space.to_overrides(by_hand), "exp_dir=x", "train.data_dir=d",
                                  "train.ali_dir=a"])  # fmt: skip
    assert again.identity() == config.identity()


def test_a_rate_left_open_is_the_usual_one_of_the_batch_size() -> None:
    space = Space(
        [], [Parameter("optim.learning_rate", low=0.001, high=1.0), Parameter("data.batch_size", low=64, high=4096)]
    )
    data = ["exp_dir=x", "train.data_dir=d", "train.ali_dir=a"]
    assert space.from_config(compose_train_config(data)) == {"optim.learning_rate": 0.02, "data.batch_size": 256}
    larger = space.from_config(compose_train_config([*data, "data.batch_size=1024"]))
    assert larger == {"optim.learning_rate": pytest.approx(0.04), "data.batch_size": 1024}


def test_faulty_spaces_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be searched"):
        Parameter("optim.momentum", low=0.9, high=0.1)
    with pytest.raises(ConfigError, match="some of"):
        Space.from_dict({"overrides": [], "space": {"optim.momentum": {"from": 1}}}, "mine.yaml")
    with pytest.raises(ConfigError, match="a list is searched as a whole"):
        Space([], [Parameter("model.dropouts[1]")]).to_overrides({"model.dropouts[1]": 0.1})


DATA = ["exp_dir=x", "train.data_dir=d", "train.ali_dir=a"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overrides": None, "space": {"optim.momentum": {"high": 0.5}}}, "overrides are a list"),
        ({"overrides": [], "space": ["optim.momentum"]}, "maps options to ranges"),
        ({"overrides": [], "space": {"optim.momentum": {"low": "small"}}}, "cannot be searched"),
        ({"overrides": [], "space": {"model.norm": {"choices": []}}}, "some values"),
        ({"overrides": [], "space": {"model.hidden_layers": {"low": 1.5, "high": 4, "integer": True}}}, "other ends"),
        ({"overrides": [], "space": {"optim.weight_decay": {"log": True}}}, "no logarithm"),
        ({"overrides": [], "space": {"schedule.gamma": {"base": 1}}}, "above 1"),
        ({"overrides": [], "space": {"optim.learnig_rate": {"high": 0.5}}}, "no such option"),
        ({"overrides": [], "space": {"optim.momentum[0]": {"high": 0.5}}}, "no list"),
    ],
)
def test_faults_of_a_space_are_told_before_anything_is_trained(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Space.from_dict(values, "mine.yaml").from_config(compose_train_config(DATA))


def test_null_may_be_chosen() -> None:
    space = Space([], [Parameter("optim.max_norm", choices=[None, 3.0])])
    assert space.from_config(compose_train_config(DATA)) == {"optim.max_norm": None}
    by_null = compose_train_config([*space.to_overrides({"optim.max_norm": None}), "optim=sgd", *DATA])
    assert by_null.optim.max_norm is None
    assert compose_train_config([*space.to_overrides({"optim.max_norm": 3.0}), *DATA]).optim.max_norm == 3.0


@pytest.mark.parametrize(
    ("parameter", "option", "found"),
    [
        (Parameter("a", low=-6, high=-2, base=10), 1e-3, -3.0),
        (Parameter("a", low=-6, high=-2, base=10), 0.0, None),
        (Parameter("a", low=1, high=5, base=10, integer=True), 1000, 3),
        (Parameter("a", low=1, high=5, base=10, integer=True), 2000, None),
        (Parameter("a", low=1, high=5, integer=True), 2.5, None),
        (Parameter("a", low=1, high=5, integer=True), 6, None),
        (Parameter("a", choices=["relu"]), "tanh", None),
        (Parameter("a"), None, None),
    ],
)
def test_only_a_value_that_can_be_suggested_stands_for_the_hand_set_one(
    parameter: Parameter, option: Any, found: Any
) -> None:
    if found is None:
        with pytest.raises(ValueError):
            parameter.suggested(option)
    else:
        assert parameter.suggested(option) == pytest.approx(found)
