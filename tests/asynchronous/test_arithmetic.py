from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acoustic.asynchronous.arithmetic import Replica, Shard, from_half, to_half
from acoustic.asynchronous.beginning import Beginning
from acoustic.asynchronous.dispatch import Lease
from acoustic.asynchronous.layout import join_optimizers, split_layers, split_optimizer
from acoustic.asynchronous.shard_process import Server, snapshot_path
from acoustic.asynchronous.staleness import summary
from acoustic.asynchronous.talk import FETCH, LOAD, PUSH, SAVE, compose, head_of, payload_of, request
from acoustic.asynchronous.trainer import SimulatedTrainer
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train.config import TrainConfig
from acoustic.train.optim import OptimConfig, make_optimizer
from acoustic.train.run import make_trainer, prepare
from tests.train.runs import small_config

OPTIMIZERS = {
    "momentum": OptimConfig(name="sgd", momentum=0.9, nesterov=False),
    "adagrad": OptimConfig(name="adagrad"),
    "adamw": OptimConfig(name="adamw"),
}


def network() -> SenoneClassifier:
    """Two hidden layers and an output layer, each of another size."""
    torch.manual_seed(1)
    return SenoneClassifier(ClassifierConfig(hidden_layers=2, hidden_dim=5), 3, 4)


# -- half precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [1.999999, 1.0, 1e-25, 1e-7, 65504.0, 1e18])
def test_half_precision_rounds_to_eleven_bits_whatever_the_range(largest: float) -> None:
    gradient = largest * torch.tensor([1.0, -0.7, 1e-3, -(2.0**-20), 0.3 * 2.0**-28, 0.0])
    values, scale = to_half(gradient)
    assert values.dtype == torch.float16 and values.isfinite().all()
    error = (from_half(values, scale) - gradient).abs()
    assert (error <= (gradient.abs() * 2.0**-11).clamp(min=largest * 2.0**-39)).all()


def test_half_precision_of_nothing_is_nothing() -> None:
    for gradient in (torch.zeros(3), torch.zeros(0)):
        assert torch.equal(from_half(*to_half(gradient)), gradient)
    tiny = torch.full((2,), 1e-44)  # beyond what any scale brings up
    assert from_half(*to_half(tiny)).isfinite().all()


# -- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_shards", [1, 2, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_split_over_shards_is_put_together_again(name: str, num_shards: int) -> None:
    classifier = network()
    optimizer = make_optimizer(OPTIMIZERS[name], classifier.parameters())
    for parameter in classifier.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    whole, names = optimizer.state_dict(), [parameter for parameter, _ in classifier.named_parameters()]
    layouts = split_layers(classifier, num_shards)
    parts = [split_optimizer(whole, names, layout) for layout in layouts]
    for layout, part in zip(layouts, parts, strict=True):
        for mine, full_name in enumerate(layout.names):
            assert part["state"][mine] is whole["state"][names.index(full_name)]
    joined = join_optimizers(parts, names, layouts)
    assert joined["param_groups"] == whole["param_groups"]
    assert all(joined["state"][number] is whole["state"][number] for number in range(len(names)))


def test_layers_are_spread_so_that_the_fullest_shard_has_little() -> None:
    classifier = SenoneClassifier(ClassifierConfig(hidden_layers=3, hidden_dim=10), 20, 50)
    # Values of the layers: 210, 110, 110, 550.
    assert [layout.size for layout in split_layers(classifier, 2)] == [550, 430]
    assert [layout.size for layout in split_layers(classifier, 3)] == [550, 210, 220]


