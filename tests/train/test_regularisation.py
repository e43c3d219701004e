"""Max-norm, label smoothing and Adagrad in whole runs."""

import pytest
import torch
from torch.nn import functional

from acoustic.errors import ConfigError
from acoustic.train.run import counts_of_targets
from tests.train.runs import metrics, same_weights, small_config, train_broken_off, train_small


def test_max_norm_holds_in_the_trained_network(corpus, tmp_path):
    bundle = train_small(corpus, tmp_path / "exp", "optim.max_norm=0.5")
    for affine in bundle.classifier.hidden_affines:
        assert float(affine.weight.detach().norm(dim=1).max()) <= 0.5 + 1e-6
    assert float(bundle.classifier.output.weight.detach().norm(dim=1).max()) > 0.5


def test_label_smoothing_is_in_the_training_loss_and_not_in_that_of_dev(corpus, tmp_path):
    plain, smooth = ["optim.learning_rate=1e-9"], ["optim.learning_rate=1e-9", "optim.label_smoothing=0.3"]
    train_small(corpus, tmp_path / "plain", *plain)
    train_small(corpus, tmp_path / "smooth", *smooth)
    (one, *_), (other, *_) = metrics(tmp_path / "plain"), metrics(tmp_path / "smooth")
    assert one["dev_loss"] == pytest.approx(other["dev_loss"], abs=1e-5)
    assert abs(one["train_loss"] - other["train_loss"]) > 1e-3


def test_priors_are_those_of_the_smoothed_targets(corpus, tmp_path):
    """Divided by the alignments' own, the share that smoothing gives a rare senone would win in every frame."""
    plain = train_small(corpus, tmp_path / "plain").pdf_counts
    smooth = train_small(corpus, tmp_path / "smooth", "optim.label_smoothing=0.3").pdf_counts
    targets = torch.full((len(plain), len(plain)), 0.3 / len(plain)) + 0.7 * torch.eye(len(plain))  # by senone
    seen = plain > 0
    torch.testing.assert_close(smooth[seen].float(), (plain.float() @ targets)[seen], atol=0.51, rtol=0)
    assert int(smooth[seen].min()) > int(plain[seen].min())


def test_senones_without_frames_stay_without():
    assert counts_of_targets(torch.tensor([0, 1, 999]), 0.1).tolist() == [0, 34, 932]


def test_smoothed_targets_by_hand():
    """(1 - s) times the target's negative log posterior, s times their mean over the senones."""
    log_posteriors = torch.tensor([[0.5, 0.3, 0.2]]).log()
    loss = functional.cross_entropy(log_posteriors, torch.tensor([1]), label_smoothing=0.1)
    assert float(loss) == pytest.approx(float(-0.9 * log_posteriors[0, 1] - 0.1 * log_posteriors.mean()))


def test_adagrad_trains_and_resumes_exactly(corpus, tmp_path, monkeypatch):
    options = ["optim=adagrad", "optim.max_norm=2"]
    whole = train_small(corpus, tmp_path / "whole", *options)
    broken = train_broken_off(corpus, tmp_path / "broken", monkeypatch, 5, *options)
    assert same_weights(whole, broken)
    assert metrics(tmp_path / "whole")[-1]["train_loss"] < metrics(tmp_path / "whole")[0]["train_loss"]


@pytest.mark.parametrize("option", ["optim.max_norm=0", "optim.label_smoothing=1", "optim.adagrad_epsilon=-1"])
def test_impossible_values_are_named(corpus, tmp_path, option):
    with pytest.raises(ConfigError, match=option.split("=")[0]):
        small_config(corpus, tmp_path, option)
