"""Training from a cache that is read in windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.data import windows
from acoustic.errors import ConfigError
from acoustic.train.loop import Trainer
from tests.train.runs import metrics, same_weights, small_config, train_broken_off, train_small


def test_windows_train_as_memory_does(corpus: Path, tmp_path: Path) -> None:
    # One shard makes one window, and that is shuffled as a whole, by other numbers than memory.
    train_small(corpus, tmp_path / "windowed", "data.store=windowed")
    train_small(corpus, tmp_path / "memory", "data.memory_gb=1")
    losses = [metrics(tmp_path / name)[-1]["dev_loss"] for name in ("windowed", "memory")]
    assert losses[0] == pytest.approx(losses[1], abs=0.1) and losses[0] != losses[1]


def test_windows_go_on_where_they_broke_off(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("data.memory_gb=0", "data.window_shards=1")
    unbroken = train_small(corpus, tmp_path / "unbroken", *options)
    assert same_weights(train_broken_off(corpus, tmp_path / "broken", monkeypatch, 3, *options), unbroken)


def test_too_little_memory_is_told_before_it_runs_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "available_bytes", lambda device: 1e3)
    with pytest.raises(ConfigError, match=r"data\.store=windowed"):
        train_small(corpus, tmp_path / "exp")


def test_a_gpu_that_runs_out_of_memory_is_an_error_of_one_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(trainer: Trainer, *batch: torch.Tensor) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 90.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 70.00 "
            "GiB is free. Including non-PyTorch memory, this process has 9.00 GiB memory in use."
        )

    monkeypatch.setattr(Trainer, "update", update)
    with pytest.raises(ConfigError, match=r"90\.00 GiB.* 70\.00 GiB is free: lower data\.batch_size") as raised:
        train_small(corpus, tmp_path / "exp")
    assert "Including" not in str(raised.value)


@pytest.mark.parametrize("allocate", [torch.empty, np.empty])
def test_a_host_that_runs_out_of_memory_is_an_error_of_one_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allocate: Callable[[int], object]
) -> None:
    monkeypatch.setattr(Trainer, "update", lambda *_: allocate(10**16))
    with pytest.raises(ConfigError, match=r"allocate .*[0-9]+.*: lower the sizes .*model\.hidden_dim") as raised:
        train_small(corpus, tmp_path / "exp")
    assert "alloc_cpu" not in str(raised.value)


def test_other_failures_are_not_taken_for_a_lack_of_memory(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "update", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        train_small(corpus, tmp_path / "exp")


def test_more_dimensions_than_lda_can_give_are_refused_before_they_take_memory(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"features\.lda_dim=100000000: LDA cannot give more than the 195 "):
        train_small(corpus, tmp_path / "exp", "features.lda_dim=100000000")


def test_configuration_is_checked(corpus: Path, tmp_path: Path) -> None:
    for override in ("data.store=disk", "data.window_shards=0", "data.memory_gb=-1"):
        with pytest.raises(ConfigError, match=override.split("=")[0]):
            small_config(corpus, tmp_path, override)
