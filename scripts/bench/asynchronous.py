"""What asynchronous SGD costs: its parts measured, P replicas predicted from them, and measured too.

    python scripts/bench/asynchronous.py [--measure 1,2,4] [--cores 2] OVERRIDES ...

OVERRIDES are those of `acoustic train`, exp_dir and data included. The parts (a gradient; a fetch and a push at a
shard, both ways; a word with the coordinator) are measured with one thread in one process; the simulation's clock makes
frames per second of them, for replicas that share --cores cores and for a cluster where each has its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from acoustic.asynchronous.arithmetic import Replica, Shard
from acoustic.asynchronous.dispatch import Dispatcher, Lease
from acoustic.asynchronous.layout import split_layers
from acoustic.asynchronous.talk import Control, Pair
from acoustic.asynchronous.timeline import Timeline
from acoustic.cli.hydra_config import compose_train_config
from acoustic.train.asynchronous_config import AsynchronousConfig, DelaysConfig
from acoustic.train.config import TrainConfig
from acoustic.train.loop import Trainer
from acoustic.train.precision import choose_dtype
from acoustic.train.run import make_trainer, prepare

ROUNDS = 30
PREDICTED = (1, 2, 4, 10, 40, 100, 400)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Seconds of each part, for one shard where there are several.

    Attributes:
        compute: a gradient.
        fetch, push: a shard's parameters and a gradient for it, with their answers.
        word: a report to the coordinator, and its answer.
    """

    compute: float
    fetch: float
    push: float
    word: float


def median_seconds(work: Callable[[], object]) -> float:
    """Of several rounds, after two that do not count."""
    times = []
    for _ in range(ROUNDS + 2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def measure_parts(config: TrainConfig, trainer: Trainer) -> Parts:
    """Each part by itself."""
    layouts = split_layers(trainer.classifier, config.asynchronous.shards)
    shard = Shard(max(layouts, key=lambda layout: layout.size), config.optim, trainer.classifier)
    replica = Replica(config, trainer.classifier, trainer.train_store, layouts, trainer.dtype)
    steps = iter(range(ROUNDS + 2))
    compute = median_seconds(lambda: replica.compute(Lease(0, step := next(steps), step + 1, 0.01, 0.0, True)))
    control = Control.host("127.0.0.1", 0)
    flat, buffer, word = torch.zeros(shard.layout.size), torch.zeros(shard.layout.size), torch.zeros(1)

    def serve() -> None:
        """The shard's end: fetches, then pushes."""
        pair, gradient = Pair(control.clone().store, "bench", 0), torch.zeros(shard.layout.size)
        for _ in range(ROUNDS + 2):
            pair.receive(torch.zeros(1))
            pair.send(shard.flat.clone())
        for _ in range(ROUNDS + 2):
            pair.receive(gradient)
            shard.apply(gradient, 0.0, 0.0)
            pair.send(torch.zeros(1))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    pair = Pair(control.clone().store, "bench", 1)
    fetch = median_seconds(lambda: (pair.send(word), flat.copy_(pair.receive(buffer))))
    push = median_seconds(lambda: (pair.send(flat), pair.receive(word)))
    thread.join()
    client = Control.join("127.0.0.1", control.port)
    told = median_seconds(lambda: (client.send("a", {"lease": 1}), control.receive("a")))
    return Parts(compute, fetch, push, 2 * told)


def predict(parts: Parts, replicas: int, shards: int, batch_size: int, cores: int | None) -> float:
    """Frames per second by the simulation's clock."""
    delays = DelaysConfig(
        compute="constant", compute_seconds=parts.compute, network="constant", network_seconds=parts.word / 4,
        fetch_seconds=parts.fetch, apply_seconds=parts.push, cores=cores,
    )  # fmt: skip
    options = AsynchronousConfig(replicas=replicas, shards=shards)
    timeline, updates = Timeline(delays, replicas, shards, seed=1), 20 * replicas + 100
    for _ in timeline.run(Dispatcher(options, lambda step: (0.0, 0.0), 0, updates)):
        pass
    return updates * batch_size / timeline.seconds


def measure(overrides: list[str], config: TrainConfig, replicas: int) -> float:
    """Frames per second of a run's last epoch."""
    shutil.rmtree(config.exp_dir, ignore_errors=True)
    command = [sys.executable, "-m", "acoustic", "train", *overrides, "train.strategy=async_sgd"]
    command += [f"async.replicas={replicas}", "runtime.num_threads=1"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    lines = (Path(config.exp_dir) / "speed.jsonl").read_text(encoding="utf-8").splitlines()
    return float(json.loads(lines[-1])["frames_per_second"])


def main() -> None:
    """Measure the parts, predict, measure the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+")
    parser.add_argument("--measure", default="", help="numbers of replicas to run, such as 1,2,4")
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = compose_train_config(args.overrides)
    dtype = choose_dtype(config.runtime.precision, torch.device("cpu"))
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), dtype)
    parts, shards, batch_size = measure_parts(config, trainer), config.asynchronous.shards, config.data.batch_size
    size = f"{trainer.classifier.num_parameters / 1e6:.2f} million parameters, {shards} shards, batch {batch_size}"
    print(size, ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in dataclasses.asdict(parts).items()))
    measured = [int(part) for part in args.measure.split(",") if part]
    print(f"| P | frames/s on {args.cores} cores, predicted | measured | with a core each | days of a core for 1e9 |")
    print("|---|---|---|---|---|")
    for replicas in PREDICTED:
        here, cluster = (predict(parts, replicas, shards, batch_size, cores) for cores in (args.cores, None))
        found = f"{measure(args.overrides, config, replicas):.0f}" if replicas in measured else "-"
        days = 1e9 / cluster * (replicas + shards) / 86400
        print(f"| {replicas} | {here:.0f} | {found} | {cluster:.0f} | {days:.2f} |", flush=True)


if __name__ == "__main__":
    main()
