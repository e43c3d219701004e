"""The steps of mkgraph that kaldifst lacks, as operations on arrays (sources: Kaldi's fstext and hmm-utils)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.fst import ARC, FstArrays
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import get_logger

logger = get_logger(__name__)

PUSH_DELTA = 1.0 / 1024.0  # OpenFst's kDelta
MAX_PUSH_ITERATIONS = 200


def remove_input_symbols(fst: FstArrays, symbols: Sequence[int]) -> FstArrays:
    """Turn input symbols into epsilon (fstrmsymbols)."""
    arcs = fst.arcs.copy()
    arcs["ilabel"][np.isin(arcs["ilabel"], np.asarray(symbols, dtype=np.int32))] = 0
    return replace(fst, arcs=arcs, properties=0)


def push_special(fst: FstArrays) -> FstArrays:
    """Push weights so that arcs and final probability of every state sum to the same (fstpushspecial).

    Unlike stochastic pushing it cannot diverge on a back-off grammar. Path costs stay. The potentials are the dominant
    eigenvector of the matrix of arc probabilities, with final probabilities as arcs to the start state (Hannemann and
    Povey, "Combining forward and backward search in decoding", ICASSP 2013, section 3).
    """
    if fst.num_states == 0:
        return fst
    sources, targets = fst.sources(), fst.arcs["nextstate"]
    probability = np.exp(-fst.arcs["weight"].astype(np.float64))
    final = np.exp(-fst.final.astype(np.float64))
    potential = np.full(fst.num_states, 1.0 / np.sqrt(fst.num_states))
    for iteration in range(MAX_PUSH_ITERATIONS):
        sums = np.bincount(sources, probability * potential[targets], minlength=fst.num_states)
        sums += final * potential[fst.start]
        if iteration % 5 == 1 and iteration > 1:
            ratio = sums / potential
            if np.log(ratio.max() / ratio.min()) <= PUSH_DELTA:
                break
        # The tenth of the old vector keeps linear transducers, whose eigenvalues differ in phase only, from cycling.
        potential = sums + 0.1 * potential
        potential /= np.linalg.norm(potential)
    else:
        logger.warning("weight pushing stopped after %d iterations without converging", MAX_PUSH_ITERATIONS)
    cost = -np.log(potential)
    arcs = fst.arcs.copy()
    arcs["weight"] = arcs["weight"] + cost[targets] - cost[sources]
    final = (fst.final + (cost[fst.start] - cost)).astype(np.float32)
    return replace(fst, arcs=arcs, final=final, properties=0)


def add_self_loops(fst: FstArrays, model: TransitionModel, self_loop_scale: float) -> FstArrays:
    """Add the self-loops of the HMM states, each behind the arc that enters its state (add-self-loops --reorder=true).

    Every state's arcs and final cost are first scaled by the probability of leaving the self-loop.

    Args:
        fst: input labels are transition_ids without self-loops, or epsilon.
        model: gives self-loops and their probabilities.
        self_loop_scale: of the log probabilities.

    Raises:
        DataError: the graph has self-loops already, or labels that are no transition_ids.
    """
    labels = fst.arcs["ilabel"]
    if fst.num_arcs and labels.max() > model.num_transition_ids:
        raise DataError(f"the graph has label {labels.max()}, the model {model.num_transition_ids} transition_ids")
    if np.any(model.is_self_loop[labels]):
        raise DataError("the graph has self-loops already")
    fst = separate_entered_states(fst, model.transition_state_of[labels])
    entered_by = np.zeros(fst.num_states, dtype=np.int32)
    entered_by[fst.arcs["nextstate"]] = model.transition_state_of[fst.arcs["ilabel"]]

    leave_cost = np.zeros(model.num_transition_states + 1, dtype=np.float32)
    for state in range(1, model.num_transition_states + 1):
        leave_cost[state] = -model.non_self_loop_log_prob(state) * self_loop_scale
    loop_cost = -model.log_prob * np.float32(self_loop_scale)
    loop_label = np.where(entered_by > 0, model.self_loop_of[entered_by], 0)

    arcs = fst.arcs.copy()
    arcs["weight"] += leave_cost[entered_by[fst.sources()]]
    looping = np.flatnonzero(loop_label)
    loops = np.zeros(len(looping), dtype=ARC)
    loops["ilabel"] = loop_label[looping]
    loops["weight"] = loop_cost[loop_label[looping]]
    loops["nextstate"] = looping
    arcs = np.insert(arcs, fst.first_arc[looping + 1], loops)
    added_before = np.concatenate([[0], np.cumsum(loop_label > 0)])
    return FstArrays(fst.start, fst.final + leave_cost[entered_by], fst.first_arc + added_before, arcs)


def separate_entered_states(fst: FstArrays, arc_class: NDArray[np.int32]) -> FstArrays:
    """Split states so that all arcs entering a state are of one class (MakePrecedingInputSymbolsSameClass).

    Non-epsilon arcs into a state entered by several classes go to a new state for each class instead, from which
    an epsilon arc leads on. Starting counts as entering by class 0.

    Args:
        arc_class: int [num_arcs], the class of each arc, 0 for epsilon.
    """
    target = fst.arcs["nextstate"].astype(np.int64)
    lowest = np.full(fst.num_states, np.iinfo(np.int32).max, dtype=np.int64)
    highest = np.full(fst.num_states, -1, dtype=np.int64)
    lowest[fst.start] = highest[fst.start] = 0
    np.minimum.at(lowest, target, arc_class)
    np.maximum.at(highest, target, arc_class)
    moved = np.flatnonzero((lowest < highest)[target] & (fst.arcs["ilabel"] != 0))
    key = target[moved] * (int(arc_class.max(initial=0)) + 1) + arc_class[moved]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))  # new states in the order in which their arcs come

    arcs = fst.arcs.copy()
    arcs["nextstate"][moved] = fst.num_states + number[inverse]
    onward = np.zeros(len(first), dtype=ARC)
    onward["nextstate"][number] = target[moved[first]]
    return FstArrays(
        fst.start,
        np.concatenate([fst.final, np.full(len(first), np.inf, dtype=np.float32)]),
        np.concatenate([fst.first_arc, fst.num_arcs + 1 + np.arange(len(first))]),
        np.concatenate([arcs, onward]),
    )
