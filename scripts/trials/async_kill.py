"""kill -9 of a random replica or shard at a random moment of asynchronous training: every run ends, as good as others.

    python scripts/trials/async_kill.py [--quick] [--runs N] [--overrides 'HYDRA OVERRIDES']

Each run loses one process (every third run two). It must end with status 0 and a final.pt, have replaced every process
that was killed, have lost no more pushes than those processes had in flight, and be no more than half a point of frame
accuracy below undisturbed runs, or no more than what undisturbed runs differ by among themselves where that is more:
the order in which replicas come differs from run to run.

The corpus is made up, unless --overrides name another and how to train on it: all of `acoustic train`'s but exp_dir,
such as 'train.data_dir=data/train train.ali_dir=exp/tri1_ali dev.data_dir=data/dev dev.ali_dir=exp/tri1_ali
experiment=digits optim=sgd_plain optim.learning_rate=0.1'. Then three synchronous runs with seeds of their own are the
measure: no killed run may be more than half a point below their mean.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corpus import make_corpus, train_config
from harness import Outcome, Settings, fork, has_traceback, leftovers, main, train_here, wait, without_curves

from acoustic.cli.hydra_config import compose_train_config
from acoustic.train.config import TrainConfig

BOUND = 0.5  # points of frame accuracy
REPLICAS, SHARDS = 4, 2
MakeConfig = Callable[[Path, bool], TrainConfig]  # of an experiment directory, and of whether it is asynchronous
STARTED = re.compile(r"(replica|shard) (\d+) is process (\d+)")


@dataclass
class Run:
    """What a run came to.

    Attributes:
        accuracy: frame accuracy on dev at the end [%].
        seconds: from the start of its processes to its end.
        lost: pushes.
        fault: what was wrong, or empty.
    """

    accuracy: float
    seconds: float
    lost: int
    fault: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, help="runs with kills (20; quick 2)")
    parser.add_argument("--overrides", help="train on this instead of a made up corpus")


def run(settings: Settings) -> Outcome:
    num_runs = settings.args.runs or (2 if settings.quick else 20)
    without_curves()
    overrides = settings.args.overrides
    make_config = on_corpus(overrides.split()) if overrides else on_made_up_corpus(settings)
    synchronous = [one_run(make_config, settings, f"synchronous-{n}", None) for n in range(3 if overrides else 0)]
    undisturbed = [one_run(make_config, settings, f"undisturbed-{n}", []) for n in range(1 if settings.quick else 3)]
    if faults := [found.fault for found in synchronous + undisturbed if found.fault]:
        return Outcome(False, f"a run without kills failed: {faults[0]}")
    accuracies = [found.accuracy for found in undisturbed]
    mean, spread = sum(accuracies) / len(accuracies), max(accuracies) - min(accuracies)
    seconds = min(found.seconds for found in undisturbed)
    print(f"undisturbed: {mean:.2f} % (spread {spread:.2f}), {seconds:.1f} s after the start of the processes")
    bound = max(BOUND, spread)
    if synchronous:
        accuracies = [found.accuracy for found in synchronous]
        mean = sum(accuracies) / len(accuracies)
        bound = BOUND
        print(f"synchronous: {mean:.2f} % ({' '.join(f'{accuracy:.2f}' for accuracy in accuracies)})", flush=True)
    generator = random.Random(settings.seed)
    killed = []
    for number in range(num_runs):
        moments = sorted(generator.uniform(0.0, 0.9 * seconds) for _ in range(2 if number % 3 == 2 else 1))
        victims = [generator.choice(["replica", "shard"]) for _ in moments]
        found = one_run(make_config, settings, f"killed-{number}", list(zip(moments, victims, strict=True)), generator)
        away = mean - found.accuracy
        # A quick run sees so few dev frames that accuracy moves by whole points.
        if not found.fault and not settings.quick and away > bound:
            found.fault = f"{found.accuracy:.2f} % instead of {mean:.2f} %"
        told = ", ".join(f"{what} after {moment:.1f} s" for moment, what in zip(moments, victims, strict=True))
        print(f"{told}: {found.accuracy:.2f} %, {found.lost} pushes lost {found.fault}", flush=True)
        killed.append(found)
    good = sum(not found.fault for found in killed)
    accuracies = [found.accuracy for found in killed]
    mean_away = mean - sum(accuracies) / len(accuracies)
    furthest = max(abs(accuracy - mean) for accuracy in accuracies)
    lost = sum(found.lost for found in killed)
    return Outcome(
        good == num_runs,
        f"{good} of {num_runs} runs with killed replicas and shards ended well, in the mean {-mean_away:+.2f} points "
        f"and at most {furthest:.2f} from {mean:.2f} % (undisturbed runs differ by {spread:.2f}), "
        f"{lost} pushes lost in all",
    )


def on_made_up_corpus(settings: Settings) -> MakeConfig:
    """Runs of seconds on a corpus in the scratch folder."""
    corpus = make_corpus(settings.folder / "corpus", num_utts=15 if settings.quick else 600)

    def make(exp_dir: Path, is_asynchronous: bool) -> TrainConfig:
        return train_config(
            corpus, exp_dir, train__strategy="async_sgd", asynchronous__replicas=REPLICAS, asynchronous__shards=SHARDS,
            asynchronous__snapshot_seconds=0.2, model__norm="none", average__name="none", optim__momentum=0.0,
            optim__nesterov="false", optim__learning_rate=1.0, schedule__name="cosine", model__dropout=0.0,
            schedule__max_epochs=8 if settings.quick else 4,
        )  # fmt: skip

    return make


def on_corpus(overrides: list[str]) -> MakeConfig:
    """Runs on a corpus of the user's, run "...-N" with seed N. A fault of the overrides shows before anything runs."""
    engine = ["train.strategy=async_sgd", f"async.replicas={REPLICAS}", f"async.shards={SHARDS}"]
    common = ["exp_dir=-", "runtime.device=cpu", "runtime.num_threads=1"]
    synchronous = compose_train_config([*common, *overrides])
    asynchronous = compose_train_config([*common, *engine, *overrides])

    def make(exp_dir: Path, is_asynchronous: bool) -> TrainConfig:
        seed = int(exp_dir.name.split("-")[1])
        return dataclasses.replace(asynchronous if is_asynchronous else synchronous, exp_dir=str(exp_dir), seed=seed)

    return make


