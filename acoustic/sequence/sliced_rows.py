"""Sparse matrices for GPUs: rows in slices of about equal length (SELL-C-sigma).

Kreutzer, Hager, Wellein, Fehske and Bishop, "A unified sparse matrix data format for efficient general sparse
matrix-vector multiplication on modern processors with wide SIMD units", SIAM J. Sci. Comput. 36(5), 2014.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WARP = 32  # threads that run together


@dataclass(frozen=True)
class SlicedRows:
    """A sparse matrix, by slices of `block // lanes` rows, which are in falling order of their lengths.

    `lanes` neighbouring lanes of a block of threads share a row, each taking every `lanes`-th entry of it. Each step of
    a slice takes one entry a lane. A slice has as many steps as its longest row needs; other rows have entries there
    that are none.

    Attributes:
        rows: int32 [num_slices * block // lanes], the row at each place; -1 where there is none.
        first_step: int32 [num_slices + 1], where the steps of each slice begin.
        columns: int32 [num_steps, block], the column of each entry; -1 where there is none.
        weights: [num_steps, block], zero where there is none.
        lanes: of a row.
    """

    rows: Tensor
    first_step: Tensor
    columns: Tensor
    weights: Tensor
    lanes: int

    @property
    def num_slices(self) -> int:
        """Slices."""
        return len(self.first_step) - 1


def slice_rows(matrix: Tensor, block: int) -> SlicedRows:
    """A CSR matrix in slices, on its device.

    As many lanes share a row as make the fewest steps: one where rows are about equally long; more where a few are
    long, as that of a pdf_id of silence which many states emit.

    Args:
        matrix: [num_rows, num_columns].
        block: lanes in a block, a power of two of at least WARP.
    """
    ends = matrix.crow_indices().cpu().numpy()
    lengths = np.diff(ends)
    order = np.argsort(-lengths, kind="stable")
    candidates = [1 << power for power in range(WARP.bit_length())]
    lanes = min(candidates, key=lambda each: _num_steps(lengths[order], block, each))
    steps = _steps_of_slices(lengths[order], block, lanes)
    first_step = np.append(0, np.cumsum(steps))
    rows = np.full(len(steps) * (block // lanes), -1)
    rows[: len(order)] = order
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    row = np.repeat(np.arange(len(lengths)), lengths)
    entry = np.arange(len(row)) - ends[row]  # within its row
    slice_of, row_in_slice = np.divmod(place[row], block // lanes)
    where = (first_step[slice_of] + entry // lanes, row_in_slice * lanes + entry % lanes)
    columns = np.full((first_step[-1], block), -1)
    columns[where] = matrix.col_indices().cpu().numpy()
    weights = matrix.values().new_zeros(columns.shape, device="cpu")
    weights.numpy()[where] = matrix.values().cpu().numpy()

    def indices(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(matrix.device, torch.int32)

    return SlicedRows(indices(rows), indices(first_step), indices(columns), weights.to(matrix.device), lanes)


def _steps_of_slices(lengths: NDArray[np.int64], block: int, lanes: int) -> NDArray[np.int64]:
    """Steps of each slice; lengths of rows in falling order."""
    return -(-lengths[:: block // lanes] // lanes)


def _num_steps(lengths: NDArray[np.int64], block: int, lanes: int) -> int:
    """Steps over all slices, with one for beginning a slice."""
    steps = _steps_of_slices(lengths, block, lanes)
    return int(steps.sum()) + len(steps)
