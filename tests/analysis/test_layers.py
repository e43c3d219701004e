"""Statistics of a network's layers against the same network written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acoustic.analysis.layers import describe_gradients, describe_layers, net_variances, run_layers
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

FUNCTIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
}


def network(activation: str, **options: object) -> SenoneClassifier:
    torch.manual_seed(1)
    config = ClassifierConfig(hidden_dims=[7, 6], activation=activation, **options)
    classifier = SenoneClassifier(config, 5, 4)
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    return classifier.eval()


def weights(classifier: SenoneClassifier) -> list[tuple[np.ndarray, np.ndarray]]:
    affines = [*classifier.hidden_affines, classifier.output]
    return [(a.weight.detach().double().numpy(), a.bias.detach().double().numpy()) for a in affines]


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_layers_and_gradient_information(activation):
    classifier, (function, slope) = network(activation), FUNCTIONS[activation]
    inputs, targets = torch.randn(50, 5), torch.randint(0, 4, (50,))
    layers = describe_layers(classifier, run_layers(classifier, inputs))
    xs, zs = [inputs.double().numpy()], []
    for weight, bias in weights(classifier):
        zs.append(xs[-1] @ weight.T + bias)
        xs.append(function(zs[-1]))
    for layer, z, h in zip(layers, zs[:-1], xs[1:-1], strict=True):
        active = (h > 0.025) & (h < 0.975) if activation == "sigmoid" else h > 0
        np.testing.assert_allclose(layer.probability, active.mean(0), atol=1e-9)
        assert layer.code_length == pytest.approx(active.sum(1).mean())
        assert layer.zero_share == pytest.approx((h == 0).mean())
        assert layer.saturated_share == pytest.approx(1 - active.mean())
        assert layer.correlation_histogram.sum() == layer.num_pairs
        low, high = layer.pre_edges[0], layer.pre_edges[-1]
        inside = ((z >= low) & (z <= high)).mean()
        assert (layer.pre_histogram * np.diff(layer.pre_edges)).sum() == pytest.approx(inside, abs=0.02)

    posteriors = np.exp(zs[-1]) / np.exp(zs[-1]).sum(1, keepdims=True)
    expected = np.zeros(3)
    for n in range(50):
        delta = posteriors[n] - np.eye(4)[targets[n]]
        for k in (2, 1, 0):
            expected[k] += np.abs(np.outer(delta, xs[k][n])).mean() / 50
            if k:
                delta = (weights(classifier)[k][0].T @ delta) * slope(zs[k - 1][n])
    found = describe_gradients(classifier, inputs, targets)
    np.testing.assert_allclose([layer.evaluated for layer in found], expected, rtol=1e-4)
    np.testing.assert_allclose([layer.trained for layer in found], expected, rtol=1e-4)  # there is no dropout
    assert [layer.net_variance for layer in found] == [0, 0, 0]
    assert [layer.name for layer in found] == ["hidden 1", "hidden 2", "output"]


def test_net_variance_of_the_first_layer_is_that_of_dropped_inputs():
    rate = 0.4
    classifier = network("relu", input_dropout=rate)
    inputs = torch.randn(300, 5)
    classifier.train()
    found = net_variances(classifier, inputs)[0]
    # A value x kept with probability 1 - r and scaled by 1 / (1 - r) has the variance x^2 r / (1 - r).
    weight = weights(classifier)[0][0]
    expected = ((inputs.double().numpy() ** 2) @ (weight.T**2)).mean() * rate / (1 - rate)
    assert found == pytest.approx(expected * 19 / 20, rel=0.1)


def test_dropout_raises_the_variance_of_later_layers_and_leaves_the_generator_alone():
    classifier = network("relu", dropout=0.5)
    inputs, targets = torch.randn(200, 5), torch.randint(0, 4, (200,))
    state = torch.get_rng_state()
    first = describe_gradients(classifier, inputs, targets)
    assert torch.equal(state, torch.get_rng_state())
    assert first == describe_gradients(classifier, inputs, targets)
    assert first[0].net_variance == 0 and first[1].net_variance > 0 and first[2].net_variance > 0
    assert first[0].trained != first[0].evaluated
    assert not classifier.training and not any(module.training for module in classifier.modules())


@pytest.mark.parametrize("activation", ["maxout", "prelu", "gaaf_relu", "gaaf_tanh", "gelu"])
def test_every_activation_and_normalisation_can_be_looked_at(activation):
    for norm in ("none", "batch", "layer"):
        classifier = network(activation, norm=norm, dropout=0.2)
        inputs, targets = torch.randn(40, 5), torch.randint(0, 4, (40,))
        layers = describe_layers(classifier, run_layers(classifier, inputs))
        assert [len(layer.probability) for layer in layers] == [7, 6]
        assert all(np.isfinite(layer.trained) for layer in describe_gradients(classifier, inputs, targets))
