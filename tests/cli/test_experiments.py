"""conf/experiment: the hyperparameters and sizes that the papers state."""

from __future__ import annotations

from pathlib import Path

import pytest

from acoustic.cli.hydra_config import compose_train_config, conf_dir
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
PUBLISHED = ["maas2013", "maas2014", "dahl2013_relu3k_dropout", "dahl2013_relu2k", "dahl2013_sigmoid2k"]


def compose(*overrides: str) -> TrainConfig:
    return compose_train_config(["exp_dir=exp", "train.data_dir=data", "train.ali_dir=ali", *overrides])


def num_millions(config: TrainConfig, input_dim: int, num_pdfs: int) -> float:
    """Parameters of the network."""
    return SenoneClassifier(config.model, input_dim, num_pdfs).num_parameters / 1e6


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes(name: str) -> None:
    assert compose(f"experiment={name}").exp_dir == "exp"


@pytest.mark.parametrize("name", [*PUBLISHED, "swbd_fbank"])
def test_heads_say_what_was_reported_chosen_and_run(name: str) -> None:
    lines = (Path(conf_dir()) / "experiment" / f"{name}.yaml").read_text().splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert lines[0] == "# @package _global_"
    assert "run.sh --kaldi-dir" in head and f"experiment={name}" in head
    for part in ["Reported", "chosen here", "on the stand-in"] if name in PUBLISHED else ["Not published", "Chosen"]:
        assert part in head


@pytest.mark.parametrize(("layers", "millions"), [(2, 11.03), (3, 15.23), (4, 19.42)])
def test_maas2013_has_the_papers_sizes(layers: int, millions: float) -> None:
    config = compose("experiment=maas2013", f"model.hidden_layers={layers}")
    assert num_millions(config, config.features.lda_dim, 3034) == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(("choice", "activation"), [("relu", "relu"), ("tanh", "tanh"), ("leaky_relu", "leaky_relu")])
def test_maas2013(choice: str, activation: str) -> None:
    config = compose("experiment=maas2013", f"model={choice}")
    model, optim, schedule, features = config.model, config.optim, config.schedule, config.features
    assert (model.activation, model.widths, model.init, model.negative_slope) == (
        activation,
        [2048] * 4,
        "glorot",
        0.01,
    )
    assert model.rates == [0.0] * 4 and model.input_dropout == 0.0 and optim.weight_decay == 0.0
    assert (optim.name, optim.learning_rate, optim.nesterov, config.data.batch_size) == ("sgd", 0.01, False, 256)
    assert [optim.momentum_at(step) for step in (0, 39_999, 40_000)] == [0.5, 0.5, 0.9]
    assert (schedule.name, schedule.max_epochs, config.seed) == ("constant", 2, 1)
    assert (features.fmllr, features.lda_dim, features.splice_left, features.splice_right) == ("speaker", 300, 3, 3)
    assert features.global_norm


@pytest.mark.parametrize(("width", "millions"), [(2048, 36), (3953, 100), (5984, 200)])
def test_maas2014(width: int, millions: float) -> None:
    config = compose("experiment=maas2014", f"model.hidden_dim={width}")
    assert num_millions(config, 21 * 40, 8986) == pytest.approx(millions, rel=0.03)
    optim, schedule, features = config.optim, config.schedule, config.features
    assert (optim.learning_rate, optim.nesterov, config.data.batch_size) == (0.01, True, 512)
    assert optim.momentum_at(0) == 0.5 and optim.momentum_at(10**6) == 0.95
    assert (schedule.name, schedule.factor) == ("exponential", 0.5)
    assert (features.fmllr, features.splice_left, features.splice_right, features.lda_dim) == ("speaker", 10, 10, 0)


@pytest.mark.parametrize(
    ("name", "activation", "width", "has_dropout"),
    [
        ("dahl2013_relu3k_dropout", "relu", 3072, True),
        ("dahl2013_relu2k", "relu", 2048, True),
        ("dahl2013_sigmoid2k", "sigmoid", 2048, False),
    ],
)
def test_dahl2013(name: str, activation: str, width: int, has_dropout: bool) -> None:
    config = compose(f"experiment={name}")
    model, optim, schedule, features = config.model, config.optim, config.schedule, config.features
    assert (model.activation, model.widths, model.norm) == (activation, [width] * 6, "none")
    assert (model.input_dropout > 0) == has_dropout and all((rate > 0) == has_dropout for rate in model.rates)
    assert all(0 <= rate <= 0.5 for rate in [model.input_dropout, *model.rates])
    assert (features.fmllr, features.splice_left, features.splice_right) == ("speaker", 5, 5)
    assert (schedule.name, schedule.evals_per_epoch) == ("anneal", 2)
    # the ranges that the paper's search was given
    assert 4e-4 <= optim.learning_rate <= 0.4 and 0 <= optim.momentum <= 0.95
    assert 3 <= schedule.max_annealings <= 11 and 0 <= schedule.min_improvement <= 0.025
    assert 2**0.5 <= schedule.gamma <= 2**2.5


def test_swbd_fbank() -> None:
    config = compose("experiment=swbd_fbank")
    features = config.features
    assert (features.fmllr, features.delta_order, features.splice_left, features.splice_right) == ("none", 2, 10, 10)
    assert config.model.widths == [2048] * 6 and config.model.activation == "relu" and config.model.dropout > 0
