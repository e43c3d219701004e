"""What the four papers claim, as quantities of trainings and the ranges they put them in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acoustic.study.result import Result

Results = Mapping[str, Result]  # setting -> result, of one fold and seed
BELOW_ZERO, ABOVE_ZERO = (-math.inf, 0.0), (0.0, math.inf)
SAME_LOSS = 2.0  # per cent by which cross-entropies that count as the same may differ: twice what newbob halves at
SAME_WER = 10.0  # likewise for word error rates, which are noisier
SAME_ACCURACY = 1.0  # points of frame accuracy


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: for --claims and the report.
        paper: whose.
        text: what it says.
        quantity: what is measured, in words.
        unit: of it.
        settings: the trainings that it needs.
        measure: the quantity from their results.
        bounds: where the paper puts it.
        is_comparison: a difference or ratio, 0 if there were no effect.
        compared: two settings (the second is to be better) whose word errors the bootstrap compares, or None.
    """

    name: str
    paper: str
    text: str
    quantity: str
    unit: str
    settings: tuple[str, ...]
    measure: Callable[[Results], float]
    bounds: tuple[float, float]
    is_comparison: bool = True
    compared: tuple[str, str] | None = None


def loss(results: Results, *settings: str) -> float:
    """Mean dev cross-entropy of some settings [nats]."""
    return sum(results[name].dev_loss for name in settings) / len(settings)


def accuracy(results: Results, *settings: str) -> float:
    """Mean dev frame accuracy [%]."""
    return 100 * sum(results[name].dev_accuracy for name in settings) / len(settings)


def wer(results: Results, *settings: str) -> float:
    """Mean test WER [%]."""
    return sum(results[name].wer for name in settings) / len(settings)


def relative(new: float, old: float) -> float:
    """By how many per cent `new` is above `old`; of no errors at all nothing can be said, which is nan."""
    return 100 * (new / old - 1) if old else math.nan


def log_ratio(new: float, old: float) -> float:
    """ln(new / old); 0 where either is 0, as in networks that diverged."""
    return math.log(new / old) if new > 0 and old > 0 else 0.0


def gain_in_accuracy(new: str, old: str) -> Callable[[Results], float]:
    """Points of dev frame accuracy by which `new` is above `old`."""
    return lambda results: accuracy(results, new) - accuracy(results, old)


def of_depths(activation: str) -> tuple[str, str, str]:
    """The settings of an activation at the depths of Maas et al."""
    return f"{activation}-2", f"{activation}-3", f"{activation}-4"


def better_at_equal_depth(new: str, old: str, paper: str) -> list[Claim]:
    """`new` below `old` in cross-entropy, above it in frame accuracy, below it in WER, depths 2, 3 and 4 averaged."""
    ours, theirs = of_depths(new), of_depths(old)
    names, text = (*ours, *theirs), f"{new} beats {old} at equal depth"
    start = f"{new}-below-{old}"
    return [
        Claim(f"{start}-loss", paper, f"{text}: cross-entropy", "difference on dev, mean of 2, 3, 4 layers", "nats",
              names, lambda r: loss(r, *ours) - loss(r, *theirs), BELOW_ZERO),
        Claim(f"{start}-accuracy", paper, f"{text}: frame accuracy", "difference on dev, mean of 2, 3, 4 layers",
              "points", names, lambda r: accuracy(r, *ours) - accuracy(r, *theirs), ABOVE_ZERO),
        Claim(f"{start}-wer", paper, f"{text}: WER", "difference on test, mean of 2, 3, 4 layers", "points", names,
              lambda r: wer(r, *ours) - wer(r, *theirs), BELOW_ZERO, compared=(f"{old}-4", f"{new}-4")),
    ]  # fmt: skip


def lower_loss(name: str, paper: str, text: str, new: str, old: str) -> Claim:
    """`new` has the lower dev cross-entropy."""
    return Claim(
        name, paper, text, f"dev cross-entropy, {new} minus {old}", "nats", (new, old),
        lambda r: loss(r, new) - loss(r, old), BELOW_ZERO, compared=(old, new),
    )  # fmt: skip


def not_better(name: str, paper: str, text: str, new: str, old: str) -> Claim:
    """`new` does without improving on `old` by more than what counts as the same."""
    return Claim(
        name, paper, text, f"dev cross-entropy, {new} against {old}", "%", (new, old),
        lambda r: relative(loss(r, new), loss(r, old)), (-SAME_LOSS, math.inf), compared=(old, new),
    )  # fmt: skip


