from __future__ import annotations

import re
import subprocess
import sys
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acoustic.asynchronous import replica_process, shard_process
from acoustic.asynchronous.coordinator import Coordinator
from acoustic.asynchronous.engine import Guests
from acoustic.asynchronous.processes import Post, Processes
from acoustic.asynchronous.shard_process import Server, end_process
from acoustic.asynchronous.talk import ANSWER, SAVE, PeerGoneError, RunOverError, compose, head_of, request
from acoustic.errors import ConfigError, DataError, TrainingError
from acoustic.train.asynchronous_config import AsynchronousConfig
from acoustic.train.config import TrainConfig, TrainData

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
    here = Processes(2)
    here.posts["shard", 0] = post_of("shard", 0)
    assert [post.what for post in here.dead("shard")] == ["shard"] and here.dead("replica") == []
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
    lifeline: Any = SimpleNamespace(check=list)
    guests = Guests(control, lifeline, ("127.0.0.1", 1, "folder", config))
    monkeypatch.setattr("acoustic.asynchronous.engine.LOOK_SECONDS", 0.0)
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


def test_a_shard_may_take_its_time_for_a_snapshot() -> None:
    coordinator: Any = Coordinator(TrainConfig(exp_dir="exp", train=TrainData(data_dir="d", ali_dir="a")), Path("x"))
    asked: list[float] = []
    patiences: list[timedelta] = []

    def receive(patience: timedelta) -> None:
        patiences.append(patience)
        if len(patiences) < 3:
            raise PeerGoneError

    pair = SimpleNamespace(expect=lambda: None, send=lambda message: asked.append(head_of(message)[0]), receive=receive)
    coordinator.control = SimpleNamespace(connect=lambda shard: pair)
    coordinator.processes = SimpleNamespace(wait_for_end=lambda *_: None, dead=lambda *_: [])
    coordinator._command(SAVE, 0)
    assert patiences == [ANSWER, 2 * ANSWER, 4 * ANSWER] and asked == [SAVE] * 3


@pytest.mark.parametrize(("what", "status"), [("a disk that is full", 3), ("a fault of ours", 1)])
def test_a_shard_that_cannot_write_its_snapshot_ends_its_process(
    what: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in the thread that serves one process: else those who ask it would ask for ever."""
    fault = DataError(what) if status == DataError.exit_code else ValueError(what)

    def save(server: Server) -> None:
        raise fault

    pair = SimpleNamespace(expect=lambda: None, receive=lambda _: compose(request(SAVE)))
    server: Any = SimpleNamespace(number=0, shard=SimpleNamespace(flat=torch.zeros(2), layout=SimpleNamespace(size=2)))
    server.answer, server.save = partial(Server.answer, server), partial(save, server)
    monkeypatch.setattr(shard_process, "Pair", lambda *_: pair)
    ended: list[int] = []

    def end(status: int) -> None:
        ended.append(status)
        sys.exit()

    monkeypatch.setattr("os._exit", end)
    monkeypatch.setattr(threading, "excepthook", end_process)
    thread = threading.Thread(target=Server.serve, args=(server, SimpleNamespace(), "name"))
    thread.start()
    thread.join()
    told = capsys.readouterr().err
    assert ended[0] == status and what in told
    assert ("Traceback" in told) == (status == 1) and ("acoustic: error: shard 0: " in told) == (status == 3)
