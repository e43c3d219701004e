"""A replica's process and its shards without processes: messages are answered where they are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acoustic.asynchronous.beginning import Beginning
from acoustic.asynchronous.dispatch import Lease
from acoustic.asynchronous.replica_process import Worker
from acoustic.asynchronous.shard_process import Server, snapshot_path
from acoustic.asynchronous.talk import PeerGoneError
from acoustic.asynchronous.trainer import SimulatedTrainer
from acoustic.train.run import make_trainer, prepare
from tests.train.runs import small_config

FETCH_BYTES, PUSH_BYTES = 64, 65  # no message of a push is shorter


class Net:
    """Two shards, and pairs with them that break when their shard is killed.

    Attributes:
        servers: the shards; None: killed.
        dies_at: bytes of the message over which shard 1 dies, before or after it was served.
    """

    def __init__(self, folder: Path, config: Any) -> None:
        self.folder, self.config = folder, config
        self.servers: list[Server | None] = [Server(number, folder, config) for number in range(2)]
        self.dies_at, self.is_served = 0, False
        self.num_connected = 0

    def connect(self, shard: int, payload_bytes: int) -> LocalPair:
        self.num_connected += 1
        if self.servers[shard] is None:
            self.servers[shard] = Server(shard, self.folder, self.config)
        server = self.servers[shard]
        assert server is not None and payload_bytes == server.shard.flat.nbytes
        return LocalPair(self, server)


class LocalPair:
    """As Pair."""

    def __init__(self, net: Net, server: Server) -> None:
        self.net, self.server = net, server
        self.answers: list[Tensor] = []

    def expect(self) -> None:
        if self.server not in self.net.servers:
            raise PeerGoneError

    def send(self, message: Tensor) -> None:
        dies = self.server.number == 1 and 0 < self.net.dies_at <= len(message)
        if not dies or self.net.is_served:
            self.answers.append(self.server.answer(message))
        if dies:
            self.net.dies_at, self.net.servers[1] = 0, None

    def receive(self) -> Tensor:
        self.expect()
        return self.answers.pop()


@pytest.fixture
def net(corpus: Path, tmp_path: Path) -> Net:
    config = small_config(corpus, tmp_path, "optim=momentum", "async.shards=2", "async.replicas=1")
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32, None, SimulatedTrainer)
    assert isinstance(trainer, SimulatedTrainer)
    Beginning.of(trainer.classifier, trainer.train_store, torch.float32).write(tmp_path)
    for number, state in enumerate(trainer.shard_states()):
        torch.save(state, snapshot_path(tmp_path, number))
    return Net(tmp_path, config)


def worker_of(net: Net) -> Worker:
    """A replica."""
    control: Any = net
    return Worker(0, net.folder, net.config, control, "name")


def lease(step: int, fetches: bool = True) -> Lease:
    """Of one update."""
    return Lease(0, step, step + 1, 0.1, 0.9, fetches)


def test_staleness_is_what_others_pushed_since_the_fetch(net: Net) -> None:
    one, other = worker_of(net), worker_of(net)
    done = one.work(lease(0))
    assert done["staleness"] == [0, 0] and done["num_frames"] == 64
    assert done["bad_step"] is None and not done["was_lost"]
    other.fetch(lease(1))
    one.work(lease(2))
    assert other.work(lease(1, fetches=False))["staleness"] == [1, 1]
    assert one.work(lease(3, fetches=False))["staleness"] == [2, 2]  # its own push counts as one that it missed
    assert [server.shard.version for server in net.servers if server] == [4, 4] and net.num_connected == 4


def test_replicas_take_the_parameters_of_all_shards(net: Net) -> None:
    worker = worker_of(net)
    worker.work(lease(0))
    worker.fetch(lease(1))
    for server in net.servers:
        assert server is not None
        for name, view in server.shard.layout.views(server.shard.flat).items():
            assert torch.equal(worker.replica.parameters[name], view)


@pytest.mark.parametrize("is_served", [True, False])
def test_a_push_over_which_a_shard_dies_is_lost_and_not_sent_again(net: Net, is_served: bool) -> None:
    worker = worker_of(net)
    worker.work(lease(0))
    net.dies_at, net.is_served = PUSH_BYTES, is_served
    done = worker.work(lease(1))
    assert done["was_lost"] and done["staleness"] == [0] and done["num_frames"] == 64
    done = worker.work(lease(2, fetches=False))  # with parameters that its successor has never had
    assert done["was_lost"] and done["staleness"] == [1] and net.num_connected == 2
    done = worker.work(lease(3))
    assert done["staleness"] == [0, 0] and not done["was_lost"] and net.num_connected == 3
    versions = [server.shard.version for server in net.servers if server]
    assert versions == [4, 1]  # the second began anew from its snapshot


def test_a_shard_that_dies_over_a_fetch_is_asked_again(net: Net) -> None:
    worker = worker_of(net)
    worker.work(lease(0))
    net.dies_at = FETCH_BYTES
    done = worker.work(lease(1))
    assert done["staleness"] == [0, 0] and not done["was_lost"] and worker.replica.versions == [1, 0]


def test_a_gradient_that_is_not_finite_is_not_pushed(net: Net) -> None:
    worker = worker_of(net)
    worker.fetch(lease(0))
    with torch.no_grad():
        next(iter(worker.replica.parameters.values())).fill_(torch.nan)
    done = worker.work(lease(4, fetches=False))
    assert done["bad_step"] == 4 and done["staleness"] == [] and not done["was_lost"]
    assert [server.shard.version for server in net.servers if server] == [0, 0]
