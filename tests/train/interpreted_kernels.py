"""Triton's kernels for updates under its interpreter. test_kernels.py runs this file, in a process of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.nn import functional
from triton.runtime.interpreter import TensorHandle, interpreter_builder

from acoustic.nn import classifier as classifier_module
from acoustic.train import kernels, triton_kernels
from acoustic.train.run import make_trainer, prepare
from acoustic.train.weights import Bfloat16Copies, Weights
from tests.train.runs import small_config
from tests.train.test_weights import MODELS, OPTIMIZERS, updates
from tests.triton_tools import Faulty, refuse

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks even in small tensors; and bfloat16 is rounded, where the interpreter would cut off.

    Kernels are found usable before a test makes blocks still smaller: were they not then, torch would answer for them.
    """
    monkeypatch.setattr(kernels, "MAX_BLOCK", 1024)
    kernels.are_usable.cache_clear()
    narrow = interpreter_builder.create_fp_trunc

    def rounded(values: Any, dtype: Any) -> Any:
        if dtype.scalar != tl.bfloat16:
            return narrow(values, dtype)
        bits = torch.from_numpy(np.asarray(values.data)).bfloat16().view(torch.int16).numpy().view(np.uint16)
        return TensorHandle(bits, dtype.scalar)

    monkeypatch.setattr(interpreter_builder, "create_fp_trunc", rounded)
    assert kernels.are_usable(CPU)


def torchs(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The same by torch."""
    loss = functional.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=smoothing)
    return loss, (logits.argmax(1) == targets).sum()


def on_all_rows(
    compute: Callable[..., tuple[Tensor, Tensor]], values: Tensor, num_pdfs: int, *rest: Any
) -> list[Tensor]:
    """Loss, right frames and the gradient by all columns, of a loss per three frames."""
    whole = values.clone().requires_grad_()
    loss, num_right = compute(whole[:, :num_pdfs], *rest)
    return [loss.detach(), num_right.float(), *torch.autograd.grad(loss / 3, whole)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("num_pdfs", "num_columns"), [(1, 1), (50, 64), (64, 64), (130, 192), (150, 150)])
def test_cross_entropy_is_that_of_torch(
    num_pdfs: int, num_columns: int, smoothing: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "MAX_BLOCK", 64)
    torch.manual_seed(0)
    values, targets = (4 * torch.randn(7, num_columns)).to(dtype), torch.randint(num_pdfs, (7,))
    values[1, targets[1]] = 30.0  # right beyond doubt
    values[2, :num_pdfs] = 1.0  # all equal: the first counts as the largest
    targets[2] = 0
    values[3, num_pdfs:] = 100.0  # columns that do not count
    arguments = (values, num_pdfs, targets, smoothing)
    for found, expected in zip(
        on_all_rows(kernels.cross_entropy, *arguments), on_all_rows(torchs, *arguments), strict=True
    ):
        bound = 2**-7 if found.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(found, expected, rtol=bound, atol=1e-6)


def test_every_frames_loss_may_have_a_scale_of_its_own() -> None:
    torch.manual_seed(0)
    values, targets, scales = torch.randn(4, 70, requires_grad=True), torch.randint(70, (4,)), torch.rand(8)[::2]
    losses, _ = kernels._CrossEntropy.apply(values, targets, 70, 0.1)
    expected = functional.cross_entropy(values, targets, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(
        torch.autograd.grad(losses, values, scales), torch.autograd.grad(expected, values, scales)
    )


def test_a_tie_is_won_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "MAX_BLOCK", 64)
    values, targets = torch.zeros(3, 200), torch.tensor([130, 70, 5])
    values[:, [70, 130, 195]] = 2.0
    assert kernels.cross_entropy(values, targets)[1] == 1


def test_logits_that_are_no_numbers_give_a_loss_that_is_none() -> None:
    for value in (torch.nan, torch.inf):
        values = torch.zeros(2, 100)
        values[1, 80] = value
        assert kernels.cross_entropy(values, torch.tensor([3, 4]))[0].isnan()
    values = torch.zeros(1, 100)
    values[0, 50:] = -torch.inf
    torch.testing.assert_close(kernels.cross_entropy(values, torch.tensor([3]))[0], torch.tensor(50.0).log())


def test_a_rank_without_frames_has_no_loss() -> None:
    logits = torch.zeros(0, 100, requires_grad=True)
    loss, num_right = kernels.cross_entropy(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss == 0 and num_right == 0 and logits.grad is not None and logits.grad.shape == (0, 100)


def test_parts_of_other_values() -> None:
    """Others than columns that come first, of all rows: what lies beside them is neither read nor given a gradient."""
    torch.manual_seed(0)
    values, columns = torch.randn(6, 90), torch.randn(90, 6).t().clone()
    assert columns.stride() == (1, 6)
    some, begin, odd = slice(3), slice(40), slice(None, None, 2)
    for whole, rows, pdfs in (
        (values, some, slice(10, 50)), (values, some, odd), (values, odd, begin), (values, some, begin),
        (values, slice(6), slice(10, 50)), (values, slice(6), odd), (columns, slice(6), begin),
    ):  # fmt: skip
        leaf = whole.requires_grad_()
        targets = torch.randint(40, (len(leaf[rows]),))
        found, expected = (compute(leaf[rows, pdfs], targets, 0.0) for compute in (kernels.cross_entropy, torchs))
        torch.testing.assert_close((found[0], found[1].long()), expected)
        torch.testing.assert_close(torch.autograd.grad(found[0], leaf), torch.autograd.grad(expected[0], leaf))


class CopiesByKernels(Bfloat16Copies):
    """As on a GPU."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.on_gpu = True
        assert kernels.are_usable(CPU)


@pytest.mark.parametrize("bad_step", [-1, 3])
@pytest.mark.parametrize("optim", ["nesterov", "plain", "late", "clipped", "adam"])
def test_updates_are_those_of_torch(optim: str, bad_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = updates(Weights, MODELS["norm"], OPTIMIZERS[optim], bad_step)
    monkeypatch.setattr(classifier_module, "PADDED_ON", {"cpu"})
    for name, value in updates(CopiesByKernels, MODELS["norm"], OPTIMIZERS[optim], bad_step).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=2e-4, msg=name)


def test_whoever_asks_first_kernels_are_found_usable() -> None:
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        kernels.are_usable.cache_clear()
        with context:
            assert kernels.are_usable(CPU)


def test_copies_are_the_weights_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_module, "PADDED_ON", {"cpu"})
    monkeypatch.setattr(CopiesByKernels, "widen", None)  # not needed
    kept: list[CopiesByKernels] = []

    class Kept(CopiesByKernels):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(self)

    updates(Kept, MODELS["relu"], OPTIMIZERS["nesterov"])
    for master, copies in zip(kept[0].masters.values(), kept[0].leaves, strict=True):
        assert torch.equal(copies[: len(master)], master.bfloat16())
        assert not copies[len(master) :].any()
    assert [len(copies) for copies in kept[0].leaves[-2:]] == [64, 64]


