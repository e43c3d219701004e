from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

from acoustic.cli.hydra_config import compose_train_config
from acoustic.data.batches import FrameStore
from acoustic.data.cache import FramesCache
from acoustic.errors import ConfigError, PreemptedError, TrainingError
from acoustic.features.frontend import Frontend
from acoustic.nn.bundle import load_bundle
from acoustic.train import ranks
from acoustic.train.loop import Trainer
from acoustic.train.ranks import Ranks, RanksConfig, join
from acoustic.train.rendezvous import fresh_store
from acoustic.train.run import make_trainer, prepare, train
from tests.train.runs import SMALL, metrics, small_config, train_small

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def overrides(corpus: Path, exp_dir: Path, *more: str) -> list[str]:
    """Those of `small_config`."""
    data = [f"{part}.data_dir={corpus}/data/{part}" for part in ("train", "dev")]
    data += [f"{part}.ali_dir={corpus}/ali" for part in ("train", "dev")]
    return [f"exp_dir={exp_dir}", f"data.cache_dir={exp_dir}/cache", *data, *SMALL, *more]


def start_two_ranks(overrides: Sequence[str], *torchrun: str) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node=2 -m acoustic train ...`."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *torchrun, "-m", "acoustic", "train", *overrides]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def losses(exp_dir: Path) -> np.ndarray:
    """Train and dev loss of every evaluation."""
    return np.array([[line["train_loss"], line["dev_loss"]] for line in metrics(exp_dir)])


def test_two_ranks_are_one_with_doubled_batches(corpus: Path, tmp_path: Path) -> None:
    process = start_two_ranks(overrides(corpus, tmp_path / "two", "data.batch_size=32"))
    train_small(corpus, tmp_path / "one", "data.batch_size=64")
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert len(losses(tmp_path / "one")) == 2
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-4)
    two, one = (load_bundle(tmp_path / name).classifier.state_dict() for name in ("two", "one"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=0)


def test_ranks_evaluate_the_moments_of_batch_normalisation_that_are_saved(corpus: Path, tmp_path: Path) -> None:
    options = overrides(corpus, tmp_path / "exp", "data.batch_size=32", "model.norm=batch")
    _, messages = (process := start_two_ranks(options)).communicate(timeout=120)
    assert process.returncode == 0, messages
    bundle = load_bundle(tmp_path / "exp")
    frontend = Frontend.restored(bundle.frontend_config, bundle.feat_dim, bundle.frontend_state)
    store = FrameStore(FramesCache.open(tmp_path / "exp" / "cache" / "dev"), frontend)
    inputs, targets = store.batch(torch.arange(store.num_frames))
    loss = torch.nn.functional.cross_entropy(bundle.classifier(inputs), targets).item()
    assert min(losses(tmp_path / "exp")[:, 1]) == pytest.approx(loss, abs=1e-6)


@pytest.mark.slow
def test_killed_ranks_go_on_from_the_last_checkpoint(corpus: Path, tmp_path: Path) -> None:
    exp_dir = tmp_path / "exp"
    options = overrides(corpus, exp_dir, "data.batch_size=32", "ranks.average_steps=4", "schedule.max_epochs=4")
    process = start_two_ranks(options, "--max-restarts=2")
    while not (exp_dir / "checkpoints" / "step-000000007").exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(rank_processes(process.pid)[-1], signal.SIGKILL)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert [line["epoch"] for line in metrics(exp_dir)] == [1.0, 2.0, 3.0, 4.0]
    assert "resumed after step" in (exp_dir / "train.log").read_text()
    assert load_bundle(exp_dir).classifier.num_parameters > 0


def rank_processes(parent: int) -> list[int]:
    """The processes that torchrun started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(int(child) for child in children)


def test_random_numbers_depend_on_seed_step_and_rank() -> None:
    ranks = Ranks()
    drawn = set()
    for seed, step in ((1, 5), (2, 5), (1, 6), (1, 5)):
        torch.manual_seed(ranks.seed(seed, step))
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 3


def test_one_process_needs_no_communication() -> None:
    tensor = torch.ones(2)
    ranks = Ranks()
    ranks.sum([tensor])
    ranks.mean([tensor])
    ranks.copy_first([tensor])
    with ranks.first_goes_ahead():
        assert torch.equal(tensor, torch.ones(2))
    assert ranks.largest([1.0, 2.0]) == [1.0, 2.0]


def test_a_run_resumed_in_mid_epoch_tells_the_loss_that_it_had(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: list[dict[str, Any]] = []

    def stop_after_the_fifth_update(trainer: Trainer) -> None:
        if trainer.position.step == 5:
            trainer.save()
            state.append(trainer.checkpoints.load(5))
            raise PreemptedError

    monkeypatch.setattr(Trainer, "leave_or_save", stop_after_the_fifth_update)
    config = small_config(corpus, tmp_path)
    with pytest.raises(PreemptedError):
        train(config)
    trainer = make_trainer(config, prepare(config), torch.device("cpu"), torch.float32)
    position = state[0]["position"]
    loss = position["loss_sum"] / position["num_frames"]
    for world_size in (1, 2, 3):
        sums = torch.zeros(2, dtype=torch.float64)
        for rank in range(world_size):
            trainer.ranks = Ranks(rank, world_size)
            trainer.totals.zero_()
            trainer.restore(state[0])
            progress = trainer.progress()
            assert progress.loss_sum / progress.num_frames == pytest.approx(loss, rel=0.01)
            sums += trainer.totals
        assert sums.tolist() == [position["loss_sum"], position["num_correct"]]  # metrics.jsonl, to the last digit


def test_configuration_is_checked(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="average_steps"):
        RanksConfig(average_steps=0)
    assert small_config(corpus, tmp_path, "ranks.average_steps=8").ranks.average_steps == 8
    assert compose_train_config(overrides(corpus, tmp_path)).ranks.average_steps is None


def test_ranks_without_torchrun_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match=r"MASTER_ADDR expected.*start ranks by torchrun"), join("cpu", RanksConfig()):
        pass
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "PATIENCE", timedelta(seconds=1))
    with pytest.raises(TrainingError, match="another rank"), join("cpu", RanksConfig()):
        pass


def test_ranks_started_again_do_not_find_the_dead(tmp_path: Path) -> None:
    store = HashStore()
    names: list[Any] = []
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(fresh_store, store, rank, 3) for rank in range(3)]
            stores = [future.result(timeout=20) for future in futures]
        stores[1].set("address", str(len(names)))
        assert stores[0].get("address") == stores[2].get("address") == str(len(names)).encode()
        names.append(stores[0])
    assert names[0].get("address") == b"0"
