"""hydra's overrides: what cannot be meant is refused, in a line that says what there is instead."""

from __future__ import annotations

import pytest

from acoustic.cli.hydra_config import compose_sequence_config, compose_train_config
from acoustic.cli.main import run
from acoustic.errors import ConfigError

DATA = ["exp_dir=x", "train.data_dir=d", "train.ali_dir=a"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden_layer=3", "there is no key 'model.hidden_layer'"),
        ("+model.hidden_layer=3", "there is no key model.hidden_layer"),
        ("++optim.lr=0.1", "there is no key optim.lr"),
        ("+seeed=2", "there is no key seeed"),
        ("=3", "Config group override"),
        (
            "train.data_dir=~/data",
            "train.data_dir=~/data: cannot be read; an override is key=value, a value with special",
        ),
        ("model.hidden_dims=[2,3", r"model.hidden_dims=\[2,3: cannot be read"),
        ("hidden_layers", "hidden_layers: cannot be read; an override is key=value"),
        ("train.data_dir=", "train.data_dir, train.ali_dir or train.transform_dir is an empty word"),
        ("train.ali_dir=[]", "train.data_dir and train.ali_dir must be as many"),
        ("dev.data_dir=d", "dev.data_dir and dev.ali_dir must be as many of one as of the other"),
        ("model=rleu", "Could not find 'model/rleu'; Available options in 'model': leaky_relu; .*; tanh$"),
        ("experiment=none", "Available options in 'experiment': .*maas2013; .*zeiler2013_relu$"),
    ],
)
def test_an_override_that_cannot_be_meant_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_train_config([*DATA, override])


def test_an_option_among_the_overrides_is_told() -> None:
    for command in (["train", *DATA, "--config-dir=conf", "seed=2"], ["tune", "exp", "seed=2", "--trials=3", *DATA]):
        with pytest.raises(
            ConfigError, match=r"unrecognized arguments: .*=.*; options stand before or behind the other"
        ):
            run(command)
    with pytest.raises(ConfigError, match=r"unrecognized arguments: c \(acoustic init-mono --help"):
        run(["init-mono", "a", "b", "c"])
    with pytest.raises(ConfigError, match=r"unrecognized arguments: --trails=3 \(acoustic tune --help"):
        run(["tune", "exp", "--trails=3"])


def test_plus_may_stand_before_a_key_that_is_there() -> None:
    assert compose_train_config([*DATA, "++model.hidden_layers=3"]).model.hidden_layers == 3
    config = compose_sequence_config([*DATA, "experiment=lfmmi", "init_from=x", "++criterion.tolerance=2"])
    assert config.criterion.tolerance == 2
    with pytest.raises(ConfigError, match=r"criterion.tolerence: there is no such option"):
        compose_sequence_config([*DATA, "experiment=lfmmi", "init_from=x", "++criterion.tolerence=2"])
