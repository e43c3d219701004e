"""The report's sections on hidden units: Maas 2013, GAAF, Zeiler 2013."""

from __future__ import annotations

from acoustic.analysis import gaaf, maas2013, zeiler2013
from acoustic.analysis.examine import Examined
from acoustic.analysis.figures import first_layer, hidden
from acoustic.analysis.figures.panel import Panel
from acoustic.analysis.filters import DetectorRow
from acoustic.analysis.html import Section, model_name


def maas(models: list[Examined]) -> tuple[Section, list[Panel]]:
    """Sparsity, dispersion, code length."""
    section = Section("maas2013", "How sparse the hidden units are")
    labels = hidden.labels_of(models)
    section.text(
        f"A unit is active for a frame when it is not saturated: a rectifier when its output is positive, a squashing "
        f"unit when it is not at an end of its range. Counted over {models[0].num_sampled:,} frames with dropout off."
    )
    curves = hidden.activation_probabilities(models)
    section.figure(
        curves,
        "Each curve is a layer's units, sorted by the share of frames that activate them. A low, flat curve is a "
        "sparse code in which all units share the work; a steep one has a few busy units and many idle ones. Dotted: "
        "squashing units, only the lower end taken for saturated.",
        "in the last of four layers, rectifiers are active for 11 % of frames and the curve is flat (Maas 2013, Figure "
        "2).",
    )
    numbers = [
        hidden.by_layer(
            "sparsity", "Mean activation probability of each layer", "mean activation probability",
            hidden.of_layers(models, "sparsity"), labels, {"ReLU, Maas: 0.11": maas2013.REPORTED_SPARSITY["ReLU"]},
        ),
        hidden.by_layer(
            "dispersion", "Standard deviation of the activation probabilities of each layer", "dispersion",
            hidden.of_layers(models, "dispersion"), labels,
            {"ReLU, Maas: 0.04": maas2013.REPORTED_DISPERSION["ReLU"],
             "tanh, Maas: 0.14": maas2013.REPORTED_DISPERSION["tanh"]},
        ),
        hidden.by_layer(
            "code-length", "Mean number of active units per frame of each layer", "active units per frame",
            hidden.of_layers(models, "code_length"), labels,
            errors=[[layer.code_length_std for layer in model.layers] for model in models],
        ),
    ]  # fmt: skip
    section.figure(
        numbers,
        "Lifetime sparsity (the mean of the curves above), dispersion (their standard deviation over units; 0 is "
        "perfectly even) and code length (how many units are active at once; bars: standard deviation over frames).",
        "0.11 and 0.04 for rectifiers, leaky or not, over 0.6 and 0.14 for tanh, trained without dropout.",
    )
    section.table(
        ["model", "layer", "activation", "units", "sparsity", "dispersion", "code length", "never active"],
        [
            [model_name(number, model.label), layer.name, layer.activation, len(layer.probability),
             f"{layer.sparsity:.3f}", f"{layer.dispersion:.3f}", f"{layer.code_length:.1f}", f"{layer.dead_share:.1%}"]
            for number, model in enumerate(models)
            for layer in model.layers
        ],
    )  # fmt: skip
    return section, curves + numbers


