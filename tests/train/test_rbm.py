"""CD-1 against numpy with the same draws; learning on data with a structure."""

import numpy as np
import pytest
import torch

from acoustic.train.rbm import Rbm, logit_of_mean, reconstruction_error, sample_rectified


def sigmoid(net):
    return 1 / (1 + np.exp(-net))


def make_rbm(visible_kind, hidden_kind, scale=0.5):
    generator = torch.Generator().manual_seed(5)
    weight = scale * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    rbm = Rbm(visible_kind, hidden_kind, weight, torch.tensor([0.1, -0.2, 0.3, 0.0], dtype=torch.float64))
    rbm.hidden_bias.copy_(torch.tensor([0.2, -0.1, 0.4]))
    data = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    return rbm, 4 * data - 2 if visible_kind == "gaussian" else data


@pytest.mark.parametrize(
    ("visible_kind", "hidden_kind"),
    [("gaussian", "bernoulli"), ("bernoulli", "bernoulli"), ("gaussian", "rectified"), ("rectified", "rectified")],
)
def test_two_updates_by_numpy(visible_kind, hidden_kind):
    """Hinton's practical guide, and Kaldi's comment in RbmUpdate: inc = momentum inc + rate (pos - neg) / cases."""
    rbm, data = make_rbm(visible_kind, hidden_kind, 0.2)
    rate, momentum, l2 = 0.1, 0.5, 0.01
    weight, hidden_bias, visible_bias = (tensor.numpy().copy() for tensor in rbm.parameters)
    mean = {"gaussian": lambda x: x, "bernoulli": sigmoid, "rectified": lambda x: np.maximum(0, x)}
    v0, increments = data.numpy(), [0.0, 0.0, 0.0]
    for seed in (1, 2):
        torch.manual_seed(seed)
        rbm.update(rbm.statistics(data), rate, momentum, l2)

        torch.manual_seed(seed)
        net = v0 @ weight.T + hidden_bias
        if hidden_kind == "bernoulli":
            sample = (torch.rand(6, 3, dtype=torch.float64).numpy() < sigmoid(net)).astype(float)
        else:
            noise = torch.randn(6, 3, dtype=torch.float64).numpy()
            sample = np.maximum(0, net + np.sqrt(sigmoid(net)) * noise)
        h0, v1 = mean[hidden_kind](net), mean[visible_kind](sample @ weight + visible_bias)
        h1 = mean[hidden_kind](v1 @ weight.T + hidden_bias)
        assert v1.std() < 2 * v0.std()
        gradients = [(h0.T @ v0 - h1.T @ v1) / 6 - l2 * weight, (h0 - h1).mean(0), (v0 - v1).mean(0)]
        increments = [momentum * old + rate * new for old, new in zip(increments, gradients, strict=True)]
        weight, hidden_bias, visible_bias = (
            old + new for old, new in zip((weight, hidden_bias, visible_bias), increments, strict=True)
        )
    for ours, theirs in zip(rbm.parameters, (weight, hidden_bias, visible_bias), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12)


def test_noise_of_rectified_units_has_variance_sigmoid():
    torch.manual_seed(0)
    for net in (4.0, 6.0):  # so far above zero that nothing is cut off
        sample = sample_rectified(torch.full((200_000,), net))
        assert float(sample.mean()) == pytest.approx(net, abs=0.01)
        assert float(sample.var()) == pytest.approx(sigmoid(net), abs=0.01)


@pytest.mark.parametrize(
    ("visible_kind", "hidden_kind", "rate"),
    [("gaussian", "bernoulli", 0.01), ("bernoulli", "bernoulli", 0.2), ("gaussian", "rectified", 0.01)],
)
def test_cd1_learns_to_reconstruct(visible_kind, hidden_kind, rate):
    """A wrong sign, or a sum in place of the mean over the minibatch, makes the error grow."""
    torch.manual_seed(0)
    prototypes = (torch.rand(3, 12) > 0.5).float()
    data = prototypes[torch.randint(3, (256,))]
    if visible_kind == "gaussian":
        data = (data - data.mean(0)) / data.std(0).clamp(min=0.1)
    bias = logit_of_mean(data.mean(0)) if visible_kind == "bernoulli" else torch.zeros(12)
    rbm = Rbm(visible_kind, hidden_kind, 0.1 * torch.randn(8, 12), bias)
    before = float(reconstruction_error(rbm.statistics(data)))
    for _ in range(400):
        rbm.update(rbm.statistics(data), rate, 0.5, 0.0002)
    assert float(reconstruction_error(rbm.statistics(data))) < 0.5 * before


def test_exploding_weights_are_scaled_down_and_the_rate_with_them():
    rbm, data = make_rbm("gaussian", "bernoulli", scale=30.0)
    rbm.increments[0].fill_(1.0)
    before = [parameter.clone() for parameter in rbm.parameters]
    statistics = rbm.statistics(data)
    scale = data.std() / statistics.visible_again.std()
    assert scale < 0.5
    rbm.update(statistics, 0.01, 0.5, 0.0)
    for old, new in zip(before, rbm.parameters, strict=True):
        torch.testing.assert_close(new, old * scale)
    assert float(rbm.increments[0].abs().max()) == 0.0
    assert float(rbm.rate_factor) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("visible_kind", "hidden_kind", "scale", "explodes"),
    [
        ("rectified", "rectified", 9.0, True),
        ("gaussian", "bernoulli", 2.5, False),
        ("bernoulli", "bernoulli", 9.0, False),
    ],
)
def test_only_reconstructions_without_bound_and_twice_as_wide_as_the_data_explode(
    visible_kind, hidden_kind, scale, explodes
):
    rbm, data = make_rbm(visible_kind, hidden_kind, scale)
    data = data / 4 + 0.5 if visible_kind == "bernoulli" else data  # narrower than the reconstruction's 0 and 1
    torch.manual_seed(0)
    statistics = rbm.statistics(data)
    ratio = statistics.visible_again.std() / data.std()
    assert 1.05 < ratio < 2 if visible_kind == "gaussian" else ratio > 2
    rbm.update(statistics, 0.01, 0.5, 0.0)
    assert float(rbm.rate_factor) == pytest.approx(0.9 if explodes else 1.0)


def test_after_an_explosion_the_rate_stays_lower():
    rbm, data = make_rbm("gaussian", "bernoulli", scale=0.2)
    rbm.rate_factor.fill_(0.81)
    other, _ = make_rbm("gaussian", "bernoulli", scale=0.2)
    torch.manual_seed(1)
    statistics = rbm.statistics(data)
    rbm.update(statistics, 0.1, 0.0, 0.0)
    other.update(statistics, 0.081, 0.0, 0.0)
    for ours, theirs in zip(rbm.parameters, other.parameters, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_visible_bias_is_the_logit_of_the_mean():
    bias = logit_of_mean(torch.tensor([0.5, 0.9, 1.0]))
    torch.testing.assert_close(torch.sigmoid(bias), torch.tensor([0.5, 0.9, 0.9999]))
