"""Interruption at each of 200 batches, with 0, 1 and 4 loader workers: weights and batches are bit-identical.

    python scripts/trials/interrupt.py [--quick]

Runs are stopped by SIGTERM after every possible number of updates and resumed with another number of workers. The
batches of both stores are compared too, begun at every batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from corpus import Corpus, make_corpus, train_config
from harness import Outcome, Settings, fork, identity, main, silence, train, train_here, wait, without_curves
from torch import Tensor

from acoustic.data.batches import FrameStore, Store
from acoustic.data.build import CacheOptions, ensure_cache
from acoustic.data.join import Source
from acoustic.data.windows import WindowedStore
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.train import loop
from acoustic.train.config import TrainConfig
from acoustic.train.run import prepare

WORKERS = (0, 1, 4)
NUM_BATCHES = 200
QUICK_STEPS = (1, 49, 50, 51, 100, 117, 150, 200)  # intervals end after 50, 100, 150 and 200


def run(settings: Settings) -> Outcome:
    without_curves()
    silence()
    corpus = make_corpus(settings.folder / "corpus", num_utts=60)
    wrong_runs, num_runs = interrupted_runs(corpus, settings)
    wrong_batches, num_comparisons = interrupted_batches(corpus, settings)
    for fault in wrong_runs + wrong_batches:
        print(fault)
    return Outcome(
        not wrong_runs and not wrong_batches,
        f"{num_runs - len(wrong_runs)} of {num_runs} interrupted runs and {num_comparisons - len(wrong_batches)} of "
        f"{num_comparisons} interrupted passes over batches bit-identical, workers {WORKERS}",
    )


def interrupted_runs(corpus: Corpus, settings: Settings) -> tuple[list[str], int]:
    """Which interrupted runs were not identical to the unbroken one, and how many there were."""
    probe = train_config(corpus, settings.folder / "probe", schedule__evals_per_epoch=2, schedule__name="constant")
    probe.runtime.checkpoint_minutes = 1000.0  # only the signal saves
    config = with_steps(probe, settings.folder, NUM_BATCHES)
    expected = {}
    for workers in WORKERS:
        whole = variant(config, settings.folder / f"whole-{workers}", workers)
        train(whole, settings.folder / "whole.log")
        expected[workers] = identity(Path(whole.exp_dir))
    faults = [] if len(set(expected.values())) == 1 else [f"workers matter: {expected}"]
    steps = QUICK_STEPS if settings.quick else range(1, NUM_BATCHES + 1)
    for step in steps:
        exp_dir = settings.folder / f"step-{step}"
        first, second = (variant(config, exp_dir, WORKERS[(step + shift) % 3]) for shift in (0, 1))
        log = exp_dir.with_suffix(".log")
        status = wait(fork(lambda step=step, first=first: stop_at(first, step), log))  # type: ignore[misc]
        resumed = train(second, log)
        if (status, resumed, identity(exp_dir)) != (143, 0, expected[0]):
            faults.append(f"after batch {step}: status {status}, then {resumed}, or another result; {log.read_text()}")
        shutil.rmtree(exp_dir, ignore_errors=True)
    return faults, len(steps) + len(WORKERS) - 1


def with_steps(config: TrainConfig, folder: Path, num_steps: int) -> TrainConfig:
    """The configuration with a batch size that gives two epochs of half as many updates each."""
    num_frames = prepare(config).train.num_frames
    config.data.batch_size = -(-num_frames // (num_steps // 2))
    config.schedule.max_epochs = 2
    shutil.rmtree(folder / "probe", ignore_errors=True)
    num_batches = 2 * -(-num_frames // config.data.batch_size)
    if num_batches < num_steps:
        config.data.batch_size -= 1
    return config


def variant(config: TrainConfig, exp_dir: Path, workers: int) -> TrainConfig:
    """The same run elsewhere, with other workers."""
    runtime = dataclasses.replace(config.runtime, workers=workers)
    return dataclasses.replace(config, exp_dir=str(exp_dir), runtime=runtime)


def stop_at(config: TrainConfig, step: int) -> None:
    """Train and get a SIGTERM in the middle of update `step` (from 1)."""
    update = loop.Trainer.update

    def signalled(self, inputs, targets):  # type: ignore[no-untyped-def]
        if self.position.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        update(self, inputs, targets)

    loop.Trainer.update = signalled  # type: ignore[method-assign]
    train_here(config)


def interrupted_batches(corpus: Corpus, settings: Settings) -> tuple[list[str], int]:
    """Which passes over the batches, begun in the middle, differ from the whole one, and how many there were."""
    frontend = Frontend(FrontendConfig(cmvn="none", splice_left=2, splice_right=2, global_norm=False), 4)
    source = Source(str(corpus.data_dir), str(corpus.ali_dir))
    cache = ensure_cache(settings.folder / "cache", [source], frontend, CacheOptions(shard_frames=100))
    stores: list[Store] = [FrameStore(cache, frontend), WindowedStore(cache, frontend, window_shards=3)]
    batch_size = -(-cache.num_frames // NUM_BATCHES)
    faults, num_comparisons = [], 0
    for store in stores:
        num_batches = store.num_batches(batch_size)
        whole = list(digests(store.batches(batch_size, seed=3, epoch=1)))
        for first in range(0, num_batches, 40 if settings.quick else 1):
            for workers in WORKERS:
                rest = store.batches(batch_size, seed=3, epoch=1, first_batch=first, workers=workers)
                num_comparisons += 1
                if list(digests(rest)) != whole[first:]:
                    faults.append(f"{type(store).__name__}, {workers} workers, begun at batch {first}")
    return faults, num_comparisons


def digests(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterable[bytes]:
    """A hash of each batch."""
    for inputs, targets in batches:
        yield hashlib.sha256(inputs.numpy().tobytes() + targets.numpy().tobytes()).digest()


if __name__ == "__main__":
    main(__doc__ or "", run)
