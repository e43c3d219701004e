from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acoustic.asynchronous import coordinator as coordinator_module
from acoustic.asynchronous import replica_process
from acoustic.asynchronous.coordinator import Coordinator
from acoustic.asynchronous.engine import EngineTrainer, Guests
from acoustic.asynchronous.processes import Post, Processes
from acoustic.asynchronous.shard_process import snapshot_path
from acoustic.asynchronous.talk import Control, Pair, PeerGoneError, RunOverError, compose, connections
from acoustic.errors import ConfigError, TrainingError
from acoustic.train.asynchronous_config import AsynchronousConfig
from acoustic.train.config import TrainConfig, TrainData
from acoustic.train.run import train
from tests.train.runs import small_config

# Ends where torch would be loaded, and says what becomes of SIGTERM, SIGUSR1 and SIGINT then.
LOAD_UNTIL_TORCH = """
import signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            numbers = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
            sys.exit(0 if all(signal.getsignal(number) == signal.SIG_IGN for number in numbers) else 7)
sys.meta_path.insert(0, Finder())
import acoustic.asynchronous.forkserver
"""


def post_of(what: str, exitcode: int | None) -> Post:
    """A post whose process has ended, or not."""
    process: Any = SimpleNamespace(exitcode=exitcode, kill=list, join=list)
    return Post(what, 0, process, 0.0)


def test_signals_are_left_to_the_coordinator_from_the_first_moment() -> None:
    assert subprocess.run([sys.executable, "-c", LOAD_UNTIL_TORCH], check=False).returncode == 0


def test_a_process_that_finds_a_run_over_which_goes_on_is_replaced() -> None:
    here, guests = Processes(2), Processes(2, are_guests=True)
    for processes in (here, guests):
        processes.posts["shard", 0] = post_of("shard", 0)
    assert [post.what for post in here.dead("shard")] == ["shard"] and here.dead("replica") == []
    assert guests.dead("shard") == []
    here.posts["shard", 0] = post_of("shard", None)
    assert here.dead("shard") == []
    here.posts["shard", 0] = post_of("shard", 3)
    with pytest.raises(TrainingError, match="shard 0 ended with status 3"):
        here.dead("shard")


def test_more_deaths_than_allowed_end_the_run() -> None:
    processes = Processes(2)
    processes.posts["replica", 0] = post_of("replica", -9)
    assert len(processes.dead("replica")) == len(processes.dead("replica")) == 1
    with pytest.raises(TrainingError, match="replica 0 was killed by signal 9, and 2 processes"):
        processes.dead("replica")


def test_guests_whose_run_ends_while_one_is_replaced_end_without_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(queue: str, message: object) -> None:
        raise RunOverError

    control: Any = SimpleNamespace(send=send)
    config: Any = SimpleNamespace(asynchronous=AsynchronousConfig(replicas=1))
    guests = Guests(control, ("127.0.0.1", 1, "folder", config))
    ended = post_of("replica", -9)
    monkeypatch.setattr(guests.processes, "start", lambda *_: guests.processes.posts.update({("replica", 0): ended}))
    guests.run()
    assert not guests.processes.posts


def test_a_replica_for_which_memory_does_not_suffice_says_what_to_lower(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lack_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. Including non-PyTorch memory")

    monkeypatch.setattr(replica_process, "Worker", lack_memory)
    monkeypatch.setattr(replica_process, "Control", SimpleNamespace(join=lambda *_: None))
    monkeypatch.setattr(replica_process.log, "set_up", lambda *_: None)
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        config = TrainConfig(exp_dir="exp", train=TrainData(data_dir="data", ali_dir="ali"))
        replica_process.run_replica(3, "127.0.0.1", 1, "folder", config)
    assert ended.value.code == ConfigError.exit_code
    told = capsys.readouterr().err
    assert re.fullmatch(r"acoustic: error: replica 3: CUDA out of memory.*: lower data\.batch_size.*\n", told)


def test_a_shard_may_take_its_time_for_a_snapshot(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = Coordinator(small_config(corpus, tmp_path), tmp_path)
    coordinator.control = Control.host("127.0.0.1", 0)
    disk, asked = threading.Lock(), []

    def accept(control: Control) -> None:
        while name := control.receive(connections(0)):
            asked.append(name)
            threading.Thread(target=serve, args=(control.clone(), name), daemon=True).start()

    def serve(control: Control, name: str) -> None:
        with contextlib.suppress(PeerGoneError):
            pair = Pair(control, name, 0, 0)
            pair.expect()
            pair.receive()
            with disk:
                time.sleep(0.8)
            pair.send(compose([0]))

    shard = threading.Thread(target=accept, args=(coordinator.control.clone(),))
    shard.start()
    monkeypatch.setattr(coordinator_module, "ANSWER", timedelta(seconds=0.6))
    monkeypatch.setattr(coordinator.processes, "wait_for_end", lambda *_: None)
    coordinator._command(0, 0)
    coordinator.control.send(connections(0), "")
    shard.join()
    assert 1 < len(asked) < 5  # on an idle machine 2


def test_a_shard_that_cannot_write_its_snapshot_ends_the_run(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "acoustic")

    def be_in_the_way() -> None:
        """Put a folder where the snapshot would be, between two of them."""
        snapshot = snapshot_path(tmp_path / "asynchronous", 0)
        while not snapshot.is_dir():
            if "epoch 1:" in caplog.text:
                with contextlib.suppress(OSError):
                    snapshot.unlink()
                    snapshot.mkdir()
            time.sleep(0.001)

    thread = threading.Thread(target=be_in_the_way)
    thread.start()
    options = ("train.strategy=async_sgd", "schedule.max_epochs=1000000", "async.replicas=1", "async.shards=1")
    with pytest.raises(TrainingError, match="shard 0 ended with status 3; its own message says why"):
        train(small_config(corpus, tmp_path, *options), trainer_class=EngineTrainer)
    thread.join()
    told = capfd.readouterr().err
    assert "acoustic: error: shard 0: " in told and "Traceback" not in told
