"""Ranks: processes that train one network together, each on its own part of every batch (torch.distributed).

torchrun starts them (`torchrun --nproc-per-node=2 -m acoustic train ...`) and starts them again, perhaps fewer or more,
when one dies; they then go on from the last checkpoint. They share a file system: rank 0 alone writes.

The ranks either add up their gradients before every update, so that the weights are the same everywhere and the run is
that of one process with the batches of all together; or each updates its own weights and all take their mean every so
many updates (Povey, Zhang and Khudanpur 2014, arXiv:1410.7455, section 2), which needs far less of the network between
machines and is another optimizer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from acoustic.errors import ConfigError, TrainingError
from acoustic.train.rendezvous import fresh_store

# How long ranks wait for one that builds a cache or pre-trains for all of them, or reads its data from a slower disk.
# That one died is noticed by torchrun.
PATIENCE = timedelta(days=2)
# How long they wait for one between updates. Compiling, a window of frames or evaluation take one minutes more than
# another; a file server may be away for longer, but one that takes hours hangs.
LONGEST_PAUSE = timedelta(hours=1)
# Updates after which ranks ask each other whether one was told to stop, or a checkpoint is due.
TALK_STEPS = 10


@dataclass(kw_only=True)
class RanksConfig:
    """How several ranks train together; one process alone is not concerned."""

    average_steps: int | None = None  # updates between means of the ranks' weights; null: gradients are added up

    def __post_init__(self) -> None:
        if self.average_steps is not None and self.average_steps < 1:
            raise ValueError("ranks.average_steps must be at least 1, or null")


class Ranks:
    """This process among those of a run. A process alone talks to nobody: every method is then free.

    Args:
        rank: number of this process, from 0.
        world_size: how many there are.
        average_steps: as in RanksConfig.
        patient: the ranks as a group that waits for `PATIENCE`; all else waits for `LONGEST_PAUSE`.

    Attributes:
        is_first: whether this is rank 0, which writes.
    """

    def __init__(
        self,
        rank: int = 0,
        world_size: int = 1,
        average_steps: int | None = None,
        patient: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank, self.world_size, self.is_first = rank, world_size, rank == 0
        self.average_steps, self._patient = average_steps, patient

    def seed(self, seed: int, step: int) -> int:
        """The seed of all that is random in one update of this rank.

        Hashed, because torch's generator on the CPU looks only at the lower 32 bits of a seed.
        """
        digest = hashlib.sha256(f"{seed} {step} {self.rank}".encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1

    def divisor(self, num_frames: int, num_batch_frames: int) -> int:
        """What to divide a sum of losses by, for the gradient: of `num_frames` here, `num_batch_frames` over all ranks.

        Where gradients are added up, the whole batch; a rank may then have no frame of an epoch's last batch.
        """
        return num_batch_frames if self.average_steps is None else max(1, num_frames)

    @property
    def adds_gradients(self) -> bool:
        """Whether the gradients of several ranks are added up: not when weights are averaged instead."""
        return self.world_size > 1 and self.average_steps is None

    @contextlib.contextmanager
    def adding_gradients(self, leaves: Sequence[Tensor]) -> Iterator[None]:
        """Add up the gradients that a backward pass leaves in some tensors, unless weights are averaged instead.

        Each is on its way to the other ranks while those of the layers before it are computed. They go in the order of
        the last tensor to the first, as backward passes come by them, and in no other, for all ranks must agree.
        """
        if not self.adds_gradients:
            yield
            return
        ahead, ready = list(leaves), set[int]()
        under_way: list[Any] = []

        def begin(leaf: Tensor) -> None:
            ready.add(id(leaf))
            while ahead and id(ahead[-1]) in ready:
                gradient = ahead.pop().grad
                assert gradient is not None, "what is ready has one"
                with _together():
                    under_way.append(dist.all_reduce(gradient, async_op=True))

        hooks = [leaf.register_post_accumulate_grad_hook(begin) for leaf in leaves]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        for leaf in reversed(leaves):  # one that is not used has no gradient, and has held up those before it
            if leaf.grad is not None:
                begin(leaf)
            elif ahead and ahead[-1] is leaf:
                ahead.pop()
        with _together():
            for work in under_way:
                work.wait()

    def share_moments(self, moments: Iterable[Tensor]) -> None:
        """Replace the moments of batch normalisation, of each rank's part of the batches, by their means.

        So that all ranks evaluate the network that rank 0 saves, and go on with it after a resume.
        """
        if self.adds_gradients:
            self.mean(moments)

    def is_time_to_average(self, step: int) -> bool:
        """Whether the ranks take the mean of their weights after so many updates."""
        return self.world_size > 1 and self.average_steps is not None and step % self.average_steps == 0

    def is_time_to_talk(self, step: int) -> bool:
        """Whether the ranks ask each other after so many updates, at which all must have the same weights."""
        return self.world_size == 1 or step % (self.average_steps or TALK_STEPS) == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all ranks."""
        if self.world_size > 1:
            with _together():
                for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                    work.wait()

    def share_of(self, sums: Tensor) -> Tensor:
        """This rank's part of sums over all ranks: as large as the others', but for what makes them add up exactly.

        Whole numbers, for sums of losses and of right frames that are then exact again in float64.
        """
        share = (sums / self.world_size).round()
        return sums - (self.world_size - 1) * share if self.is_first else share

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over all ranks; those of whole numbers by rank 0's."""
        if self.world_size == 1:
            return
        tensors = list(tensors)
        numbers = [tensor for tensor in tensors if tensor.is_floating_point()]
        self.sum(numbers)
        for tensor in numbers:
            tensor /= self.world_size
        self.copy_first(tensor for tensor in tensors if not tensor.is_floating_point())

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        if self.world_size > 1:
            with _together():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over all ranks, told over the host's memory: no device has to wait."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        with _together():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    @contextlib.contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """Run a block in rank 0, then, when it is through, in all others: they find what it wrote."""
        if not self.is_first:
            self.meet(patiently=True)
        yield
        if self.is_first:
            self.meet(patiently=True)

    def meet(self, patiently: bool = False) -> None:
        """Wait until all have come here, `patiently` for days if need be: what rank 0 wrote before can be read."""
        if self.world_size > 1:
            with _together():
                dist.all_reduce(torch.zeros(1), group=self._patient if patiently else None)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Turn the failure of a communication into an error of ours: another rank has ended or hangs.

    Raises:
        TrainingError: it did.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"another rank ended or cannot be reached; its own message says why ({reason})") from error


