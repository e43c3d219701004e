"""Triton's kernels for updates: run by its interpreter, compiled for GPUs that are not here, and done without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from acoustic.train import kernels
from tests.triton_tools import CAPABILITIES, compile_kernel, run_under_interpreter

KINDS = {"targets": "*i64", "logits": "*bf16", "gradients": "*bf16", "copies": "*bf16"} | dict.fromkeys(
    ("smoothing", "learning_rate", "momentum", "weight_decay"), "fp32"
)
CONSTANTS = {"IS_SMOOTHED": False, "HAS_MOMENTUM": True, "IS_NESTEROV": True, "BLOCK": kernels.MAX_BLOCK}


def test_the_kernels_under_the_interpreter() -> None:
    run_under_interpreter(Path(__file__).parent / "interpreted_kernels.py")


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("kernel", ["cross_entropy_kernel", "cross_entropy_gradient_kernel", "sgd_kernel"])
def test_the_kernels_compile_for_gpus(
    kernel: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To machine code that reads several values at once, and gradients and weights are written so."""
    pytest.importorskip("triton")
    from acoustic.train import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(triton_kernels, kernel)
    code = compile_kernel(function, KINDS, CONSTANTS, capability, num_warps=kernels.NUM_WARPS)
    assert code["cubin"]
    assert re.search(r"ld\.global[.\w]*\.v[48]\.", code["ptx"])
    assert bool(re.search(r"st\.global[.\w]*\.v[48]\.", code["ptx"])) == (kernel != "cross_entropy_kernel")


def test_on_a_cpu_torch_computes() -> None:
    assert not kernels.are_usable(torch.device("cpu"))
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 9, dtype=torch.bfloat16, requires_grad=True), torch.tensor([0, 8, 3, 3, 1])
    loss, num_right = kernels.cross_entropy(logits, targets, 0.1)
    expected = functional.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=0.1)
    assert torch.equal(loss, expected) and num_right == (logits.argmax(1) == targets).sum()


def test_without_triton_a_warning_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # kernels are to run on any device
    monkeypatch.setitem(__import__("sys").modules, "acoustic.train.triton_kernels", None)
    kernels.are_usable.cache_clear()
    try:
        assert not kernels.are_usable(torch.device("cpu"))
    finally:
        kernels.are_usable.cache_clear()
    (warning,) = caplog.records
    assert "without Triton's kernels" in warning.getMessage()
