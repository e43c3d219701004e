from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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
    drawn = set()
    for seed, step, rank in ((1, 5, 0), (2, 5, 0), (1, 6, 0), (1, 5, 1), (1, 5, 0)):
        torch.manual_seed(Ranks(rank, 2).seed(seed, step))
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 4


def test_a_loss_is_divided_by_the_frames_that_its_gradient_is_of() -> None:
    """Gradients that are added up are parts of one of the whole batch; those of ranks on their own are not."""
    adding, averaging = Ranks(1, 2), Ranks(1, 2, average_steps=4)
    assert [adding.divisor(num_frames, 7) for num_frames in (3, 4, 0)] == [7, 7, 7]
    assert [averaging.divisor(num_frames, 7) for num_frames in (3, 4, 0)] == [3, 4, 1]
    assert Ranks().divisor(7, 7) == 7


def test_ranks_talk_only_when_all_have_the_same_weights() -> None:
    def steps(ranks: Ranks, when: Callable[[Ranks, int], bool]) -> list[int]:
        return [step for step in range(1, 25) if when(ranks, step)]

    averaging, adding, alone = Ranks(0, 2, average_steps=4), Ranks(0, 2), Ranks(average_steps=4)
    assert steps(averaging, Ranks.is_time_to_average) == steps(averaging, Ranks.is_time_to_talk) == [*range(4, 25, 4)]
    assert steps(adding, Ranks.is_time_to_average) == steps(alone, Ranks.is_time_to_average) == []
    assert steps(adding, Ranks.is_time_to_talk) == [10, 20] and len(steps(alone, Ranks.is_time_to_talk)) == 24


def in_two_ranks(function: Callable[[Ranks], Any], average_steps: int | None = None) -> list[Any]:
    """What a function gives in each of two ranks, forked from this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def run(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        with join("cpu", RanksConfig(average_steps=average_steps)) as ranks:
            results.put((rank, function(ranks)))

    processes = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [result for _, result in sorted(results.get() for _ in processes)]


def test_a_rank_that_hangs_between_updates_is_not_waited_for_as_one_that_goes_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks, "LONGEST_PAUSE", timedelta(seconds=2))

    def late(ranks: Ranks) -> str:
        with ranks.first_goes_ahead():
            time.sleep(3 if ranks.is_first else 0)
        ranks.sum([torch.ones(1)])
        time.sleep(0 if ranks.is_first else 5)
        start = time.monotonic()
        with pytest.raises(TrainingError, match="another rank ended or cannot be reached"):
            ranks.sum([torch.ones(1)])
        return "in time" if time.monotonic() - start < 4 else "late"

    assert in_two_ranks(late) == ["in time", "in time"]


@pytest.mark.parametrize("average_steps", [None, 2])
def test_what_ranks_make_of_each_others_numbers(tmp_path: Path, average_steps: int | None) -> None:
    def talk(ranks: Ranks) -> list[Any]:
        added, mean, count, first, gradient, moment = (torch.tensor([10.0 * i + ranks.rank]) for i in range(6))
        unused, parameter = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
        count = count.long()
        ranks.sum([added])
        ranks.mean([mean, count])
        ranks.copy_first([first])
        with ranks.adding_gradients([parameter, unused]):
            (gradient * parameter).sum().backward()
        ranks.share_moments([moment])
        with ranks.first_goes_ahead():
            if ranks.is_first:
                time.sleep(0.2)
                (tmp_path / "written").touch()
            found = (tmp_path / "written").exists()
        largest = ranks.largest([float(ranks.rank), -float(ranks.rank)])
        assert parameter.grad is not None and unused.grad is None
        assert not parameter._post_accumulate_grad_hooks  # or each update would leave one more
        return [tensor.item() for tensor in (added, mean, count, first, parameter.grad, moment)] + [found, largest]

    ours = [1.0, 10.5, 20, 30.0]
    parts = [[40.0, 50.0], [41.0, 51.0]] if average_steps else [[81.0, 50.5]] * 2
    assert in_two_ranks(talk, average_steps) == [[*ours, *part, True, [1.0, 0.0]] for part in parts]


def test_gradients_go_in_one_order_in_whatever_they_come() -> None:
    """And while the backward pass goes on."""

    def talk(ranks: Ranks) -> list[Any]:
        leaves = [torch.full((size,), 1.0, requires_grad=True) for size in (1, 2, 3, 4)]
        sent: list[int] = []
        all_reduce = torch.distributed.all_reduce

        def watched(tensor: torch.Tensor, **options: Any) -> Any:
            sent.append(len(tensor))
            return all_reduce(tensor, **options)

        torch.distributed.all_reduce = watched  # type: ignore[assignment]
        sent_meanwhile = []
        leaves[0].register_hook(lambda gradient: sent_meanwhile.append(list(sent)))
        order = [0, 2, 3] if ranks.is_first else [3, 0, 2]  # of the graph; the second has no gradient
        with ranks.adding_gradients(leaves):
            for place in order:
                ((ranks.rank + 1.0) * leaves[place]).sum().backward()
        return [sent, sent_meanwhile, [leaf.grad.tolist() for leaf in leaves if leaf.grad is not None]]

    first, second = in_two_ranks(talk, None)
    assert first[0] == second[0] == [4, 3, 1]
    assert (first[1], second[1]) == ([[]], [[4]])
    assert first[2] == second[2] == [[3.0], [3.0] * 3, [3.0] * 4]


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
