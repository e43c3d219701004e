"""Hessian-free updates: Gauss-Newton products, conjugate gradients, and losses that fall."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian as jacobian_of
from torch.nn import functional

from acoustic.errors import ConfigError
from acoustic.train.hessian_free import HessianFree, Part, Problem, conjugate_gradients
from acoustic.train.hessian_free_loop import HessianFreeTrainer
from tests.train.runs import metrics, same_weights, small_config, train_broken_off, train_small


def part_of(inputs: Tensor, targets: Tensor) -> Part:
    return Part(inputs, lambda logits: functional.cross_entropy(logits, targets, reduction="sum"))


def tiny_problem(num_curvature_parts: int = 2) -> Problem:
    """Two parts of four and three frames for a net of three inputs, four hidden units and five classes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5)).double()
    parts = [part_of(torch.randn(n, 3, dtype=torch.float64), torch.randint(5, (n,))) for n in (4, 3)]
    problem = Problem(network, parts, num_curvature_parts)
    problem.logits = lambda weights, inputs: torch.func.functional_call(network, weights, (inputs,))  # type: ignore[method-assign]
    return problem


@pytest.mark.parametrize("num_parts", [1, 2])
def test_gauss_newton_products_are_those_of_explicit_jacobians(num_parts: int) -> None:
    problem = tiny_problem(num_parts)
    weights = problem.weights()
    matrix = torch.zeros(len(weights), len(weights), dtype=torch.float64)
    for part in problem.parts[:num_parts]:
        jacobian = jacobian_of(lambda w, part=part: problem.logits(problem.named(w), part.inputs), weights)
        posteriors = problem.logits(problem.named(weights), part.inputs).softmax(1)
        for frame, p in zip(jacobian, posteriors, strict=True):
            matrix += frame.T @ (p.diag() - p.outer(p)) @ frame
    matrix /= sum(len(part.inputs) for part in problem.parts[:num_parts])
    vector = torch.randn(len(weights), dtype=torch.float64)
    torch.testing.assert_close(problem.gauss_newton(vector).detach(), matrix @ vector)
    assert float(vector @ problem.gauss_newton(vector)) > 0


def test_the_gradient_is_that_of_the_loss() -> None:
    problem = tiny_problem()
    weights = problem.weights()
    gradient, squares = problem.gradient()
    direction = torch.randn_like(weights)
    numeric = (problem.loss(weights + 1e-5 * direction) - problem.loss(weights - 1e-5 * direction)) / 2e-5
    assert float(gradient @ direction) == pytest.approx(numeric, rel=1e-6)
    assert (squares > 0).any() and (squares >= 0).all()


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_conjugate_gradients_solve_a_dense_system(power: float) -> None:
    torch.manual_seed(1)
    root = torch.randn(12, 12, dtype=torch.float64)
    matrix = root @ root.T + 0.1 * torch.eye(12, dtype=torch.float64)
    right_side, start = torch.randn(2, 12, dtype=torch.float64)
    kept = conjugate_gradients(lambda x: matrix @ x, right_side, start, matrix.diagonal() ** power, 60)
    solution = torch.linalg.solve(matrix, right_side)
    torch.testing.assert_close(kept[-1][0], solution, rtol=1e-4, atol=1e-4)
    values = [value for _, value in kept]
    assert values == sorted(values, reverse=True) and len(kept) < 60
    for x, value in kept:
        assert value == pytest.approx(float(0.5 * x @ matrix @ x - right_side @ x), rel=1e-6)


def test_conjugate_gradients_stop_at_the_solution() -> None:
    right_side = torch.ones(3)
    assert conjugate_gradients(lambda x: x, right_side, right_side, torch.ones(3), 5) == []
    [(x, value)] = conjugate_gradients(lambda x: x, right_side, torch.zeros(3), torch.ones(3), 5)
    assert torch.equal(x, right_side) and value == -1.5


def test_steps_lower_the_loss_and_damping_adapts() -> None:
    problem = tiny_problem()
    optimizer = HessianFree(problem.network.parameters(), damping=1.0, max_cg_iterations=30, cg_decay=0.95)
    losses, dampings = [], []
    for _ in range(15):
        weights, before, after = optimizer.solve(problem)
        nn.utils.vector_to_parameters(weights, problem.network.parameters())
        assert after <= before and after == pytest.approx(problem.loss(problem.weights()))
        losses.append(after)
        dampings.append(optimizer.damping)
    assert losses[-1] < 0.3 * losses[0]
    assert min(dampings) < 0.5


def test_damping_follows_how_good_the_quadratic_was() -> None:
    optimizer = HessianFree([nn.Parameter(torch.zeros(2))], damping=1.0, max_cg_iterations=5, cg_decay=0.9)
    for change, predicted, damping in ((-0.9, -1.0, 2 / 3), (-0.5, -1.0, 2 / 3), (-0.1, -1.0, 1.0), (0.5, -1.0, 1.5)):
        optimizer.adapt_damping(change, predicted)
        assert optimizer.damping == pytest.approx(damping)


HESSIAN_FREE = ["optim=hessian_free", "data.batch_size=446", "optim.curvature_fraction=1", "schedule.max_epochs=4",
                "optim.max_cg_iterations=15", "optim.damping=0.1"]  # fmt: skip


def test_training_with_it_fits_the_corpus_and_resumes_to_the_same_bits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_small(corpus, tmp_path / "whole", *HESSIAN_FREE)
    lines = metrics(tmp_path / "whole")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    losses = [line["train_loss"] for line in lines]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
    broken = train_broken_off(
        corpus, tmp_path / "broken", monkeypatch, 2, *HESSIAN_FREE, trainer_class=HessianFreeTrainer
    )
    assert same_weights(whole, broken)


def test_it_minimises_smoothed_targets(corpus: Path, tmp_path: Path) -> None:
    overrides = [*HESSIAN_FREE, "schedule.max_epochs=2"]
    plain = train_small(corpus, tmp_path / "plain", *overrides)
    smoothed = train_small(corpus, tmp_path / "smoothed", *overrides, "optim.label_smoothing=0.5")
    assert not same_weights(plain, smoothed)


@pytest.mark.parametrize(
    "override",
    [
        "optim.weight_decay=0.1",
        "optim.clip_norm=1",
        "optim.max_norm=1",
        "model.norm=batch",
        "model.activation=gaaf_relu",
    ],
)
def test_options_that_mean_nothing_to_it_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="hessian_free"):
        small_config(Path("some"), Path("some"), "optim=hessian_free", override)


@pytest.mark.parametrize(
    "override", ["optim.damping=0", "optim.max_cg_iterations=0", "optim.curvature_fraction=0", "optim.cg_decay=2"]
)
def test_options_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        small_config(Path("some"), Path("some"), override)
