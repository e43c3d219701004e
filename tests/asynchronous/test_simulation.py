from __future__ import annotations

import dataclasses
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from acoustic.asynchronous.dispatch import Dispatcher
from acoustic.asynchronous.simulation import Finished, World, replay
from acoustic.asynchronous.timeline import COMPUTE, DONE, FETCH, PUSH, Event, Timeline
from acoustic.asynchronous.trainer import SimulatedTrainer
from acoustic.errors import ConfigError, PreemptedError, TrainingError
from acoustic.nn.bundle import load_bundle
from acoustic.train.asynchronous_config import AsynchronousConfig, DelaysConfig
from acoustic.train.run import make_trainer, prepare, train
from tests.train.runs import metrics, same_weights, small_config, train_small

SIMULATION = ("train.strategy=async_simulation", "async.delays.compute_seconds=1")
OPTIMIZERS = {
    "sgd": ("optim=sgd_plain",),
    "momentum": (
        "optim=momentum", "optim.momentum_ramp=3", "optim.weight_decay=1e-4", "optim.clip_norm=0.5",
        "optim.max_norm=1.5",
    ),
    "adagrad": ("optim=adagrad", "model.dropout=0.2"),
    "all else": (
        "optim=adamw", "optim.learning_rate=0.001", "optim.label_smoothing=0.1", "average=last", "model.dropout=0.2",
        "masking.num_time_masks=1", "masking.num_freq_masks=1", "schedule.evals_per_epoch=2", "runtime.precision=bf16",
    ),
}  # fmt: skip


def simulate(corpus: Path, exp_dir: Path, *overrides: str):
    """Train in a simulation, give what final.pt holds."""
    train(small_config(corpus, exp_dir, *SIMULATION, *overrides), trainer_class=SimulatedTrainer)
    return load_bundle(exp_dir)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_replica_is_plain_training_bit_for_bit(corpus: Path, tmp_path: Path, name: str) -> None:
    plain = train_small(corpus, tmp_path / "plain", *OPTIMIZERS[name])
    alone = simulate(corpus, tmp_path / "alone", *OPTIMIZERS[name], "async.replicas=1", "async.shards=2")
    assert same_weights(plain, alone)
    for one, other in zip(metrics(tmp_path / "plain"), metrics(tmp_path / "alone"), strict=True):
        assert {**other, **one} == other
        assert set(other) - set(one) == {"staleness", "lost_pushes", "undone_pushes", "simulated_seconds"}


def test_shards_go_back_with_an_interval_that_is_rejected(corpus: Path, tmp_path: Path) -> None:
    options = ("schedule=newbob", "schedule.max_epochs=4", "optim=sgd_plain", "optim.learning_rate=1.5")
    plain = train_small(corpus, tmp_path / "plain", *options)
    assert [record["accepted"] for record in metrics(tmp_path / "plain")] == [True, True, False, True]
    assert same_weights(plain, simulate(corpus, tmp_path / "alone", *options, "async.replicas=1", "async.shards=2"))


def test_a_replica_that_fetches_seldom_follows_plain_sgd_by_itself(corpus: Path, tmp_path: Path) -> None:
    plain = train_small(corpus, tmp_path / "plain", "optim=sgd_plain")
    seldom = simulate(corpus, tmp_path / "seldom", "optim=sgd_plain", "async.replicas=1", "async.fetch_every=5")
    assert same_weights(plain, seldom)


def test_the_seed_decides_everything_and_replicas_matter(corpus: Path, tmp_path: Path) -> None:
    first = simulate(corpus, tmp_path / "a", "async.replicas=3", "async.shards=2")
    again = simulate(corpus, tmp_path / "b", "async.replicas=3", "async.shards=2")
    alone = simulate(corpus, tmp_path / "c", "async.replicas=1")
    assert same_weights(first, again) and not same_weights(first, alone)
    record = metrics(tmp_path / "a")[-1]
    assert (
        record["staleness"]["mean"] > 1
        and record["simulated_seconds"] < metrics(tmp_path / "c")[-1]["simulated_seconds"]
    )
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


def test_bounded_staleness_holds_and_zero_is_plain_training(corpus: Path, tmp_path: Path) -> None:
    plain = train_small(corpus, tmp_path / "plain", "optim=adagrad")
    zero = simulate(corpus, tmp_path / "zero", "optim=adagrad", "async.replicas=4", "async.max_staleness=0")
    assert same_weights(plain, zero)
    simulate(corpus, tmp_path / "two", "async.replicas=6", "async.max_staleness=2", "async.shards=2")
    assert max(record["staleness"]["max"] for record in metrics(tmp_path / "two")) == 2


