"""Each experiment of the papers, a few units wide, through pre-training, training and final.pt on six utterances."""

from pathlib import Path

import pytest

from acoustic.asynchronous.trainer import SimulatedTrainer
from acoustic.cli.hydra_config import compose_train_config, conf_dir
from acoustic.nn.bundle import load_bundle
from acoustic.train.config import TrainConfig
from acoustic.train.run import train
from tests.train.runs import metrics

NAMES = [
    "zeiler2013_relu", "zeiler2013_logistic", "zeiler2013_autoencoder", "gaaf_relu", "gaaf_tanh", "maas2013",
    "dahl2013_relu3k_dropout", "dahl2013_relu3k_dropout_pretrained", "dahl2013_relu2k", "dahl2013_sigmoid2k",
    "dahl2013_sigmoid2k_pretrained", "maas2014", "swbd_fbank", "digits", "digits_tuned", "mini",
]  # fmt: skip
ASYNCHRONOUS = ["zeiler2013_async_sgd", "zeiler2013_async_adagrad", "zeiler2013_async_momentum"]
TINY = [
    "model.hidden_layers=2", "model.hidden_dim=8", "model.hidden_dims=null", "schedule.max_epochs=2",
    "schedule.warmup_steps=0", "features.fmllr=none", "features.lda_dim=0", "features.delta_order=0",
    "pretrain.epochs=0.5", "pretrain.first_epochs=0.5", "data.batch_size=64", "runtime.device=cpu",
    "runtime.precision=fp32", "runtime.num_threads=1",
]  # fmt: skip


def composed(name: str, corpus: Path, tmp_path: Path, *overrides: str) -> TrainConfig:
    """The experiment on six utterances."""
    data = [
        f"exp_dir={tmp_path}/exp", f"train.data_dir={corpus}/data/train", f"train.ali_dir={corpus}/ali",
        f"dev.data_dir={corpus}/data/dev", f"dev.ali_dir={corpus}/ali", f"data.cache_dir={tmp_path}/cache",
    ]  # fmt: skip
    return compose_train_config([*data, f"experiment={name}", *TINY, *overrides])


@pytest.mark.parametrize("name", NAMES)
def test_a_small_run(name: str, corpus: Path, tmp_path: Path) -> None:
    config = composed(name, corpus, tmp_path)
    train(config)
    losses = [record["dev_loss"] for record in metrics(tmp_path / "exp")]
    assert min(losses[1:]) < losses[0]
    bundle = load_bundle(tmp_path / "exp")
    assert bundle.classifier.config.layer_activations == config.model.layer_activations
    assert (tmp_path / "exp" / "pretrain").exists() == (config.pretrain.name != "none")


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_a_small_asynchronous_run(name: str, corpus: Path, tmp_path: Path) -> None:
    options = ["train.strategy=async_simulation", "async.replicas=2", "async.shards=2"]
    train(composed(name, corpus, tmp_path, *options), trainer_class=SimulatedTrainer)
    losses = [record["dev_loss"] for record in metrics(tmp_path / "exp")]
    assert min(losses[1:]) < losses[0]


@pytest.mark.parametrize("name", ["gaaf_relu", "gaaf_tanh"])
def test_added_gradients_take_a_smaller_rate(name: str, corpus: Path, tmp_path: Path) -> None:
    """At the full width a rate of 0.1 makes NaN of gaaf_relu within 100 updates on recipes/digits."""
    assert composed(name, corpus, tmp_path).optim.learning_rate <= 0.02


def test_every_experiment_by_cross_entropy_is_trained() -> None:
    heads = {path.stem: path.read_text() for path in (conf_dir() / "experiment").glob("*.yaml")}
    assert {name for name, text in heads.items() if "override /criterion" not in text} == {*NAMES, *ASYNCHRONOUS}
