"""What asynchronous SGD costs: its parts measured, P replicas predicted from them, and measured too.

    python scripts/bench/asynchronous.py [--measure 1,2,4] OVERRIDES ...

OVERRIDES are those of `acoustic train`, exp_dir and data included. Parts are measured apart from whole runs, one thread
to a process: gradients without an engine, by one process alone and by one on every core at once; the engine without
gradients, one replica that sends and fetches what it would otherwise, with the processor time of each process. The
simulation's clock makes frames per second of them, for replicas, shards and coordinator that share this machine's
cores, and for a cluster where each has its own. While all cores work, work takes longer by a factor that is measured as
well: by a gradient process on every core beside that replica. --measure runs the engine with so many replicas.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from acoustic.asynchronous.beginning import Beginning
from acoustic.asynchronous.coordinator import REPLICA, SHARD, Coordinator
from acoustic.asynchronous.dispatch import Dispatcher, Lease
from acoustic.asynchronous.engine import EngineTrainer
from acoustic.asynchronous.replica_process import Worker
from acoustic.asynchronous.talk import Control, RunOverError
from acoustic.asynchronous.timeline import Timeline
from acoustic.cli.hydra_config import compose_train_config
from acoustic.train.asynchronous_config import AsynchronousConfig, DelaysConfig
from acoustic.train.config import TrainConfig
from acoustic.train.precision import choose_dtype
from acoustic.train.run import make_trainer, prepare

GRADIENTS, EXCHANGES = 100, 400  # that a part is measured over
WHOLE_SECONDS = 12.0  # that a whole run is
PREDICTED = (1, 2, 4, 10, 40, 100, 400)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Seconds of an update without a gradient, by one replica.

    Attributes:
        elapsed: from one to the next.
        replica, shard, coordinator: processor time of each; of a shard the mean over all.
    """

    elapsed: float
    replica: float
    shard: float
    coordinator: float


# -- gradients without an engine --------------------------------------------------------------------------------------


def compute_gradients(number: int, folder: Path, config: TrainConfig, turn: Any, stop: Any, results: Any) -> None:
    """Tell the time of a gradient: computed alone (the first process), then with other processes until told to stop."""
    replica = Worker(number, folder, config, Control.host("127.0.0.1", 0), "").replica
    steps = itertools.count()

    def compute() -> None:
        step = next(steps)
        replica.compute(Lease(number, step, step + 1, 0.0, 0.0, True))

    for _ in range(20):  # so that caches are full
        compute()
    turn.wait()
    if number == 0:
        start = time.perf_counter()
        for _ in range(GRADIENTS):
            compute()
        results.put((time.perf_counter() - start) / GRADIENTS)
    turn.wait()
    num_done, start = 0, time.process_time()
    while not stop.is_set():
        compute()
        num_done += 1
    results.put((time.process_time() - start) / num_done)


class GradientProcesses:
    """Processes that compute gradients and nothing else, one for each core."""

    def __init__(self, folder: Path, config: TrainConfig, num_processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.turn, self.stop, self.results = context.Barrier(num_processes + 1), context.Event(), context.Queue()
        arguments = (folder, config, self.turn, self.stop, self.results)
        self.processes = [context.Process(target=compute_gradients, args=(n, *arguments)) for n in range(num_processes)]
        for process in self.processes:
            process.start()

    def alone(self) -> float:
        """Seconds of a gradient while one of them computes; all wait after that."""
        self.turn.wait()
        return float(self.results.get())

    def start(self) -> None:
        """Have all compute."""
        self.turn.wait()

    def end(self) -> float:
        """Processor time of a gradient since `start`."""
        self.stop.set()
        return statistics.mean(self.results.get() for _ in self.processes)


# -- the engine -------------------------------------------------------------------------------------------------------


def run_without_gradients(slot: int, host: str, port: int, folder: str, config: TrainConfig) -> None:
    """A replica that computes one gradient, and sends it again and again."""
    worker = Worker(slot, Path(folder), config, Control.join(host, port), f"{slot}")
    gradient = worker.replica.compute(Lease(slot, 0, 1, 0.0, 0.0, True))
    worker.replica.compute = lambda lease: gradient  # type: ignore[method-assign]
    try:
        worker.run()
    except RunOverError:
        os._exit(0)


class CoordinatorWithoutGradients(Coordinator):
    """Its replicas compute nothing."""

    replica_work = staticmethod(run_without_gradients)


def processor_seconds(process: int) -> float:
    """That another process, all its threads, has used so far: CPUCLOCK_SCHED of clock_getcpuclockid(3)."""
    return time.clock_gettime((~process << 3) | 2)


def run_for(trainer: EngineTrainer, num_updates: int) -> None:
    """Have the engine do so many updates at rate 0, and come to rest."""
    for _ in trainer.work(Dispatcher(trainer.config.asynchronous, lambda step: (0.0, 0.0), 0, num_updates)):
        pass


def measure_exchange(trainer: EngineTrainer, gradients: GradientProcesses | None = None) -> list[Exchange]:
    """An update of one replica without its gradient, on an idle machine, and then while others compute gradients."""
    trainer.coordinator = CoordinatorWithoutGradients(trainer.config, trainer.coordinator.folder)
    trainer.scatter()
    try:
        run_for(trainer, 20)
        found = [exchange_now(trainer)]
        if gradients is not None:
            gradients.start()
            found.append(exchange_now(trainer))
        return found
    finally:
        trainer.coordinator.end()


def exchange_now(trainer: EngineTrainer) -> Exchange:
    """Means over some updates of an engine."""
    posts = trainer.coordinator.processes.posts.values()
    shards = [post.process.pid for post in posts if post.what == SHARD]
    (replica,) = (post.process.pid for post in posts if post.what == REPLICA)

    def clocks() -> tuple[float, ...]:
        of_shards = sum(map(processor_seconds, shards)) / len(shards)
        return time.perf_counter(), processor_seconds(replica), of_shards, time.process_time()

    before = clocks()
    run_for(trainer, EXCHANGES)
    return Exchange(*((end - start) / EXCHANGES for start, end in zip(before, clocks(), strict=True)))


def measure_whole(trainer: EngineTrainer, seconds_each: float) -> float:
    """Frames per second of an ordinary run, without its start and end."""
    replicas, batch_size = trainer.config.asynchronous.replicas, trainer.config.data.batch_size
    trainer.coordinator = Coordinator(trainer.config, trainer.coordinator.folder)
    trainer.scatter()
    try:
        run_for(trainer, 20 * replicas)
        num_updates, start = round(WHOLE_SECONDS / seconds_each), time.perf_counter()
        run_for(trainer, num_updates)
        return num_updates * batch_size / (time.perf_counter() - start)
    finally:
        trainer.coordinator.end()


# -- the model --------------------------------------------------------------------------------------------------------


def make_delays(gradient: float, both: Exchange, push_only: Exchange, num_shards: int) -> DelaysConfig:
    """What the simulation's clock needs, each process on a core of its own.

    Args:
        gradient: its seconds.
        both, push_only: updates with and without a fetch.
    """
    delays = DelaysConfig(
        compute="constant", compute_seconds=0.0, network="constant", network_seconds=0.0,
        fetch_seconds=max(0.0, both.shard - push_only.shard), apply_seconds=min(both.shard, push_only.shard),
        message_seconds=both.replica / (2 * num_shards), word_seconds=both.coordinator,
    )  # fmt: skip
    # What no process works at is on the way: there and back for a fetch, there and back for a push.
    on_the_way = both.elapsed - seconds_per_update(delays, 1, num_shards)
    return dataclasses.replace(delays, compute_seconds=gradient, network_seconds=max(0.0, on_the_way / 4))


def work(gradient: float, exchange: Exchange, num_shards: int) -> float:
    """Seconds of an update that processors work, all together."""
    return gradient + exchange.replica + num_shards * exchange.shard + exchange.coordinator


def seconds_per_update(delays: DelaysConfig, replicas: int, shards: int) -> float:
    """By the simulation's clock, of all replicas together."""
    options = AsynchronousConfig(replicas=replicas, shards=shards)
    timeline, updates = Timeline(delays, replicas, shards, seed=1), 20 * replicas + 100
    for _ in timeline.run(Dispatcher(options, lambda step: (0.0, 0.0), 0, updates)):
        pass
    return timeline.seconds / updates


def milliseconds(values: dict[str, float]) -> str:
    """For print."""
    return ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in values.items())


