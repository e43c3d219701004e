"""Optimizers against hand-computed steps and torch.optim."""

import pytest
import torch

from acoustic.train.optim import OptimConfig, make_optimizer, set_rates


def gradients(num_steps, shape=(4, 3)):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) for _ in range(num_steps)]


def descend(optimizer, weight, steps, rates=None):
    for number, gradient in enumerate(steps):
        weight.grad = gradient.clone()
        if rates is not None:
            set_rates(optimizer, rates[number], 0.9)
        optimizer.step()
    return weight.detach()


def test_adagrad_by_hand():
    weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = make_optimizer(OptimConfig(name="adagrad", learning_rate=0.1), [weight])
    descend(optimizer, weight, [torch.tensor([3.0, -0.5])])
    assert torch.allclose(weight, torch.tensor([0.9, 1.1]))  # g / sqrt(g^2) is the sign of g
    descend(optimizer, weight, [torch.tensor([4.0, 0.0])])
    assert torch.allclose(weight, torch.tensor([0.9 - 0.1 * 4 / 5, 1.1]))  # sqrt(9 + 16) = 5


def test_adagrad_without_epsilon_leaves_weights_without_gradient():
    weight = torch.nn.Parameter(torch.tensor([1.0, -0.0, 2.0]))
    optimizer = make_optimizer(OptimConfig(name="adagrad", learning_rate=0.1), [weight])
    descend(optimizer, weight, [torch.tensor([0.0, 0.0, 1e-30])] * 2)  # 1e-60 is zero in float32
    assert weight.tolist() == [1.0, 0.0, 2.0]


@pytest.mark.parametrize(("weight_decay", "epsilon"), [(0.0, 1e-10), (0.1, 1e-10), (0.0, 0.3)])
def test_adagrad_with_epsilon_is_that_of_torch(weight_decay, epsilon):
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    config = OptimConfig(name="adagrad", learning_rate=0.05, adagrad_epsilon=epsilon, weight_decay=weight_decay)
    reference = torch.optim.Adagrad([theirs], lr=0.05, eps=epsilon, weight_decay=weight_decay)
    steps = gradients(20)
    torch.testing.assert_close(
        descend(make_optimizer(config, [ours]), ours, steps), descend(reference, theirs, steps), rtol=1e-6, atol=1e-7
    )


def test_adagrad_goes_on_from_its_state():
    steps = gradients(6)
    config = OptimConfig(name="adagrad", learning_rate=0.1)
    whole = torch.nn.Parameter(torch.ones(4, 3))
    descend(make_optimizer(config, [whole]), whole, steps)
    broken = torch.nn.Parameter(torch.ones(4, 3))
    first = make_optimizer(config, [broken])
    descend(first, broken, steps[:3])
    second = make_optimizer(config, [broken])
    second.load_state_dict(first.state_dict())
    descend(second, broken, steps[3:])
    assert torch.equal(whole, broken)


def test_sgd_without_nesterov_is_the_momentum_of_the_paper_also_when_the_rate_changes():
    """Delta = 0.9 Delta + g; theta -= eta Delta (Zeiler et al. 2013, section 4)."""
    steps, rates = gradients(5), [0.1, 0.1, 0.05, 0.2, 0.01]
    weight = torch.nn.Parameter(torch.zeros(4, 3))
    optimizer = make_optimizer(OptimConfig(nesterov=False, momentum=0.9), [weight])
    descend(optimizer, weight, steps, rates)
    theta, delta = torch.zeros(4, 3), torch.zeros(4, 3)
    for gradient, rate in zip(steps, rates, strict=True):
        delta = 0.9 * delta + gradient
        theta = theta - rate * delta
    torch.testing.assert_close(weight.detach(), theta)


@pytest.mark.parametrize("nesterov", [False, True])
def test_weight_decay_of_sgd_by_hand(nesterov):
    steps, weight = gradients(3), torch.nn.Parameter(torch.ones(4, 3))
    config = OptimConfig(nesterov=nesterov, momentum=0.9, weight_decay=0.2)
    descend(make_optimizer(config, [weight]), weight, steps, [0.1] * 3)
    theta, velocity = torch.ones(4, 3), torch.zeros(4, 3)
    for gradient in steps:
        decayed = gradient + 0.2 * theta
        velocity = 0.9 * velocity + decayed
        theta = theta - 0.1 * (decayed + 0.9 * velocity if nesterov else velocity)
    torch.testing.assert_close(weight.detach(), theta)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("betas", [None, [0.8, 0.95]])
def test_adam_and_adamw_by_hand(name, betas):
    """Kingma & Ba 2015, algorithm 1; the decay of adamw is apart from the gradient (Loshchilov & Hutter 2019)."""
    steps, weight = gradients(4), torch.nn.Parameter(torch.ones(4, 3))
    config = OptimConfig(name=name, learning_rate=0.1, betas=betas, weight_decay=0.2)
    descend(make_optimizer(config, [weight]), weight, steps)
    beta1, beta2 = betas or (0.9, 0.999)
    theta, first, second = torch.ones(4, 3), torch.zeros(4, 3), torch.zeros(4, 3)
    for number, gradient in enumerate(steps, 1):
        if name == "adam":
            gradient = gradient + 0.2 * theta
        else:
            theta = theta - 0.1 * 0.2 * theta
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        root = (second / (1 - beta2**number)).sqrt() + 1e-8
        theta = theta - 0.1 * first / (1 - beta1**number) / root
    torch.testing.assert_close(weight.detach(), theta)


def test_max_norm_keeps_each_unit_within_the_radius_and_leaves_short_ones_alone():
    hidden = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
    output = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = make_optimizer(OptimConfig(max_norm=2.0), [hidden, output], [hidden])
    hidden.grad, output.grad = torch.zeros_like(hidden), torch.zeros_like(output)
    optimizer.step()
    torch.testing.assert_close(hidden.detach(), torch.tensor([[1.2, 1.6], [0.3, 0.4]]))
    assert output.tolist() == [[3.0, 4.0]]


def test_max_norm_leaves_the_weights_of_a_bad_update():
    hidden = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = make_optimizer(OptimConfig(max_norm=2.0), [hidden], [hidden])
    hidden.grad = torch.full_like(hidden, float("nan"))
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert hidden.tolist() == [[3.0, 4.0]]


def test_nesterovs_momentum_may_begin_at_zero():
    config, steps = OptimConfig(initial_momentum=0.0, momentum_steps=2, momentum=0.9, nesterov=True), gradients(4)
    weight = torch.nn.Parameter(torch.zeros(4, 3))
    optimizer = make_optimizer(config, [weight])
    theta, velocity = torch.zeros(4, 3), torch.zeros(4, 3)
    for number, gradient in enumerate(steps):
        set_rates(optimizer, 0.1, config.momentum_at(number))
        weight.grad = gradient.clone()
        optimizer.step()
        if number < 2:
            theta = theta - 0.1 * gradient
        else:
            velocity = 0.9 * velocity + gradient
            theta = theta - 0.1 * (gradient + 0.9 * velocity)
    torch.testing.assert_close(weight.detach(), theta)
