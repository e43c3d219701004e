"""Guests whose coordinator's machine vanishes without a word, or ends, or does not answer."""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acoustic.asynchronous import engine, lifeline
from acoustic.asynchronous.engine import Guests
from acoustic.asynchronous.lifeline import Lifeline, within
from acoustic.asynchronous.talk import Control, RunOverError
from acoustic.errors import TrainingError
from tests.train.runs import small_config

SO_ATTACH_FILTER = 26  # of Linux
SECONDS = 60.0  # before a test gives up


class Connection:
    """A lifeline and the coordinator's end of it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.lifeline = Lifeline(*server.getsockname())
            self.end, _ = server.accept()

    def vanish(self) -> None:
        """Drop whatever comes to the coordinator's end, as if its machine had lost its power."""
        drop_all = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\0\0", 8)  # BPF_RET of length 0

        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

        program = Program(1, ctypes.addressof(drop_all))
        try:
            self.end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(program))
        except OSError:
            pytest.skip("packets cannot be dropped here")


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """Probed every second."""
    monkeypatch.setattr(lifeline, "KEEPALIVE", dict.fromkeys(lifeline.KEEPALIVE, 1))
    found = Connection()
    yield found
    found.lifeline.close()
    found.end.close()


class FakeProcesses:
    """As Processes, of replicas that wait for ever."""

    def __init__(self) -> None:
        self.have_ended = False

    def start(self, *_: Any) -> None:
        pass

    def dead(self, *_: str) -> list[Any]:
        return []

    def end(self) -> None:
        self.have_ended = True


@pytest.fixture
def guests(connection: Connection, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guests:
    """Of one replica."""
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.05)
    config = small_config(corpus, tmp_path, "train.strategy=async_sgd", "async.replicas=1")
    found = Guests(Control.host("127.0.0.1", 0), connection.lifeline, ("127.0.0.1", 0, "", config))
    processes: Any = FakeProcesses()
    found.processes = processes
    return found


def has_ended(guests: Guests) -> bool:
    processes: Any = guests.processes
    return bool(processes.have_ended)


def test_guests_end_with_an_error_when_the_coordinators_machine_vanishes(
    connection: Connection, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(guests.control, "send", lambda *message: told.append(message))
    connection.vanish()
    with pytest.raises(TrainingError, match=r"async.join=127.0.0.1:\d+: that machine is not to be reached any more"):
        guests.run()
    assert has_ended(guests) and not told


def test_guests_end_when_the_coordinator_does(connection: Connection, guests: Guests) -> None:
    connection.lifeline.check()
    connection.end.close()
    guests.run()
    assert has_ended(guests)
    with pytest.raises(RunOverError):
        connection.lifeline.check()


def test_a_coordinator_that_does_not_listen_keeps_no_guest_from_leaving(
    guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    never = threading.Event()

    def unheard(*_: Any) -> None:
        asked.set()
        never.wait(SECONDS)

    def broken(*_: str) -> list[Any]:
        raise TrainingError("replica 0 ended with status 1")

    monkeypatch.setattr(engine, "ANSWER", timedelta(seconds=0.1))
    monkeypatch.setattr(guests.control, "send", unheard)
    monkeypatch.setattr(guests.processes, "dead", broken)
    with pytest.raises(TrainingError, match="status 1"):
        guests.run()
    assert asked.is_set() and has_ended(guests)
    never.set()


def test_a_guest_ends_with_the_process_that_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(engine, "exit_with_parent", lambda: called.append("watch"))
    monkeypatch.setattr(engine, "run_replica", lambda *_: called.append("work"))
    engine.run_guest(0, "127.0.0.1", 1)
    assert called == ["watch", "work"]


def test_an_answer_is_waited_for_so_long() -> None:
    assert within(timedelta(seconds=SECONDS), lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(timedelta(seconds=SECONDS), lambda: 1 // 0)
    with pytest.raises(TimeoutError, match="no answer"):
        within(timedelta(seconds=0.01), lambda: time.sleep(0.5))
