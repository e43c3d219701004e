"""Seeding what an update draws."""

from __future__ import annotations

import pytest
import torch

from acoustic.train.draws import seed_draws


def test_draws_are_those_of_torchs_own_seeding() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1 << 40)
        expected = torch.rand(5), torch.randn(5)
        seed_draws(1 << 40, torch.device("cpu"))
        assert torch.equal(torch.rand(5), expected[0]) and torch.equal(torch.randn(5), expected[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_draws_on_a_gpu_are_those_of_torchs_own_seeding() -> None:
    device = torch.device("cuda")
    torch.manual_seed(7)
    expected = torch.rand(5, device=device)
    seed_draws(7, device)
    assert torch.equal(torch.rand(5, device=device), expected)
