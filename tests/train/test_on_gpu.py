"""Updates on a CUDA device: within an epoch the host works ahead, it never waits for the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acoustic.data import batches as batches_module
from acoustic.train import kernels
from acoustic.train.precision import set_up_torch
from acoustic.train.run import make_trainer, prepare
from acoustic.train.weights import Bfloat16Copies, Weights
from tests.train.runs import small_config

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
OPTIONS = {
    "sgd": ["optim.clip_norm=1", "optim.max_norm=1", "optim.label_smoothing=0.1", "model.dropout=0.2"],
    "adamw": ["optim.name=adamw", "average=ema", "model.norm=batch"],
    "adagrad": ["optim.name=adagrad", "masking.num_time_masks=1", "features.delta_order=2"],
}


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_gpu)])
@pytest.mark.parametrize("options", OPTIONS)
def test_no_update_waits_for_the_device(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, device: str
) -> None:
    monkeypatch.setattr(batches_module, "BLOCK_FRAMES", {"cpu": 128, "cuda": 128})  # batches are assembled meanwhile
    config = small_config(corpus, tmp_path, f"runtime.device={device}", *OPTIONS[options])
    set_up_torch(torch.device(device), num_threads=1, deterministic=True)
    trainer = make_trainer(config, prepare(config), torch.device(device), torch.bfloat16)
    trainer.classifier.train()
    try:
        for number, batch in enumerate(trainer.train_store.batches(64, seed=1, end_batch=6)):
            if number == 2 and device == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            trainer.update(*batch)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert trainer.position.step == 6
    assert trainer.guard.bad_step() is None


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_gpu)])
@pytest.mark.parametrize("options", OPTIONS)
def test_kernels_and_copies_train_as_torch_does(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, device: str
) -> None:
    pytest.importorskip("triton")
    assert device == "cpu" or kernels.are_usable(torch.device(device))
    found = []
    for kind in (Bfloat16Copies, Weights):
        config = small_config(corpus, tmp_path / kind.__name__, f"runtime.device={device}", *OPTIONS[options])
        set_up_torch(torch.device(device), num_threads=1, deterministic=True)
        trainer = make_trainer(config, prepare(config), torch.device(device), torch.bfloat16)
        trainer.weights = kind(trainer.classifier, trainer.optimizer)
        if kind is Weights:
            monkeypatch.setattr(kernels, "are_usable", lambda device: False)
        trainer.classifier.train()
        for batch in trainer.train_store.batches(64, seed=1, end_batch=6):
            trainer.update(*batch)
        found.append(trainer.totals.cpu())
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=2.0)