def maas2013() -> list[Claim]:
    """Maas, Hannun & Ng 2013."""
    relu, leaky = of_depths("relu"), of_depths("leaky_relu")
    tanh = of_depths("tanh")
    return [
        *better_at_equal_depth("relu", "tanh", "Maas 2013"),
        *better_at_equal_depth("relu", "sigmoid", "Maas 2013, Zeiler 2013"),
        Claim("leaky-same-loss", "Maas 2013", "leaky rectifiers do as rectifiers: cross-entropy",
              "dev cross-entropy against relu, mean of 2, 3, 4 layers", "%", (*relu, *leaky),
              lambda r: relative(loss(r, *leaky), loss(r, *relu)), (-SAME_LOSS, SAME_LOSS)),
        Claim("leaky-same-wer", "Maas 2013", "leaky rectifiers do as rectifiers: WER",
              "test WER against relu, mean of 2, 3, 4 layers", "%", (*relu, *leaky),
              lambda r: relative(wer(r, *leaky), wer(r, *relu)), (-SAME_WER, SAME_WER),
              compared=("relu-4", "leaky_relu-4")),
        Claim("depth-helps-rectifiers-more", "Maas 2013", "more layers help rectifiers more than tanh",
              "gain in dev cross-entropy from 2 to 4 layers, relu minus tanh", "nats",
              (relu[0], relu[2], tanh[0], tanh[2]),
              lambda r: (loss(r, relu[0]) - loss(r, relu[2])) - (loss(r, tanh[0]) - loss(r, tanh[2])), ABOVE_ZERO),
    ]  # fmt: skip


def zeiler2013() -> list[Claim]:
    """Zeiler et al. 2013."""
    paper = "Zeiler 2013"
    return [
        lower_loss("depth-helps-relu", paper, "rectifiers gain from depth: 4 layers beat 1", "relu-4", "relu-1"),
        Claim("deeper-relu-trains", paper, "rectifiers of 8 layers train from random weights",
              "dev cross-entropy against 4 layers", "%", ("relu-deeper", "relu-4"),
              lambda r: relative(loss(r, "relu-deeper"), loss(r, "relu-4")), (-math.inf, SAME_LOSS),
              compared=("relu-4", "relu-deeper")),
        lower_loss("deep-relu-beats-deep-logistic", paper, "at 12 layers rectifiers train where logistic units stall",
                   "relu-deep", "sigmoid-deep"),
        Claim("deeper-logistic-stalls", paper, "logistic nets of 8 layers are stuck: worse than with 4",
              "dev cross-entropy, sigmoid-deeper minus sigmoid-4", "nats", ("sigmoid-deeper", "sigmoid-4"),
              lambda r: loss(r, "sigmoid-deeper") - loss(r, "sigmoid-4"), ABOVE_ZERO,
              compared=("sigmoid-deeper", "sigmoid-4")),
        Claim("sgd-suffices-for-relu", paper, "plain SGD does as well as Adagrad for rectifiers",
              "dev cross-entropy, relu-sgd against relu-adagrad", "%", ("relu-sgd", "relu-adagrad"),
              lambda r: relative(loss(r, "relu-sgd"), loss(r, "relu-adagrad")), (-math.inf, SAME_LOSS),
              compared=("relu-adagrad", "relu-sgd")),
        lower_loss("logistic-needs-adagrad", paper, "logistic units need Adagrad", "sigmoid-adagrad", "sigmoid-sgd"),
        Claim("zeros", paper, "about 80 % of a trained net's hidden outputs are zero", "zeros in relu-4", "%",
              ("relu-4",), lambda r: 100 * r["relu-4"].zero_share, (70.0, 90.0), is_comparison=False),
        Claim("relu-faster", paper, "an epoch of rectifiers takes less time", "time of a minibatch forward and "
              "backward, relu-4 against sigmoid-4", "%", ("relu-4", "sigmoid-4"),
              lambda r: 100 * (math.exp(log_ratio(r["relu-4"].pass_seconds, r["sigmoid-4"].pass_seconds)) - 1),
              BELOW_ZERO),
        *unsupervised(paper),
        Claim("autoencoder-starts-faster", paper, "sparse autoencoders as first weights: a faster start",
              "dev cross-entropy after the first epoch, minus relu-4's", "nats", ("relu-autoencoder", "relu-4"),
              lambda r: r["relu-autoencoder"].dev_losses[0] - r["relu-4"].dev_losses[0], BELOW_ZERO),
        not_better("autoencoder-ends-no-better", paper, "sparse autoencoders as first weights: no better in the end",
                   "relu-autoencoder", "relu-4"),
    ]  # fmt: skip


