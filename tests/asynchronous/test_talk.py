from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from acoustic.asynchronous.dispatch import Lease
from acoustic.asynchronous.talk import (
    PUSH,
    Control,
    Pair,
    PeerGoneError,
    compose,
    head_of,
    lease_in,
    payload_of,
    request,
)


@pytest.fixture
def control() -> Control:
    return Control.host("127.0.0.1", 0)


@pytest.fixture
def pairs(control: Control) -> Iterator[tuple[Pair, Pair]]:
    """A shard's and a replica's end, for messages of up to 3 float32 values."""
    found: dict[int, Pair] = {}

    def connect(rank: int) -> None:
        found[rank] = Pair(control.clone(), "pair", rank, 12)

    threads = [threading.Thread(target=connect, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield found[0], found[1]


def later(seconds: float, work, *arguments) -> None:
    """Do something in another thread."""
    threading.Timer(seconds, work, arguments).start()


def test_a_message_is_waited_for_and_comes_in_order(control: Control) -> None:
    client = Control.join("127.0.0.1", control.port)
    client.send("a", {"first": 0.1})
    client.send("a", [2, None])
    assert [control.receive("a"), control.receive("a")] == [{"first": 0.1}, [2, None]]
    later(0.1, client.send, "a", "third")
    assert control.receive("a") == "third"


def test_whoever_has_waited_for_a_queue_is_not_woken_by_it_from_other_waits(control: Control) -> None:
    client = Control.join("127.0.0.1", control.port)
    later(0.1, control.send, "a", 1)
    assert client.receive("a") == 1
    client.store.set_timeout(timedelta(seconds=0.5))
    later(0.1, control.send, "a", 2)
    with pytest.raises(dist.DistError):
        client.store.get("never set")


def test_a_message_carries_its_head_and_payload(pairs: tuple[Pair, Pair]) -> None:
    shard, replica = pairs
    lease = Lease(3, 70_000_000, 70_000_002, 0.1, 0.9, True)
    gradient = torch.tensor([1.0, -2.5, 3e-30])
    shard.expect()
    replica.send(compose(request(PUSH, lease, 0.5), gradient))
    message = shard.receive()
    assert head_of(message)[0] == PUSH and head_of(message)[-1] == 0.5 and lease_in(head_of(message)) == lease
    assert torch.equal(payload_of(message, torch.float32, 3), gradient)
    shard.expect()
    replica.send(compose(request(PUSH, lease), gradient[:2].half()))  # shorter than what there is room for
    assert torch.equal(payload_of(shard.receive(), torch.float16, 2), gradient[:2].half())


def test_the_end_of_one_is_told_to_the_other_while_it_waits(control: Control, pairs: tuple[Pair, Pair]) -> None:
    shard, replica = pairs
    replica.expect()
    later(0.1, shard.__dict__.clear)
    with pytest.raises(PeerGoneError):
        replica.receive()
