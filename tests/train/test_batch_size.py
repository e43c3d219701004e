"""Batch sizes and learning rates that a configuration leaves open."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from acoustic.cli import train as verb
from acoustic.cli.hydra_config import compose_train_config, read_yaml
from acoustic.errors import ConfigError
from acoustic.train.batch_size import with_batches_chosen
from acoustic.train.optim import OptimConfig
from acoustic.train.ranks import Ranks
from tests.train.runs import overrides_of, small_config

EPOCH = 108_000_000  # frames of 300 hours


def chosen(
    corpus: Path, caplog: pytest.LogCaptureFixture, *overrides: str, device: str = "cuda", num_frames: int = EPOCH,
    ranks: Ranks | None = None,
) -> tuple[int, float, str]:  # fmt: skip
    """Batch size, learning rate, and what the log says of them."""
    config = small_config(corpus, Path("exp"), "data.batch_size=null", *overrides)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        found, batch_size = with_batches_chosen(config, torch.device(device), num_frames, ranks or Ranks())
    assert found.data.batch_size == batch_size and found.optim.learning_rate is not None
    return batch_size, found.optim.learning_rate, "; ".join(record.getMessage() for record in caplog.records)


def test_a_gpu_is_kept_busy_where_the_corpus_allows(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    batch_size, rate, reasons = chosen(corpus, caplog)
    assert (batch_size, rate) == (4096, pytest.approx(0.08))
    assert reasons == (
        "batches of 4096 frames, as many as keep a GPU busy; "
        "learning rate 0.08 for updates of 4096: 0.02 is usual for 256"
    )


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [(5_734_400, 4096), (5_734_399, 2048), (1_433_600, 1024), (700_000, 256), (500, 256)],
)
def test_an_epoch_keeps_its_updates(
    corpus: Path, caplog: pytest.LogCaptureFixture, num_frames: int, expected: int
) -> None:
    batch_size, rate, reasons = chosen(corpus, caplog, num_frames=num_frames)
    assert (batch_size, rate) == (expected, pytest.approx(0.02 * (expected / 256) ** 0.5))
    reason = f"since 4096 would leave fewer than 1400 updates of {num_frames} frames"
    assert (reason in reasons) == (expected < 4096)


def test_a_cpu_is_kept_busy_by_fewer(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(corpus, caplog, device="cpu")[:2] == (512, pytest.approx(0.02 * 2**0.5))
    assert chosen(corpus, caplog, device="cpu", num_frames=700_000)[:2] == (256, 0.02)


def test_what_is_given_is_taken(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = ["data.batch_size=1000", "optim.learning_rate=0.3"]
    assert chosen(corpus, caplog, *given) == (1000, 0.3, "")
    batch_size, rate, reasons = chosen(corpus, caplog, given[0], "optim=adagrad")
    assert (batch_size, rate) == (1000, pytest.approx(0.005 * (1000 / 256) ** 0.5)) and "batches" not in reasons
    assert chosen(corpus, caplog, given[1]) == (
        256, 0.3, "batches of 256 frames, since optim.learning_rate is given, and data.batch_size is not",
    )  # fmt: skip


def test_ranks_share_updates_unless_each_trains_by_itself(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = {"num_frames": 1_433_600}
    assert chosen(corpus, caplog, ranks=Ranks(1, 4), **few)[:2] == (256, pytest.approx(0.04))
    apart = Ranks(1, 4, average_steps=16)
    assert chosen(corpus, caplog, ranks=apart, **few)[:2] == (256, 0.02)
    assert chosen(corpus, caplog, ranks=Ranks(1, 4))[:2] == (4096, pytest.approx(0.08))  # not beyond what was tried


def test_rates_for_small_updates_are_the_usual_ones() -> None:
    rates = {"sgd": 0.02, "adagrad": 0.005, "adam": 0.001, "adamw": 0.001}
    assert {name: OptimConfig(name=name).rate_for(64) for name in rates} == rates
    assert OptimConfig(learning_rate=0.5).rate_for(4096) == 0.5


def test_a_run_goes_on_with_what_it_chose(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exp_dir = tmp_path / "exp"
    left_open = [*overrides_of(corpus, exp_dir, "data.batch_size=null")]
    verb.train_as(compose_train_config(left_open))
    there = read_yaml(exp_dir / "config.yaml")
    assert (there["data"]["batch_size"], there["optim"]["learning_rate"]) == (256, 0.02)
    (exp_dir / "final.pt").unlink()
    again = compose_train_config(left_open)
    verb.claim_exp_dir(again)
    assert (again.data.batch_size, again.optim.learning_rate) == (256, 0.02)
    with pytest.raises(ConfigError, match=r"data\.batch_size \(256 there, 64 now\)"):
        verb.claim_exp_dir(compose_train_config(overrides_of(corpus, exp_dir)))
    with pytest.raises(ConfigError, match=r"optim\.learning_rate \(0\.02 there, 0\.03 now\)"):
        verb.claim_exp_dir(compose_train_config([*left_open, "optim.learning_rate=0.03"]))
