from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from acoustic.asynchronous.beginning import Beginning
from acoustic.asynchronous.dispatch import Dispatcher, Lease
from acoustic.asynchronous.engine import EngineTrainer
from acoustic.asynchronous.shard_process import journal_path
from acoustic.asynchronous.simulation import Finished, World, replay
from acoustic.asynchronous.timeline import FETCH, Event
from acoustic.errors import PreemptedError
from acoustic.nn.bundle import load_bundle
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.run import make_trainer, prepare, train
from tests.train.runs import metrics, same_weights, small_config, train_small

ENGINE = ("train.strategy=async_sgd", "schedule.max_epochs=1", "optim=momentum", "model.dropout=0.2")


def train_engine(corpus: Path, exp_dir: Path, *overrides: str):
    """Train with processes, give what final.pt holds."""
    train(small_config(corpus, exp_dir, *ENGINE, *overrides), trainer_class=EngineTrainer)
    return load_bundle(exp_dir)


def test_one_replica_is_plain_training_bit_for_bit(corpus: Path, tmp_path: Path) -> None:
    plain = train_small(corpus, tmp_path / "plain", *ENGINE[1:])
    alone = train_engine(corpus, tmp_path / "alone", "async.replicas=1", "async.shards=2")
    assert same_weights(plain, alone)
    assert not (tmp_path / "alone" / "asynchronous").exists()


def read_journal(path: Path) -> list[Event]:
    """What a shard served."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [Event(0.0, kind, Lease(*values)) for kind, *values in lines]


def test_the_simulation_of_the_same_order_gives_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    options = ("async.replicas=3", "async.shards=2", "async.half_gradients=true", "async.journal=true")
    train_engine(corpus, tmp_path / "exp", *options)
    config = small_config(corpus, tmp_path / "exp", *ENGINE, *options)
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, EngineTrainer)
    world = World(config, trainer.classifier, trainer.train_store, torch.float32)
    journals = [read_journal(journal_path(tmp_path / "exp" / "asynchronous", shard)) for shard in range(2)]
    assert any(event.kind == FETCH for event in journals[0])
    replay(world, journals)
    state = Checkpoints(tmp_path / "exp" / "checkpoints").load_newest()
    for shard in world.shards:
        for name, view in shard.layout.views(shard.flat).items():
            assert torch.equal(view, state["model"][name])


def test_killed_processes_are_replaced_and_lose_only_what_was_in_flight(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exp_dir = tmp_path / "exp"
    caplog.set_level("INFO", "acoustic")

    def kill_two() -> None:
        for what in ("replica", "shard"):
            while not (found := re.findall(rf"{what} 0 is process (\d+)", caplog.text)):
                time.sleep(0.01)
            time.sleep(0.2)
            os.kill(int(found[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_two)
    killer.start()
    train_engine(
        corpus, exp_dir, "async.replicas=2", "async.shards=2", "schedule.max_epochs=20", "async.snapshot_seconds=0.1"
    )  # fmt: skip
    killer.join()
    assert caplog.text.count("was killed by signal 9 and is replaced") == 2
    assert len(metrics(exp_dir)) == 20
    lost = sum(record["lost_pushes"] for record in metrics(exp_dir))
    assert lost <= 4


def test_a_run_asked_to_stop_goes_on_with_other_replicas_and_shards(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, count = EngineTrainer.account, itertools.count(1)

    def with_signal(trainer: EngineTrainer, finished: Finished) -> None:
        account(trainer, finished)
        if next(count) == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    options = ("schedule.max_epochs=3", "runtime.log_seconds=0")
    with monkeypatch.context() as patched:
        patched.setattr(EngineTrainer, "account", with_signal)
        with pytest.raises(PreemptedError):
            train_engine(corpus, tmp_path, "async.replicas=2", "async.shards=1", *options)
    state = Checkpoints(tmp_path / "checkpoints").load_newest()
    assert state is not None and 10 <= state["position"]["step"] <= 12  # what was in flight is finished first
    bundle = train_engine(corpus, tmp_path, "async.replicas=3", "async.shards=2", *options)
    assert [record["epoch"] for record in metrics(tmp_path)] == [1.0, 2.0, 3.0]
    assert bundle.config["train"]["strategy"] == "async_sgd" and "replicas" not in bundle.config["asynchronous"]


class ForgetfulCoordinator:
    """As Coordinator, of shards of which one loses two pushes when all comes to rest, and another has one too many."""

    is_running = False

    def start(self, beginning: Beginning, states: list[dict[str, Any]]) -> None:
        self.states = states

    def work(self, dispatcher: Dispatcher) -> Iterator[Finished]:
        while (lease := dispatcher.ask(0)) is not None:
            dispatcher.done(0)
            for state in self.states:
                state["version"] += lease.first != 3
            yield Finished(
                lease, num_frames=64, staleness=(0, 0) if lease.first != 3 else (), was_lost=lease.first == 3
            )

    def save(self) -> list[dict[str, Any]]:
        self.states[0]["version"] -= 2
        self.states[1]["version"] += 1
        return self.states


def test_pushes_that_a_killed_shard_forgot_are_counted(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_config(corpus, tmp_path, *ENGINE, "async.replicas=1", "async.shards=2")
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, EngineTrainer)
    assert isinstance(trainer, EngineTrainer)
    coordinator: Any = ForgetfulCoordinator()
    trainer.coordinator = coordinator
    trainer.resume_or_start()
    trainer.run_interval()
    assert trainer.position.step == 7
    trainer.end_interval(1.0, 7)
    assert (metrics(tmp_path)[0]["lost_pushes"], metrics(tmp_path)[0]["undone_pushes"]) == (1, 2)
    assert "shard 0 has lost 2 pushes that it had applied since its snapshot" in caplog.text
    coordinator.is_running, coordinator.load = True, lambda states: None
    trainer.run_interval()
    assert trainer.tally.num_undone == 2  # counted from where the shards were at the last rest
