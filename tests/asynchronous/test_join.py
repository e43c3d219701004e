from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from acoustic.asynchronous import engine
from acoustic.asynchronous.engine import EngineTrainer, join_run
from acoustic.asynchronous.shard_process import journal_path
from acoustic.asynchronous.talk import Control, own_address
from acoustic.errors import ConfigError, PreemptedError
from acoustic.train.config import TrainConfig
from acoustic.train.run import train
from tests.train.runs import overrides_of, small_config

SECONDS = 120.0  # before a test gives up
RUN = ("train.strategy=async_sgd", "schedule.max_epochs=1000000", "runtime.log_seconds=0")


@pytest.fixture
def address() -> str:
    """This machine's on a network (198.51.100.0/24 is for documentation; nothing is sent there)."""
    try:
        found = own_address("198.51.100.1", 9)
    except OSError:
        pytest.skip("no network")
    if ipaddress.ip_address(found).is_loopback:
        pytest.skip("no network")
    return found


def wait_until(holds: Callable[[], object]) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_replicas_join_over_the_network_are_replaced_and_leave(
    corpus: Path, tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "acoustic")
    failed: list[BaseException] = []

    def other_machine() -> None:
        try:
            wait_until(lambda: "more replicas may join" in caplog.text)
            (place,) = re.findall(r"async\.join=(\S+)", caplog.text)
            assert place.startswith(f"{address}:")
            with pytest.raises(ConfigError):
                join_run(small_config(corpus, tmp_path / "other", *RUN, f"async.join={place}", "optim.learning_rate=7"))
            be_guest(place)
        except BaseException as error:
            failed.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def be_guest(place: str) -> None:
        told = tmp_path / "guest.log"
        options = (f"async.join={place}", "async.replicas=1", "optim.learning_rate=0.02")  # which the run chose itself
        overrides = overrides_of(corpus, tmp_path / "guest", *RUN, *options)
        with open(told, "wb") as log:
            guest = subprocess.Popen([sys.executable, "-m", "acoustic", "train", *overrides], stderr=log)
        journal = journal_path(tmp_path / "exp" / "asynchronous", 1)
        wait_until(lambda: journal.exists() and '["push", 1,' in journal.read_text())
        (process,) = re.findall(r"replica 0 is process (\d+)", told.read_text())
        os.kill(int(process), signal.SIGKILL)
        wait_until(lambda: caplog.text.count("replica 1 has left") == 1)
        wait_until(lambda: caplog.text.count("replica 1 has joined") == 2)
        guest.terminate()
        assert guest.wait(SECONDS) == PreemptedError.exit_code
        wait_until(lambda: caplog.text.count("replica 1 has left") == 2)

    thread = threading.Thread(target=other_machine)
    thread.start()
    options = (f"async.listen={address}", "async.replicas=1", "async.shards=2", "async.journal=true")
    with pytest.raises(PreemptedError):
        train(small_config(corpus, tmp_path / "exp", *RUN, *options), trainer_class=EngineTrainer)
    thread.join()
    assert not failed
    assert not (tmp_path / "guest").exists()


def test_guests_take_the_rate_that_the_run_has_where_they_are_given_none(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was resumed has it from its config.yaml."""
    joined: list[TrainConfig] = []
    monkeypatch.setattr(
        engine, "Guests", lambda *arguments: SimpleNamespace(run=lambda: joined.append(arguments[2][3]))
    )
    config = small_config(corpus, tmp_path, *RUN, "optim.learning_rate=0.03")
    control = Control.host("127.0.0.1", 0)
    run = {"config": config.fingerprint(), "learning_rate": 0.03, "shards": 1, "folder": f"{tmp_path}/asynchronous"}
    control.store.set("run", json.dumps(run))
    place = f"async.join=127.0.0.1:{control.port}"
    join_run(small_config(corpus, tmp_path, *RUN, place))
    assert [guest.optim.learning_rate for guest in joined] == [0.03]
    with pytest.raises(ConfigError, match="that run has another configuration"):
        join_run(small_config(corpus, tmp_path, *RUN, place, "optim.learning_rate=0.02"))


def test_a_run_that_is_not_there_is_told_of_at_once(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"async.join={nobody}: no run is to be found there .Connection refused"):
        join_run(small_config(corpus, tmp_path, *RUN, f"async.join={nobody}"))
    assert not capfd.readouterr().err
    monkeypatch.setattr(engine, "ANSWER", timedelta(seconds=0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_place = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"no run is to be found there .no answer"):
            join_run(small_config(corpus, tmp_path, *RUN, f"async.join={silent_place}"))
    other = Control.host("127.0.0.1", 0)  # where something else meets
    with pytest.raises(ConfigError, match="no run is to be found there"):
        join_run(small_config(corpus, tmp_path, *RUN, f"async.join=127.0.0.1:{other.port}"))


@pytest.mark.parametrize(
    "place", ["join=5000", "join=:5000", "join=here:0", "join=here:70000", "port=70000", "port=-1"]
)
def test_a_place_that_cannot_be_is_told_of(corpus: Path, tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=f"async.{place.partition('=')[0]}"):
        small_config(corpus, tmp_path, *RUN, f"async.{place}")


@pytest.mark.parametrize("address", ["''", "0.0.0.0", "'::'"])
def test_an_address_that_others_cannot_use_is_told_of(corpus: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="name the one address"):
        small_config(corpus, tmp_path, *RUN, f"async.listen={address}")
