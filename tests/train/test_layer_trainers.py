"""One layer of pre-training: which units, rates and losses its trainers have, and how long it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from acoustic.train import pretrain
from acoustic.train.pretrain import AutoencoderTrainer, RbmTrainer
from acoustic.train.pretrain_config import PretrainConfig

MOMENTUM = 0.6


@pytest.mark.parametrize("layer", [0, 1])
def test_updates_of_the_autoencoder_by_hand(layer: int) -> None:
    """||r - x||^2 + lambda ||h||_1 per frame (Zeiler et al. 2013, section 3), r rectified above the first layer."""
    torch.manual_seed(1)
    config = PretrainConfig(name="sparse_autoencoder", sparsity=0.7, linear_learning_rate=0.05)
    trainer = AutoencoderTrainer(config, layer, ["rectified", "rectified"], 5, torch.zeros(4))
    inputs = torch.randn(6, 4)
    net = trainer.net
    theta = {name: tensor.detach().clone().requires_grad_() for name, tensor in net.named_parameters()}
    velocity = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    for _ in range(2):
        error = trainer.update(inputs, MOMENTUM)
        features = (inputs @ theta["encoder.weight"].t() + theta["encoder.bias"]).clamp(min=0)
        columns = theta["direction"] / (theta["direction"] ** 2).sum(0).sqrt()
        again = features @ columns.t() + theta["output_bias"]
        again = again.clamp(min=0) if layer else again
        distance = ((again - inputs) ** 2).sum() / 6
        gradients = torch.autograd.grad(distance + 0.7 * features.sum() / 6, list(theta.values()))
        torch.testing.assert_close(error, distance.detach())
        for (name, tensor), gradient in zip(theta.items(), gradients, strict=True):
            velocity[name] = MOMENTUM * velocity[name] + gradient
            with torch.no_grad():
                tensor -= (1 - MOMENTUM) * 0.05 * velocity[name]
    for name, tensor in net.named_parameters():
        torch.testing.assert_close(tensor.detach(), theta[name].detach())
    weight, bias = trainer.result
    assert torch.equal(weight, net.encoder.weight) and torch.equal(bias, net.encoder.bias)


@pytest.mark.parametrize(
    ("layer", "units", "kinds", "rate"),
    [
        (0, ["bernoulli"], ("gaussian", "bernoulli"), 0.01),
        (0, ["rectified"], ("gaussian", "rectified"), 0.01),
        (1, ["bernoulli", "bernoulli"], ("bernoulli", "bernoulli"), 0.4),
        (1, ["rectified", "rectified"], ("rectified", "rectified"), 0.01),
        (1, ["rectified", "bernoulli"], ("rectified", "bernoulli"), 0.01),
        (1, ["bernoulli", "rectified"], ("bernoulli", "rectified"), 0.01),
    ],
)
def test_units_and_rates_of_rbms(layer: int, units: list[str], kinds: tuple[str, str], rate: float) -> None:
    torch.manual_seed(1)
    mean = torch.tensor([0.2, 0.5, 0.9])
    trainer = RbmTrainer(PretrainConfig(name="rbm", l2=0.0), layer, units, 4, mean)
    rbm = trainer.rbm
    assert (rbm.visible_kind, rbm.hidden_kind) == kinds
    visible_bias = torch.log(mean / (1 - mean)) if kinds[0] == "bernoulli" else torch.zeros(3)
    torch.testing.assert_close(rbm.visible_bias, visible_bias)
    inputs, weight = torch.rand(8, 3), rbm.weight.clone()
    state = torch.get_rng_state()
    statistics = rbm.statistics(inputs)
    torch.set_rng_state(state)
    error = trainer.update(inputs, MOMENTUM)
    torch.testing.assert_close(error, ((statistics.visible_again - inputs) ** 2).sum() / 8)
    gradient = (statistics.hidden.t() @ inputs - statistics.hidden_again.t() @ statistics.visible_again) / 8
    torch.testing.assert_close(rbm.weight - weight, (1 - MOMENTUM) * rate * gradient)
    assert torch.equal(trainer.result[0], rbm.weight) and torch.equal(trainer.result[1], rbm.hidden_bias)


@pytest.mark.parametrize(("layer", "lengths"), [(0, [4, 2]), (1, [4, 4, 4, 3])])
def test_epochs_may_be_broken_and_momentum_follows_the_frames(
    layer: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    momenta: list[float] = []

    class Recorder:
        result = torch.ones(2, 3), torch.ones(2)

        def __init__(self, *_: object) -> None: ...

        def update(self, inputs: Tensor, momentum: float) -> Tensor:
            momenta.append(momentum)
            return torch.tensor(float(len(momenta)))

    class FourBatches:
        device = torch.device("cpu")

        def __init__(self) -> None:
            self.orders: list[tuple[int, int]] = []

        def num_batches(self, size: int) -> int:
            return 4

        def batches(
            self, size: int, seed: int, epoch: int, begin: int, end: int, workers: int = 0
        ) -> Iterator[tuple[Tensor, Tensor]]:
            self.orders.append((epoch, end))
            return ((torch.zeros(size, 3), torch.zeros(size)) for _ in range(begin, end))

    monkeypatch.setitem(pretrain.TRAINERS, "rbm", Recorder)
    options = PretrainConfig(name="rbm", first_epochs=1.5, epochs=3.75, batch_size=8, momentum_frames=64)
    config: Any = SimpleNamespace(pretrain=options, seed=1, runtime=SimpleNamespace(workers=0))
    store: Any = FourBatches()
    monkeypatch.setattr(pretrain, "mean_inputs", lambda *_: torch.zeros(3))
    monkeypatch.setattr(pretrain, "propagate", lambda inputs, *_: inputs)
    found = pretrain.train_layer(config, store, layer, ["bernoulli"] * 2, [], 2)
    assert store.orders == list(enumerate(lengths))
    numbers = iter(range(1, 99))
    means = [sum(next(numbers) for _ in range(length)) / length for length in lengths]
    assert found["errors"] == pytest.approx(means)
    assert momenta == pytest.approx([0.5 + 0.4 * min(step / 8, 1) for step in range(sum(lengths))])
