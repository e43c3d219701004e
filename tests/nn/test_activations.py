"""Activations against closed forms and finite differences in float64."""

import math

import pytest
import torch

from acoustic.nn.activations import ACTIVATIONS, ActivationShape, GaafReLU, GaafTanh, make_activation
from acoustic.nn.classifier import ClassifierConfig

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
    x, above = POINTS.clone().requires_grad_(), torch.tensor([1.0, -2.0, 0.5, 3.0, -0.1, 7.0], dtype=torch.float64)
    (module(x) * above).sum().backward()
    expected = torch.tensor([slope(v) + shape(v) for v in POINTS[0].tolist()], dtype=torch.float64)
    torch.testing.assert_close(x.grad[0], above * expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("module", "plain", "shape"),
    [
        (GaafTanh(), math.tanh, lambda x: math.exp(-x * x / 4)),
        (GaafReLU(), lambda x: max(x, 0.0), lambda x: 1 / (1 + math.exp(-5 * (x + 0.5)))),
    ],
)
def test_gaaf_moves_the_value_by_equations_7_and_8(module, plain, shape):
    x = [-0.70001, -0.00009, 0.12345, 0.50006]  # K x: -7000.1, -0.9, 1234.5, 5000.6
    g = [(fraction - 0.5) / 10_000 for fraction in (0.9, 0.1, 0.5, 0.6)]
    value = module(torch.tensor(x, dtype=torch.float64))
    expected = [plain(v) + move * shape(v) for v, move in zip(x, g, strict=True)]
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_options_of_shapes_reach_them_and_are_the_readings_of_the_paper_by_default():
    shape = ActivationShape(gaaf_width=3.0, gaaf_steepness=2.0, gaaf_shift=-1.0)
    for name, at_one in (("gaaf_tanh", math.exp(-1 / 3)), ("gaaf_relu", 0.5)):
        x = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
        make_activation(name, shape, 1)(x).sum().backward()
        slope = 1 - math.tanh(1.0) ** 2 if name == "gaaf_tanh" else 1.0
        assert x.grad.item() == pytest.approx(slope + at_one)
    assert ClassifierConfig().activation_shape == ActivationShape(0.01, 4.0, 5.0, 0.5) == ActivationShape()


def test_each_unit_learns_a_slope_of_its_own():
    module = make_activation("prelu", ActivationShape(negative_slope=0.25), 3)
    module(torch.tensor([[-1.0, 2.0, -3.0]])).sum().backward()
    assert module.weight.tolist() == [0.25] * 3 and module.weight.grad.tolist() == [-1.0, 0.0, -3.0]


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
