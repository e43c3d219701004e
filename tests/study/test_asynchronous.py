from __future__ import annotations

import math
from pathlib import Path

import pytest

from acoustic.study.asynchronous import ACTIVATIONS, OPTIMIZERS, Curve, Setting, Sizes, simulate, speed_ups, statements
from tests.train.conftest import corpus as corpus
from tests.train.runs import small_config


def curve(*accuracies: float, pace: float = 1.0) -> Curve:
    """Measured at every pace-th second."""
    steps = range(1, len(accuracies) + 1)
    return Curve(0.1, [100 * step for step in steps], [pace * step for step in steps], list(accuracies), 0.0)


def test_statements_of_curves_as_the_paper_has_them() -> None:
    curves = {Setting(a, o, 100): curve(10, 20, 30, 40) for a in ACTIVATIONS for o in OPTIMIZERS}
    curves[Setting("relu", "adagrad", 100)] = curve(20, 37, 39, 40)
    curves[Setting("relu", "momentum", 100)] = curve(10, 20, 30, 39)
    curves[Setting("sigmoid", "sgd", 100)] = curve(5, 10, 15, 20)
    measured = {statement.name: statement.measure(curves) for statement in statements(100)}
    assert list(measured.values()) == [math.log(2 / 4), 0.0, -1.0, 20.0, 0.0]
    assert all(low < measured[s.name] < high for s in statements(100) for low, high in [s.bounds])


def test_a_curve_that_diverged_is_taken_for_one_that_never_gets_there() -> None:
    good, early = curve(20, 37, 39, 40), Curve(0.1, [9] * 4, [math.inf] * 4, [0.0] * 4, 0.0)
    late = Curve(0.1, [9] * 4, [1.0, 2.0, math.inf, math.inf], [10.0, 20.0, 0.0, 0.0], 0.0)
    expected = {"late": math.log(2 / 8), "early": math.log(2 / 8), "both": 0.0}
    for name, (adagrad, sgd) in {"late": (good, late), "early": (good, early), "both": (early, early)}.items():
        curves = {Setting(a, o, 100): good for a in ACTIVATIONS for o in OPTIMIZERS}
        curves |= {Setting("relu", "adagrad", 100): adagrad, Setting("relu", "sgd", 100): sgd}
        assert statements(100)[0].measure(curves) == expected[name]


def test_speed_up_is_sooner_arrival_at_the_end_of_one_replica() -> None:
    one, ten = Setting("relu", "sgd", 1), Setting("relu", "sgd", 10)
    curves = {one: curve(10, 20, 30, 40), ten: curve(10, 20, 36, 36, pace=0.1)}
    assert math.isclose(speed_ups(curves, (1, 10))[ten], 4 / 0.3)
    assert speed_ups({one: curves[one], ten: curve(1, 2, 3, 4)}, (1, 10))[ten] == 0.0


def test_rates_fall_with_the_number_of_replicas() -> None:
    candidates = [Sizes().candidates(Setting("relu", "sgd", replicas)) for replicas in (1, 100)]
    assert max(candidates[1]) < min(candidates[0])


def test_a_training_is_measured_in_equal_steps_until_it_diverges(corpus: Path, tmp_path: Path) -> None:
    options = Sizes(width=6, layers=3, batch_size=64).overrides(Setting("relu", "sgd", 4), 0.1)
    curve = simulate(small_config(corpus, tmp_path, *options), updates=14, measurements=7)
    # An epoch is of seven batches, of which the last has 62 frames; four are in flight at a time.
    assert len(curve.frames) == 7 and curve.frames[-1] == 2 * 446
    assert curve.frames[:2] == pytest.approx([2 * 64, 4 * 64], abs=2)
    assert curve.seconds == sorted(curve.seconds) and curve.seconds[0] > 0 and math.isfinite(curve.seconds[-1])
    assert min(curve.accuracies) > 0 and curve.rate == 0.1 and 1 < curve.staleness < 3
    options = Sizes(width=6, layers=3, batch_size=64).overrides(Setting("relu", "sgd", 4), 1e30)
    gone = simulate(small_config(corpus, tmp_path, *options), updates=14, measurements=7)
    assert gone.final == 0.0 and len(gone.seconds) == len(gone.frames) == 7
    assert gone.seconds[-1] == math.inf and gone.last_seconds < curve.last_seconds
