"""Activations against closed forms and finite differences in float64."""

import math

import pytest
import torch

from acoustic.nn.activations import ACTIVATIONS, ActivationShape, GaafReLU, GaafTanh, make_activation

CLOSED_FORMS = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "prelu": lambda x: x if x > 0 else 0.01 * x,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gaaf_tanh": math.tanh,
    "gaaf_relu": lambda x: max(x, 0.0),
}
POINTS = torch.tensor([[-7.3, -1.1, -0.2, 0.3, 0.9, 6.1]], dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_value_is_the_closed_form(name):
    value = make_activation(name, ActivationShape(), 6).double()(POINTS)
    expected = torch.tensor([CLOSED_FORMS[name](x) for x in POINTS[0].tolist()], dtype=torch.float64)
    # GAAF moves the value by at most s(x) / 2K = 5e-5.
    torch.testing.assert_close(value[0], expected, rtol=0, atol=5.1e-5 if name.startswith("gaaf") else 1e-8)


@pytest.mark.parametrize("name", sorted(set(CLOSED_FORMS) - {"gaaf_tanh", "gaaf_relu"}))
def test_gradient_is_the_finite_difference(name):
    module = make_activation(name, ActivationShape(), 6).double()
    x = POINTS.clone().requires_grad_()
    assert torch.autograd.gradcheck(module, (x,), eps=1e-6, atol=1e-7)


def test_maxout_takes_the_larger_piece():
    x = torch.tensor([[1.0, 4.0, -3.0, -2.0]])
    assert ACTIVATIONS["maxout"](ActivationShape(), 2)(x).tolist() == [[4.0, -2.0]]


@pytest.mark.parametrize(
    ("module", "slope", "shape"),
    [
        (GaafTanh(), lambda x: 1 - math.tanh(x) ** 2, lambda x: math.exp(-x * x / 4)),
        (GaafReLU(), lambda x: float(x > 0), lambda x: 1 / (1 + math.exp(-5 * (x + 0.5)))),
    ],
)
def test_gaaf_gradient_is_slope_plus_shape(module, slope, shape):
    x = POINTS.clone().requires_grad_()
    module(x).sum().backward()
    expected = torch.tensor([slope(v) + shape(v) for v in POINTS[0].tolist()], dtype=torch.float64)
    torch.testing.assert_close(x.grad[0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("module", "plain"), [(GaafTanh(), torch.tanh), (GaafReLU(), torch.relu)])
def test_gaaf_is_for_training_only(module, plain):
    x = torch.linspace(-3, 3, 1001)
    assert not torch.equal(module.train()(x), plain(x))
    assert torch.equal(module.eval()(x), plain(x))


def test_gaaf_gradient_in_float32_keeps_its_digits_far_out():
    # Differentiating xK in float32 would give noise at |x| = 5000, where the spacing of xK is 4.
    x = torch.tensor([5000.0, 0.25], requires_grad=True)
    GaafReLU()(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([2.0, 1 + 1 / (1 + math.exp(-3.75))]))
    assert abs(GaafReLU()(x.detach())[0] - 5000) < 1e-3
