"""Caches: building them, training from one beyond memory, how speed depends on size."""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from ceilings import Net, disk_rates, forget_file
from measure import Comparison, Result, Setting, Way, compare, rate_of
from synthetic import synthetic_cache
from training import BASE_DIM, batch_size_of, endless, make_frontend, make_trainer, updates_way

from acoustic.data.build import SHARD_FRAMES, CacheOptions, ensure_cache
from acoustic.data.cache import FramesCache
from acoustic.data.join import Source
from acoustic.data.windows import WINDOW_SHARDS, open_store
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.kaldi.alignments import read_model, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter
from acoustic.train.precision import choose_dtype

MODEL_DIR = Path(__file__).parents[2] / "tests" / "golden" / "model" / "mono"
FRAMES_PER_HOUR = 360_000
WORKER_STEPS = 40


# -- building -----------------------------------------------------------------------------------------------------


def write_source(directory: Path, num_utts: int, num_frames: int) -> Source:
    """A data directory of random features and alignments of a small model."""
    rng = np.random.default_rng(0)
    source = Source(str(directory / "data"), str(directory / "ali"))
    (directory / "ali").mkdir(parents=True)
    (directory / "data").mkdir()
    for name in ("final.mdl", "tree"):
        shutil.copy(MODEL_DIR / name, source.ali_dir)
    highest = read_model(source.ali_dir).num_transition_ids
    utts = [f"s{number // 10:04d}-{number:06d}" for number in range(num_utts)]
    DataDir(utt2spk={utt: utt[:5] for utt in utts}).write(directory / "data")
    feats = rng.standard_normal((num_frames, BASE_DIM), dtype=np.float32)
    with TableWriter(f"ark,scp:{source.data_dir}/feats.ark,{source.data_dir}/feats.scp", "matrix") as writer:
        for utt in utts:
            writer.write(utt, feats)
    ids = rng.integers(1, highest + 1, num_frames).astype(np.int32)
    write_alignments(source.ali_dir, [(utt, ids) for utt in utts], 2)
    return source


def cache_build(setting: Setting) -> list[Result]:
    """Features on the disk to a cache on the disk; frames a second."""
    num_utts, num_frames = (400 if setting.quick else 4000), 1024
    source = write_source(setting.directory / "source", num_utts, num_frames)
    frontend = Frontend(FrontendConfig(cmvn="speaker", delta_order=2, splice_left=5, splice_right=5), BASE_DIM)
    total = num_utts * num_frames
    # Small shards, so that there is something to share out also when it is quick.
    options = CacheOptions(shard_frames=total // 8)

    def build(num_jobs: int) -> Way:
        cache = setting.directory / "built"
        rate = rate_of(lambda: ensure_cache(cache, [source], frontend, options, num_jobs=num_jobs), total)

        def way() -> float:
            shutil.rmtree(cache, ignore_errors=True)
            forget_file(Path(source.data_dir) / "feats.ark")
            return rate()

        return way

    cores = len(os.sched_getaffinity(0))
    others = {"one job": build(1)}
    written, read = disk_rates(setting)
    disk = 1e6 / (BASE_DIM * 4 / read + (BASE_DIM * 2 + 2) / written)
    fixed = {"the disk: reading features, writing frames": disk}
    result = compare("cache_build", "frames/s", build(cores), others, setting, fixed)
    return [result]


# -- beyond memory ------------------------------------------------------------------------------------------------


def worker(cache: Path, store: str, num_steps: int, device: str) -> None:
    """Train from a cache for some updates in this process of its own; prints frames a second and resident memory."""
    where = torch.device(device)
    frames = FramesCache.open(cache)
    net = Net(input_dim=11 * frames.base_dim)
    setting = Setting(cache.parent, where, True, 1, 0.0, ("", "", ""))
    opened = open_store(frames, make_frontend(frames.base_dim), where, kind=store)
    batch_size = batch_size_of(setting)
    trainer = make_trainer(net, choose_dtype("auto", where), opened, batch_size, cache.parent)
    batches = endless(opened, batch_size)
    for inputs, targets in islice(batches, 3):
        trainer.update(inputs, targets)
    rates = []
    for _ in range(max(1, num_steps // WORKER_STEPS)):
        rates.append(updates_way(trainer.update, batches, WORKER_STEPS, setting)())
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"rate": num_steps / sum(WORKER_STEPS / rate for rate in rates), "resident": resident}))


def run_worker(cache: Path, store: str, num_steps: int, setting: Setting) -> dict[str, float]:
    """What `worker` gives, of a cache that is only on the disk."""
    for path in cache.iterdir():
        forget_file(path)
    command = [sys.executable, __file__, str(cache), store, str(num_steps), str(setting.device)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def out_of_core(setting: Setting) -> list[Result]:
    """Training on far more hours than fit, read in windows, beside as many as are in memory; few values a frame."""
    hours, base_dim = (40, 10) if setting.quick else (2000, 10)
    net = Net(input_dim=11 * base_dim)
    large, small = setting.directory / "large", setting.directory / "small"
    synthetic_cache(large, hours * FRAMES_PER_HOUR, base_dim, net.num_pdfs)
    synthetic_cache(small, min(hours, 100) * FRAMES_PER_HOUR, base_dim, net.num_pdfs)
    num_steps = WORKER_STEPS * (2 if setting.quick else 20)
    window_steps = WINDOW_SHARDS * SHARD_FRAMES / batch_size_of(setting)
    if setting.on_gpu:  # in a second it has done with a window, and it must be seen to go on to the next ones
        num_steps = WORKER_STEPS * math.ceil(4 * window_steps / WORKER_STEPS)
    rounds = [
        (run_worker(large, "windowed", num_steps, setting), run_worker(small, "memory", num_steps, setting))
        for _ in range(1 if setting.quick else 3)
    ]
    rate, memory_rate = (statistics.median(one["rate"] for one in ones) for ones in zip(*rounds, strict=True))
    ratio = statistics.median(windowed["rate"] / memory["rate"] for windowed, memory in rounds)
    remarks = {
        "hours": float(hours),
        "resident_GB": 1e-9 * max(one["resident"] for one, _ in rounds),
        "windows trained on, while the next one was read": num_steps / window_steps,
    }
    shutil.rmtree(large)
    shutil.rmtree(small)
    against = f"all in memory, {min(hours, 100)} hours"
    return [Result("out_of_core", rate, "frames/s", [Comparison(against, memory_rate, ratio)], remarks)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=worker.__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("store", choices=["memory", "windowed"])
    parser.add_argument("num_steps", type=int)
    parser.add_argument("device")
    worker(**vars(parser.parse_args()))
