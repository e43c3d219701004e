"""In which arithmetic a run computes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from acoustic.errors import ConfigError
from acoustic.train.precision import choose_dtype, set_up_torch


@pytest.fixture
def matmul_precision() -> Iterator[None]:
    """Leaves the process's precision as it was."""
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("matmul_precision")
def test_tf32_is_set_so_that_every_way_to_ask_for_it_answers() -> None:
    """torch.compile asks in all of these ways; where one of them raises, no update can be compiled."""
    assert choose_dtype("tf32", torch.device("cuda")) == torch.float32
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"


def test_tf32_is_nothing_that_a_cpu_has() -> None:
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        choose_dtype("tf32", torch.device("cpu"))


def test_reproducible_operations_leave_the_environment_of_cublas_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11 parses the variable at every product: 65 microseconds of a host that keeps a GPU waiting."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        set_up_torch(torch.device("cuda"), None, deterministic=True)
        assert torch.get_deterministic_debug_mode() == 2
    finally:
        torch.set_deterministic_debug_mode("default")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_products_on_a_gpu_are_allowed_where_only_reproducible_operations_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of torch before ours refused every product without CUBLAS_WORKSPACE_CONFIG."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    inputs, weights = torch.randn(300, 70, device="cuda"), torch.randn(50, 70, device="cuda")
    try:
        set_up_torch(torch.device("cuda"), None, deterministic=True)
        for dtype in (torch.float32, torch.bfloat16):
            first, second = (torch.nn.functional.linear(inputs.to(dtype), weights.to(dtype)) for _ in range(2))
            assert torch.equal(first, second)
    finally:
        torch.set_deterministic_debug_mode("default")


@pytest.mark.parametrize(("major", "dtype"), [(7, torch.float32), (8, torch.bfloat16), (9, torch.bfloat16)])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, major: int, dtype: torch.dtype
) -> None:
    """The second GPU of a machine whose first one is older, or newer."""
    current = [0]

    @contextlib.contextmanager
    def made_current(device: torch.device) -> Iterator[None]:
        current.append(device.index)
        yield
        current.pop()

    of_devices = {0: 15 - major, 1: major}
    monkeypatch.setattr(torch.cuda, "device", made_current)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(major=of_devices[index]))
    assert choose_dtype("auto", torch.device("cuda:1")) == dtype


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[madvise]" not in HUGE_PAGES.read_text(), reason="no huge pages for those that ask"
)
@pytest.mark.parametrize(("told", "are_huge"), [({}, True), ({"THP_MEM_ALLOC_ENABLE": "0"}, False)])
def test_tensors_of_verbs_that_compute_are_in_huge_pages(told: dict[str, str], are_huge: bool) -> None:
    """In a process of its own: torch asks for them from the first tensor on, or never."""
    script = """if True:
        import torch
        from acoustic.train.precision import choose_device, keep_freed_memory
        choose_device("cpu")
        keep_freed_memory()
        tensor = torch.ones(1 << 24)
        lines = open("/proc/self/smaps_rollup").read().splitlines()
        print(next(line.split()[1] for line in lines if line.startswith("AnonHugePages")))
    """
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"} | told
    done = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True)
    assert (1024 * int(done.stdout) > 1 << 25) is are_huge  # half of the tensor's bytes
