"""How the speed of training depends on layers, width, senones, corpus and ranks."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from ceilings import Net, best_of, num_operations, square_way
from measure import Comparison, NotMeasuredError, Result, Setting
from synthetic import synthetic_cache
from training import BASE_DIM, batch_size_of, endless, make_frontend, make_trainer, updates_way

from acoustic.data.batches import FrameStore
from acoustic.data.cache import FramesCache
from acoustic.train.precision import choose_dtype, keep_freed_memory
from acoustic.train.ranks import RanksConfig, join

SHAPES = {
    "scaling_layers": [Net(hidden_layers=layers) for layers in (2, 4, 8)],
    "scaling_width": [Net(hidden_dim=width) for width in (512, 1024, 2048, 4096)],
    "scaling_senones": [Net(num_pdfs=num_pdfs) for num_pdfs in (1000, 3034, 8986)],
}
VARIED = {"scaling_layers": "hidden_layers", "scaling_width": "hidden_dim", "scaling_senones": "num_pdfs"}
CORPUS_HOURS = (1, 10, 100)


def measure_net(net: Net, hours: float, setting: Setting, peak: float) -> Result:
    """The rate of training one network, as a share of the machine's matrix products."""
    batch_size, dtype = batch_size_of(setting), choose_dtype("auto", setting.device)
    cache = synthetic_cache(setting.directory / "scaling", int(hours * 360_000), BASE_DIM, net.num_pdfs)
    store = FrameStore(cache, make_frontend(), setting.device)
    trainer = make_trainer(net, dtype, store, batch_size, setting.directory)
    batches = endless(store, batch_size)
    num_steps = 100 if setting.on_gpu else 16
    way = updates_way(trainer.update, batches, num_steps, setting)
    way()
    value = best_of(way, setting.num_rounds - 1)
    ceiling = 1e9 * peak * batch_size / num_operations(net.training_products(batch_size))
    return Result("", value, "frames/s", [Comparison("ceiling: the square matrix product", ceiling, value / ceiling)])


def shapes(name: str, setting: Setting) -> Iterator[Result]:
    """Networks that differ in one dimension."""
    peak = best_of(square_way(choose_dtype("auto", setting.device), setting), setting.num_rounds)
    chosen = SHAPES[name][:3] if setting.quick and not setting.on_gpu else SHAPES[name]
    for net in chosen:
        yield replace(measure_net(net, 0.5, setting, peak), name=f"{name}_{getattr(net, VARIED[name])}")


def corpus(setting: Setting) -> Iterator[Result]:
    """Caches of different sizes, in memory."""
    peak = best_of(square_way(choose_dtype("auto", setting.device), setting), setting.num_rounds)
    hours = CORPUS_HOURS[:2] if setting.quick else CORPUS_HOURS
    for size in hours:
        yield replace(measure_net(Net(), size, setting, peak), name=f"scaling_corpus_{size}h")


def ranks(setting: Setting) -> list[Result]:
    """One process with all cores (or one GPU) beside two that share them (or have one each).

    Raises:
        NotMeasuredError: there is one GPU.
    """
    if setting.on_gpu and torch.cuda.device_count() < 2:
        raise NotMeasuredError("two ranks need two GPUs, and there is one")
    cache = setting.directory / "ranks"
    synthetic_cache(cache, 300_000, BASE_DIM, Net().num_pdfs)
    cores = len(os.sched_getaffinity(0))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    rates = {}
    for world_size, average_steps in ((1, 0), (2, 0), (2, 16)):
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // world_size))}
        command = [*torchrun, f"--nproc-per-node={world_size}", __file__, str(cache), setting.device.type]
        done = subprocess.run(
            [*command, str(average_steps)], stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
        rates[world_size, average_steps] = json.loads(done.stdout.splitlines()[-1])["rate"]
    one = rates[1, 0]
    return [
        Result(name, rate, "frames/s", [Comparison("one rank", one, rate / one)])
        for name, rate in (("scaling_ranks_2", rates[2, 0]), ("scaling_ranks_2_averaged", rates[2, 16]))
    ]


def worker(cache: Path, device: str, average_steps: int) -> None:
    """One rank: some updates, of which rank 0 prints frames a second over all ranks."""
    with join(device, RanksConfig(average_steps=average_steps or None)) as ranks_here:
        where = torch.device(device)
        if device != "cuda":
            keep_freed_memory()
        setting = Setting(cache.parent, where, True, 1, 0.0, ("", "", ""))
        store = FrameStore(FramesCache.open(cache), make_frontend(), where)
        batch_size = batch_size_of(setting)
        dtype = choose_dtype("auto", where)
        trainer = make_trainer(Net(), dtype, store, batch_size, cache.parent, ranks_here)
        world_size = ranks_here.world_size
        batches = endless(store, batch_size * world_size, ranks_here.rank, world_size)
        for inputs, targets in islice(batches, 3):
            trainer.update(inputs, targets)
        rate = max(updates_way(trainer.update, batches, 16, setting)() for _ in range(3))
        if ranks_here.is_first:
            print(json.dumps({"rate": rate * world_size}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=worker.__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("device")
    parser.add_argument("average_steps", type=int)
    worker(**vars(parser.parse_args()))
