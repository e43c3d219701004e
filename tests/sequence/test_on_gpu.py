"""Triton's kernels on a CUDA device against vectorised recursions on the CPU."""

from __future__ import annotations

import pytest
import torch

from acoustic.sequence.forward_backward import ForwardBackward
from tests.sequence.hmms import ergodic_hmm, many_of_one_pdf

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("leaky", [0.0, 1e-5])
@pytest.mark.parametrize("num_states", [12, 300, 5000])
def test_both_ways_find_the_same(num_states: int, leaky: float, dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    num_pdfs, lengths = 200, torch.tensor([300, 300, 170, 1])
    hmm = many_of_one_pdf(num_states, num_pdfs) if num_states > 300 else ergodic_hmm(num_states, num_pdfs)
    torch.manual_seed(0)
    emissions, accuracies = 3 * torch.randn(300, 4, num_pdfs, dtype=dtype), torch.rand(300, 4, num_pdfs, dtype=dtype)
    expected = ForwardBackward(hmm, num_pdfs, leaky, dtype=dtype)
    found = ForwardBackward(hmm, num_pdfs, leaky, "cuda", dtype, recursion="triton")
    on_gpu = (emissions.cuda(), lengths.cuda())
    bounds = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-3}
    right, right_accuracy = expected(emissions, lengths), expected.expected_accuracy(emissions, lengths, accuracies)
    before = None
    for _ in range(3):  # the first of them is checked on the device, and is vectorised
        posteriors = found(*on_gpu)
        accuracy = found.expected_accuracy(*on_gpu, accuracies.cuda())
        torch.testing.assert_close(posteriors.log_likelihood.cpu(), right.log_likelihood, **bounds)
        torch.testing.assert_close(posteriors.pdf_posteriors.cpu(), right.pdf_posteriors, **bounds)
        torch.testing.assert_close(accuracy.value.cpu(), right_accuracy.value, **bounds)
        torch.testing.assert_close(accuracy.gradient.cpu(), right_accuracy.gradient, **bounds)
        last, before = before, accuracy.gradient
    assert last is not None and torch.equal(last, before)  # the kernels' sums are of a fixed order
