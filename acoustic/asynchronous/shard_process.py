"""The process of one shard of the parameter server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acoustic import fsio, log
from acoustic.asynchronous.arithmetic import Shard, from_half
from acoustic.asynchronous.beginning import Beginning, write_tensors
from acoustic.asynchronous.dispatch import Lease
from acoustic.asynchronous.layout import split_layers
from acoustic.asynchronous.processes import telling_why_it_ends
from acoustic.asynchronous.talk import (
    FETCH,
    LOAD,
    PATIENCE,
    PUSH,
    SAVE,
    Control,
    Pair,
    PeerGoneError,
    compose,
    connections,
    head_of,
    lease_in,
    payload_of,
)
from acoustic.nn.bundle import load_weights_only
from acoustic.train.config import TrainConfig


def snapshot_path(folder: Path, number: int) -> Path:
    """Where a shard's last snapshot lies."""
    return folder / f"shard-{number}.pt"


def journal_path(folder: Path, number: int) -> Path:
    """Where a shard writes down what it served."""
    return folder / f"journal-{number}.jsonl"


def run_shard(number: int, host: str, port: int, folder: str, config: TrainConfig) -> None:
    """Serve until the coordinator has ended.

    Args:
        number: of the shard.
        host, port: of the coordinator's queues.
        folder: of the run's shared files.
        config: the whole configuration.
    """
    log.set_up(logging.WARNING)
    torch.set_num_threads(1)
    threading.excepthook = end_process
    with telling_why_it_ends(f"shard {number}"):
        Server(number, Path(folder), config).accept(Control.join(host, port))


def end_process(fault: Any) -> None:
    """A thread has failed: the coordinator is to know, rather than those whom it served to ask for ever."""
    threading.__excepthook__(fault)
    os._exit(1)


class Server:
    """A shard and the threads that serve it, one for each process that asks.

    Args:
        number, folder, config: as of `run_shard`.
    """

    def __init__(self, number: int, folder: Path, config: TrainConfig) -> None:
        classifier = Beginning.read(folder).classifier()
        layout = split_layers(classifier, config.asynchronous.shards)[number]
        self.shard = Shard(layout, config.optim, classifier)
        self.number, self.snapshot = number, snapshot_path(folder, number)
        self.journal = journal_path(folder, number) if config.asynchronous.journal else None
        self.snapshot_seconds = config.asynchronous.snapshot_seconds
        self.last_snapshot = time.monotonic()
        self.lock = threading.Lock()  # around whatever touches the shard
        self.load()

    def accept(self, control: Control) -> None:
        """Give every process that asks for it a pair and a thread.

        Raises:
            RunOverError: the coordinator has ended.
        """
        while True:
            name = control.receive(connections(self.number))
            threading.Thread(target=self.serve, args=(control.clone(), name), daemon=True).start()

    def serve(self, control: Control, name: str) -> None:
        """Answer one process until it is gone."""
        with telling_why_it_ends(f"shard {self.number}"), contextlib.suppress(PeerGoneError):
            pair = Pair(control, name, 0, self.shard.flat.nbytes)
            pair.expect()
            while True:
                answer = self.answer(pair.receive(PATIENCE))
                pair.expect()
                pair.send(answer)

    def answer(self, message: Tensor) -> Tensor:
        """Do what a message asks. The answer begins with the shard's version; to a fetch its parameters follow."""
        head, size = head_of(message), self.shard.layout.size
        kind, scale = int(head[0]), head[-1]
        if kind == FETCH:
            return self.fetch(lease_in(head))
        if kind == PUSH:
            gradient = payload_of(message, torch.float16 if scale else torch.float32, size)
            self.push(lease_in(head), from_half(gradient, scale) if scale else gradient)
        elif kind == SAVE:
            self.save()
        elif kind == LOAD:
            self.load()
        return compose([self.shard.version])

    def fetch(self, lease: Lease) -> Tensor:
        """The answer with the parameters as they are now."""
        with self.lock:
            self.note("fetch", lease)
            return compose([self.shard.version], self.shard.flat)

    def push(self, lease: Lease, gradient: Tensor) -> None:
        """Apply a gradient; a snapshot now and then."""
        with self.lock:
            self.note("push", lease)
            self.shard.apply(gradient, lease.rate, lease.momentum)
            is_due = time.monotonic() - self.last_snapshot > self.snapshot_seconds
            if is_due:
                self.last_snapshot = time.monotonic()
        if is_due:
            self.save()

    def note(self, kind: str, lease: Lease) -> None:
        """Write an event into the journal, if there is one."""
        if self.journal is not None:
            try:
                with open(self.journal, "a", encoding="utf-8") as file:
                    file.write(json.dumps([kind, *vars(lease).values()]) + "\n")
            except OSError as error:
                raise fsio.write_failed(self.journal, error) from error

    def save(self) -> None:
        """Write a snapshot. Nobody is served meanwhile: what follows it in time is lost with the process."""
        with self.lock:
            write_tensors(self.snapshot, self.shard.state_dict())

    def load(self) -> None:
        """Go back to the snapshot that is there."""
        with self.lock:
            self.shard.load_state_dict(load_weights_only(self.snapshot))