def unsupervised(paper: str) -> list[Claim]:
    """Features learnt without labels, under a linear classifier and as detectors."""
    found = [
        Claim(f"unsupervised-{depth}", paper,
              f"unsupervised layer {depth} adds to what a linear classifier finds", "frame accuracy on dev, "
              f"{depth} layers minus {depth - 1}", "points", ("unsupervised",),
              gain_of_layer(depth), ABOVE_ZERO)
        for depth in (1, 2, 3)
    ]  # fmt: skip
    detectors = Claim(
        "single-units-detect", paper, "single unsupervised units detect phones: about half of their alarms are right",
        "precision on dev, median over phones", "%", ("unsupervised",),
        lambda r: 100 * r["unsupervised"].median_precision(), (40.0, 100.01), is_comparison=False,
    )  # fmt: skip
    return [*found, detectors]


def gain_of_layer(depth: int) -> Callable[[Results], float]:
    """Points of accuracy that unsupervised layer `depth` adds; 0 where training diverged."""

    def gain(results: Results) -> float:
        accuracies = results["unsupervised"].features_accuracy
        return 100 * (accuracies[depth] - accuracies[depth - 1]) if accuracies else 0.0

    return gain


def dahl2013() -> list[Claim]:
    """Dahl, Sainath & Hinton 2013."""
    paper = "Dahl 2013"
    return [
        lower_loss("dropout-helps-relu-loss", paper, "dropout helps rectifiers: cross-entropy", "relu-dropout",
                   "relu-4"),
        Claim("dropout-helps-relu-wer", paper, "dropout helps rectifiers: WER", "test WER, relu-dropout minus relu-4",
              "points", ("relu-dropout", "relu-4"), lambda r: wer(r, "relu-dropout") - wer(r, "relu-4"), BELOW_ZERO,
              compared=("relu-4", "relu-dropout")),
        not_better("dropout-not-for-logistic", paper, "the search turns dropout off for logistic units",
                   "sigmoid-dropout", "sigmoid-4"),
        not_better("relu-needs-no-pretraining", "Dahl 2013, Zeiler 2013", "rectifiers need no pre-training",
                   "relu-rbm", "relu-4"),
        not_better("relu-dropout-needs-no-pretraining", paper, "rectifiers with dropout need little pre-training",
                   "relu-dropout-rbm", "relu-dropout"),
        lower_loss("pretraining-helps-logistic", paper, "pre-training helps logistic units", "sigmoid-rbm",
                   "sigmoid-4"),
    ]  # fmt: skip


def gaaf() -> list[Claim]:
    """Hahn & Choi 2018."""
    paper, found = "GAAF 2018", []
    for name in ("relu", "tanh"):
        new, old = f"gaaf_{name}", f"{name}-4"
        found += [
            more_gradient(f"{new}-gradient", f"gradient acceleration raises the flow of gradients: {name}", new, old),
            Claim(f"{new}-keeps-accuracy", paper, f"gradient acceleration keeps accuracy: {name}",
                  f"dev frame accuracy, {new} minus {old}", "points", (new, old),
                  gain_in_accuracy(new, old), (-SAME_ACCURACY, math.inf),
                  compared=(old, new)),
        ]  # fmt: skip
    return [
        *found,
        more_gradient("dropout-gradient", "dropout raises the flow of gradients", "relu-dropout", "relu-4"),
        Claim("dropout-net-variance", paper, "dropout makes net inputs vary", "net variance of relu-dropout over 20 "
              "masks, less relu-4's", "", ("relu-dropout", "relu-4"),
              lambda r: r["relu-dropout"].net_variance - r["relu-4"].net_variance, ABOVE_ZERO),
    ]  # fmt: skip


def more_gradient(name: str, text: str, new: str, old: str) -> Claim:
    """`new` has the larger mean G_k: of trained networks on dev frames; the paper's is over all of training."""
    return Claim(
        name, "GAAF 2018", text, f"ln of the ratio of mean G_k, trained nets on dev, {new} / {old}", "", (new, old),
        lambda r: log_ratio(r[new].gradient_information, r[old].gradient_information), ABOVE_ZERO,
    )  # fmt: skip


def all_claims() -> list[Claim]:
    """Every claim, paper by paper."""
    return [*maas2013(), *zeiler2013(), *dahl2013(), *gaaf()]