def test_a_run_with_kernels(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of the loop: losses and right frames with the kernels are those without, to bfloat16's rounding."""
    monkeypatch.setattr(classifier_module, "PADDED_ON", {"cpu"})
    found = []
    for kind in (CopiesByKernels, Weights):
        config = small_config(corpus, tmp_path / kind.__name__, "schedule.max_epochs=1", "optim.label_smoothing=0.1")
        trainer = make_trainer(config, prepare(config), CPU, torch.bfloat16)
        trainer.weights = kind(trainer.classifier, trainer.optimizer)
        if kind is Weights:
            monkeypatch.setattr(kernels, "are_usable", lambda device: False)
        trainer.classifier.train()
        for batch in trainer.train_store.batches(64, seed=1, end_batch=6):
            trainer.update(*batch)
        found.append(trainer.totals)
    assert found[0][1] > 0
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.0)


# -- what is wrong is not used ------------------------------------------------------------------------------------


def spoil(number: int, *arrays: Tensor) -> None:
    arrays[number][..., 0] += 0.5


@pytest.mark.parametrize(
    ("kernel", "fault", "message"),
    [
        ("cross_entropy_kernel", refuse, "RuntimeError: out of resource"),
        ("cross_entropy_kernel", functools.partial(spoil, 0), "cross-entropy differ"),
        ("cross_entropy_kernel", functools.partial(spoil, 2), "right frames differ"),
        ("cross_entropy_gradient_kernel", functools.partial(spoil, 0), "gradient of logits differ"),
        ("sgd_kernel", functools.partial(spoil, 0), "weights differ"),
        ("sgd_kernel", functools.partial(spoil, 1), "momentum differ"),
        ("sgd_kernel", functools.partial(spoil, 3), "copies of weights differ"),
    ],
)
def test_kernels_that_fail_or_differ_are_not_used(
    kernel: str,
    fault: Callable[..., None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert kernels.are_usable(CPU) and not caplog.records
    kernels.are_usable.cache_clear()
    monkeypatch.setattr(triton_kernels, kernel, Faulty(getattr(triton_kernels, kernel), fault))
    for _ in range(2):
        assert not kernels.are_usable(CPU)
    (warning,) = caplog.records
    assert message in warning.getMessage()
    monkeypatch.setattr(triton_kernels, "cross_entropy_kernel", None)
    kernels.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]))  # goes without
