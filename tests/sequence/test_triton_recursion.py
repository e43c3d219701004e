"""Triton's kernels: run by its interpreter, compiled for GPUs that are not here, and refused where they cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.errors import ConfigError
from acoustic.sequence.forward_backward import ForwardBackward
from acoustic.sequence.hmm import sparse_matrix
from acoustic.sequence.lattice_free import LatticeFreeConfig
from acoustic.sequence.sliced_rows import slice_rows
from tests.sequence.hmms import ergodic_hmm
from tests.triton_tools import CAPABILITIES, compile_kernel, run_under_interpreter

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_kernels_under_the_interpreter() -> None:
    run_under_interpreter(HERE / "interpreted_triton.py")


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("kernel", ["forward_kernel", "backward_kernel", "pdf_kernel"])
def test_the_kernels_compile_for_gpus(
    kernel: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To machine code; with barriers, and without loads that need not see what was written, or ones ahead of time."""
    pytest.importorskip("triton")
    from acoustic.sequence import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kinds = dict.fromkeys(("lengths", "pdf_of", "rows", "first_step", "columns"), "*i32")
    constants = {"K": 2, "BLOCK": 128, "LANES": 4, "ROW": 1, "BOUND": 1e30}
    code = compile_kernel(
        getattr(triton_kernels, kernel), kinds, constants, capability, num_warps=2, num_stages=1
    )  # fmt: skip
    assert code["cubin"]
    assert code["ptx"].count("bar.sync") >= {"forward_kernel": 1, "backward_kernel": 2, "pdf_kernel": 0}[kernel]
    assert "ld.global.nc" not in code["ptx"] and "cp.async" not in code["ptx"]


@pytest.mark.parametrize("lanes", [1, 4, 32])
def test_sliced_rows_are_the_matrix(lanes: int) -> None:
    """A long row among short ones makes more lanes share a row, and all entries are there once."""
    rng = np.random.default_rng(0)
    long_rows = {1: 0, 4: 24, 32: 1}[lanes]
    dense = np.where(rng.random((100, 90)) < 0.02, rng.random((100, 90)), 0.0)
    dense[:long_rows] = rng.random((long_rows, 90))
    rows, columns = np.nonzero(dense)
    sliced = slice_rows(sparse_matrix(rows, columns, dense[rows, columns], dense.shape), block=64)
    found = np.zeros_like(dense)
    for part in range(sliced.num_slices):
        places = sliced.rows.view(sliced.num_slices, -1)[part].repeat_interleave(sliced.lanes)
        for step in range(int(sliced.first_step[part]), int(sliced.first_step[part + 1])):
            present = sliced.columns[step] >= 0
            assert torch.all(sliced.weights[step][~present] == 0)
            at = places[present].numpy(), sliced.columns[step][present].numpy()
            assert np.all(found[at] == 0)
            found[at] = sliced.weights[step][present].numpy()
    np.testing.assert_array_equal(found, dense)
    assert sorted(sliced.rows[sliced.rows >= 0].tolist()) == list(range(100))
    assert sliced.lanes == 1 if lanes == 1 else sliced.lanes > 1


def test_a_cpu_has_vectorised_recursions(caplog: pytest.LogCaptureFixture) -> None:
    hmm = ergodic_hmm(6, 4)
    assert ForwardBackward(hmm, 4)._triton is None and not caplog.records
    with pytest.raises(ConfigError, match="run on CUDA devices, not on cpu"):
        ForwardBackward(hmm, 4, recursion="triton")
    with pytest.raises(ValueError, match=r"criterion\.recursion='cuda': choose one of auto, triton, vectorised"):
        LatticeFreeConfig(recursion="cuda")
