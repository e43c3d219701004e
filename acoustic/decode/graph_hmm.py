"""The H transducer: from transition_ids to phones in context (Kaldi: make-h-transducer, hmm/hmm-utils.cc)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import kaldifst

from acoustic.decode.lang_fst import Arc, build_fst
from acoustic.errors import DataError
from acoustic.kaldi.topology import NO_PDF
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree


@dataclass(frozen=True)
class HmmAcceptor:
    """The HMM of one phone in context without its self-loops; starts in state 0 and ends in the last state.

    Attributes:
        num_states: number of states.
        arcs: (state, state, transition_id or 0, the same, cost).
    """

    num_states: int
    arcs: tuple[Arc, ...]

    @property
    def starts_alone(self) -> bool:
        """Whether one arc leaves the start state and none enters it: then the loop's state can serve as start."""
        leaving = sum(1 for arc in self.arcs if arc[0] == 0)
        return leaving == 1 and self.num_states > 1 and all(arc[1] != 0 for arc in self.arcs)


def make_h_transducer(
    windows: Sequence[Sequence[int]], tree: DecisionTree, model: TransitionModel, transition_scale: float = 1.0
) -> tuple[kaldifst.StdVectorFst, list[int]]:
    """Build H: a loop state with one way through for each label of CLG's input side.

    Self-loops are left out; add_self_loops puts them in at the end, when the graph is small.

    Args:
        windows: what each label means, as compose_context gives it: nothing (epsilon, label 0), a disambiguation
            symbol (one number that is not positive), or a window of `context_width` phones.
        tree: the decision tree.
        model: its transition model.
        transition_scale: of the transitions' log probabilities.

    Returns:
        The transducer, and its input symbols that are no transition_ids: the disambiguation symbols, in order.

    Raises:
        DataError: tree and model do not belong together, or a phone is none of theirs.
    """
    maker = _HmmMaker(tree, model, transition_scale)
    arcs: list[Arc] = []
    first_arcs: dict[HmmAcceptor, Arc] = {}
    disambiguation: list[int] = []
    num_states = 1
    for label, window in enumerate(windows[1:], start=1):
        if len(window) == 1 and window[0] <= 0:
            disambiguation.append(model.num_transition_ids + 1 + len(disambiguation))
            hmm = HmmAcceptor(2, ((0, 1, disambiguation[-1], disambiguation[-1], 0.0),))
        else:
            hmm = maker(window)
        if hmm not in first_arcs:
            first_arcs[hmm], inner = _attach(hmm, num_states)
            arcs += inner
            num_states += hmm.num_states - hmm.starts_alone
        source, destination, input_label, _, cost = first_arcs[hmm]
        arcs.append((source, destination, input_label, label, cost))
    return build_fst(num_states, 0, arcs, {0: 0.0}), disambiguation


def _attach(hmm: HmmAcceptor, num_states: int) -> tuple[Arc, list[Arc]]:
    """The arc from the loop state into `hmm` (its output label is filled in later), and the arcs inside and back.

    Args:
        num_states: how many states the loop has so far; the new states are numbered from there.
    """
    offset = num_states - hmm.starts_alone
    moved = [(start + offset, end + offset, label, 0, cost) for start, end, label, _, cost in hmm.arcs]
    back = (hmm.num_states - 1 + offset, 0, 0, 0, 0.0)
    if not hmm.starts_alone:
        return (0, offset, 0, 0, 0.0), [*moved, back]
    entry = next(arc for arc in moved if arc[0] == offset)
    inner = [arc for arc in moved if arc[0] != offset]
    return (0, *entry[1:]), [*inner, back]


class _HmmMaker:
    """Makes the HMM of a window of phones, once for all windows with the same central phone and pdf_ids."""

    def __init__(self, tree: DecisionTree, model: TransitionModel, transition_scale: float) -> None:
        self._tree, self._model, self._transition_scale = tree, model, transition_scale
        self._made: dict[tuple[int, tuple[int, ...]], HmmAcceptor] = {}

    def __call__(self, window: Sequence[int]) -> HmmAcceptor:
        """The HMM of a window (GetHmmAsFsa)."""
        if len(window) != self._tree.context_width:
            raise DataError(f"a window of {len(window)} phones for a tree of context width {self._tree.context_width}")
        phone = window[self._tree.central_position]
        pdfs = tuple(self._pdf(window, c) for c in range(self._model.topology.num_pdf_classes(phone)))
        key = (phone, pdfs)
        if key not in self._made:
            self._made[key] = self._make(phone, pdfs)
        return self._made[key]

    def _pdf(self, window: Sequence[int], pdf_class: int) -> int:
        pdf = self._tree.pdf_id(window, pdf_class)
        if pdf is None:
            raise DataError(
                f"the tree has no pdf for the phones {' '.join(map(str, window))}, pdf class {pdf_class}",
                remedy="use lang directory, tree and final.mdl of one experiment",
            )
        return pdf

    def _make(self, phone: int, pdfs: Sequence[int]) -> HmmAcceptor:
        entry = self._model.topology.entry(phone)
        arcs: list[Arc] = []
        for hmm_state, state in enumerate(entry):
            if state.forward_pdf_class == NO_PDF:
                # Its probabilities are the topology's; there is no transition_id.
                arcs += [
                    (hmm_state, destination, 0, 0, -math.log(probability) * self._transition_scale)
                    for destination, probability in state.transitions
                ]
                continue
            self_loop_pdf = pdfs[state.self_loop_pdf_class] if state.self_loop_pdf_class != NO_PDF else NO_PDF
            transition_state = self._model.transition_state(
                phone, hmm_state, pdfs[state.forward_pdf_class], self_loop_pdf
            )
            ids = self._model.transition_ids(transition_state)
            for transition_id, (destination, _) in zip(ids, state.transitions, strict=True):
                if destination != hmm_state:
                    cost = -self._model.log_prob_ignoring_self_loops(transition_id) * self._transition_scale
                    arcs.append((hmm_state, destination, transition_id, transition_id, cost))
        return HmmAcceptor(len(entry), tuple(arcs))
