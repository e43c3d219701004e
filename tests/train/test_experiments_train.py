"""Each experiment of the papers, a few units wide, through pre-training, training and final.pt on six utterances."""

from pathlib import Path

import pytest

from acoustic.cli.hydra_config import compose_train_config
from acoustic.nn.bundle import load_bundle
from acoustic.train.run import train
from tests.train.runs import metrics

NAMES = [
    "zeiler2013_relu", "zeiler2013_logistic", "zeiler2013_autoencoder", "gaaf_relu", "gaaf_tanh", "maas2013",
    "dahl2013_relu3k_dropout", "dahl2013_relu3k_dropout_pretrained", "dahl2013_sigmoid2k_pretrained", "digits",
]  # fmt: skip
TINY = [
    "model.hidden_layers=2", "model.hidden_dim=8", "model.hidden_dims=null", "schedule.max_epochs=2",
    "schedule.warmup_steps=0", "features.fmllr=none", "features.lda_dim=0", "features.delta_order=0",
    "pretrain.epochs=0.5", "pretrain.first_epochs=0.5", "data.batch_size=64", "runtime.device=cpu",
    "runtime.precision=fp32", "runtime.num_threads=1",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_small_run(name: str, corpus: Path, tmp_path: Path) -> None:
    data = [
        f"exp_dir={tmp_path}/exp", f"train.data_dir={corpus}/data/train", f"train.ali_dir={corpus}/ali",
        f"dev.data_dir={corpus}/data/dev", f"dev.ali_dir={corpus}/ali", f"data.cache_dir={tmp_path}/cache",
    ]  # fmt: skip
    config = compose_train_config([*data, f"experiment={name}", *TINY])
    train(config)
    losses = [record["dev_loss"] for record in metrics(tmp_path / "exp")]
    assert min(losses[1:]) < losses[0]
    bundle = load_bundle(tmp_path / "exp")
    assert bundle.classifier.config.layer_activations == config.model.layer_activations
    assert (tmp_path / "exp" / "pretrain").exists() == (config.pretrain.name != "none")
