"""Alignments of one model as those of another with the same phones and topology (Kaldi: ConvertAlignment)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.alignments import is_reordered, reorder, split_to_phones
from acoustic.kaldi.topology import NO_PDF, Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.states.tree_stats import phone_windows


class AlignmentConverter:
    """Converts alignments, phone by phone in the contexts of the new tree; phones stay where they are.

    Self-loops come behind the arc that leaves their state, as in all graphs of ours, even where they came before it (as
    Kaldi's convert-ali does, unless told --reorder=false).

    Args:
        old: model of the alignments.
        new: model to convert to.
        tree: its tree.

    Raises:
        DataError: the models' topologies differ.
    """

    def __init__(self, old: TransitionModel, new: TransitionModel, tree: DecisionTree) -> None:
        if _structure(old.topology) != _structure(new.topology):
            raise DataError("the two models have different topologies", remedy="use models of one lang directory")
        self._old, self._new, self._tree = old, new, tree

    def convert(self, utt: str, alignment: NDArray[np.int32]) -> NDArray[np.int32]:
        """The transition_ids of the new model, int32 [num_frames].

        Raises:
            DataError: an alignment of another model, or not of whole phones; a tree of another one.
        """
        segments = split_to_phones(self._old, utt, alignment)
        width, position = self._tree.context_width, self._tree.central_position
        windows = phone_windows([phone for phone, _ in segments], width, position).tolist()
        converted = np.empty_like(alignment)
        begin = 0
        for window, (_, ids) in zip(windows, segments, strict=True):
            new_id = {old_id: self._converted(window, old_id) for old_id in np.unique(ids).tolist()}
            converted[begin : begin + len(ids)] = [new_id[old_id] for old_id in ids.tolist()]
            begin += len(ids)
        return converted if is_reordered(self._old, alignment) else reorder(self._new, converted)

    def _converted(self, window: list[int], transition_id: int) -> int:
        """One transition_id in a window of phones."""
        old_state = int(self._old.transition_state_of[transition_id])
        arc = transition_id - int(self._old.first_transition_id[old_state])
        phone, hmm_state = self._old.tuples[old_state - 1, :2].tolist()
        state = self._new.topology.entry(phone)[hmm_state]
        forward = self._tree.pdf_id(window, state.forward_pdf_class)
        loops = state.self_loop_pdf_class != NO_PDF
        self_loop = self._tree.pdf_id(window, state.self_loop_pdf_class) if loops else NO_PDF
        if forward is None or self_loop is None:
            raise DataError(f"the tree has no pdf for phone {phone}", remedy="use tree and model of one experiment")
        new_state = self._new.transition_state(phone, hmm_state, forward, self_loop)
        return int(self._new.first_transition_id[new_state]) + arc


def _structure(topology: Topology) -> dict[int, list[tuple[int, int, list[int]]]]:
    """Phone -> pdf classes and destinations of its states, probabilities left out."""
    return {
        phone: [(s.forward_pdf_class, s.self_loop_pdf_class, [to for to, _ in s.transitions]) for s in entry]
        for phone, entry in topology.entries.items()
    }
