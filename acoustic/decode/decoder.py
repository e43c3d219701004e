"""Finding the best word sequence: Kaldi's token-passing decoder (kaldi-decoder's FasterDecoder) over HCLG."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import kaldi_decoder
import kaldifst
import numpy as np
from numpy.typing import NDArray

from acoustic.decode.graph import read_graph
from acoustic.decode.graph_arrays import FstArrays
from acoustic.decode.jobs import in_processes
from acoustic.errors import DataError
from acoustic.kaldi.transitions import TransitionModel

SCORES_AT_ONCE = 1 << 22  # bounds the expanded likelihoods to 16 MB
NO_FRAMES, NO_PATH, NO_FINAL_STATE = "no_frames", "no_path", "no_final_state"


@dataclass(frozen=True)
class SearchOptions:
    """How thoroughly to search, with the names of latgen-faster-mapped."""

    beam: float = field(default=13.0, metadata={"help": "paths this much worse than the best are dropped"})
    max_active: int = field(default=7000, metadata={"help": "most states kept at a frame"})
    min_active: int = field(default=200, metadata={"help": "least states kept at a frame, whatever the beam"})
    allow_partial: bool = field(
        default=True, metadata={"help": "give the best path even if it does not end a sentence"}
    )

    def __post_init__(self) -> None:
        """ValueError on values the decoder cannot use."""
        if not self.beam > 0.0:
            raise ValueError(f"--beam={self.beam}: must be positive")
        if self.max_active < 2 or not 0 <= self.min_active <= self.max_active:
            raise ValueError(
                f"--min-active={self.min_active} --max-active={self.max_active}: "
                "max-active must be at least 2, min-active not above it"
            )


@dataclass(frozen=True)
class DecoderOptions(SearchOptions):
    """Options of `acoustic decode`."""

    acoustic_scale: float = field(default=0.1, metadata={"help": "scale of the log likelihoods"})
    insertion_penalty: float = field(default=0.0, metadata={"help": "added to the cost of every word"})

    def __post_init__(self) -> None:
        """ValueError on values the decoder cannot use."""
        super().__post_init__()
        if not (math.isfinite(self.acoustic_scale) and self.acoustic_scale > 0.0):
            raise ValueError(f"--acoustic-scale={self.acoustic_scale}: must be positive")
        if not math.isfinite(self.insertion_penalty):
            raise ValueError(f"--insertion-penalty={self.insertion_penalty}: must be finite")


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


class Decoder:
    """Decodes log likelihoods over one graph.

    Args:
        model: what the graph's transition_ids mean.
        graph: HCLG, as a file or read by `read_graph`.
        options: beams and scales.

    Raises:
        DataError: the graph is damaged or made for another model.
    """

    def __init__(
        self, model: TransitionModel, graph: str | Path | FstArrays, options: DecoderOptions | None = None
    ) -> None:
        self.options = options or DecoderOptions()
        self.num_pdfs = model.num_pdfs
        arrays = graph if isinstance(graph, FstArrays) else read_graph(graph, model)
        if self.options.insertion_penalty != 0.0:
            arrays = arrays.with_word_penalty(self.options.insertion_penalty)
        # The decoder wants a score for every label of the graph at every frame: number the labels that occur, so that
        # no others have to be computed. Label 0 stays epsilon.
        self._transition_ids = np.union1d(np.zeros(1, np.int32), arrays.arcs["ilabel"])
        self._pdfs = model.pdf_of[self._transition_ids[1:]]
        compact = arrays.arcs.copy()
        compact["ilabel"] = np.searchsorted(self._transition_ids, compact["ilabel"])
        self._fst = replace(arrays, arcs=compact).to_const()
        config = kaldi_decoder.FasterDecoderOptions(
            beam=self.options.beam, max_active=self.options.max_active, min_active=self.options.min_active
        )
        self._search = kaldi_decoder.FasterDecoder(self._fst, config)

    def with_acoustic_scale(self, acoustic_scale: float) -> Decoder:
        """A decoder with another acoustic scale over the same graph in memory. Use one of the two at a time."""
        other = copy.copy(self)
        other.options = replace(self.options, acoustic_scale=acoustic_scale)
        return other

    def decode(self, loglikes: NDArray[np.float32]) -> Result:
        """The best path for one utterance.

        Args:
            loglikes: [num_frames, num_pdfs], log likelihoods (log posterior minus log prior), unscaled.

        Raises:
            NoPathError: no frames, no path, or without `allow_partial` no complete path.
            DataError: another number of columns, or values that are not numbers.
        """
        if loglikes.ndim != 2 or (len(loglikes) and loglikes.shape[1] != self.num_pdfs):
            raise DataError(
                f"log likelihoods of shape {list(loglikes.shape)} for a model with {self.num_pdfs} pdfs",
                remedy="use the model whose alignments the network was trained on",
            )
        if len(loglikes) == 0:
            raise NoPathError(NO_FRAMES, "no frames")
        self._search.init_decoding()
        num_frames = max(1, SCORES_AT_ONCE // len(self._pdfs))
        for begin in range(0, len(loglikes), num_frames):
            scores = self._scores(loglikes[begin : begin + num_frames], begin)
            self._search.advance_decoding(kaldi_decoder.DecodableCtc(scores, begin))
        return self._best_path(len(loglikes))

    def _scores(self, loglikes: NDArray[np.float32], first_frame: int) -> NDArray[np.float32]:
        """Scaled log likelihoods by label of the graph, [num_frames, num_labels]; column 0 belongs to label 1."""
        scaled = np.asarray(loglikes, dtype=np.float32) * np.float32(self.options.acoustic_scale)
        if np.isnan(scaled).any() or np.isposinf(scaled).any():
            frame = int(np.flatnonzero((np.isnan(scaled) | np.isposinf(scaled)).any(axis=1))[0])
            raise DataError(f"frame {first_frame + frame} has log likelihoods that are NaN or infinite")
        return np.take(scaled, self._pdfs, axis=1)

    def _best_path(self, num_frames: int) -> Result:
        reached_final = self._search.reached_final()
        if not reached_final and not self.options.allow_partial:
            raise NoPathError(NO_FINAL_STATE, "no path reaches a final state")
        found, path = self._search.get_best_path()
        if not found:
            raise NoPathError(NO_PATH, "no path within the beam")
        _, labels, words, weight = kaldifst.get_linear_symbol_sequence(path)
        if len(labels) != num_frames:
            raise NoPathError(NO_PATH, f"the best path ends after {len(labels)} of {num_frames} frames")
        transition_ids = self._transition_ids[np.asarray(labels, dtype=np.int64)]
        return Result(list(words), transition_ids, float(weight.value1), float(weight.value2), reached_final)


def decode_utterances(
    decoder: Decoder, utterances: Iterable[tuple[str, NDArray[np.float32]]], num_jobs: int = 1
) -> Iterator[tuple[str, int, Result | NoPathError]]:
    """Decode utterances in worker processes that share the graph.

    Args:
        utterances: (utterance, loglikes) pairs; read as the workers get along.
        num_jobs: how many processes.

    Yields:
        For each utterance, in the order given: its name, its number of frames, and the result or why there is none.

    Raises:
        DataError: an utterance's loglikes are of another model, or no numbers.
    """

    def work(item: tuple[str, NDArray[np.float32]]) -> tuple[str, int, Result | NoPathError]:
        utt, loglikes = item
        try:
            return utt, len(loglikes), decoder.decode(loglikes)
        except NoPathError as error:
            return utt, len(loglikes), error
        except DataError as error:
            raise DataError(error.problem, utt=utt, remedy=error.remedy) from error

    return in_processes(work, utterances, num_jobs)
