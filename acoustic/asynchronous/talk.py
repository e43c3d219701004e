"""How the processes of an asynchronous run talk: queues for words, pairs for tensors, both torch.distributed's own.

The coordinator hosts a TCPStore, whose queues carry leases and reports of a few hundred bytes of JSON; whoever is there
takes part, whoever dies is simply not heard of again. Parameters and gradients go over pairs: process groups of gloo
with two members, so that the death of one process breaks its own pairs and no other. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore

from acoustic.asynchronous.dispatch import Lease
from acoustic.errors import ConfigError

PATIENCE = timedelta(days=2)  # with which a process waits to be given something to do
# ... for the answer of one that is known to be there. Most deaths are noticed at once, but one in the middle of a large
# message sometimes only by this.
ANSWER = timedelta(seconds=20)
FIRST_PAUSE, LAST_PAUSE = 0.0005, 0.02  # seconds between two looks into a queue

# What a replica, or the coordinator, asks of a shard.
FETCH, PUSH, SAVE, LOAD = 0, 1, 2, 3
HEADER_SIZE = 8  # kind, replica, first, end, rate, momentum, fetches, scale of a half-precision gradient
REPORTS = "reports"  # the queue that the coordinator reads


class PeerGoneError(Exception):
    """The other process of a pair has ended or does not answer."""


class RunOverError(Exception):
    """The coordinator has ended."""


class Control:
    """The coordinator's queues, as one thread of a process uses them.

    Args:
        store: of this thread's own: another thread that waits in it would block this one.
        port: of the coordinator.
    """

    def __init__(self, store: Store, port: int) -> None:
        self.store, self.port = store, port

    @classmethod
    def host(cls, address: str, port: int) -> Control:
        """Open the queues, at one address of this machine only.

        Raises:
            ConfigError: the address is not this machine's, or the port is taken.
        """
        try:
            listener = socket.create_server((address, port))
        except OSError as error:
            raise ConfigError(f"async.listen={address}, async.port={port}: {error.strerror}") from error
        port = listener.getsockname()[1]
        return cls(
            TCPStore(
                address, port, is_master=True, wait_for_workers=False, timeout=PATIENCE,
                master_listen_fd=listener.detach(),
            ),
            port,
        )  # fmt: skip

    @classmethod
    def join(cls, address: str, port: int) -> Control:
        """Use the queues of a coordinator.

        Raises:
            RunOverError: there is none.
        """
        with _while_it_runs():
            store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=ANSWER)
            store.set_timeout(PATIENCE)
            return cls(store, port)

    def clone(self) -> Control:
        """The same queues for another thread."""
        with _while_it_runs():
            return Control(self.store.clone(), self.port)

    def send(self, queue: str, message: Any) -> None:
        """Put a message (of JSON's types) at the end of a queue.

        Raises:
            RunOverError: the coordinator has ended.
        """
        with _while_it_runs():
            self.store.queue_push(queue, json.dumps(message))

    def receive(self, queue: str) -> Any:
        """Wait for the first message of a queue and take it.

        By asking again and again: when a process is killed while the store keeps it waiting, and the message comes in
        that instant, the store can hang or end its own process.

        Raises:
            RunOverError: the coordinator has ended.
        """
        pause = FIRST_PAUSE
        while True:
            with _while_it_runs(), contextlib.suppress(dist.QueueEmptyError):
                return json.loads(self.store.queue_pop(queue, False))
            time.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    def connect(self, shard: int) -> Pair:
        """Ask a shard for a pair of one's own.

        Raises:
            PeerGoneError: it did not answer.
            RunOverError: the coordinator has ended.
        """
        name = uuid.uuid4().hex
        self.send(connections(shard), name)
        return Pair(self.store, name, 1)


@contextlib.contextmanager
def _while_it_runs() -> Iterator[None]:
    try:
        yield
    except dist.QueueEmptyError:
        raise
    except dist.DistError as error:
        raise RunOverError from error


def connections(shard: int) -> str:
    """The queue of names of pairs that a shard is asked for. It outlives the shard's process."""
    return f"connect-{shard}"


def leases(name: str) -> str:
    """The queue of leases of one replica's process."""
    return f"leases-{name}"


class Pair:
    """Two processes that send each other tensors.

    Args:
        store: where they find each other.
        name: that both know, never used before.
        rank: 0 for the shard, 1 for the one that asked.

    Raises:
        PeerGoneError: the other does not come.
    """

    def __init__(self, store: Store, name: str, rank: int) -> None:
        self._other = 1 - rank
        with _while_it_answers():
            # Its methods are not in torch's type hints.
            self._group: Any = dist.ProcessGroupGloo(PrefixStore(name, store), rank, 2, ANSWER)

    def send(self, tensor: Tensor) -> None:
        """Send a tensor, whose shape and type the other knows.

        Raises:
            PeerGoneError: it cannot be sent.
        """
        with _while_it_answers():
            self._group.send([tensor], self._other, 0).wait()

    def receive(self, tensor: Tensor, patience: timedelta = ANSWER) -> Tensor:
        """Fill a tensor with what the other sends.

        Raises:
            PeerGoneError: it sends nothing.
        """
        with _while_it_answers():
            self._group.recv([tensor], self._other, 0).wait(patience)
        return tensor


@contextlib.contextmanager
def _while_it_answers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerGoneError from error


# -- the head of each message to a shard ------------------------------------------------------------------------------


def header(kind: int, lease: Lease | None = None, scale: float = 0.0) -> Tensor:
    """float64 [HEADER_SIZE]. `scale` is that of a gradient in half precision, 0 for float32."""
    of_lease = [0.0] * 6
    if lease is not None:
        of_lease = [lease.replica, lease.first, lease.end, lease.rate, lease.momentum, float(lease.fetches)]
    return torch.tensor([kind, *of_lease, scale], dtype=torch.float64)


def lease_in(head: Tensor) -> Lease:
    """The lease that a message belongs to."""
    _, replica, first, end, rate, momentum, fetches, _ = head.tolist()
    return Lease(int(replica), int(first), int(end), rate, momentum, bool(fetches))
