"""kill -9 of a random replica or shard at a random moment of asynchronous training: every run ends, as good as others.

    python scripts/trials/async_kill.py [--quick] [--runs N]

Each run loses one process (every third run two). It must end with status 0 and a final.pt, have replaced every process
that was killed, have lost no more pushes than those processes had in flight, and be no more than half a point of frame
accuracy below undisturbed runs, or no more than what undisturbed runs differ by among themselves where that is more:
the order in which replicas come differs from run to run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from corpus import Corpus, make_corpus, train_config
from harness import Outcome, Settings, fork, has_traceback, leftovers, main, train_here, wait, without_curves

BOUND = 0.5  # points of frame accuracy
REPLICAS, SHARDS = 3, 2
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


def run(settings: Settings) -> Outcome:
    num_runs = settings.args.runs or (2 if settings.quick else 20)
    num_utts, num_undisturbed = (15, 1) if settings.quick else (600, 3)
    corpus = make_corpus(settings.folder / "corpus", num_utts=num_utts)
    without_curves()
    undisturbed = [one_run(corpus, settings, f"undisturbed-{number}", []) for number in range(num_undisturbed)]
    if faults := [found.fault for found in undisturbed if found.fault]:
        return Outcome(False, f"an undisturbed run failed: {faults[0]}")
    accuracies = [found.accuracy for found in undisturbed]
    mean, spread = sum(accuracies) / len(accuracies), max(accuracies) - min(accuracies)
    seconds = min(found.seconds for found in undisturbed)
    print(f"undisturbed: {mean:.2f} % (spread {spread:.2f}), {seconds:.1f} s after the start of the processes")
    generator = random.Random(settings.seed)
    killed = []
    for number in range(num_runs):
        moments = sorted(generator.uniform(0.0, 0.9 * seconds) for _ in range(2 if number % 3 == 2 else 1))
        victims = [generator.choice(["replica", "shard"]) for _ in moments]
        found = one_run(corpus, settings, f"killed-{number}", list(zip(moments, victims, strict=True)), generator)
        away = mean - found.accuracy
        # A quick run sees so few dev frames that accuracy moves by whole points.
        if not found.fault and not settings.quick and away > max(BOUND, spread):
            found.fault = f"{found.accuracy:.2f} % instead of {mean:.2f} %"
        told = ", ".join(f"{what} after {moment:.1f} s" for moment, what in zip(moments, victims, strict=True))
        print(f"{told}: {found.accuracy:.2f} %, {found.lost} pushes lost {found.fault}", flush=True)
        killed.append(found)
    good = sum(not found.fault for found in killed)
    furthest = max(abs(found.accuracy - mean) for found in killed)
    lost = sum(found.lost for found in killed)
    return Outcome(
        good == num_runs,
        f"{good} of {num_runs} runs with killed replicas and shards ended well, at most {furthest:.2f} points from "
        f"{mean:.2f} % (undisturbed runs differ by {spread:.2f}), {lost} pushes lost in all",
    )


def one_run(
    corpus: Corpus,
    settings: Settings,
    name: str,
    kills: list[tuple[float, str]],
    generator: random.Random | None = None,
) -> Run:
    """A run in which processes are killed so many seconds after the first was started."""
    exp_dir, log = settings.folder / name, settings.folder / f"{name}.log"
    config = train_config(
        corpus, exp_dir, train__strategy="async_sgd", asynchronous__replicas=REPLICAS, asynchronous__shards=SHARDS,
        asynchronous__snapshot_seconds=0.2, model__norm="none", average__name="none", optim__momentum=0.0,
        optim__nesterov="false", optim__learning_rate=1.0, schedule__name="cosine", model__dropout=0.0,
        schedule__max_epochs=8 if settings.quick else 4,
    )  # fmt: skip
    child = fork(lambda: train_here(config), log)
    try:
        start = wait_for_start(log, child)
    except TimeoutError as error:
        return Run(0.0, 0.0, 0, str(error))
    num_killed = sum(kill_one(log, start + moment, what, generator or random.Random(0)) for moment, what in kills)
    status = wait(child)
    seconds, fault = time.monotonic() - start, ""
    if status != 0 or has_traceback(log):
        print(log.read_text()[-3000:])
        return Run(0.0, seconds, 0, f"status {status}")
    records = [json.loads(line) for line in (exp_dir / "metrics.jsonl").read_text().splitlines()]
    lost = sum(record["lost_pushes"] for record in records)
    num_replaced = len(STARTED.findall(log.read_text())) - REPLICAS - SHARDS
    if num_replaced > num_killed or (num_replaced < num_killed and seconds - kills[-1][0] > 1.0):
        fault = f"{num_killed} processes killed, {num_replaced} replaced"
    elif lost > num_killed * REPLICAS:
        fault = f"{lost} pushes lost"
    elif unfinished := leftovers(exp_dir):
        fault = f"left over: {unfinished}"
    return Run(100 * records[-1]["dev_accuracy"], seconds, lost, fault)


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
