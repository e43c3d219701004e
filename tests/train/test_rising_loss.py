"""A climbing loss: what is taken for divergence, and that the run goes back to its best weights with a lower rate."""

import math

import pytest
import torch

from acoustic.errors import TrainingError
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.guard import GuardConfig, RisingLoss
from acoustic.train.loop import Trainer
from acoustic.train.metrics import Metrics
from tests.train.runs import metrics, train_broken_off, train_small

BAD_STEPS = range(9, 12)


def test_a_window_is_compared_with_the_lowest_before():
    rising = RisingLoss(GuardConfig(max_rise=0.5, window_steps=2))
    due = [rising.window_is_full() for _ in range(5)]
    assert due == [False, True, True, True, True]  # until it is observed
    assert rising.observe(20.0, 10) is None  # mean 2
    assert not rising.window_is_full() and rising.window_is_full()
    assert rising.observe(20.0 + 29.0, 20) is None  # mean 2.9, allowed up to 3
    assert rising.observe(49.0 + 31.0, 30) == pytest.approx(3.1)
    assert rising.window.lowest == 2.0


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_is_not_finite_has_risen_unless_the_guard_is_off(loss):
    assert RisingLoss(GuardConfig()).has_risen(loss, 3.0)
    assert not RisingLoss(GuardConfig(max_rise=None)).has_risen(loss, 3.0)


def test_rollbacks_are_counted_and_end():
    rising = RisingLoss(GuardConfig(max_rollbacks=2))
    assert [rising.roll_back() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("field", ["max_rise=0", "window_steps=0", "factor=1", "max_rollbacks=-1"])
def test_options_out_of_range(field):
    name, value = field.split("=")
    with pytest.raises(ValueError, match=f"guard.{name}"):
        GuardConfig(**{name: float(value)})


@pytest.fixture
def diverging(monkeypatch):
    """Three updates spoil the weights of the output layer, so that the loss leaps but stays finite."""
    update = Trainer.update

    def spoilt(trainer, inputs, targets):
        if trainer.position.step in BAD_STEPS and trainer.rising.window.num_rollbacks == 0:
            with torch.no_grad():
                trainer.classifier.output.weight.mul_(40)
        update(trainer, inputs, targets)

    monkeypatch.setattr(Trainer, "update", spoilt)


GUARD = ("guard.window_steps=2", "schedule.max_epochs=8", "optim.learning_rate=0.01")


def test_the_run_goes_back_and_on_with_half_the_rate(corpus, tmp_path, diverging):
    bundle = train_small(corpus, tmp_path / "exp", *GUARD)
    records = Metrics(tmp_path / "exp" / "metrics.jsonl").read()
    events = [record for record in records if "rolled_back_to" in record and "dev_loss" not in record]
    assert len(events) == 1 and 10 <= events[0]["step"] <= 12 and events[0]["rolled_back_to"] < events[0]["step"]
    assert events[0]["learning_rate"] == 0.005 and records[-1]["learning_rate"] == 0.005
    assert records[-1]["dev_loss"] < 1.1 * records[0]["dev_loss"]
    assert all(bool(weights.isfinite().all()) for weights in bundle.classifier.parameters())


def test_resumed_after_a_rollback_it_is_the_same_run(corpus, tmp_path, diverging, monkeypatch):
    whole = train_small(corpus, tmp_path / "whole", *GUARD)
    broken = train_broken_off(corpus, tmp_path / "broken", monkeypatch, 13, *GUARD)
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "broken/metrics.jsonl").read_text()
    for one, other in zip(whole.classifier.parameters(), broken.classifier.parameters(), strict=True):
        assert torch.equal(one, other)


def test_dev_loss_that_rises_sends_it_back_too(corpus, tmp_path, diverging):
    train_small(corpus, tmp_path / "exp", *GUARD[1:])
    records = Metrics(tmp_path / "exp" / "metrics.jsonl").read()
    assert [not record["accepted"] for record in records].count(True) >= 1
    back = next(record for record in records if "rolled_back_to" in record)
    assert back["learning_rate"] == 0.01 and records[-1]["learning_rate"] == 0.005


def test_too_many_rollbacks_stop_the_run(corpus, tmp_path, diverging):
    with pytest.raises(TrainingError, match=r"after 0 returns.*lower optim.learning_rate"):
        train_small(corpus, tmp_path / "exp", *GUARD, "guard.max_rollbacks=0")


def test_random_weights_are_not_kept_where_every_interval_is_accepted(corpus, tmp_path, monkeypatch):
    """A net that knows nothing may have the lower dev loss than one that is sure of itself on unknown speakers."""
    losses = iter([1.0, 3.0, 2.0, 2.5])
    monkeypatch.setattr(Trainer, "evaluate", lambda trainer: (next(losses), 0.5))
    bundle = train_small(corpus, tmp_path / "exp", "schedule.max_epochs=3", "guard.max_rise=null")
    second = Checkpoints(tmp_path / "exp" / "checkpoints", 3).load(metrics(tmp_path / "exp")[1]["step"])
    assert all(torch.equal(second["model"][name], value) for name, value in bundle.classifier.state_dict().items())