def test_a_resumed_simulation_is_the_unbroken_one(corpus: Path, tmp_path: Path) -> None:
    options = ("async.replicas=3", "async.shards=3", "schedule.max_epochs=3", "optim=adagrad")
    unbroken = simulate(corpus, tmp_path / "unbroken", *options)
    config = small_config(corpus, tmp_path / "broken", *SIMULATION, *options)
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, SimulatedTrainer)
    trainer.resume_or_start()
    trainer.run_interval()
    trainer.end_interval(1.0, 1)
    train(config, trainer_class=SimulatedTrainer)
    assert same_weights(unbroken, load_bundle(tmp_path / "broken"))
    assert metrics(tmp_path / "unbroken") == metrics(tmp_path / "broken")


def test_a_simulation_that_is_asked_to_stop_goes_on_as_if_it_had_not(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("async.replicas=3", "schedule.max_epochs=2", "optim=adagrad")
    unbroken = simulate(corpus, tmp_path / "unbroken", *options)
    account = SimulatedTrainer.account

    def with_signal(trainer: SimulatedTrainer, finished: Finished) -> None:
        account(trainer, finished)
        if trainer.position.step == 10:  # in the second epoch of 7
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(SimulatedTrainer, "account", with_signal)
        with pytest.raises(PreemptedError, match="goes on after the last dev evaluation"):
            simulate(corpus, tmp_path / "broken", *options)
    assert same_weights(unbroken, simulate(corpus, tmp_path / "broken", *options))
    assert metrics(tmp_path / "unbroken") == metrics(tmp_path / "broken")


def test_a_number_that_is_not_finite_ends_the_run(corpus: Path, tmp_path: Path) -> None:
    options = ("optim=sgd_plain", "optim.learning_rate=1e30", "async.replicas=3", "async.delays.compute=constant")
    # The first three begin with the first weights, and each push makes all that come after it useless.
    with pytest.raises(TrainingError, match="the loss of update 3 is not finite"):
        simulate(corpus, tmp_path, *options)
    assert [folder.name for folder in (tmp_path / "nonfinite").iterdir()] == ["step-000000003"]


def test_a_resumed_simulation_computes_in_the_precision_it_began_with(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path, *SIMULATION)
    prepared = prepare(config)
    began = make_trainer(config, prepared, torch.device("cpu"), torch.bfloat16, None, SimulatedTrainer)
    began.resume_or_start()
    resumed = make_trainer(config, prepared, torch.device("cpu"), torch.float32, None, SimulatedTrainer)
    assert isinstance(resumed, SimulatedTrainer)
    resumed.resume_or_start()
    assert {replica.dtype for replica in resumed.simulation.world.replicas} == {torch.bfloat16}


def test_the_log_tells_batches_and_the_rate_of_the_moment(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "acoustic")
    options = ("schedule=cosine", "schedule.max_epochs=1", "async.replicas=2", "async.push_every=2")
    simulate(corpus, tmp_path, *options, "runtime.log_seconds=0")
    told = re.findall(r"2 replicas, (\d) of 7 batches: .* rate ([\d.]+), .* 0 pushes lost, 0 undone", caplog.text)
    assert [int(number) for number, _ in told] == [1, 2, 3, 4, 5, 6]
    assert len({rate for _, rate in told}) == 4  # after 2, 4, 6 and 7 batches


def test_a_replay_of_what_shards_did_gives_their_weights(corpus: Path, tmp_path: Path) -> None:
    config = small_config(
        corpus, tmp_path, *SIMULATION, "async.replicas=4", "async.shards=2", "async.half_gradients=true",
        "async.fetch_every=3", "async.push_every=2",
    )  # fmt: skip
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, SimulatedTrainer)
    assert isinstance(trainer, SimulatedTrainer)
    again = World(config, trainer.classifier, trainer.train_store, torch.float32)
    journals: list[list[Event]] = [[], []]
    run = trainer.simulation.timeline.run

    def noted(dispatcher: Dispatcher):
        for event in run(dispatcher):
            if event.kind in (FETCH, PUSH):
                journals[event.shard].append(event)
            yield event

    trainer.simulation.timeline.run = noted  # type: ignore[method-assign]
    trainer.resume_or_start()
    trainer.run_interval()
    replay(again, journals)
    for one, other in zip(again.shards, trainer.shards, strict=True):
        assert torch.equal(one.flat, other.flat)


