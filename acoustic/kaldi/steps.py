"""Which HMM arcs may follow which in an alignment: what tells alignments of a model from those of another one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acoustic.kaldi.topology import NO_PDF
from acoustic.kaldi.transitions import TransitionModel

# Alignments read with another model's transition_ids had 0.49 to 0.56 legal steps here, copies at 0.9 and 1.1 times the
# speed, with frames repeated or dropped, 0.90.
LEAST_LEGAL_SHARE = 0.7


class Steps:
    """Which HMM arc may follow which, self-loops left aside.

    Alignments read with another model's transition_ids are hardly ever paths through its HMMs, even where the ids are
    all in range.
    """

    def __init__(self, model: TransitionModel) -> None:
        self._model = model
        self._destination = np.zeros(model.num_transition_ids + 1, dtype=np.int32)
        for state, (phone, hmm_state) in enumerate(model.tuples[:, :2].tolist(), start=1):
            arcs = model.topology.entry(phone)[hmm_state].transitions
            self._destination[model.transition_ids(state)] = [destination for destination, _ in arcs]

    @staticmethod
    def apply_to(model: TransitionModel) -> bool:
        """Whether every HMM state of the model's topology but the last emits, so that each arc shows as a frame."""
        return all(s.forward_pdf_class != NO_PDF for states in model.topology.prototypes for s in states[:-1])

    def legal(self, alignment: NDArray[np.int32]) -> NDArray[np.bool_]:
        """For each pair of neighbouring arcs that are no self-loops, whether the second may follow the first."""
        model = self._model
        arcs = alignment[~model.is_self_loop[alignment]]
        first, second = arcs[:-1], arcs[1:]
        into_next_phone = model.is_final[first] & (model.hmm_state_of[second] == 0)
        within_phone = (model.phone_of[first] == model.phone_of[second]) & (
            self._destination[first] == model.hmm_state_of[second]
        )
        return into_next_phone | (~model.is_final[first] & within_phone)