@contextlib.contextmanager
def join(device: str, config: RanksConfig) -> Iterator[Ranks]:
    """Join the ranks that torchrun started this process among; outside torchrun, this process alone.

    On GPUs each rank of a machine takes its own, by LOCAL_RANK, as the device that `cuda` means.

    Args:
        device: runtime.device.
        config: how they train together.

    Raises:
        ConfigError: more ranks on a machine than GPUs, one GPU named for all, or not all that torchrun sets is set.
        TrainingError: the others do not come.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        local_rank = int(os.environ["LOCAL_RANK"])
        if device not in ("auto", "cuda"):
            raise ConfigError(f"runtime.device={device} for {os.environ['WORLD_SIZE']} ranks: use cuda, each takes one")
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(f"{torch.cuda.device_count()} GPUs for local rank {local_rank}: lower --nproc-per-node")
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    with _together():
        try:
            store, rank, world_size = next(rendezvous("env://", timeout=PATIENCE))
        except ValueError as error:  # RANK and WORLD_SIZE without the rest
            raise ConfigError(f"{error}: start ranks by torchrun, or unset RANK and WORLD_SIZE") from error
        store = fresh_store(store, rank, world_size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=LONGEST_PAUSE)
        patient = dist.new_group(timeout=PATIENCE, backend="gloo")
        assert isinstance(patient, dist.ProcessGroup), "all ranks are of it"
    try:
        yield Ranks(rank, world_size, config.average_steps, patient)
    finally:
        dist.destroy_process_group()
