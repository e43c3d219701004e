"""The process of one replica."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acoustic import log
from acoustic.asynchronous.arithmetic import Gradient, Replica, to_half
from acoustic.asynchronous.beginning import Beginning
from acoustic.asynchronous.dispatch import Lease
from acoustic.asynchronous.layout import split_layers
from acoustic.asynchronous.processes import telling_why_it_ends
from acoustic.asynchronous.talk import (
    FETCH,
    PUSH,
    REPORTS,
    Control,
    Pair,
    PeerGoneError,
    compose,
    head_of,
    leases,
    payload_of,
    request,
)
from acoustic.train.config import TrainConfig
from acoustic.train.precision import set_up_torch
from acoustic.train.run import lack_of_memory_told


def run_replica(
    slot: int | None, host: str, port: int, folder: str, config: TrainConfig, name: str | None = None
) -> None:
    """Compute gradients until the coordinator has ended.

    Args:
        slot: number among the replicas that the coordinator has started; None: this one has joined from elsewhere.
        host, port: of the coordinator's queues.
        folder: of the run's shared files.
        config: the whole configuration.
        name: of this process, never used before; None: any.
    """
    log.set_up(logging.WARNING)
    with telling_why_it_ends("a replica that joined" if slot is None else f"replica {slot}"), lack_of_memory_told():
        Worker(slot, Path(folder), config, Control.join(host, port), name or uuid.uuid4().hex).run()


class Worker:
    """A replica with its connections.

    Args:
        slot, folder, config, name: as of `run_replica`.
        control: the coordinator's queues.
    """

    def __init__(self, slot: int | None, folder: Path, config: TrainConfig, control: Control, name: str) -> None:
        self.slot, self.control, self.name = slot, control, name
        beginning = Beginning.read(folder)
        device = device_of(beginning.device, slot or 0)
        options = config.asynchronous
        num_threads = config.runtime.num_threads or max(1, (os.cpu_count() or 1) // options.replicas)
        set_up_torch(device, num_threads, config.runtime.deterministic)
        classifier = beginning.classifier().to(device)
        layouts = split_layers(classifier, options.shards)
        store = beginning.store(device, config.data)
        self.half = options.half_gradients
        self.replica = Replica(config, classifier, store, layouts, beginning.torch_dtype)
        self.pairs: list[Pair | None] = [None] * len(layouts)

    def run(self) -> None:
        """Ask for work, do it, report.

        Raises:
            RunOverError: the coordinator has ended.
        """
        finished: dict[str, Any] | None = None
        sender = {"name": self.name, "slot": self.slot, "process": os.getpid()}
        while True:
            self.control.send(REPORTS, {"from": sender, "finished": finished})
            finished = self.work(Lease(**self.control.receive(leases(self.name))))

    def work(self, lease: Lease) -> dict[str, Any]:
        """One lease; what is to be reported of it."""
        if lease.fetches:
            self.fetch(lease)
        gradient = self.replica.compute(lease)
        staleness = self.push(lease, gradient) if gradient.bad_step is None else []
        return {
            "totals": gradient.totals.tolist(),
            "num_frames": gradient.num_frames,
            "bad_step": gradient.bad_step,
            "staleness": staleness,
            "was_lost": gradient.bad_step is None and len(staleness) < len(self.pairs),
        }

    def fetch(self, lease: Lease) -> None:
        """Take over the parameters of all shards, of those that are replaced meanwhile too."""
        missing = set(range(len(self.pairs)))
        while missing:
            for shard, answer in self.ask(dict.fromkeys(missing, compose(request(FETCH, lease)))):
                flat = payload_of(answer, torch.float32, self.replica.layouts[shard].size)
                self.replica.take(shard, flat, int(head_of(answer)[0]))
                missing.remove(shard)

    def push(self, lease: Lease, gradient: Gradient) -> list[int]:
        """Send a gradient to all shards. What one that is gone did with it nobody knows: it is not sent again.

        Returns:
            staleness at each shard that applied it.
        """
        messages = {}
        for shard, part in enumerate(gradient.parts):
            if self.pairs[shard] is not None:
                part, scale = to_half(part) if self.half else (part, 0.0)
                messages[shard] = compose(request(PUSH, lease, scale), part)
        versions = self.replica.versions
        return [max(0, int(head_of(answer)[0]) - 1 - versions[shard]) for shard, answer in self.ask(messages)]

    def ask(self, messages: Mapping[int, Tensor]) -> list[tuple[int, Tensor]]:
        """Send each shard its message, connecting first where there is no pair yet; the answers of those that gave one,
        each until the shard is asked again."""
        asked, answers = [], []
        for shard, message in messages.items():
            with self._unless_gone(shard):
                size = self.replica.layouts[shard].size
                pair = self.pairs[shard] or self.control.connect(shard, size * torch.float32.itemsize)
                self.pairs[shard] = pair
                pair.expect()
                pair.send(message)
                asked.append((shard, pair))
        for shard, pair in asked:
            with self._unless_gone(shard):
                answers.append((shard, pair.receive()))
        return answers

    @contextlib.contextmanager
    def _unless_gone(self, shard: int) -> Iterator[None]:
        """Let go of the pair with a shard that is gone."""
        try:
            yield
        except PeerGoneError:
            self.pairs[shard] = None


def device_of(kind: str, number: int) -> torch.device:
    """The device of a replica; GPUs are taken in turn."""
    return torch.device("cuda", number % torch.cuda.device_count()) if kind == "cuda" else torch.device(kind)