def one_run(
    make_config: MakeConfig,
    settings: Settings,
    name: str,
    kills: list[tuple[float, str]] | None,
    generator: random.Random | None = None,
) -> Run:
    """A run in which processes are killed so many seconds after the first was started; a synchronous one if None."""
    exp_dir, log = settings.folder / name, settings.folder / f"{name}.log"
    config = make_config(exp_dir, kills is not None)
    child = fork(lambda: train_here(config), log)
    try:
        start = wait_for_start(log, child) if kills is not None else time.monotonic()
    except TimeoutError as error:
        return Run(0.0, 0.0, 0, str(error))
    random_post = generator or random.Random(0)
    num_killed = sum(kill_one(log, start + moment, what, random_post) for moment, what in kills or [])
    status = wait(child)
    seconds, fault = time.monotonic() - start, ""
    if status != 0 or has_traceback(log):
        print(log.read_text()[-3000:])
        return Run(0.0, seconds, 0, f"status {status}")
    records = [json.loads(line) for line in (exp_dir / "metrics.jsonl").read_text().splitlines()]
    accuracy = 100 * records[-1]["dev_accuracy"]
    if kills is None:
        return Run(accuracy, seconds, 0)
    lost = sum(record["lost_pushes"] for record in records)
    num_replaced = len(STARTED.findall(log.read_text())) - REPLICAS - SHARDS
    if num_replaced > num_killed or (num_replaced < num_killed and seconds - kills[-1][0] > 1.0):
        fault = f"{num_killed} processes killed, {num_replaced} replaced"
    elif lost > num_killed * REPLICAS:
        fault = f"{lost} pushes lost"
    elif unfinished := leftovers(exp_dir):
        fault = f"left over: {unfinished}"
    return Run(accuracy, seconds, lost, fault)


def wait_for_start(log: Path, child: int, seconds: float = 120.0) -> float:
    """When all processes of a run had been started."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if log.exists() and len(STARTED.findall(log.read_text())) >= REPLICAS + SHARDS:
            return time.monotonic()
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    wait(child)
    raise TimeoutError(f"not started after {seconds:.0f} s: {log.read_text()[-500:]}")


def kill_one(log: Path, moment: float, what: str, generator: random.Random) -> bool:
    """Kill the process that holds a random post of a kind; whether it was still there."""
    time.sleep(max(0.0, moment - time.monotonic()))
    holders = {number: int(process) for kind, number, process in STARTED.findall(log.read_text()) if kind == what}
    try:
        os.kill(generator.choice(sorted(holders.values())), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(__doc__ or "", run, add_arguments)
