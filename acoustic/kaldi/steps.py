"""Which HMM arcs may follow which in an alignment: what tells alignments of a model from those of another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.alignments import check_alignment
from acoustic.kaldi.topology import NO_PDF
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import get_logger

logger = get_logger(__name__)
GRAPHS_REMEDY = "compile them with this one (acoustic compile-train-graphs)"
LOOKED_AT = 100  # alignments, to tell whether a model made them

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


class StepWatch:
    """Finds out from the first alignments that are read whether a model made them.

    Args:
        model: the one that is said to have made them.
    """

    def __init__(self, model: TransitionModel) -> None:
        self._steps = Steps(model) if Steps.apply_to(model) else None
        self._num_looked_at = self._num_steps = self._num_legal = 0

    def add(self, alignment: NDArray[np.int32]) -> None:
        """Look at an alignment, int32 [num_frames], whose transition_ids are in the model's range."""
        if self._steps is not None and self._num_looked_at < LOOKED_AT:
            legal = self._steps.legal(alignment)
            self._num_looked_at += 1
            self._num_steps += len(legal)
            self._num_legal += int(legal.sum())

    def warn(self, source: str, model: str, remedy: str, what: str = "alignments") -> None:
        """Say so when the alignments are no paths through the model's HMMs: what is read out of them means nothing.

        Args:
            source, model: names of what the alignments come from, and of the model.
            remedy: what to do if they are another model's.
            what: is in `source`: alignments, or the graphs that they are paths through.
        """
        if self._num_legal < LEAST_LEGAL_SHARE * self._num_steps:
            logger.warning(
                "%s: only %.0f %% of the steps between HMM states are possible in %s; if another model made the %s, %s",
                source,
                100.0 * self._num_legal / self._num_steps,
                model,
                what,
                remedy,
            )


def watched(
    alignments: Iterable[tuple[str, NDArray[np.int32]]], model: TransitionModel, source: str, model_path: str
) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Pass alignments through; at their end a warning says so if they look like those of another model.

    Args:
        alignments: of each utterance, int32 [num_frames].
        model: the one that is said to have made them.
        source, model_path: the names of both.

    Raises:
        DataError: transition_ids that the model does not have.
    """
    watch = StepWatch(model)
    for utt, alignment in alignments:
        try:
            check_alignment(model, utt, alignment)
        except DataError as error:
            raise DataError(error.problem, path=source, utt=utt, remedy=error.remedy) from error
        watch.add(alignment)
        yield utt, alignment
    watch.warn(source, model_path, "give its final.mdl")
