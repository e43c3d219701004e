"""Token passing over one graph: kaldi-decoder's FasterDecoder, fed with scores of the graph's own labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import kaldi_decoder
import kaldifst
import numpy as np
from numpy.typing import NDArray

from acoustic.decode.graph_arrays import to_const
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel

SCORES_AT_ONCE = 1 << 22  # bounds the expanded likelihoods to 16 MB
NO_FRAMES, NO_PATH, NO_FINAL_STATE = "no_frames", "no_path", "no_final_state"


@dataclass(frozen=True)
class Result:
    """The best path of one utterance.

    Attributes:
        words: word ids.
        transition_ids: int32 [num_frames], the alignment.
        graph_cost: cost of the path in the graph, insertion penalties included.
        acoustic_cost: minus the scaled log likelihoods along the path.
        reached_final: whether the path ends in a final state; if not it is the best unfinished one.
    """

    words: list[int]
    transition_ids: NDArray[np.int32]
    graph_cost: float
    acoustic_cost: float
    reached_final: bool

    @property
    def likelihood(self) -> float:
        """Log likelihood of the path, as Kaldi reports it: minus both costs."""
        return -(self.graph_cost + self.acoustic_cost)


class NoPathError(DataError):
    """An utterance without a path. `reason` is NO_FRAMES, NO_PATH or NO_FINAL_STATE."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason

    def __reduce__(self) -> tuple[type[NoPathError], tuple[str, str]]:
        """How it travels between processes."""
        return NoPathError, (self.reason, self.problem)


class GraphLabels:
    """A graph whose input labels are numbered so that only those that occur need a score.

    The decoder wants a score for every label at every frame, and label 0 stays epsilon.

    Attributes:
        graph: with the new labels.
        transition_ids: int32, the transition_id of each label.
    """

    def __init__(self, graph: FstArrays, model: TransitionModel) -> None:
        self._num_pdfs = model.num_pdfs
        self.transition_ids = np.union1d(np.zeros(1, np.int32), graph.arcs["ilabel"])
        self._pdfs = model.pdf_of[self.transition_ids[1:]]
        compact = graph.arcs.copy()
        compact["ilabel"] = np.searchsorted(self.transition_ids, compact["ilabel"])
        self.graph = replace(graph, arcs=compact)

    @property
    def num_labels(self) -> int:
        """Labels beside epsilon."""
        return len(self._pdfs)

    def check(self, loglikes: NDArray[np.float32]) -> None:
        """Make sure that loglikes can be searched with.

        Raises:
            NoPathError: no frames.
            DataError: another number of columns.
        """
        if loglikes.ndim != 2 or (len(loglikes) and loglikes.shape[1] != self._num_pdfs):
            raise DataError(
                f"log likelihoods of shape {list(loglikes.shape)} for a model with {self._num_pdfs} pdfs",
                remedy="use the model whose alignments the network was trained on",
            )
        if len(loglikes) == 0:
            raise NoPathError(NO_FRAMES, "no frames")

    def scores(self, loglikes: NDArray[np.float32], first_frame: int, acoustic_scale: float) -> NDArray[np.float32]:
        """Scaled log likelihoods by label, [num_frames, num_labels]; column 0 belongs to label 1.

        Raises:
            DataError: values that are not numbers.
        """
        scaled = np.asarray(loglikes, dtype=np.float32) * np.float32(acoustic_scale)
        faulty = np.isnan(scaled) | np.isposinf(scaled)
        if faulty.any():
            frame = first_frame + int(np.flatnonzero(faulty.any(axis=1))[0])
            raise DataError(f"frame {frame} has log likelihoods that are NaN or infinite")
        return np.take(scaled, self._pdfs, axis=1)


class Search:
    """Searches one graph for the best path of one utterance after another.

    Args:
        graph: its input labels are transition_ids of the model.
        model: the transition model.
        beam, max_active, min_active: as in Kaldi.
    """

    def __init__(self, graph: FstArrays, model: TransitionModel, beam: float, max_active: int, min_active: int) -> None:
        self._config = kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=max_active, min_active=min_active)
        self._labels = GraphLabels(graph, model)
        self._fst = to_const(self._labels.graph)

    def set_beam(self, beam: float) -> None:
        """Search with another beam from now on."""
        self._config.beam = beam

    def best_path(self, loglikes: NDArray[np.float32], acoustic_scale: float, allow_partial: bool) -> Result:
        """The best path for one utterance.

        Args:
            loglikes: [num_frames, num_pdfs], unscaled.
            acoustic_scale: their scale.
            allow_partial: whether a path may end in a state that is not final when none reaches a final one.

        Raises:
            NoPathError: no frames, or no such path.
            DataError: another number of columns, or values that are not numbers.
        """
        self._labels.check(loglikes)
        # One that has searched before goes through its states in another order, which decides what a narrow beam drops:
        # results would depend on the utterances before, and so on the number of processes.
        decoder = kaldi_decoder.FasterDecoder(self._fst, self._config)
        decoder.init_decoding()
        num_frames = max(1, SCORES_AT_ONCE // self._labels.num_labels)
        for begin in range(0, len(loglikes), num_frames):
            scores = self._labels.scores(loglikes[begin : begin + num_frames], begin, acoustic_scale)
            decoder.advance_decoding(kaldi_decoder.DecodableCtc(scores, begin))
        return self._trace_back(decoder, len(loglikes), allow_partial)

    def _trace_back(self, decoder: kaldi_decoder.FasterDecoder, num_frames: int, allow_partial: bool) -> Result:
        reached_final = decoder.reached_final()
        found, path = decoder.get_best_path()
        if not found:
            raise NoPathError(NO_PATH, "no path within the beam")
        if not reached_final and not allow_partial:
            raise NoPathError(NO_FINAL_STATE, "no path reaches a final state")
        _, labels, words, weight = kaldifst.get_linear_symbol_sequence(path)
        if len(labels) != num_frames:
            raise NoPathError(NO_PATH, f"the best path ends after {len(labels)} of {num_frames} frames")
        transition_ids = self._labels.transition_ids[np.asarray(labels, dtype=np.int64)]
        return Result(list(words), transition_ids, float(weight.value1), float(weight.value2), reached_final)
