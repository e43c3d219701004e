"""A graph as a hidden Markov model: every state emits one pdf_id, transitions are a sparse matrix.

A graph of transducer arcs becomes one by making a state of each (graph state, pdf_id of the arcs entering it). A frame
of forward or backward recursion is then a sparse matrix times the matrix of all utterances' states, and a
multiplication by emissions looked up per state: dense, vectorised work on CPU and GPU alike.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays

START = 0  # the state before the first frame: it emits nothing and is never entered
MAX_EPSILONS = 1000  # in a row; a graph with more has a cycle of them


@dataclass(frozen=True)
class Hmm:
    """A hidden Markov model over pdf_ids.

    Attributes:
        pdf_of: int64 [num_states], what each state emits; of START meaningless.
        sources: int64 [num_transitions].
        targets: int64 [num_transitions], never START.
        probs: float64 [num_transitions], transition probabilities, or any weights that are not negative.
        initial: float64 [num_states], probabilities before the first frame's transition.
        final: float64 [num_states], weights of ending in each state after the last frame.
    """

    pdf_of: NDArray[np.int64]
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    probs: NDArray[np.float64]
    initial: NDArray[np.float64]
    final: NDArray[np.float64]

    @property
    def num_states(self) -> int:
        """States, START among them."""
        return len(self.pdf_of)

    @property
    def num_transitions(self) -> int:
        """Transitions."""
        return len(self.sources)

    def transition_matrix(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        """The sparse (CSR) matrix [num_states, num_states] of the weights from each state (row) to each (column)."""
        return sparse_matrix(self.sources, self.targets, self.probs, (self.num_states, self.num_states), dtype, device)

    def emission_matrix(
        self, num_pdfs: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """The sparse (CSR) matrix [num_pdfs, num_states] with a one where a state emits a pdf_id."""
        states = np.arange(self.num_states)
        return sparse_matrix(self.pdf_of, states, np.ones(len(states)), (num_pdfs, self.num_states), dtype, device)


def sparse_matrix(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float64],
    shape: tuple[int, int],
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """A CSR matrix; entries given twice are summed."""
    key, inverse = np.unique(rows * shape[1] + columns, return_inverse=True)
    columns_of_entries = torch.empty(len(key), dtype=torch.int64)  # from_numpy of none at all is refused by torch 2.11
    columns_of_entries.numpy()[:] = key % shape[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta|Sparse invariant checks are implicitly")
        return torch.sparse_csr_tensor(
            torch.from_numpy(np.searchsorted(key, np.arange(shape[0] + 1) * shape[1])),
            columns_of_entries,
            torch.from_numpy(np.bincount(inverse, values, minlength=len(key))),
            size=shape,
            dtype=dtype,
            device=device,
            check_invariants=True,
        )


def emitting_states(
    fst: FstArrays, pdf_of_label: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The states of the HMM of a graph: START, and one for each (graph state, pdf_id of arcs that enter it).

    Arguments and errors as for `hmm_from_fst`.

    Returns:
        of each HMM state the pdf_id (of START a 0) and the graph state; of each arc that emits, the HMM state entered.
    """
    if fst.num_states == 0 or fst.num_arcs == 0:
        raise DataError("a graph without paths", remedy="use alignments, tree and model of one experiment")
    labels = fst.arcs["ilabel"]
    if labels.max() >= len(pdf_of_label):
        raise DataError(f"the graph has label {labels.max()}, the model {len(pdf_of_label) - 1} transition_ids")
    emits = labels != 0
    num_pdfs = int(pdf_of_label.max()) + 1
    keys, entered = np.unique(
        fst.arcs["nextstate"][emits].astype(np.int64) * num_pdfs + pdf_of_label[labels[emits]], return_inverse=True
    )
    return np.append(0, keys % num_pdfs), np.append(fst.start, keys // num_pdfs), entered + 1


def hmm_from_fst(fst: FstArrays, pdf_of_label: NDArray[np.int32]) -> Hmm:
    """The HMM of a graph whose input labels are transition_ids; epsilons are taken out, parallel paths add up.

    It starts in START, for sure.

    Args:
        fst: the graph; costs are negated natural logs.
        pdf_of_label: the pdf_id of each transition_id (TransitionModel.pdf_of).

    Raises:
        DataError: no path, a label that is no transition_id, or a cycle of epsilons.
    """
    pdf_of, place, entered = emitting_states(fst, pdf_of_label)
    emits = fst.arcs["ilabel"] != 0
    sources, targets, weights = (
        fst.sources(),
        fst.arcs["nextstate"].astype(np.int64),
        np.exp(-_float64(fst.arcs["weight"])),
    )
    num_states, num_places = len(place), fst.num_states
    epsilons = sparse_matrix(sources[~emits], targets[~emits], weights[~emits], (num_places, num_places))
    state_to_place = sparse_matrix(np.arange(num_states), place, np.ones(num_states), (num_states, num_places))
    place_to_state = sparse_matrix(sources[emits], entered, weights[emits], (num_places, num_states))
    state_to_place = _follow_epsilons(state_to_place, epsilons)
    transitions = (state_to_place @ place_to_state).to_sparse_coo().coalesce()
    final = state_to_place @ torch.from_numpy(np.exp(-_float64(fst.final)))
    return Hmm(
        pdf_of=pdf_of,
        sources=transitions.indices()[0].numpy(),
        targets=transitions.indices()[1].numpy(),
        probs=transitions.values().numpy(),
        initial=np.eye(1, num_states, START)[0],
        final=final.numpy(),
    )


def subsampled(hmm: Hmm, factor: int) -> Hmm:
    """The HMM at `factor` times fewer frames: all that it may do in as many steps, seen only in the last of them.

    States that are left faster than that may be jumped over, so the senones of a full-rate system can be kept.
    """
    if factor == 1:
        return hmm
    shape = (hmm.num_states, hmm.num_states)
    step = sparse_matrix(hmm.sources, hmm.targets, hmm.probs, shape)
    power = step
    for _ in range(factor - 1):
        power = power @ step
    transitions = power.to_sparse_coo().coalesce()
    sources, targets = transitions.indices().numpy()
    return replace(hmm, sources=sources, targets=targets, probs=transitions.values().numpy())


def _float64(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values.astype(np.float64)


def _follow_epsilons(reached: Tensor, epsilons: Tensor) -> Tensor:
    """`reached` [n, num_places] and all that is reached from there over epsilons: reached (1 + E + E^2 + ...).

    Raises:
        DataError: a cycle of epsilons.
    """
    total = reached
    for _ in range(MAX_EPSILONS):
        reached = reached @ epsilons
        if reached._nnz() == 0:
            return total
        total = total + reached
    raise DataError("the graph has a cycle of epsilons")


def transpose(matrix: Tensor) -> Tensor:
    """A CSR matrix with rows and columns exchanged, as CSR."""
    return matrix.to_sparse_coo().t().coalesce().to_sparse_csr()
