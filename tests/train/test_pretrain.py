"""Pre-training in whole runs: the classifier starts from its weights, and it goes on layer by layer."""

import pytest
import torch

from acoustic.data.batches import Store
from acoustic.errors import CheckpointError, ConfigError, PreemptedError, TrainingError
from acoustic.nn.bundle import load_bundle
from acoustic.train import pretrain
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.pretrain_config import PretrainConfig
from acoustic.train.run import train
from tests.train.runs import same_weights, small_config, train_broken_off, train_small

RBM = ["pretrain=rbm", "pretrain.batch_size=64", "pretrain.epochs=3", "pretrain.first_epochs=5"]
AUTOENCODER = ["pretrain=sparse_autoencoder", "pretrain.batch_size=64", "pretrain.epochs=5", "pretrain.first_epochs=5"]
CASES = [[*RBM, "model=sigmoid"], [*RBM, "model=relu"], [*AUTOENCODER, "model=relu"]]
SHAPE = ["model.hidden_layers=3", "model.hidden_dim=24"]


def layers(exp_dir):
    return [torch.load(path, weights_only=True) for path in sorted((exp_dir / "pretrain").glob("layer-*.pt"))]


@pytest.mark.parametrize("options", CASES)
def test_the_classifier_starts_from_layers_that_learnt_to_reconstruct(corpus, tmp_path, options):
    train_small(corpus, tmp_path / "exp", *options, *SHAPE, "schedule.max_epochs=1", "runtime.keep_checkpoints=9")
    first = Checkpoints(tmp_path / "exp" / "checkpoints").load(0)["model"]
    found = layers(tmp_path / "exp")
    assert len(found) == 3
    for number, layer in enumerate(found):
        assert torch.equal(first[f"hidden.{number}.affine.weight"], layer["weight"])
        assert torch.equal(first[f"hidden.{number}.affine.bias"], layer["bias"])
        assert layer["errors"][-1] < layer["errors"][0]


@pytest.mark.parametrize("options", CASES)
def test_killed_after_the_first_layer_it_goes_on_with_the_second(corpus, tmp_path, monkeypatch, options):
    whole = train_small(corpus, tmp_path / "whole", *options, *SHAPE)
    train_layer, trained = pretrain.train_layer, []

    def dying(config, store, layer, *more):
        trained.append(layer)
        if layer == 1 and trained.count(1) == 1:
            raise PreemptedError("killed")
        return train_layer(config, store, layer, *more)

    monkeypatch.setattr(pretrain, "train_layer", dying)
    with pytest.raises(PreemptedError):
        train(small_config(corpus, tmp_path / "broken", *options, *SHAPE))
    train(small_config(corpus, tmp_path / "broken", *options, *SHAPE))
    assert trained == [0, 1, 1, 2]
    assert same_weights(whole, load_bundle(tmp_path / "broken"))


def test_fine_tuning_broken_off_does_not_pretrain_again(corpus, tmp_path, monkeypatch):
    options = [*CASES[0], *SHAPE]
    whole = train_small(corpus, tmp_path / "whole", *options)
    assert same_weights(whole, train_broken_off(corpus, tmp_path / "broken", monkeypatch, 5, *options))


def test_layers_of_other_options_are_not_taken(corpus, tmp_path):
    train_small(corpus, tmp_path / "exp", *CASES[1])
    (tmp_path / "exp" / "final.pt").unlink()
    with pytest.raises(CheckpointError, match=r"layer-0\.pt"):
        train_small(corpus, tmp_path / "exp", *CASES[1], "pretrain.l2=0.1")


def test_numbers_that_are_not_finite_stop_it_and_leave_no_layer(corpus, tmp_path, monkeypatch):
    batches = Store.batches

    def with_nan(store, *args, **options):
        for number, (inputs, targets) in enumerate(batches(store, *args, **options)):
            yield (inputs * float("nan") if number == 3 else inputs), targets

    monkeypatch.setattr(Store, "batches", with_nan)
    monkeypatch.setattr(pretrain, "mean_inputs", lambda config, store, *more: torch.zeros(store.frontend.input_dim))
    with pytest.raises(TrainingError, match=r"hidden layer 1: .* update 3"):
        train_small(corpus, tmp_path / "exp", *CASES[0], "features.global_norm=false")
    assert layers(tmp_path / "exp") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["pretrain=rbm", "model=tanh"], "no tanh units"),
        (["pretrain=sparse_autoencoder", "model=sigmoid"], "no sigmoid units"),
        (["pretrain=rbm", "model.norm=batch"], "model.norm=none"),
        (["pretrain=rbm", "init_from=exp/other"], "init_from"),
        (["pretrain=rbm", "pretrain.epochs=0"], "epochs"),
    ],
)
def test_networks_without_such_units_are_refused(corpus, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        small_config(corpus, tmp_path / "exp", *options)


def test_momentum_rises_as_in_rbm_train_cd1_frmshuff():
    """0.5 to 0.9 in 40 steps of half a million frames."""
    config = PretrainConfig()
    momenta = [config.momentum_after(frames) for frames in (0, 499_999, 500_000, 10_000_000, 10**9)]
    assert momenta == pytest.approx([0.5, 0.5, 0.51, 0.7, 0.9])


def test_upper_layers_see_the_means_of_the_lower_ones():
    x, weight, bias = torch.randn(5, 3), torch.randn(2, 3), torch.randn(2)
    below = [(weight, bias), (torch.eye(2), torch.zeros(2))]
    net = x @ weight.t() + bias
    torch.testing.assert_close(
        pretrain.propagate(x, ["bernoulli", "rectified", "rectified"], below), torch.relu(torch.sigmoid(net))
    )
