"""Finding the best word sequence: Kaldi's token-passing decoder (kaldi-decoder's FasterDecoder) over HCLG."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.graph import read_graph
from acoustic.decode.jobs import in_processes
from acoustic.decode.search import NoPathError, Result, Search
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel

Found_co = TypeVar("Found_co", covariant=True)

__all__ = ["Decoder", "DecoderOptions", "NoPathError", "Result", "SearchOptions", "decode_utterances"]


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
        arrays = graph if isinstance(graph, FstArrays) else read_graph(graph, model)
        if self.options.insertion_penalty != 0.0:
            arrays = arrays.with_word_penalty(self.options.insertion_penalty)
        self._search = Search(arrays, model, self.options.beam, self.options.max_active, self.options.min_active)

    def with_acoustic_scale(self, acoustic_scale: float) -> Decoder:
        """A decoder with another acoustic scale over the same graph in memory."""
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
        return self._search.best_path(loglikes, self.options.acoustic_scale, self.options.allow_partial)


class Decodes(Protocol[Found_co]):
    """What finds something for an utterance: the best words, or a lattice."""

    def decode(self, loglikes: NDArray[np.float32]) -> Found_co:
        """What is found for loglikes [T, num_pdfs]; NoPathError when there is nothing."""
        ...


def decode_utterances(
    decoder: Decodes[Found_co], utterances: Iterable[tuple[str, NDArray[np.float32]]], num_jobs: int = 1
) -> Generator[tuple[str, int, Found_co | NoPathError], None, None]:
    """Decode utterances in worker processes that share the graph.

    Args:
        decoder: a `Decoder` for words, a `LatticeDecoder` for lattices.
        utterances: (utterance, loglikes) pairs; read as the workers get along.
        num_jobs: how many processes.

    Yields:
        For each utterance, in the order given: its name, its number of frames, and the result or why there is none.

    Raises:
        DataError: an utterance's loglikes are of another model, or no numbers.
    """

    def work(item: tuple[str, NDArray[np.float32]]) -> tuple[str, int, Found_co | NoPathError]:
        utt, loglikes = item
        try:
            return utt, len(loglikes), decoder.decode(loglikes)
        except NoPathError as error:
            return utt, len(loglikes), error
        except DataError as error:
            raise DataError(error.problem, utt=utt, remedy=error.remedy) from error

    return in_processes(work, utterances, num_jobs)
