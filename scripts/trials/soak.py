"""A million updates of a tiny net: memory must not grow, files must not stay open.

    python scripts/trials/soak.py [--quick] [--steps N]

Resident memory, open files and threads are noted 200 times; the slope is fitted to the second half. With --quick,
where an hour's slope cannot be told from noise, memory may grow by a megabyte in all. Nor may there be more threads in
the second half than in the first.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from corpus import make_corpus, train_config
from harness import Outcome, Settings, fork, main, train_here, wait

from acoustic.train import loop
from acoustic.train.config import TrainConfig

QUICK_STEPS, FULL_STEPS = 3_000, 1_000_000
QUICK_INTERVALS, FULL_INTERVALS = 16, 10  # dev evaluations
NUM_NOTES = 200
MAX_SLOPE = 1.0  # megabytes an hour


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, help=f"updates ({FULL_STEPS}; quick {QUICK_STEPS})")


def run(settings: Settings) -> Outcome:
    num_steps = settings.args.steps or (QUICK_STEPS if settings.quick else FULL_STEPS)
    num_intervals = QUICK_INTERVALS if settings.quick else FULL_INTERVALS
    steps_per_interval = num_steps // num_intervals
    # Eight frames an update; nine tenths of the utterances are for training.
    corpus = make_corpus(settings.folder / "corpus", num_utts=max(20, steps_per_interval * 8 // 90), mean_frames=100)
    config = train_config(
        corpus, settings.folder / "exp", data__batch_size=8, schedule__name="constant",
        schedule__max_epochs=num_intervals, optim__learning_rate=0.001, runtime__checkpoint_minutes=0.2,
    )  # fmt: skip
    samples_path, log = settings.folder / "samples.jsonl", settings.folder / "log"
    status = wait(fork(lambda: note_and_train(config, samples_path, max(1, num_steps // NUM_NOTES)), log), 24 * 3600.0)
    if status != 0:
        print(log.read_text())
        return Outcome(False, f"the run ended with {status}")
    samples = np.array([json.loads(line) for line in samples_path.read_text().splitlines()])
    return judge(samples, settings.quick)


def judge(samples: np.ndarray, quick: bool) -> Outcome:
    """The verdict on rows of (seconds, updates, bytes in memory, open files, threads)."""
    first, half = np.split(samples, [len(samples) // 2])
    hours = half[:, 0] / 3600
    megabytes = half[:, 2] / 1e6
    slope, growth = float(np.polyfit(hours, megabytes, 1)[0]), float(megabytes[-1] - megabytes[0])
    open_files = set(half[:, 3].astype(int).tolist())
    threads, threads_before = int(half[:, 4].max()), int(first[:, 4].max())  # one ends before the interval it serves
    steady = growth < 1.0 if quick else slope < MAX_SLOPE
    rate = (samples[-1, 1] - samples[0, 1]) / (samples[-1, 0] - samples[0, 0])
    return Outcome(
        steady and len(open_files) == 1 and threads <= threads_before,
        f"{samples[-1, 1]:.0f} updates, {rate:.0f} a second; memory {megabytes[-1]:.0f} MB, slope {slope:.3f} MB an "
        f"hour ({growth:+.3f} MB in {60 * (hours[-1] - hours[0]):.1f} minutes); open files {sorted(open_files)}, "
        f"at most {threads} threads",
    )


def note_and_train(config: TrainConfig, samples_path: Path, note_steps: int) -> None:
    """Train; note memory, files and threads after every `note_steps` updates."""
    update = loop.Trainer.update

    def noted(self, inputs, targets):  # type: ignore[no-untyped-def]
        update(self, inputs, targets)
        if self.position.step % note_steps:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        num_files, num_threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        row = [time.monotonic(), self.position.step, pages * os.sysconf("SC_PAGESIZE"), num_files, num_threads]
        with open(samples_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    loop.Trainer.update = noted  # type: ignore[method-assign]
    train_here(config)


if __name__ == "__main__":
    main(__doc__ or "", run, add_arguments)
