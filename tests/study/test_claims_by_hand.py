"""What each claim measures, and what its verdict says, against results whose answer is plain."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from acoustic.cli.claims import read_scale
from acoustic.study.claims import all_claims
from acoustic.study.grid import Grid
from acoustic.study.result import Result
from acoustic.study.scale import RATES
from acoustic.study.verdict import compare_words, judge

CLAIMS = {claim.name: claim for claim in all_claims()}
# In every measure but the dev loss after the last epoch, of which no claim asks.
GOOD = Result(
    "x", [1.0, 9.0], 1.0, 0.6, 10.0, pass_seconds=1e-3, gradient_information=2e-4, net_variance=2.0, zero_share=0.8
)
BAD = Result(
    "x", [2.0, 0.1], 2.0, 0.5, 20.0, pass_seconds=2e-3, gradient_information=1e-4, net_variance=1.0, zero_share=0.8
)
RELU, TANH, SIGMOID = ([f"{name}-{depth}" for depth in (2, 3, 4)] for name in ("relu", "tanh", "sigmoid"))
# Claim -> the settings that the paper has ahead, and those behind. The last ones hold in a tie, too.
STRICT = {
    **{f"relu-below-tanh-{what}": (RELU, TANH) for what in ("loss", "accuracy", "wer")},
    **{f"relu-below-sigmoid-{what}": (RELU, SIGMOID) for what in ("loss", "accuracy", "wer")},
    "depth-helps-relu": (["relu-4"], ["relu-1"]),
    "depth-helps-rectifiers-more": (["relu-4", "tanh-2"], ["relu-2", "tanh-4"]),
    "deep-relu-beats-deep-logistic": (["relu-deep"], ["sigmoid-deep"]),
    "deeper-logistic-stalls": (["sigmoid-4"], ["sigmoid-deeper"]),
    "logistic-needs-adagrad": (["sigmoid-adagrad"], ["sigmoid-sgd"]),
    "relu-faster": (["relu-4"], ["sigmoid-4"]),
    "autoencoder-starts-faster": (["relu-autoencoder"], ["relu-4"]),
    "dropout-helps-relu-loss": (["relu-dropout"], ["relu-4"]),
    "dropout-helps-relu-wer": (["relu-dropout"], ["relu-4"]),
    "pretraining-helps-logistic": (["sigmoid-rbm"], ["sigmoid-4"]),
    "gaaf_relu-gradient": (["gaaf_relu"], ["relu-4"]),
    "gaaf_tanh-gradient": (["gaaf_tanh"], ["tanh-4"]),
    "dropout-gradient": (["relu-dropout"], ["relu-4"]),
    "dropout-net-variance": (["relu-dropout"], ["relu-4"]),
}
LENIENT = {
    "deeper-relu-trains": (["relu-deeper"], ["relu-4"]),
    "sgd-suffices-for-relu": (["relu-sgd"], ["relu-adagrad"]),
    "gaaf_relu-keeps-accuracy": (["gaaf_relu"], ["relu-4"]),
    "gaaf_tanh-keeps-accuracy": (["gaaf_tanh"], ["tanh-4"]),
    # Here the paper's is the simpler one.
    "autoencoder-ends-no-better": (["relu-4"], ["relu-autoencoder"]),
    "dropout-not-for-logistic": (["sigmoid-4"], ["sigmoid-dropout"]),
    "relu-needs-no-pretraining": (["relu-4"], ["relu-rbm"]),
    "relu-dropout-needs-no-pretraining": (["relu-dropout"], ["relu-dropout-rbm"]),
}
ALONE = {"zeros", "leaky-same-loss", "leaky-same-wer", "unsupervised-1", "unsupervised-2", "unsupervised-3",
         "single-units-detect"}  # fmt: skip


def holds(name: str, results: dict[str, Result]) -> bool:
    low, high = CLAIMS[name].bounds
    return low < CLAIMS[name].measure(results) < high


def test_every_claim_is_checked_here() -> None:
    assert {*STRICT, *LENIENT, *ALONE} == set(CLAIMS)


@pytest.mark.parametrize(("name", "sides"), (STRICT | LENIENT).items())
def test_a_claim_holds_where_its_side_is_ahead_and_not_where_it_is_behind(
    name: str, sides: tuple[list[str], list[str]]
) -> None:
    ahead, behind = sides
    assert {*ahead, *behind} == set(CLAIMS[name].settings)
    assert holds(name, dict.fromkeys(ahead, GOOD) | dict.fromkeys(behind, BAD))
    assert not holds(name, dict.fromkeys(ahead, BAD) | dict.fromkeys(behind, GOOD))
    assert holds(name, dict.fromkeys([*ahead, *behind], GOOD)) is (name in LENIENT)
    if CLAIMS[name].compared is not None and name in STRICT:
        assert CLAIMS[name].compared[0] in behind and CLAIMS[name].compared[1] in ahead  # type: ignore[index]


def test_more_gain_of_tanh_from_depth_is_against_more_gain_of_rectifiers() -> None:
    losses = {"relu-2": 2.0, "relu-4": 1.9, "tanh-2": 2.0, "tanh-4": 1.5}
    results = {name: replace(GOOD, dev_loss=loss) for name, loss in losses.items()}
    assert CLAIMS["depth-helps-rectifiers-more"].measure(results) == pytest.approx(-0.4)


@pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1.015, True), (0.985, True), (1.2, False), (0.8, False)])
def test_leaky_rectifiers_do_as_rectifiers_within_bounds_on_both_sides(factor: float, same: bool) -> None:
    leaky = replace(BAD, dev_loss=factor * BAD.dev_loss, wer=factor * BAD.wer)
    results = dict.fromkeys(RELU, BAD) | {name.replace("relu", "leaky_relu"): leaky for name in RELU}
    assert holds("leaky-same-loss", results) is same and holds("leaky-same-wer", results) is same


def test_units_of_what_is_measured() -> None:
    results = dict.fromkeys(RELU, GOOD) | dict.fromkeys(TANH + SIGMOID, BAD) | {"gaaf_relu": BAD}
    for name, value in {
        "relu-below-tanh-loss": -1.0, "relu-below-tanh-accuracy": 10.0, "relu-below-tanh-wer": -10.0, "zeros": 80.0,
        "relu-faster": -50.0, "gaaf_relu-gradient": -math.log(2), "gaaf_relu-keeps-accuracy": -10.0,
    }.items():  # fmt: skip
        assert CLAIMS[name].measure(results) == pytest.approx(value)
    assert CLAIMS["relu-needs-no-pretraining"].measure({"relu-rbm": BAD, "relu-4": GOOD}) == pytest.approx(100.0)


def test_features_learnt_without_labels() -> None:
    detectors = {"iy": [0.5, 0.1, 0.97], "er": [0.6, 0.2, 0.9], "r": [0.1, 0.3, 0.8]}
    results = {"unsupervised": Result("x", features_accuracy=[0.3, 0.4, 0.38, 0.43], detectors=detectors)}
    measured = [CLAIMS[f"unsupervised-{depth}"].measure(results) for depth in (1, 2, 3)]
    assert measured == pytest.approx([10.0, -2.0, 5.0])
    assert CLAIMS["single-units-detect"].measure(results) == pytest.approx(50.0)


def test_what_is_no_comparison_has_an_interval_and_no_p() -> None:
    judgement = judge(np.array([[80.0], [82.0], [95.0]]), (70.0, 90.0), math.nan)
    assert math.isfinite(judgement.low) and math.isnan(judgement.p_value) and math.isnan(judgement.p_wilcoxon)
    assert (judgement.num_inside, judgement.num_values) == (2, 3)


def test_seeds_do_not_make_the_interval_of_words_narrower() -> None:
    rng, utts = np.random.default_rng(0), [str(number) for number in range(40)]
    one, other = (
        Result("x", utts=utts, num_words=[5] * 40, num_errors=rng.integers(0, 4, 40).tolist()).scores() for _ in "ab"
    )
    alone, thrice = compare_words([one], [other]), compare_words([one] * 3, [other] * 3)
    assert (thrice.low, thrice.high) == pytest.approx((alone.low, alone.high))


def test_a_grid_keeps_folds_and_seeds_apart() -> None:
    places = [(fold, seed) for fold in ("a", "b", "c") for seed in (1, 2)]
    results = {
        (fold, "relu-4", seed): replace(GOOD, zero_share=number / 100) for number, (fold, seed) in enumerate(places)
    }
    grid = Grid(replace(read_scale("quick"), seeds=[1, 2]), ["a", "b", "c"], results)
    np.testing.assert_allclose(grid.values(CLAIMS["zeros"]), [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])


def test_settings_are_what_their_names_say() -> None:
    rates = {name: 0.01 * number for number, name in enumerate(sorted(RATES), 1)}
    scale = replace(read_scale("digits"), dropout=0.3, input_dropout=0.05, rates=rates)
    settings = scale.settings()

    def net(activation: str, layers: int, optim: str, rate: str) -> list[str]:
        return [f"model={activation}", f"model.hidden_layers={layers}", f"optim={optim}",
                f"optim.learning_rate={rates[rate]}"]  # fmt: skip

    dropout = ["model.dropout=0.3", "model.input_dropout=0.05"]
    epochs = ["pretrain.epochs=0.5", "pretrain.first_epochs=0.5"]
    rbm = ["pretrain=rbm", *epochs, *scale.pretraining["rbm"]]
    autoencoder = ["pretrain=sparse_autoencoder", *epochs, *scale.pretraining["sparse_autoencoder"]]
    expected = {
        "relu-1": net("relu", 1, "momentum", "relu"),
        "leaky_relu-3": net("leaky_relu", 3, "momentum", "relu"),
        "tanh-2": net("tanh", 2, "momentum", "tanh"),
        "relu-deeper": net("relu", 8, "momentum", "relu"),
        "sigmoid-deep": net("sigmoid", 12, "momentum", "sigmoid"),
        "relu-sgd": net("relu", 4, "sgd_plain", "sgd_relu"),
        "sigmoid-adagrad": net("sigmoid", 4, "adagrad", "adagrad_sigmoid"),
        "sigmoid-dropout": [*net("sigmoid", 4, "momentum", "sigmoid"), *dropout],
        "sigmoid-rbm": [*net("sigmoid", 4, "momentum", "sigmoid"), *rbm],
        "relu-dropout-rbm": [*net("relu", 4, "momentum", "relu"), *dropout, *rbm],
        "gaaf_tanh": [*net("tanh", 4, "momentum", "gaaf_tanh"), "model.activation=gaaf_tanh"],
        "relu-autoencoder": [*net("relu", 4, "momentum", "relu"), *autoencoder],
        "unsupervised": [*net("relu", 3, "momentum", "relu"), *autoencoder],
    }
    assert {name: settings[name] for name in expected} == expected
