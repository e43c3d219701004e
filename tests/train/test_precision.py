"""In which arithmetic a run computes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
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


@pytest.mark.parametrize(("given", "found"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_products_on_a_gpu_are_allowed_where_only_reproducible_operations_are(
    monkeypatch: pytest.MonkeyPatch, given: str | None, found: str
) -> None:
    """Versions of torch that check this variable refuse every product without it."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", str(given))
    if given is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        set_up_torch(torch.device("cuda"), None, deterministic=True)
    finally:
        torch.set_deterministic_debug_mode("default")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == found


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
