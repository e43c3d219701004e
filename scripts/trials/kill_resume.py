"""kill -9 at random moments of a training run and at every write point; the resumed run must equal the unbroken one.

    python scripts/trials/kill_resume.py [--quick] [--kills N]

Equal means: `final.pt` and `metrics.jsonl` have the same SHA-256.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

from corpus import Corpus, make_corpus, train_config
from harness import (
    Outcome,
    Settings,
    fork,
    has_traceback,
    identity,
    leftovers,
    main,
    train,
    train_here,
    wait,
    without_curves,
)
from inject import WritePoints

from acoustic.train.config import TrainConfig

VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "pretrained": {"pretrain__name": "rbm", "model__norm": "none", "model__activation": "sigmoid"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, help="kills at random moments (50; quick 4)")


def run(settings: Settings) -> Outcome:
    num_kills = settings.args.kills or (4 if settings.quick else 50)
    corpus = make_corpus(settings.folder / "corpus", num_utts=15 if settings.quick else 40)
    without_curves()
    results = [
        one_variant(corpus, settings, name, num_kills // len(VARIANTS), options) for name, options in VARIANTS.items()
    ]
    wrong = [f"{name}: {fault}" for name, faults, _ in results for fault in faults]
    for line in wrong:
        print(line)
    total = sum(count for _, _, count in results)
    told = "; ".join(f"{name} {count - len(faults)} of {count}" for name, faults, count in results)
    return Outcome(not wrong, f"{total - len(wrong)} of {total} killed runs ended identical ({told})")


def one_variant(
    corpus: Corpus, settings: Settings, name: str, num_kills: int, options: dict[str, object]
) -> tuple[str, list[str], int]:
    """All kills of one kind of run: its name, what was not identical, how many kills."""
    folder = settings.folder / name
    folder.mkdir()
    options = options | {"schedule__max_epochs": 2 if settings.quick else 4}
    expected, seconds = unbroken(corpus, folder, options)
    generator = random.Random(settings.seed)
    moments = [generator.uniform(0, seconds) for _ in range(num_kills)]
    faults = [
        f"killed after {moment:.3f} of {seconds:.3f} s"
        for number, moment in enumerate(moments)
        if kill_at_moment(corpus, folder / f"moment-{number}", moment, options) != expected
    ]
    points = write_points(corpus, folder, options)
    chosen = few_points(points) if settings.quick else list(range(len(points)))
    faults += [f"killed at: {points[at]}" for at in chosen if kill_at_point(corpus, folder, at, options) != expected]
    print(
        f"{name}: {num_kills} kills at random moments of {seconds:.2f} s, {len(chosen)} at {len(points)} write points"
    )
    return name, faults, num_kills + len(chosen)


def unbroken(corpus: Corpus, folder: Path, options: dict[str, object]) -> tuple[str, float]:
    """Identity and duration of a run that nothing disturbs."""
    start = time.monotonic()
    status = train(train_config(corpus, folder / "unbroken", **options), folder / "unbroken.log")
    if status != 0:
        raise SystemExit(f"the unbroken run ended with {status}:\n{(folder / 'unbroken.log').read_text()}")
    return identity(folder / "unbroken"), time.monotonic() - start


def kill_at_moment(corpus: Corpus, exp_dir: Path, seconds: float, options: dict[str, object]) -> str:
    """Identity of a run that was killed after some seconds and then resumed."""
    config, log = train_config(corpus, exp_dir, **options), exp_dir.with_suffix(".log")
    pid = fork(lambda: train_here(config), log)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)  # a run that has ended waits for us as a zombie
    wait(pid)
    return finish(config, exp_dir, log)


def finish(config: TrainConfig, exp_dir: Path, log: Path) -> str:
    """Run to the end; the identity, or what else went wrong."""
    status = train(config, log)
    if status != 0 or has_traceback(log):
        print(log.read_text())
        return f"status {status}"
    unfinished = leftovers(exp_dir)
    result = f"left over: {unfinished}" if unfinished else identity(exp_dir)
    shutil.rmtree(exp_dir)
    return result


def killed_at_point(config: TrainConfig, folder: Path, at: int, names: Path | None = None) -> None:
    """`acoustic train` in this process, to be killed at a write point; the names of all points go to a file."""
    points = WritePoints(folder, at).install()
    train_here(config)
    if names is not None:
        names.write_text(json.dumps(points.names))


def write_points(corpus: Corpus, folder: Path, options: dict[str, object]) -> list[str]:
    """What a run does to the disk, call by call."""
    config, names = train_config(corpus, folder / "counted", **options), folder / "points.json"
    wait(fork(lambda: killed_at_point(config, folder / "counted", -1, names), folder / "counted.log"))
    points: list[str] = json.loads(names.read_text())
    return points


def kill_at_point(corpus: Corpus, folder: Path, at: int, options: dict[str, object]) -> str:
    """Identity of a run that was killed at a write point and then resumed."""
    exp_dir = folder / f"point-{at}"
    config, log = train_config(corpus, exp_dir, **options), exp_dir.with_suffix(".log")
    wait(fork(lambda: killed_at_point(config, exp_dir, at), log))
    return finish(config, exp_dir, log)


def few_points(points: list[str]) -> list[int]:
    """The points at which the first pre-trained layer is written; else those of one checkpoint from the middle of a
    run, with the metrics before it and the pruning after it."""
    layer = [at for at, name in enumerate(points) if "layer-0" in name]
    if layer:
        return layer
    first = [at for at, name in enumerate(points) if name == "open metrics.jsonl"][-1]
    return list(range(first, next(at for at, name in enumerate(points) if "final.pt" in name) - 1))


if __name__ == "__main__":
    main(__doc__ or "", run, add_arguments)
