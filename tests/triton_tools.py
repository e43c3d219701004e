"""Triton's kernels without a GPU: run by its interpreter, compiled for GPUs that are not here."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.version import Version

CAPABILITIES = [80, 90]  # of the GPUs that kernels are compiled for


def run_under_interpreter(file: Path) -> None:
    """Run a file of tests in a process of its own: the interpreter is chosen when Triton is imported."""
    triton = pytest.importorskip("triton")
    if Version(triton.__version__) < Version("3.7") and Version(np.__version__) >= Version("2.4"):
        pytest.skip("the interpreter of Triton before 3.7 cannot loop beside NumPy 2.4, whose int() takes no array")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[1]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def compile_kernel(
    function: Any, kinds: dict[str, str], constants: dict[str, Any], capability: int, **options: int
) -> dict[str, Any]:
    """Machine code of a kernel, and what leads to it, by name.

    Args:
        function: the kernel.
        kinds: Triton's types of its arguments; integers not named are "i32" when their name begins with num_ or ends
            with _stride, all others "*fp32".
        constants: values of its constants; others may be among them.
        capability: of the GPU.
        options: num_warps, num_stages.

    Pointers, and the integers that are so in training at full size, are multiples of 16, as Triton would find itself.
    """
    triton = pytest.importorskip("triton")
    compiler = pytest.importorskip("triton.backends.compiler")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets here")
    signature, is_round = {}, {}
    for place, (name, parameter) in enumerate(inspect.signature(function.fn).parameters.items()):
        is_count = name.startswith("num_") or name.endswith("_stride")
        kind = kinds.get(name, "i32" if is_count else "*fp32")
        signature[name] = kind = "constexpr" if "constexpr" in str(parameter.annotation) else kind
        if kind.startswith("*") or name in ("num_columns", "num_weights", "row_stride"):
            is_round[(place,)] = [["tt.divisibility", 16]]
    used = {name: value for name, value in constants.items() if name in signature}
    source = triton.compiler.ASTSource(function, signature, used, is_round)
    target = compiler.GPUTarget("cuda", capability, 32)
    return dict(triton.compile(source, target=target, options=options).asm)


class Faulty:
    """A kernel that is launched as it should be, and then spoils or refuses."""

    def __init__(self, kernel: Any, fault: Callable[..., None]) -> None:
        self.kernel, self.fault = kernel, fault

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **constants: Any) -> None:
            self.kernel[grid](*arguments, **constants)
            self.fault(*arguments)

        return launch


def refuse(*_: Any) -> None:
    raise RuntimeError("out of resource: shared memory")
