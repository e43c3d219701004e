"""Every statistic against a recomputation in plain NumPy, written from the papers' definitions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from acoustic.analysis import gaaf, maas2013, recogniser, zeiler2013
from acoustic.nn.saturation import active_interval, is_active

RNG = np.random.default_rng(5)


# -- Maas 2013 ------------------------------------------------------------------------------------------------------


def test_activation_probability_sparsity_dispersion_and_code_length():
    active = RNG.random((200, 30)) < RNG.random(30)
    probability = maas2013.activation_probability(active)
    expected = [sum(bool(active[n, i]) for n in range(200)) / 200 for i in range(30)]
    np.testing.assert_allclose(probability, expected)
    mean = sum(expected) / 30
    assert maas2013.lifetime_sparsity(probability) == pytest.approx(mean)
    assert maas2013.dispersion(probability) == pytest.approx(math.sqrt(sum((p - mean) ** 2 for p in expected) / 30))
    np.testing.assert_array_equal(maas2013.code_lengths(active), [int(row.sum()) for row in active])
    assert maas2013.code_lengths(active).mean() == pytest.approx(30 * mean)


def test_the_papers_example_of_equal_sparsity_and_unequal_dispersion():
    busy, even = np.array([1.0, 0, 0, 0]), np.array([0.25] * 4)
    assert maas2013.lifetime_sparsity(busy) == maas2013.lifetime_sparsity(even) == 0.25
    assert maas2013.dispersion(even) == 0 < maas2013.dispersion(busy)
    assert maas2013.never_active(busy) == 0.75


@pytest.mark.parametrize(
    ("activation", "active", "lower_only"),
    [
        ("relu", [False, False, True, True, True], [False, False, True, True, True]),
        ("leaky_relu", [False, False, True, True, True], [False, False, True, True, True]),
        ("tanh", [False, True, True, False, False], [False, True, True, True, True]),
        ("sigmoid", [False, False, True, False, False], [False, False, True, True, True]),
        ("maxout", [True] * 5, [True] * 5),
    ],
)
def test_what_counts_as_active(activation, active, lower_only):
    outputs = torch.tensor([-0.96, 0.0, 0.5, 0.98, 3.0])
    assert is_active(outputs, activation).tolist() == active
    assert is_active(outputs, activation, lower_end_only=True).tolist() == lower_only


@pytest.mark.parametrize(("activation", "function"), [("tanh", torch.tanh), ("sigmoid", torch.sigmoid)])
def test_active_outputs_are_those_of_the_active_interval(activation, function):
    z = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    low, high = active_interval(activation)
    assert torch.equal(is_active(function(z), activation), (z > low) & (z < high))


def test_logistic_units_saturate_where_tanh_does_at_twice_the_net_input():
    assert active_interval("sigmoid") == pytest.approx([2 * end for end in active_interval("tanh")])


# -- GAAF -----------------------------------------------------------------------------------------------------------


def test_gradient_information_is_the_mean_over_samples_and_weights():
    deltas, inputs = RNG.normal(size=(7, 4)).astype(np.float32), RNG.normal(size=(7, 5)).astype(np.float32)
    per_sample = [np.abs(np.outer(delta, x)).mean() for delta, x in zip(deltas, inputs, strict=True)]
    assert gaaf.gradient_information(deltas, inputs) == pytest.approx(np.mean(per_sample), rel=1e-6)


def test_net_variance_averages_over_nodes_and_frames():
    nets = RNG.normal(size=(20, 6, 3)).astype(np.float32)
    expected = np.mean([np.var(nets[:, n, j].astype(float)) for n in range(6) for j in range(3)])
    assert gaaf.net_variance(nets) == pytest.approx(expected, rel=1e-6)


def test_node_correlations_leave_out_nodes_that_never_change():
    values = RNG.normal(size=(100, 6)).astype(np.float32)
    values[:, 4] = values[:, 1] * -2 + 1
    values[:, 2] = 0.3
    kept = [0, 1, 3, 4, 5]
    expected = [np.corrcoef(values[:, i], values[:, j])[0, 1] for a, i in enumerate(kept) for j in kept[a + 1 :]]
    found = gaaf.node_correlations(values)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert gaaf.pairs_above(found)[0.9] == 1
    assert gaaf.pairs_above(np.array([0.55, -0.65, 0.95]))[0.6] == 2


def test_saturated_share():
    assert gaaf.saturated_share(np.array([[-1.0, 0.0, 1.0, 5.0]], np.float32), 0.0, math.inf) == 0.5


# -- Zeiler 2013 ----------------------------------------------------------------------------------------------------


def brute_force_detector(values, wanted, criterion):
    """The best (unit, threshold) by trying every cut between different values."""
    best, found = -np.inf, None
    for unit in range(values.shape[1]):
        levels = np.unique(values[:, unit])
        for threshold in [levels[0] - 1, *((a + b) / 2 for a, b in pairwise(levels))]:
            fires = values[:, unit] > threshold
            hits = (fires & wanted).sum()
            merit = (fires == wanted).mean() if criterion == "accuracy" else 2 * hits / (fires.sum() + wanted.sum())
            if merit > best + 1e-12:
                best, found = merit, (unit, fires)
    return best, found


@pytest.mark.parametrize("criterion", ["accuracy", "f1"])
def test_detectors_are_the_best_of_all_units_and_thresholds(criterion):
    phones = RNG.integers(0, 4, 60)
    values = np.maximum(0, RNG.normal(size=(60, 5)) + (phones[:, None] == 2) * np.array([0, 0, 2, 0, 1]))
    values = values.astype(np.float32).round(1)  # ties, and many exact zeros as rectifiers have
    detectors = zeiler2013.choose_detectors(values, phones, 5, criterion)
    assert detectors[4] is None  # the phone does not occur
    for phone in range(4):
        best, _ = brute_force_detector(values, phones == phone, criterion)
        found = detectors[phone]
        fires = values[:, found.unit] > found.threshold
        hits = (fires & (phones == phone)).sum()
        assert found.precision == pytest.approx(hits / fires.sum())
        assert found.recall == pytest.approx(hits / (phones == phone).sum())
        assert found.accuracy == pytest.approx((fires == (phones == phone)).mean())
        assert (found.accuracy if criterion == "accuracy" else found.f1) == pytest.approx(best)


def test_zero_share_and_best_inputs():
    outputs = np.array([[0.0, 1.0], [-0.0, 2.0], [3.0, 1e-30], [4.0, 0.0]], np.float32)
    assert zeiler2013.zero_share(outputs) == 3 / 8
    assert zeiler2013.best_inputs(outputs, np.array([1, 0]), 2).tolist() == [[1, 0], [3, 2]]


# -- the recogniser's view ------------------------------------------------------------------------------------------


def frames_of_chance(num_frames=300, num_pdfs=6):
    logits = RNG.normal(size=(num_frames, num_pdfs)) * 2
    log_posteriors = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    pdfs = RNG.integers(0, num_pdfs, num_frames)
    return log_posteriors, pdfs


def test_frame_statistics_add_up_over_utterances():
    log_posteriors, pdfs = frames_of_chance()
    phone_of_pdf = np.eye(3)[[0, 0, 1, 1, 2, 2]].astype(float)
    phones, states = pdfs // 2, pdfs % 2
    found = recogniser.FrameStatistics(phone_of_pdf, 2, np.array([True, False, False]))
    for part in (slice(0, 100), slice(100, 101), slice(101, 300)):
        found.add(log_posteriors[part], pdfs[part], phones[part], states[part])
    right = np.array([row.argmax() == pdf for row, pdf in zip(log_posteriors, pdfs, strict=True)])
    losses = np.array([-row[pdf] for row, pdf in zip(log_posteriors, pdfs, strict=True)])
    assert found.accuracy == pytest.approx(right.mean())
    assert found.cross_entropy == pytest.approx(losses.mean(), rel=1e-6)
    for phone in range(3):
        for state in range(2):
            here = (phones == phone) & (states == state)
            assert found.frames[phone, state] == here.sum()
            assert found.correct[phone, state] == right[here].sum()
            assert found.loss[phone, state] == pytest.approx(losses[here].sum(), rel=1e-6)
    posteriors = np.exp(log_posteriors.astype(float))
    decided = (posteriors @ phone_of_pdf).argmax(1)
    expected = [[((phones == p) & (decided == q)).sum() for q in range(3)] for p in range(3)]
    np.testing.assert_array_equal(found.confusion, expected)
    np.testing.assert_allclose(found.mean_posterior, posteriors.mean(0))
    assert found.mean_entropy == pytest.approx(-(posteriors * np.log(posteriors)).sum(1).mean(), rel=1e-5)
    shares = found.silence_shares
    assert shares["alignments"] == pytest.approx((phones == 0).mean())
    assert shares["decided"] == pytest.approx((decided == 0).mean())
    assert shares["posteriors"] == pytest.approx(posteriors[:, :2].sum(1).mean())
    assert found.accuracy_without_silence == pytest.approx(right[phones != 0].mean())
    phone, other, count, share = found.top_confusions(1)[0]
    off = np.array(expected) * (1 - np.eye(3))
    assert count == off.max() == off[phone, other]
    assert share == pytest.approx(count / (phones == phone).sum())


def test_calibration_bins_and_expected_error():
    log_posteriors, pdfs = frames_of_chance(500)
    found = recogniser.FrameStatistics(np.ones((6, 1)), 1, np.array([False]))
    zeros = np.zeros_like(pdfs)
    found.add(log_posteriors, pdfs, zeros, zeros)
    confidence = np.exp(log_posteriors.astype(float)).max(1)
    right = log_posteriors.argmax(1) == pdfs
    error = 0.0
    for number in range(recogniser.NUM_BINS):
        here = (confidence * recogniser.NUM_BINS).astype(int) == number
        assert found.calibration.counts[number] == here.sum()
        if here.any():
            assert found.calibration.confidence[number] == pytest.approx(confidence[here].mean())
            assert found.calibration.accuracy[number] == pytest.approx(right[here].mean())
            error += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert found.calibration.expected_error == pytest.approx(error)


def test_certain_posteriors_have_no_entropy_and_fall_into_the_last_bin():
    certain = np.full((2, 3), -np.inf, np.float32)
    certain[:, 1] = 0.0
    assert recogniser.entropies(certain).tolist() == [0.0, 0.0]
    assert recogniser.calibration_sums(np.array([1.0]), np.array([True]))[-1].tolist() == [1.0, 1.0, 1.0]


def test_divergence():
    one, other = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])
    assert recogniser.divergence(one, other) == pytest.approx(0.5 * math.log(2))
    assert recogniser.divergence(other, one) == math.inf
