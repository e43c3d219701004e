"""Updates with bfloat16 copies of the weights are those of autocast, bit for bit, in fewer passes over memory."""

from typing import Any

import pytest
import torch
from torch import Tensor

from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train import weights
from acoustic.train.optim import OptimConfig, make_optimizer, set_rates
from acoustic.train.weights import Bfloat16Copies, Weights, make_weights

MODELS = {
    "relu": ClassifierConfig(hidden_layers=2, hidden_dim=96),
    "norm": ClassifierConfig(hidden_layers=2, hidden_dim=96, norm="layer"),
    "batch": ClassifierConfig(hidden_layers=1, hidden_dim=96, norm="batch"),
    "prelu": ClassifierConfig(hidden_layers=2, hidden_dim=96, activation="prelu"),
}
OPTIMIZERS = {
    "nesterov": OptimConfig(learning_rate=0.1, weight_decay=1e-3),
    "plain": OptimConfig(learning_rate=0.1, momentum=0.0),
    "late": OptimConfig(learning_rate=0.1, initial_momentum=0.0, momentum_steps=2),
    "max_norm": OptimConfig(learning_rate=0.5, max_norm=1.0),
    "clipped": OptimConfig(learning_rate=0.1, clip_norm=0.5),
    "adam": OptimConfig(name="adam", learning_rate=0.01),
    "adagrad": OptimConfig(name="adagrad", learning_rate=0.01),
}


def updates(kind: type[Weights], model: ClassifierConfig, optim: OptimConfig, bad_step: int = -1) -> dict[str, Tensor]:
    """The network after five updates; `bad_step` is one that must change nothing."""
    torch.manual_seed(1)
    classifier = SenoneClassifier(model, 70, 50)
    hidden = [affine.weight for affine in classifier.hidden_affines]
    optimizer = make_optimizer(optim, classifier.parameters(), hidden)
    ours = kind(classifier, optimizer)
    for step in range(5):
        set_rates(optimizer, optim.learning_rate, optim.momentum_at(step))
        with torch.autocast("cpu", torch.bfloat16):
            logits = ours(torch.randn(32, 70))
        torch.nn.functional.cross_entropy(logits.float(), torch.randint(50, (32,))).backward()
        ours.clip(optim.clip_norm)
        ours.step(torch.tensor(float(step == bad_step)))
    return classifier.state_dict()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_copies_give_the_weights_that_autocast_gives(model: str, optim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE", 1 << 11)  # several pieces a matrix, the last one shorter
    expected = updates(Weights, MODELS[model], OPTIMIZERS[optim])
    for name, value in updates(Bfloat16Copies, MODELS[model], OPTIMIZERS[optim]).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_an_update_that_found_inf_forbids_changes_nothing(optim: str) -> None:
    expected = updates(Weights, MODELS["relu"], OPTIMIZERS[optim], bad_step=3)
    for name, value in updates(Bfloat16Copies, MODELS["relu"], OPTIMIZERS[optim], bad_step=3).items():
        assert torch.equal(value, expected[name]), name


def test_weights_changed_by_others_are_computed_with_after_refresh() -> None:
    classifier = SenoneClassifier(MODELS["relu"], 70, 50)
    ours = make_weights(classifier, make_optimizer(OptimConfig(), classifier.parameters()), torch.bfloat16)
    assert isinstance(ours, Bfloat16Copies)
    other = SenoneClassifier(MODELS["relu"], 70, 50)
    classifier.load_state_dict(other.state_dict())
    ours.refresh()
    inputs = torch.randn(8, 70)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(inputs), other(inputs))


def test_float32_runs_compute_with_the_network_itself() -> None:
    classifier = SenoneClassifier(MODELS["relu"], 70, 50)
    ours = make_weights(classifier, make_optimizer(OptimConfig(), classifier.parameters()), torch.float32)
    assert all(leaf is parameter for leaf, parameter in zip(ours.leaves, classifier.parameters(), strict=True))


def test_gradients_that_ranks_add_up_are_in_float32() -> None:
    classifier = SenoneClassifier(MODELS["relu"], 70, 50)
    optimizer = make_optimizer(OptimConfig(), classifier.parameters())
    assert type(make_weights(classifier, optimizer, torch.bfloat16, adds_gradients=True)) is Weights


def test_a_gpu_where_kernels_cannot_be_used_goes_without() -> None:
    class CopiesOnGpu(Bfloat16Copies):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.on_gpu = True

    expected = updates(Weights, MODELS["norm"], OPTIMIZERS["nesterov"])
    for name, value in updates(CopiesOnGpu, MODELS["norm"], OPTIMIZERS["nesterov"]).items():
        assert torch.equal(value, expected[name]), name
