"""How the processes of an asynchronous run talk: queues for words, pairs for tensors, both torch.distributed's own.

The coordinator hosts a TCPStore, whose queues carry leases and reports of a few hundred bytes of JSON; whoever is there
takes part, whoever dies is simply not heard of again. Parameters and gradients go over pairs: process groups of gloo
with two members, so that the death of one process breaks its own pairs and no other. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator, Sequence
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

# What a replica, or the coordinator, asks of a shard.
FETCH, PUSH, SAVE, LOAD = 0, 1, 2, 3
# Numbers at the head of a message: kind, replica, first, end, rate, momentum, fetches, scale of a half-precision
# gradient; of an answer: the shard's version.
HEAD_SIZE = 8
HEAD_BYTES = 8 * HEAD_SIZE
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
        address: of this machine, at which other processes of the run reach this one.
    """

    def __init__(self, store: Store, port: int, address: str) -> None:
        self.store, self.port, self.address = store, port, address

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
        store = TCPStore(
            address, port, is_master=True, wait_for_workers=False, timeout=PATIENCE, master_listen_fd=listener.detach()
        )
        return cls(store, port, own_address(address, port))

    @classmethod
    def join(cls, address: str, port: int) -> Control:
        """Use the queues of a coordinator.

        Raises:
            RunOverError: there is none.
        """
        with _while_it_runs():
            store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=ANSWER)
            store.set_timeout(PATIENCE)
            return cls(store, port, own_address(address, port))

    def clone(self) -> Control:
        """The same queues for another thread."""
        with _while_it_runs():
            return Control(self.store.clone(), self.port, self.address)

    def send(self, queue: str, message: Any) -> None:
        """Put a message (of JSON's types) at the end of a queue.

        Raises:
            RunOverError: the coordinator has ended.
        """
        with _while_it_runs():
            self.store.queue_push(queue, json.dumps(message))
            self.store.set(bell(queue), "rung")

    def receive(self, queue: str) -> Any:
        """Wait for the first message of a queue, which nobody else reads, and take it.

        It waits for the queue's bell. Waiting by `queue_pop` would leave this connection listed for that queue:
        a later message then ends whatever else it waits for, so that gloo reads an address that is not there yet, and
        the process crashes.

        Raises:
            RunOverError: the coordinator has ended.
        """
        while True:
            with _while_it_runs():
                self.store.delete_key(bell(queue))
                with contextlib.suppress(dist.QueueEmptyError):
                    return json.loads(self.store.queue_pop(queue, False))
                self.store.wait([bell(queue)], PATIENCE)

    def connect(self, shard: int, payload_bytes: int = 0) -> Pair:
        """Ask a shard for a pair of one's own, on which so long answers come.

        Raises:
            PeerGoneError: it did not answer.
            RunOverError: the coordinator has ended.
        """
        name = uuid.uuid4().hex
        self.send(connections(shard), name)
        return Pair(self, name, 1, payload_bytes)


@contextlib.contextmanager
def _while_it_runs() -> Iterator[None]:
    try:
        yield
    except dist.DistError as error:
        raise RunOverError from error


def own_address(host: str, port: int) -> str:
    """The address of this machine on the network by which it reaches another (no packet is sent to find out)."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def bell(queue: str) -> str:
    """The key that is set whenever a message was put into a queue."""
    return f"bell-{queue}"


def connections(shard: int) -> str:
    """The queue of names of pairs that a shard is asked for. It outlives the shard's process."""
    return f"connect-{shard}"


def leases(name: str) -> str:
    """The queue of leases of one replica's process."""
    return f"leases-{name}"


class Pair:
    """Two processes that send each other messages.

    A message is one tensor of bytes, head and payload together: each that is sent apart wakes up the other process,
    which on a busy machine costs a time slice.

    Args:
        control: where they find each other.
        name: that both know, never used before.
        rank: 0 for the shard, 1 for the one that asked.
        payload_bytes: of the longest message that comes in.

    Raises:
        PeerGoneError: the other does not come.
    """

    def __init__(self, control: Control, name: str, rank: int, payload_bytes: int) -> None:
        self._other = 1 - rank
        self._inbox = torch.zeros(HEAD_BYTES + payload_bytes, dtype=torch.uint8)
        self._expected: Any = None
        with _while_it_answers():
            gloo: Any = dist.ProcessGroupGloo  # of which torch's type hints know too little
            options = gloo._Options()
            options._devices = [gloo.create_device(hostname=control.address)]
            options._timeout = ANSWER
            self._group = gloo(PrefixStore(name, control.store), rank, 2, options)

    def expect(self) -> None:
        """Let the next message overwrite the last. What is expected need not be announced before it is sent.

        Raises:
            PeerGoneError: there will be none.
        """
        with _while_it_answers():
            self._expected = self._group.recv([self._inbox], self._other, 0)

    def send(self, message: Tensor) -> None:
        """Send a message.

        Raises:
            PeerGoneError: it cannot be sent.
        """
        with _while_it_answers():
            self._group.send([message], self._other, 0).wait()

    def receive(self, patience: timedelta = ANSWER) -> Tensor:
        """Wait for the message that is expected: uint8 [HEAD_BYTES + payload_bytes], shorter ones at its beginning.

        Raises:
            PeerGoneError: it does not come.
        """
        with _while_it_answers():
            self._expected.wait(patience)
        return self._inbox


@contextlib.contextmanager
def _while_it_answers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerGoneError from error


# -- messages: a head of HEAD_SIZE float64 numbers, then parameters or a gradient -------------------------------------


def compose(head: Sequence[float], payload: Tensor | None = None) -> Tensor:
    """A message, uint8 [HEAD_BYTES + bytes of the payload].

    Args:
        head: up to HEAD_SIZE numbers.
        payload: one-dimensional.
    """
    numbers = torch.tensor([*head, *[0.0] * (HEAD_SIZE - len(head))], dtype=torch.float64).view(torch.uint8)
    return numbers if payload is None else torch.cat([numbers, payload.view(torch.uint8)])


def head_of(message: Tensor) -> list[float]:
    """The numbers that a message begins with."""
    numbers: list[float] = message[:HEAD_BYTES].view(torch.float64).tolist()
    return numbers


def payload_of(message: Tensor, dtype: torch.dtype, size: int) -> Tensor:
    """What follows them, as a view [size]."""
    return message[HEAD_BYTES : HEAD_BYTES + size * dtype.itemsize].view(dtype)


def request(kind: int, lease: Lease | None = None, scale: float = 0.0) -> list[float]:
    """The head of a message to a shard. `scale` is that of a gradient in half precision, 0 for float32."""
    if lease is None:
        return [kind]
    return [kind, lease.replica, lease.first, lease.end, lease.rate, lease.momentum, lease.fetches, scale]


def lease_in(head: Sequence[float]) -> Lease:
    """The lease that a request belongs to."""
    _, replica, first, end, rate, momentum, fetches, _ = head
    return Lease(int(replica), int(first), int(end), rate, momentum, bool(fetches))