def gradient_flow(models: list[Examined]) -> tuple[Section, list[Panel]]:
    """G_k, net variance, correlations, saturation."""
    section = Section("gaaf", "How gradients flow, and how alike units are")
    labels = hidden.labels_of(models)
    numbers = [
        hidden.by_layer(
            "gradient-information", "Gradient information of each layer", "gradient information G_k",
            hidden.of_gradients(models, "trained"), labels, log=True,
            hollow=[values for _, values in hidden.of_gradients(models, "evaluated")],
        ),
        hidden.by_layer(
            "net-variance", "Variance of net inputs over dropout masks of each layer", "net variance",
            hidden.of_gradients(models, "net_variance"), labels,
        ),
    ]  # fmt: skip
    section.figure(
        numbers,
        f"Gradient information: the mean size of a weight's gradient from one frame, in the trained network; dots with "
        f"dropout, as in training, rings without. Net variance: how far dropout moves a unit's net input, the variance "
        f"over {gaaf.NUM_MASKS} masks; 0 where the layer's input is not dropped.",
        "on MNIST dropout raised G_k about five-fold (9.4e-5 to 5.8e-4 in the last layer), with net variances of 1.07 "
        "in hidden and 1.97 in output layers (GAAF, Tables 2 and 3): large enough to push units out of saturation.",
    )
    saturation = hidden.pre_activations(models)
    section.figure(
        saturation,
        "What each layer's activation is given. Shaded: where it is saturated and passes (almost) no gradient on.",
    )
    correlations = hidden.correlation_histograms(models)
    section.figure(
        correlations,
        "Correlation of the outputs of every pair of units over the frames. Mass far from 0 is redundancy.",
        "dropout made more units alike, not fewer: 16 instead of 0 pairs above 0.9 in the first layer of 512, 174 "
        "instead of 1 in the third of 256 (MNIST, GAAF, Table 1).",
    )
    section.table(
        ["model", "layer", "pairs", *(f"|r| > {threshold}" for threshold in gaaf.THRESHOLDS)],
        [
            [model_name(number, model.label), layer.name, layer.num_pairs,
             *(f"{count:,} ({count / max(1, layer.num_pairs):.2%})" for count in layer.pairs_above.values())]
            for number, model in enumerate(models)
            for layer in model.layers
        ],
        "Pairs of units whose correlation is stronger than a threshold.",
    )  # fmt: skip
    return section, numbers + saturation + correlations


def zeiler(models: list[Examined]) -> tuple[Section, list[Panel]]:
    """Filters, patches, zeros, detectors."""
    section = Section("zeiler2013", "What units look for")
    labels = hidden.labels_of(models)
    tiles, patches = first_layer.filters(models), first_layer.patches(models)
    section.figure(
        tiles,
        "Weights of the first layer's strongest units, each a tile of time (to the right) and feature (upwards; with "
        "filter banks frequency). Red raises the unit, blue lowers it.",
        "local edges, and stripes in time and in frequency, in rectifier layers; none in logistic or linear ones "
        "(Zeiler 2013, unsupervised).",
    )
    section.figure(
        patches,
        "The strongest units' filters beside the inputs of the sample that drive them most, with the phone spoken in "
        "the middle frame.",
    )
    zeros = hidden.by_layer(
        "zeros", "Share of hidden values that are exactly zero", "share of exact zeros",
        hidden.of_layers(models, "zero_share"), labels, {"Zeiler: 0.80": zeiler2013.REPORTED_ZEROS},
    )  # fmt: skip
    detectors = first_layer.detectors(models)
    section.figure(
        [zeros, *detectors],
        "Zeros: outputs that are exactly zero; leaky and squashing units have none. Detectors: how well the best "
        "single unit tells each phone from all others (rings: first hidden layer, dots: last), threshold chosen on one "
        "half of the sample, measured on the other.",
        "about 80 % zeros in networks of four hidden rectifier layers.",
    )
    section.table(
        ["model", "layer", "phone", "unit", "precision", "recall", "accuracy"],
        [
            [model_name(number, model.label), row.layer, row.phone, row.detector.unit,
             *(f"{100 * value:.1f}" for value in (row.detector.precision, row.detector.recall, row.detector.accuracy))]
            for number, model in enumerate(models)
            for row in best_detectors(model)
        ],
        "The best single-unit detectors by accuracy, in per cent. Zeiler 2013, unsupervised first layer: er 57.0, 2.0, "
        "98.5; iy 49.6, 11.0, 96.7; r 52.5, 6.0, 97.2.",
    )  # fmt: skip
    return section, [*tiles, *patches, zeros, *detectors]


def best_detectors(model: Examined) -> list[DetectorRow]:
    """For the table: of each layer the paper's phones where they exist, and the three best others."""
    rows = []
    for layer in dict.fromkeys(row.layer for row in model.detectors):
        of_layer = [row for row in model.detectors if row.layer == layer and row.criterion == "accuracy"]
        of_layer.sort(key=lambda row: -row.detector.f1)
        in_paper = [row for row in of_layer if row.phone.lower() in zeiler2013.REPORTED_DETECTORS]
        rows += in_paper + [row for row in of_layer if row not in in_paper][:3]
    return rows
