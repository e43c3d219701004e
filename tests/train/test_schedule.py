"""Schedules against their rules worked by hand."""

import math

import pytest

from acoustic.train.optim import OptimConfig
from acoustic.train.schedule import ScheduleConfig, make_schedule


def newbob(**options):
    schedule = make_schedule(ScheduleConfig(name="newbob", **options), 1.0, steps_per_epoch=10)
    schedule.best_loss = 4.0
    return schedule


def test_newbob_follows_kaldi():
    # Losses, then what train_scheduler.sh does: accept, rate after, stop.
    script = [
        (2.0, True, 1.0, False),
        (1.5, True, 1.0, False),
        (1.49, True, 0.5, False),  # 0.67 % better: halving starts
        (1.40, True, 0.25, False),  # goes on halving however much it helps
        (1.41, False, 0.125, True),  # worse: rejected; 0 < 0.1 %: the end
    ]
    schedule = newbob()
    for loss, accepted, rate, finished in script:
        verdict = schedule.observe(loss)
        assert (verdict.accepted, verdict.finished) == (accepted, finished)
        assert schedule.rate(0) == rate
    assert schedule.best_loss == 1.40


def test_newbob_rejection_does_not_end_it_before_halving():
    schedule = newbob()
    schedule.observe(2.0)
    verdict = schedule.observe(2.5)
    assert not verdict.accepted and not verdict.finished and schedule.rate(0) == 0.5


def test_newbob_keeps_the_first_epochs_whatever_they_give():
    schedule = newbob(keep_epochs=2)
    assert schedule.observe(5.0).accepted and schedule.observe(6.0).accepted
    assert schedule.rate(0) == 1.0
    assert not schedule.observe(7.0).accepted


def test_every_schedule_ends_at_max_epochs():
    for name in ("newbob", "constant", "exponential", "cosine", "anneal"):
        schedule = make_schedule(ScheduleConfig(name=name, max_epochs=3, evals_per_epoch=2), 1.0, 10)
        verdicts = [schedule.observe(10.0 / 2**i) for i in range(6)]
        assert [verdict.finished for verdict in verdicts] == [False] * 5 + [True]


def test_exponential_halves_after_each_epoch():
    schedule = make_schedule(ScheduleConfig(name="exponential", factor=0.5), 0.8, steps_per_epoch=10)
    assert [schedule.rate(step) for step in (0, 9, 10, 25)] == [0.8, 0.8, 0.4, 0.2]


def test_cosine_warms_up_and_comes_down():
    schedule = make_schedule(ScheduleConfig(name="cosine", max_epochs=2, warmup_steps=10), 1.0, steps_per_epoch=55)
    assert schedule.rate(4) == pytest.approx(0.5)
    assert schedule.rate(10) == pytest.approx(1.0)
    assert schedule.rate(60) == pytest.approx(0.5)
    assert schedule.rate(110) == pytest.approx(0.0, abs=1e-12)


def test_cosine_may_end_above_zero():
    config = ScheduleConfig(name="cosine", max_epochs=2, warmup_steps=10, final_rate=0.2)
    schedule = make_schedule(config, 0.5, steps_per_epoch=55)
    assert [schedule.rate(step) for step in (4, 10, 60, 110)] == pytest.approx([0.25, 0.5, 0.3, 0.1])


def test_anneal_divides_and_stops():
    schedule = make_schedule(ScheduleConfig(name="anneal", gamma=4.0, min_improvement=0.1, max_annealings=2), 1.0, 10)
    assert [schedule.observe(loss).finished for loss in (2.0, 1.5, 1.45, 1.2, 1.3)] == [False] * 4 + [True]
    assert schedule.rate(0) == 1 / 16


def test_anneal_looks_at_the_improvement_since_the_last_check_in_nats():
    schedule = make_schedule(ScheduleConfig(name="anneal", gamma=2.0, min_improvement=0.25, max_annealings=9), 1.0, 10)
    # Below 1.5 again after a rise: better than at the last check, not than at the best one. Last: 0.25 is enough.
    losses = (4.0, 3.5, 1.5, 3.0, 2.0, 1.75, 1.5625)
    assert [schedule.observe(loss).accepted for loss in losses] == [True] * 7
    assert (schedule.num_annealings, schedule.rate(0)) == (2, 0.25)


def test_state_round_trip():
    one, other = newbob(), newbob()
    for loss in (2.0, 1.99, 1.9):
        one.observe(loss)
    other.load_state_dict(one.state_dict())
    assert other.observe(1.8995) == one.observe(1.8995) and other.rate(3) == one.rate(3)
    assert math.isfinite(one.best_loss)


def test_momentum_schedule_of_maas_2013():
    optim = OptimConfig(initial_momentum=0.5, momentum=0.9, momentum_steps=40_000)
    assert [optim.momentum_at(step) for step in (0, 39_999, 40_000)] == [0.5, 0.5, 0.9]


def test_momentum_ramp_of_sutskever_2013_clamped_as_by_maas_2014():
    optim = OptimConfig(momentum_ramp=250, momentum=0.95)
    for step in (0, 249, 250, 500, 1000, 2249, 2250, 100_000):
        published = 1 - 2 ** (-1 - math.log2(step // 250 + 1))
        assert optim.momentum_at(step) == pytest.approx(min(published, 0.95))
    assert optim.momentum_at(2249) < 0.95 == optim.momentum_at(2250)


@pytest.mark.parametrize("wrong", [{"momentum_ramp": 0}, {"momentum_ramp": 250, "initial_momentum": 0.5}])
def test_momentum_ramp_that_makes_no_sense(wrong):
    with pytest.raises(ValueError, match="momentum_ramp"):
        OptimConfig(**wrong)


def test_intervals_without_updates_are_warned_of(caplog):
    config = ScheduleConfig(evals_per_epoch=2)
    make_schedule(config, 1.0, steps_per_epoch=2)
    assert not caplog.text
    make_schedule(config, 1.0, steps_per_epoch=1)
    assert "schedule.evals_per_epoch=2 in an epoch of 1 updates" in caplog.text