# -- shards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optim", ["momentum", "adagrad"])
def test_a_shard_started_again_goes_on_from_its_snapshot(corpus: Path, tmp_path: Path, optim: str) -> None:
    config = small_config(corpus, tmp_path, f"optim={optim}", "async.shards=2", "async.snapshot_seconds=1e-9")
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, SimulatedTrainer)
    assert isinstance(trainer, SimulatedTrainer)
    Beginning.of(trainer.classifier, trainer.train_store, torch.float32).write(tmp_path)
    first_state = trainer.shard_states()[1]
    torch.save(first_state, snapshot_path(tmp_path, 1))
    server = Server(1, tmp_path, config)
    assert torch.equal(server.shard.flat, first_state["flat"])
    torch.manual_seed(1)
    size = server.shard.layout.size

    def push(server: Server, gradient: Tensor, scale: float = 0.0) -> int:
        return int(head_of(server.answer(compose(request(PUSH, Lease(0, 5, 6, 0.1, 0.9, True), scale), gradient)))[0])

    assert [push(server, torch.randn(size)) for _ in range(2)] == [1, 2]
    again = Server(1, tmp_path, config)
    assert again.shard.version == 2
    gradient = torch.randn(size)
    half, scale = to_half(gradient)
    exact = Shard(server.shard.layout, config.optim, trainer.classifier)
    exact.load_state_dict(server.shard.state_dict())
    exact.apply(from_half(half, scale), 0.1, 0.9)
    assert push(server, half, scale) == push(again, half, scale) == 3
    answer = again.answer(compose(request(FETCH, Lease(0, 5, 6, 0.1, 0.9, True))))
    assert int(head_of(answer)[0]) == 3
    assert torch.equal(payload_of(answer, torch.float32, size), exact.flat)
    exact.apply(gradient, 0.1, 0.9)
    push(server, gradient)
    assert torch.equal(exact.flat, server.shard.flat)


def test_a_shard_saves_and_goes_back_when_told_to(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path, "optim=momentum", "async.shards=1", "async.snapshot_seconds=1000")
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, SimulatedTrainer)
    assert isinstance(trainer, SimulatedTrainer)
    Beginning.of(trainer.classifier, trainer.train_store, torch.float32).write(tmp_path)
    torch.save(trainer.shard_states()[0], snapshot_path(tmp_path, 0))
    server, message = Server(0, tmp_path, config), request(PUSH, Lease(0, 5, 6, 0.1, 0.9, True))
    first = server.shard.flat.clone()
    server.answer(compose(message, torch.ones(server.shard.layout.size)))
    server.answer(compose(request(LOAD)))
    assert torch.equal(server.shard.flat, first) and server.shard.version == 0
    server.answer(compose(message, torch.ones(server.shard.layout.size)))
    moved = server.shard.flat.clone()
    server.answer(compose(request(SAVE)))
    server.answer(compose(message, torch.ones(server.shard.layout.size)))
    server.answer(compose(request(LOAD)))
    assert torch.equal(server.shard.flat, moved) and server.shard.version == 1 and not torch.equal(moved, first)


# -- replicas ---------------------------------------------------------------------------------------------------------


def make_replica(config: TrainConfig) -> Replica:
    """With the first weights of a run."""
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, SimulatedTrainer)
    assert isinstance(trainer, SimulatedTrainer)
    return trainer.simulation.world.replicas[0]


def test_gradients_of_a_lease_are_added_up_along_the_replicas_own_way(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path, "async.push_every=2", "async.shards=2", "model.dropout=0.0")
    lease = Lease(0, 5, 7, 0.5, 0.0, True)  # the last but one batch of 64 frames, and the last, of 62
    both = make_replica(config).compute(lease)
    replica = make_replica(config)
    first, second = (replica.compute(dataclasses.replace(lease, first=step, end=step + 1)) for step in (5, 6))
    assert both.num_frames == 126 and both.bad_step is None
    assert torch.equal(both.totals, first.totals + second.totals)
    for sum_of_both, one, other in zip(both.parts, first.parts, second.parts, strict=True):
        assert torch.equal(sum_of_both, one + other)
    still = make_replica(config).compute(dataclasses.replace(lease, rate=0.0))
    assert not torch.equal(torch.cat(still.parts), torch.cat(both.parts))


def test_the_first_batch_that_is_not_finite_is_told(corpus: Path, tmp_path: Path) -> None:
    replica = make_replica(small_config(corpus, tmp_path, "async.push_every=3"))
    assert replica.compute(Lease(0, 0, 3, 1e30, 0.0, True)).bad_step == 1  # by its own steps
    with torch.no_grad():
        next(iter(replica.parameters.values())).fill_(torch.inf)
    assert replica.compute(Lease(0, 3, 5, 0.1, 0.0, True)).bad_step == 3


def test_staleness_is_summed_up() -> None:
    staleness = Counter({0: 4, 1: 1, 3: 2, 4: 1, 9: 2})
    histogram = {"0": 4, "1": 1, "2-3": 2, "4-7": 1, "8-15": 2}
    assert summary(staleness) == {"mean": 29 / 10, "max": 9, "histogram": histogram}
    nothing: dict[str, Any] = {"mean": 0.0, "max": 0, "histogram": {}}
    assert summary({}) == nothing
