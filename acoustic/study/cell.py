"""One training of the grid: a setting on a fold with a seed, trained, measured, written down."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic import fsio, log
from acoustic.analysis.layers import describe_gradients, run_layers
from acoustic.analysis.zeiler2013 import zero_share
from acoustic.data.cache import FramesCache
from acoustic.data.windows import open_store
from acoustic.decode.forward import AcousticModel
from acoustic.decode.jobs import num_cores
from acoustic.errors import ConfigError, TrainingError
from acoustic.kaldi.alignments import read_model
from acoustic.nn.classifier import SenoneClassifier
from acoustic.study.folds import Fold
from acoustic.study.result import Result
from acoustic.study.scale import Scale
from acoustic.study.unsupervised import measure_features
from acoustic.study.words import Task
from acoustic.train.config import TrainConfig
from acoustic.train.metrics import Metrics
from acoustic.train.optim import RATE_FRAMES
from acoustic.train.precision import choose_device, choose_dtype, set_up_torch
from acoustic.train.run import train

NUM_FRAMES = 4096  # of dev, for the statistics of hidden units
NUM_PASSES = 30  # of which the fastest counts
Compose = Callable[[Sequence[str]], TrainConfig]  # hydra's overrides -> a checked configuration


@dataclass(frozen=True)
class Cell:
    """One place in the grid."""

    fold: Fold
    setting: str
    seed: int

    def folder(self, out_dir: Path) -> Path:
        """Where its training and its result stand."""
        return out_dir / self.fold.name / "cells" / f"{self.setting}_seed{self.seed}"

    def config(self, scale: Scale, out_dir: Path, compose: Compose, runtime: Sequence[str]) -> TrainConfig:
        """The configuration of its training."""
        return compose(
            [
                *scale.overrides(self.setting, self.seed), *self.fold.overrides(), *runtime,
                f"exp_dir='{self.folder(out_dir)}'",
            ]
        )  # fmt: skip

    def fingerprint(self, scale: Scale, config: TrainConfig) -> str:
        """SHA-256 of all that decides its result: the configuration and how features are judged."""
        if self.setting != "unsupervised":
            return config.fingerprint()
        parts = [config.fingerprint(), scale.probe_epochs, scale.rates["probe"]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def run_cell(
    cell: Cell, scale: Scale, out_dir: Path, compose: Compose, runtime: Sequence[str], decodes: bool = True
) -> Result:
    """The result of a cell: read if it is there, else trained and measured.

    Args:
        cell, scale, out_dir: which training, and where.
        compose: makes a configuration of hydra's overrides.
        runtime: overrides that say how to compute.
        decodes: words are recognised and hidden units looked at; otherwise dev loss and accuracy are all that is known.

    Raises:
        ConfigError: what is there, finished or begun, is of another configuration.
    """
    config = cell.config(scale, out_dir, compose, runtime)
    folder, fingerprint = cell.folder(out_dir), cell.fingerprint(scale, config)
    path, begun = folder / "result.json", folder / "begun.json"
    result = Result.read(path) if path.exists() else None
    there = result.fingerprint if result else fsio.read_json(begun) if begun.exists() else fingerprint
    if there != fingerprint:
        raise ConfigError(f"{folder} is of other options; choose another output folder, or remove it")
    if result:
        return result
    fsio.write_json(begun, fingerprint)
    start = time.monotonic()
    with only_warnings():
        try:
            result = measure(cell, scale, config, decodes)
        except TrainingError as error:
            result = nothing_learnt(config, fingerprint, str(error))
    result = replace(result, seconds=time.monotonic() - start)
    result.write(path)
    for leftover in ("checkpoints", "pretrain"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    return result


def measure(cell: Cell, scale: Scale, config: TrainConfig, decodes: bool) -> Result:
    """Train and measure a cell; `decodes` as of `run_cell`.

    Raises:
        TrainingError: it diverged.
    """
    result = Result(cell.fingerprint(scale, config))
    # Here too, though `train` does it: not all of this trains, and what does may have been done before.
    set_up_torch(choose_device(config.runtime.device), config.runtime.num_threads, config.runtime.deterministic)
    if cell.setting == "unsupervised":
        return measure_features(config, scale.probe_epochs, scale.rates["probe"], cell.fold.graph_dir, result)
    train(config)
    exp_dir = Path(config.exp_dir)
    records = [record for record in Metrics(exp_dir / "metrics.jsonl").read() if "dev_loss" in record]
    finite = [record for record in records if record["dev_loss"] is not None]
    if not finite:
        raise TrainingError(f"no dev loss of {exp_dir} is finite")
    best = min(finite, key=lambda record: record["dev_loss"])
    seconds = [record["seconds"] for record in Metrics(exp_dir / "speed.jsonl").read() if record["step"]]
    result = replace(
        result,
        dev_losses=[
            chance(config) if record["dev_loss"] is None else record["dev_loss"] for record in records if record["step"]
        ],
        dev_loss=best["dev_loss"],
        dev_accuracy=best["dev_accuracy"],
        epoch_seconds=float(np.mean(seconds)),
    )
    if not decodes:
        return result
    network = AcousticModel.load(exp_dir, device=config.runtime.device)
    result = with_statistics(with_words(result, cell, network), network, cell.fold.cache_dir / "dev")
    inputs = torch.randn(config.data.batch_size or RATE_FRAMES, network.frontend.input_dim, device=network.device)
    dtype = choose_dtype(config.runtime.precision, network.device)
    return replace(result, pass_seconds=pass_seconds(network.classifier, inputs, dtype))


def with_words(result: Result, cell: Cell, network: AcousticModel) -> Result:
    """The result with word errors on test, scales chosen on dev."""
    task = Task(cell.fold.ali_dir, cell.fold.graph_dir)
    scores = task.score(network, cell.fold.data / "test", task.tune(network, cell.fold.data / "dev"))
    return replace(
        result,
        wer=scores.wer,
        utts=scores.utts,
        num_words=scores.num_words.tolist(),
        num_errors=scores.num_errors.tolist(),
    )


def with_statistics(result: Result, network: AcousticModel, dev_cache: Path) -> Result:
    """The result with zeros, gradient information and net variance on a sample of dev frames."""
    store = open_store(FramesCache.open(dev_cache), network.frontend, network.device)
    inputs, targets = next(store.batches(min(NUM_FRAMES, store.num_frames), seed=0))
    outputs = run_layers(network.classifier, inputs).outputs
    gradients = describe_gradients(network.classifier, inputs, targets)
    return replace(
        result,
        zero_share=float(np.mean([zero_share(layer) for layer in outputs])),
        gradient_information=float(np.mean([layer.trained for layer in gradients])),
        net_variance=float(np.mean([layer.net_variance for layer in gradients])),
    )


def pass_seconds(classifier: SenoneClassifier, inputs: Tensor, dtype: torch.dtype) -> float:
    """The least time of a forward and a backward pass in training [s].

    On a CPU it is that of the process, whatever else runs there.
    """
    clock = time.perf_counter if inputs.is_cuda else time.process_time
    classifier.train()
    times = []
    for _ in range(NUM_PASSES):
        start = clock()
        with torch.autocast(inputs.device.type, dtype, enabled=dtype != torch.float32):
            loss = classifier(inputs).float().logsumexp(1).mean()
        loss.backward()
        if inputs.is_cuda:
            torch.cuda.synchronize(inputs.device)
        times.append(clock() - start)
    classifier.eval()
    return min(times)


def nothing_learnt(config: TrainConfig, fingerprint: str, reason: str) -> Result:
    """What a network without knowledge scores: uniform posteriors, every word wrong."""
    loss = chance(config)
    return Result(fingerprint, [loss] * config.schedule.max_epochs, loss, diverged=reason)


def chance(config: TrainConfig) -> float:
    """Cross-entropy of uniform posteriors [nats]; that of an epoch, too, whose dev loss was not finite."""
    return math.log(read_model(config.train.ali_dir[0]).num_pdfs)


@contextmanager
def only_warnings() -> Iterator[None]:
    """Keep the log of single trainings off the terminal."""
    logger = log.get_logger("acoustic")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def num_threads() -> int:
    """Threads to compute with: this process's cores, or fewer where OMP_NUM_THREADS says so."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(num_cores(), int(wanted)) if wanted.isdigit() and int(wanted) else num_cores()


def device_of(wanted: str) -> str:
    """cpu or cuda, of the option --device, whose auto is cuda if there is one.

    GPUs are counted by way of the driver's management library. torch.cuda.is_available() would begin to use CUDA, which
    then cannot be used in processes that are forked off.
    """
    return wanted if wanted != "auto" else "cuda" if torch.cuda.device_count() else "cpu"


def runtime_overrides(num_jobs: int, item: int, device: str) -> list[str]:
    """How a training computes when `num_jobs` go on at a time; GPUs are taken in turn by the number of the item."""
    threads = max(1, num_threads() // num_jobs)
    num_gpus = torch.cuda.device_count() if device == "cuda" else 0
    place = f"cuda:{item % num_gpus}" if num_gpus else device
    return [
        f"runtime.device={place}", f"runtime.num_threads={threads}", "runtime.keep_checkpoints=2",
        "runtime.curves=false",
    ]  # fmt: skip