def main() -> None:
    """Measure the parts, predict, measure the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+")
    parser.add_argument("--measure", default="", help="numbers of replicas to run, such as 1,2,4")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    overrides = [*args.overrides, "train.strategy=async_sgd", "runtime.num_threads=1", "runtime.device=cpu"]

    def trainer_of(*more: str) -> EngineTrainer:
        """A trainer with so many replicas."""
        config = compose_train_config([*overrides, *more])
        dtype = choose_dtype(config.runtime.precision, torch.device("cpu"))
        return make_trainer(config, prepared, torch.device("cpu"), dtype, None, EngineTrainer)

    prepared = prepare(compose_train_config(overrides))
    trainer = trainer_of("async.replicas=1")
    shards, batch_size = trainer.config.asynchronous.shards, trainer.config.data.batch_size
    folder = Path(trainer.config.exp_dir) / "gradients"
    Beginning.of(trainer.classifier, trainer.train_store, trainer.dtype).write(folder)
    gradients = GradientProcesses(folder, trainer.config, cores)
    alone = gradients.alone()
    shutil.rmtree(folder)
    (push_only,) = measure_exchange(trainer_of("async.replicas=1", "async.fetch_every=1000000"))
    idle, beside = measure_exchange(trainer, gradients)
    together = gradients.end()
    apart = make_delays(alone, idle, push_only, shards)
    contention = max(1.0, work(together, beside, shards) / work(alone, idle, shards))
    here = dataclasses.replace(apart, cores=cores, contention=contention)
    size = f"{trainer.classifier.num_parameters / 1e6:.2f} million parameters, {shards} shards, batch {batch_size}"
    print(f"{size}, {cores} cores")
    print("gradient", milliseconds({"alone": alone, f"in {cores} processes at once": together}))
    print("update without gradient", milliseconds(dataclasses.asdict(idle)))
    print("... and without fetch", milliseconds(dataclasses.asdict(push_only)))
    print("... beside gradients", milliseconds(dataclasses.asdict(beside)))
    print(f"on the way {1000 * here.network_seconds:.2f} ms, contention {here.contention:.3f}")
    measured = [int(part) for part in args.measure.split(",") if part]
    print(f"| P | frames/s on {cores} cores, predicted | measured | with a core each | days of a core for 1e9 |")
    print("|---|---|---|---|---|", flush=True)
    for replicas in PREDICTED:
        predicted = seconds_per_update(here, replicas, shards)
        cluster = batch_size / seconds_per_update(apart, replicas, shards)
        found = "-"
        if replicas in measured:
            found = f"{measure_whole(trainer_of(f'async.replicas={replicas}'), predicted):.0f}"
        days = 1e9 / cluster * (replicas + shards) / 86400
        print(f"| {replicas} | {batch_size / predicted:.0f} | {found} | {cluster:.0f} | {days:.2f} |", flush=True)


if __name__ == "__main__":
    main()
