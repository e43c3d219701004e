"""Forced alignment: the best path through an utterance's training graph (Kaldi: align-compiled-mapped)."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.jobs import in_processes
from acoustic.decode.search import NO_PATH, NoPathError, Result, Search
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel

NO_LIMIT = 2**31 - 1  # states are limited by the beam alone
MIN_ACTIVE = 20  # Kaldi's FasterDecoder


@dataclass(frozen=True)
class AlignOptions:
    """Options of `acoustic align`, with align-compiled-mapped's names and the values of steps/nnet/align.sh."""

    acoustic_scale: float = field(default=0.1, metadata={"help": "scale of the log likelihoods"})
    transition_scale: float = field(default=1.0, metadata={"help": "scale of transition log probabilities"})
    self_loop_scale: float = field(default=0.1, metadata={"help": "scale of self-loop log probabilities"})
    beam: float = field(default=10.0, metadata={"help": "paths this much worse than the best are dropped"})
    retry_beam: float = field(default=40.0, metadata={"help": "beam of a second try, 0 for none"})

    def __post_init__(self) -> None:
        """ValueError on values that make no sense."""
        if not (math.isfinite(self.acoustic_scale) and self.acoustic_scale > 0.0):
            raise ValueError(f"--acoustic-scale={self.acoustic_scale}: must be positive")
        for name in ("transition_scale", "self_loop_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"--{name.replace('_', '-')}={value}: must be finite and not negative")
        if not self.beam > 0.0 or not (self.retry_beam == 0.0 or self.retry_beam > self.beam):
            raise ValueError(f"--beam={self.beam} --retry-beam={self.retry_beam}: need 0 < beam < retry-beam")


@dataclass(frozen=True)
class Alignment:
    """How one utterance was aligned.

    Attributes:
        path: the best path; its transition_ids are the alignment.
        num_frames: frames of the utterance.
        retried: whether it took the wider beam.
    """

    path: Result
    num_frames: int
    retried: bool


class Aligner:
    """Aligns utterances to their training graphs.

    Args:
        model: what the graphs' transition_ids mean; its probabilities are added to the graphs.
        options: scales and beams.
    """

    def __init__(self, model: TransitionModel, options: AlignOptions | None = None) -> None:
        self.options = options or AlignOptions()
        self._model = model
        self._cost = transition_costs(model, self.options.transition_scale, self.options.self_loop_scale)

    def align(self, graph: FstArrays, loglikes: NDArray[np.float32]) -> Alignment:
        """Align one utterance, a second time with the wider beam when no path reaches the end.

        Args:
            graph: without transition probabilities.
            loglikes: [num_frames, num_pdfs], unscaled.

        Raises:
            NoPathError: no complete path.
            DataError: graph or loglikes of another model, or values that are not numbers.
        """
        if not graph.arcs["ilabel"].any():  # no words, in a lexicon without silence
            raise NoPathError(NO_PATH, "its graph has no phones")
        if graph.arcs["ilabel"].max() > self._model.num_transition_ids:
            raise DataError("its graph is of another model", remedy="compile the graphs with this model")
        arcs = graph.arcs.copy()
        arcs["weight"] += self._cost[arcs["ilabel"]]
        search = Search(replace(graph, arcs=arcs, properties=0), self._model, self.options.beam, NO_LIMIT, MIN_ACTIVE)
        try:
            path = search.best_path(loglikes, self.options.acoustic_scale, allow_partial=False)
            return Alignment(path, len(loglikes), retried=False)
        except NoPathError:
            if self.options.retry_beam == 0.0 or len(loglikes) == 0:
                raise
        search.set_beam(self.options.retry_beam)
        path = search.best_path(loglikes, self.options.acoustic_scale, allow_partial=False)
        return Alignment(path, len(loglikes), retried=True)


def transition_costs(model: TransitionModel, transition_scale: float, self_loop_scale: float) -> NDArray[np.float32]:
    """The cost of each transition_id (AddTransitionProbs), float32 [num_transition_ids + 1]; 0 for epsilon.

    Leaving a state costs its non-self-loop probability by `self_loop_scale` and the choice among its other arcs by
    `transition_scale`.
    """
    if transition_scale == self_loop_scale:
        cost = -model.log_prob * np.float32(transition_scale)
    else:
        states = range(1, model.num_transition_states + 1)
        leaving = np.array([0.0, *(model.non_self_loop_log_prob(state) for state in states)], dtype=np.float32)
        leaving = leaving[model.transition_state_of]
        forward = self_loop_scale * leaving + transition_scale * (model.log_prob - leaving)
        cost = -np.where(model.is_self_loop, self_loop_scale * model.log_prob, forward).astype(np.float32)
    cost[0] = 0.0
    return cost


def align_utterances(
    aligner: Aligner, utterances: Iterable[tuple[str, FstArrays, NDArray[np.float32]]], num_jobs: int = 1
) -> Generator[tuple[str, Alignment | NoPathError], None, None]:
    """Align utterances in worker processes.

    Args:
        aligner: model and options.
        utterances: (utterance, training graph, loglikes) triples; read as the workers get along.
        num_jobs: how many processes.

    Yields:
        For each utterance, in the order given: its name, and its alignment or why there is none.

    Raises:
        DataError: an utterance's graph or loglikes are of another model, or no numbers.
    """

    def work(item: tuple[str, FstArrays, NDArray[np.float32]]) -> tuple[str, Alignment | NoPathError]:
        utt, graph, loglikes = item
        try:
            return utt, aligner.align(graph, loglikes)
        except NoPathError as error:
            return utt, error
        except DataError as error:
            raise DataError(error.problem, utt=utt, remedy=error.remedy) from error

    return in_processes(work, utterances, num_jobs)
