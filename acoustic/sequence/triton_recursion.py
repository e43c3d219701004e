"""Forward-backward on a GPU: three launches a batch, whatever its frames, by the kernels of triton_kernels.py.

One multiprocessor works on each utterance. So this is for graphs of up to some ten thousand states, where the launches
of vectorised recursions cost more than their work, and for batches of about as many utterances as there are
multiprocessors, or more. A single utterance over a huge graph would leave most of the GPU idle; there
criterion.recursion=vectorised may be the faster one.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch
from torch import Tensor

from acoustic.sequence.hmm import transpose
from acoustic.sequence.recursion import MAX_BACKWARD, HmmOnDevice, Recursion, one_where_not_positive
from acoustic.sequence.sliced_rows import WARP, SlicedRows, slice_rows

MAX_BLOCK = 1024  # lanes of a program
LANES_PER_THREAD = 2  # two loads under way hide some of the wait for each other


def why_not(device: torch.device) -> str | None:
    """Why Triton's kernels cannot run on a device; None if they can.

    Under Triton's interpreter (the environment's TRITON_INTERPRET=1) they run on any, slowly.
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton's kernels run on CUDA devices, not on {device.type}"
    try:
        _kernels()
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    return None


def _kernels() -> Any:
    """The module of the kernels; importing it imports Triton, which not every machine has."""
    return importlib.import_module("acoustic.sequence.triton_kernels")


class TritonGraph:
    """An HMM as the kernels take it."""

    def __init__(self, model: HmmOnDevice) -> None:
        hmm, num_states = model.hmm, model.hmm.num_states
        self.num_states, self.num_pdfs = num_states, model.num_pdfs
        self.block = min(MAX_BLOCK, max(LANES_PER_THREAD * WARP, 1 << (num_states - 1).bit_length()))
        from_states = hmm.transition_matrix(model.dtype, model.device)
        into_states = transpose(from_states)
        self.initial, self.final = model.initial(), model.final()
        self.jumps = model.leaky_coefficient * self.initial
        self.leaks_into = (into_states @ self.jumps.unsqueeze(1)).squeeze(1).contiguous()
        self.into_states = slice_rows(into_states, self.block)
        self.from_states = slice_rows(from_states, self.block)
        self.pdf_sums = slice_rows(hmm.emission_matrix(model.num_pdfs, model.dtype, model.device), self.block)
        self.pdf_of = torch.from_numpy(hmm.pdf_of).to(model.device, torch.int32)

    def recursion(self, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor | None = None) -> Recursion:
        """A run; arguments as for Recursion."""
        return TritonRecursion(self, log_emissions, lengths, accuracies)


class TritonRecursion(Recursion):
    """One run. `_alphas` [B, T + 1, K, num_states] are alphas, which going backward turns into occupancies."""

    def __init__(self, graph: TritonGraph, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor | None) -> None:
        super().__init__(log_emissions, lengths, accuracies)
        self._graph, self._lengths = graph, lengths.to(torch.int32)
        self.emissions = self.emissions.contiguous()
        # A kernel that has no use for accuracies is given something.
        self._accuracies = self.emissions if accuracies is None else accuracies.contiguous()
        self._num_rows = 1 if accuracies is None else 2
        num_frames, num_utts = log_emissions.shape[:2]
        self._alphas = log_emissions.new_empty((num_utts, num_frames + 1, self._num_rows, graph.num_states))
        self._alphas[:, 0] = 0.0
        self._alphas[:, 0, 0] = graph.initial
        self.scales = log_emissions.new_ones((num_utts, num_frames + 1))
        self.scales[:, 0] = graph.initial.sum()
        self.means = torch.zeros_like(self.scales)

    def forward(self) -> None:
        """Fill `scales` and `means`, and sum up where utterances end."""
        graph, utts = self._graph, torch.arange(len(self.lengths), device=self.lengths.device)
        arrays = (self._alphas, self.scales, self.means, self.emissions, self._accuracies, self._lengths)
        self._launch("forward_kernel", (len(utts),), *arrays, graph.pdf_of, graph.leaks_into, matrix=graph.into_states)
        ends = (self._alphas[utts, self.lengths] * graph.final).sum(2)
        self.totals = ends / one_where_not_positive(self.scales[utts, self.lengths]).unsqueeze(1)
        self.totals[:, 1:] -= self.means[utts, self.lengths].unsqueeze(1) * self.totals[:, :1]

    def backward(self) -> tuple[Tensor, Tensor]:
        """Posteriors of the pdf_ids, and these times accuracies expected."""
        graph, dtype = self._graph, self.emissions.dtype
        betas = torch.zeros_like(self._alphas[:, 0])
        betas[:, 0] = graph.final / self.safe_total.unsqueeze(1)
        sums = self.scales.clone()
        arrays = (self._alphas, sums, betas, torch.empty_like(betas), self.emissions, self._accuracies, self._lengths)
        shape, bound = (len(betas),), MAX_BACKWARD[dtype]
        self._launch(
            "backward_kernel", shape, *arrays, graph.pdf_of, graph.jumps, matrix=graph.from_states, BOUND=bound
        )
        found = [torch.zeros_like(self.emissions) for _ in range(self._num_rows)]
        for row, posteriors in enumerate(found):
            summed = (posteriors, self._alphas, sums, self._lengths)
            self._launch("pdf_kernel", self.emissions.shape[:2], *summed, matrix=graph.pdf_sums, ROW=row)
        return found[0], found[-1]

    def _launch(
        self, kernel: str, grid: tuple[int, ...], *arrays: Tensor, matrix: SlicedRows, **constants: Any
    ) -> None:
        """Run a kernel of triton_kernels.py on the arrays' device."""
        graph, num_frames = self._graph, len(self.emissions)
        with torch.cuda.device_of(self.emissions):
            getattr(_kernels(), kernel)[tuple(grid)](
                *arrays,
                *(matrix.rows, matrix.first_step, matrix.columns, matrix.weights),
                *(num_frames, graph.num_states, graph.num_pdfs, matrix.num_slices),
                **constants,
                K=self._num_rows,
                BLOCK=graph.block,
                LANES=matrix.lanes,
                num_warps=graph.block // (LANES_PER_THREAD * WARP),
                num_stages=1,
            )