def test_what_looks_at_all_weights_is_refused(corpus: Path, tmp_path: Path) -> None:
    for override in ("average=ema", "model.norm=batch", "optim=hessian_free", "async.shards=9"):
        with pytest.raises(ConfigError):
            simulate(corpus, tmp_path / override, override)


# -- time alone -------------------------------------------------------------------------------------------------------


def seconds(num_updates: int, replicas: int, seed: int = 1, **delays: Any) -> float:
    """How long some updates take."""
    options = AsynchronousConfig(replicas=replicas, shards=2, delays=DelaysConfig(**delays))
    timeline = Timeline(options.delays, replicas, options.shards, seed)
    for _ in timeline.run(Dispatcher(options, lambda step: (0.1, 0.0), 0, num_updates)):
        pass
    return timeline.seconds


def test_time_goes_by_as_the_delays_say() -> None:
    constant = {"compute": "constant", "compute_seconds": 1.0, "network_seconds": 0.25}
    assert seconds(10, 1, **constant) == pytest.approx(10 * 2.0)  # two messages there and back, and the gradient
    assert seconds(10, 5, **constant) == pytest.approx(2 * 2.0)
    assert seconds(10, 1, **constant, apply_seconds=0.5, fetch_seconds=0.25) == pytest.approx(10 * 2.75)
    saturated = seconds(1000, 100, **constant, apply_seconds=0.5)
    assert saturated == pytest.approx(1000 * 0.5, rel=0.04)  # a shard applies one push at a time
    assert seconds(10, 1, **constant, message_seconds=0.1, word_seconds=0.3) == pytest.approx(10 * (2.0 + 0.4 + 0.3))
    assert seconds(1000, 100, **constant, word_seconds=0.5) == pytest.approx(1000 * 0.5, rel=0.04)  # one at a time
    slow = dataclasses.asdict(DelaysConfig(compute="stragglers", network_seconds=0.0, straggler_share=0.5))
    assert seconds(110, 2, **slow) == pytest.approx(100.0)  # one replica does ten while the other does one
    assert seconds(2000, 4, compute="exponential", network_seconds=0.0) == pytest.approx(500.0, rel=0.1)
    one, other = (seconds(50, 2, seed, compute="exponential", network="exponential") for seed in (1, 2))
    assert one != other and one == seconds(50, 2, 1, compute="exponential", network="exponential")


def test_each_thing_happens_in_its_time() -> None:
    delays = DelaysConfig(
        compute="constant", compute_seconds=1.0, network_seconds=0.25, word_seconds=0.5, message_seconds=0.1,
        fetch_seconds=0.01, apply_seconds=0.03,
    )  # fmt: skip
    options = AsynchronousConfig(replicas=1, shards=2, push_every=2, delays=delays)
    timeline = Timeline(delays, 1, 2, seed=1)
    events = list(timeline.run(Dispatcher(options, lambda step: (0.1, 0.0), 0, 2)))
    assert [(event.kind, event.shard) for event in events] == [
        (FETCH, 0), (FETCH, 1), (COMPUTE, -1), (PUSH, 0), (PUSH, 1), (DONE, -1),
    ]  # fmt: skip
    fetched = 0.5 + 2 * 0.1 + 0.25 + 0.01
    computed = fetched + 0.25 + 2 * 1.0
    pushed = computed + 2 * 0.1 + 0.25 + 0.03
    happened = [fetched] * 2 + [computed] + [pushed] * 2 + [pushed + 0.25]
    assert [event.seconds for event in events] == pytest.approx(happened)


def test_time_goes_by_as_few_cores_have_it() -> None:
    constant = {"compute": "constant", "compute_seconds": 1.0, "network_seconds": 0.0, "cores": 2}
    assert seconds(100, 4, **constant) == pytest.approx(50.0)
    assert seconds(100, 3, **constant) == pytest.approx(50.0, rel=0.02)
    assert seconds(100, 2, **constant) == pytest.approx(50.0)
    assert seconds(100, 1, **constant, contention=1.5) == pytest.approx(100.0)
    assert seconds(100, 2, **constant, contention=1.5) == pytest.approx(75.0)
    assert seconds(100, 8, **constant, contention=1.5) == pytest.approx(75.0, rel=0.05)
    assert seconds(100, 2, **constant | {"cores": 4}, contention=1.6) == pytest.approx(60.0)  # a third of the others
    # All work of an update shares the cores: 1 s of a gradient, 1/4 s of each of 2 shards, 1/10 s of words.
    busy = seconds(1000, 8, **constant, apply_seconds=0.25, word_seconds=0.1)
    assert busy == pytest.approx(1000 * (1.0 + 2 * 0.25 + 0.1) / 2, rel=0.03)
