"""Checkpoints: verified, skipped loudly when damaged, pruned with care."""

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
def test_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, damage, caplog):
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


def test_a_checkpoint_whose_best_is_damaged_is_none(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step, best_step in ((0, 0), (5, 0), (10, 10), (15, 10)):
        checkpoints.save(step, state(step, best_step), best_step=best_step)
    (checkpoints.path(10) / "state.pt").write_bytes(b"damaged")
    assert checkpoints.load_newest()["weights"].tolist() == [5.0] * 3
    assert checkpoints.steps() == [0, 5]
    assert sorted(item.name for item in (tmp_path / "damaged").iterdir()) == ["step-000000010", "step-000000015"]


def test_a_damaged_best_does_not_take_all_with_it(tmp_path):
    """Those saved before it was the best need the one that was, which is kept as long as they are."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, best_step in ((0, 0), (10, 10), (20, 10), (30, 30)):
        checkpoints.save(step, state(step, best_step), best_step=best_step)
    assert checkpoints.steps() == [10, 20, 30]
    (checkpoints.path(30) / "state.pt").write_bytes(b"damaged")
    assert checkpoints.load_newest()["weights"].tolist() == [20.0] * 3
    for step in (30, 40):
        checkpoints.save(step, state(step, 30), best_step=30)
    assert checkpoints.steps() == [30, 40]


def test_ranks_that_only_read_write_and_remove_nothing(tmp_path):
    Checkpoints(tmp_path).save(1, state(1, 1), best_step=1)
    (tmp_path / ".step-000000002.77.tmp").mkdir()
    reading = Checkpoints(tmp_path, writes=False)
    reading.save(2, state(2, 2), best_step=2)
    reading.clear_unfinished()
    assert sorted(item.name for item in tmp_path.iterdir()) == [".step-000000002.77.tmp", "step-000000001"]


@pytest.mark.parametrize("writes", [True, False])
def test_a_checkpoint_is_due_so_many_minutes_after_the_last(tmp_path, monkeypatch, writes):
    now = 1000.0
    monkeypatch.setattr("acoustic.train.checkpoint.time.monotonic", lambda: now)
    checkpoints = Checkpoints(tmp_path, writes=writes)
    for _ in range(2):
        assert not checkpoints.is_due(10)
        now += 599.0
        assert not checkpoints.is_due(10)
        now += 2.0
        assert checkpoints.is_due(10)
        checkpoints.save(1, state(1, 1), best_step=1)
