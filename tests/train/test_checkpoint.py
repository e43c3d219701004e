"""Checkpoints: verified, skipped loudly when damaged, pruned with care."""

import logging

import pytest
import torch

from acoustic.errors import CheckpointError
from acoustic.train.checkpoint import Checkpoints


def state(step, best_step=0):
    return {"weights": torch.full((3,), float(step)), "best_step": best_step}


def test_newest_valid_checkpoint_is_found(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (0, 5, 10):
        checkpoints.save(step, state(step), best_step=0)
    assert checkpoints.load_newest()["weights"].tolist() == [10.0] * 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "no manifest", "no state", "garbled manifest"])
def test_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, damage, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("acoustic"), "propagate", True)
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (0, 5):
        checkpoints.save(step, state(step), best_step=0)
    file = checkpoints.path(5) / ("manifest.json" if "manifest" in damage else "state.pt")
    content = bytearray(file.read_bytes())
    if damage.startswith("no "):
        file.unlink()
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"{")
    assert checkpoints.load_newest()["weights"].tolist() == [0.0] * 3
    assert "checkpoint skipped" in caplog.text and "step-000000005" in caplog.text


def test_all_damaged_is_an_error_and_none_is_none(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load_newest() is None
    checkpoints.save(1, state(1, 1), best_step=1)
    (checkpoints.path(1) / "state.pt").unlink()
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        checkpoints.load_newest()


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(6):
        checkpoints.save(step, state(step, 1 if step else 0), best_step=1 if step else 0)
    assert checkpoints.steps() == [1, 4, 5]


def test_unfinished_folders_are_no_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1, 1), best_step=1)
    (tmp_path / ".step-000000002.77.tmp").mkdir()
    assert checkpoints.steps() == [1]
    checkpoints.clear_unfinished()
    assert [item.name for item in tmp_path.iterdir()] == ["step-000000001"]
