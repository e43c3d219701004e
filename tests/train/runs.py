"""Whole training runs on the corpus of conftest.py, broken off where a test wants."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from acoustic.cli.hydra_config import compose_train_config
from acoustic.errors import PreemptedError
from acoustic.nn.bundle import Bundle, load_bundle
from acoustic.train.config import TrainConfig
from acoustic.train.loop import Trainer
from acoustic.train.run import train

SMALL = [
    "model.hidden_layers=2", "model.hidden_dim=6", "schedule=constant", "schedule.max_epochs=2",
    "runtime.precision=fp32", "runtime.num_threads=1", "runtime.device=cpu", "features.splice_left=2",
    "features.splice_right=2", "data.batch_size=64",
]  # fmt: skip


def overrides_of(corpus: Path, exp_dir: Path, *overrides: str) -> list[str]:
    """The command line of a run of seconds."""
    return [
        f"exp_dir={exp_dir}", f"train.data_dir={corpus}/data/train", f"train.ali_dir={corpus}/ali",
        f"dev.data_dir={corpus}/data/dev", f"dev.ali_dir={corpus}/ali", f"data.cache_dir={corpus}/cache",
        *SMALL, *overrides,
    ]  # fmt: skip


def small_config(corpus: Path, exp_dir: Path, *overrides: str) -> TrainConfig:
    """Its configuration."""
    return compose_train_config(overrides_of(corpus, exp_dir, *overrides))


def train_small(corpus: Path, exp_dir: Path, *overrides: str) -> Bundle:
    """Train and give what final.pt holds."""
    train(small_config(corpus, exp_dir, *overrides))
    return load_bundle(exp_dir)


def train_broken_off(
    corpus: Path,
    exp_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    *overrides: str,
    trainer_class: type[Trainer] = Trainer,
) -> Bundle:
    """As `train_small`, but with SIGTERM during update `step` and a second start."""
    update = trainer_class.update

    def with_signal(trainer: Trainer, *batch: torch.Tensor) -> None:
        if trainer.position.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        update(trainer, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(trainer_class, "update", with_signal)
        with pytest.raises(PreemptedError):
            train(small_config(corpus, exp_dir, *overrides))
    return train_small(corpus, exp_dir, *overrides)


def metrics(exp_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (exp_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def same_weights(one: Bundle, other: Bundle) -> bool:
    """Whether two networks are the same bit for bit."""
    mine, theirs = one.classifier.state_dict(), other.classifier.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
