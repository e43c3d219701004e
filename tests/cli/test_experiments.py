"""conf/experiment: the hyperparameters and sizes that the papers state."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from acoustic.cli.hydra_config import compose_train_config, conf_dir
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig

ON_TOP = ["dahl2013_smbr", "lfmmi", "smbr", "vesely2013_smbr"]  # of `acoustic train-sequence`
EXPERIMENTS = sorted({path.stem for path in (conf_dir() / "experiment").glob("*.yaml")} - set(ON_TOP))
PUBLISHED = ["maas2013", "maas2014", "dahl2013_relu3k_dropout", "dahl2013_relu2k", "dahl2013_sigmoid2k"]
# Of the papers too, not tried on the recipes' stand-ins.
SCALED = [
    "zeiler2013_relu", "zeiler2013_logistic", "zeiler2013_autoencoder", "zeiler2013_async_sgd",
    "zeiler2013_async_adagrad", "zeiler2013_async_momentum", "gaaf_relu", "gaaf_tanh",
    "dahl2013_relu3k_dropout_pretrained", "dahl2013_sigmoid2k_pretrained",
]  # fmt: skip


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


@pytest.mark.parametrize("name", SCALED)
def test_heads_of_the_others_too(name: str) -> None:
    lines = (Path(conf_dir()) / "experiment" / f"{name}.yaml").read_text().splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert lines[0] == "# @package _global_"
    for part in ["Reported", "published", "chosen here", "run.sh --kaldi-dir", f"experiment={name}", "# Here:"]:
        assert part in head


@pytest.mark.parametrize("name", ["digits", "mini"])
def test_heads_of_our_own_say_what_came_of_them(name: str) -> None:
    lines = (Path(conf_dir()) / "experiment" / f"{name}.yaml").read_text().splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    for part in ["Not published", "hosen by hand", f"recipes/{name}/run.sh", "# Here: ", "% WER", "training took"]:
        assert part in head


@pytest.mark.parametrize(("layers", "millions"), [(1, 23.1), (4, 42.7), (8, 69.0), (12, 95.2)])
def test_zeiler2013_has_the_papers_sizes(layers: int, millions: float) -> None:
    config = compose("experiment=zeiler2013_relu", f"model.hidden_layers={layers}")
    features = config.features
    input_dim = 40 * (1 + features.splice_left + features.splice_right)
    assert (input_dim, features.delta_order, config.pretrain.name) == (1040, 0, "none")
    assert num_millions(config, input_dim, 7969) == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("name", ["zeiler2013_relu", "zeiler2013_logistic"])
@pytest.mark.parametrize(
    ("choice", "expected"), [("sgd_plain", ("sgd", 0.0)), ("adagrad", ("adagrad", 0.9)), ("momentum", ("sgd", 0.9))]
)
def test_zeiler2013_with_each_optimizer(name: str, choice: str, expected: tuple[str, float]) -> None:
    config = compose(f"experiment={name}", f"optim={choice}")
    assert (config.optim.name, config.optim.momentum) == expected
    assert (config.optim.nesterov, config.optim.adagrad_epsilon) == (choice == "adagrad", 0.0)
    assert config.model.init == "auto" and config.model.rates == [0.0] * 4 and config.model.input_dropout == 0.0


@pytest.mark.parametrize("name", ["sgd", "adagrad", "momentum"])
def test_zeiler2013_asynchronous(name: str) -> None:
    config = compose(f"experiment=zeiler2013_async_{name}", "async.replicas=100", "async.max_staleness=50")
    assert config.train.strategy == "async_sgd" and config.optim.adagrad_epsilon == 0.0
    options = config.asynchronous
    assert (options.replicas, options.max_staleness, options.fetch_every, options.push_every) == (100, 50, 1, 1)
    assert (config.optim.name, config.optim.momentum) == {
        "sgd": ("sgd", 0.0), "adagrad": ("adagrad", 0.9), "momentum": ("sgd", 0.9)
    }[name]  # fmt: skip


def test_zeiler2013_logistic_rates_are_ten_times_the_rectifiers() -> None:
    rates = [compose(f"experiment=zeiler2013_{name}").optim.rate_for(256) for name in ("logistic", "relu")]
    assert rates[0] == pytest.approx(10 * rates[1])


def test_zeiler2013_logistic_has_one_rate_for_adagrad() -> None:
    """The heads of the net in one process and of asynchronous replicas said 0.005 and 0.02."""
    heads = [(conf_dir() / f"experiment/zeiler2013_{name}.yaml").read_text() for name in ("logistic", "async_adagrad")]
    rates = [re.findall(r"optim\.learning_rate=([\d.]+\d)", head) for head in heads]
    assert rates == [["0.005"], ["0.005"]]


def test_pretraining_of_the_papers() -> None:
    autoencoder = compose("experiment=zeiler2013_autoencoder")
    assert (autoencoder.pretrain.name, autoencoder.model.widths) == ("sparse_autoencoder", [2560] * 4)
    relu, logistic = (compose(f"experiment=dahl2013_{name}_pretrained") for name in ("relu3k_dropout", "sigmoid2k"))
    assert (relu.pretrain.name, relu.pretrain.epochs, relu.pretrain.first_epochs) == ("rbm", 2.5, 2.5)
    assert logistic.pretrain.name == "rbm" and logistic.pretrain.epochs > 2 * relu.pretrain.epochs
    assert (relu.model.widths, logistic.model.widths) == ([3072] * 6, [2048] * 6)
    assert relu.model.dropout > 0 and logistic.model.dropout == 0


@pytest.mark.parametrize(("name", "widths"), [("relu", [512] * 3), ("tanh", [512, 256, 256])])
def test_gaaf(name: str, widths: list[int]) -> None:
    model = compose(f"experiment=gaaf_{name}").model
    assert model.layer_activations == [f"gaaf_{name}"] * 3 and model.widths == widths and model.rates == [0.0] * 3


def test_the_shape_of_gaaf_can_be_chosen_and_by_default_leaves_fingerprints_as_they_were() -> None:
    plain = compose("experiment=gaaf_tanh")
    assert "gaaf_width" not in plain.identity()["model"]
    wider = compose("experiment=gaaf_tanh", "model.gaaf_width=3")
    assert wider.identity()["model"]["gaaf_width"] == 3.0 and wider.fingerprint() != plain.fingerprint()
    assert SenoneClassifier(wider.model, 5, 7).hidden[0].activation.width == 3.0
    model = compose("experiment=gaaf_relu", "model.gaaf_steepness=1", "model.gaaf_shift=4").model
    activation = SenoneClassifier(model, 5, 7).hidden[0].activation
    assert (activation.steepness, activation.shift) == (1.0, 4.0)


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
