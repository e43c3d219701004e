"""Training graphs: HCLG of one transcript, in which the aligner looks for the best path (compile-train-graphs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import kaldifst

from acoustic.decode.graph import GraphOptions, determinize
from acoustic.decode.graph_arrays import from_kaldifst, to_vector
from acoustic.decode.graph_hmm import make_h_transducer
from acoustic.decode.graph_operations import add_self_loops, remove_input_symbols
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays, read_fst
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree


@dataclass(frozen=True)
class TrainGraphOptions(GraphOptions):
    """Options of `acoustic compile-train-graphs`, with Kaldi's names and defaults: the aligner adds probabilities."""

    transition_scale: float = field(default=0.0, metadata={"help": "scale of transition log probabilities"})
    self_loop_scale: float = field(default=0.0, metadata={"help": "scale of self-loop log probabilities"})


class TrainGraphCompiler:
    """Compiles transcripts with one lexicon and model.

    Args:
        tree: the decision tree.
        model: its transition model.
        lexicon: L.fst, as a file or in memory.
        disambig: phone-side disambiguation symbols in it, if any.
        options: scales of the transition probabilities.

    Raises:
        DataError: the lexicon's file is damaged.
    """

    def __init__(
        self,
        tree: DecisionTree,
        model: TransitionModel,
        lexicon: str | Path | FstArrays,
        disambig: Sequence[int] = (),
        options: TrainGraphOptions | None = None,
    ) -> None:
        self._tree, self._model, self._disambig = tree, model, sorted(disambig)
        self._options = options or TrainGraphOptions()
        self._lexicon = to_vector(lexicon if isinstance(lexicon, FstArrays) else read_fst(lexicon))
        kaldifst.arcsort(self._lexicon, sort_type="olabel")

    def compile(self, word_ids: Sequence[int]) -> FstArrays:
        """The graph of one transcript: transition_ids to words, over all pronunciations and optional silences.

        Raises:
            DataError: the lexicon has no path for the transcript, or it cannot be determinised.
        """
        lg = kaldifst.compose(self._lexicon, kaldifst.make_linear_acceptor(list(word_ids)))
        if lg.start < 0:
            raise DataError("the lexicon has no path for the transcript", remedy="check its words against the lexicon")
        clg, windows = kaldifst.compose_context(
            self._disambig, self._tree.context_width, self._tree.central_position, lg
        )
        h, disambig = make_h_transducer(windows, self._tree, self._model, self._options.transition_scale)
        graph = kaldifst.compose(h, clg)
        if graph.start < 0:
            raise DataError("the HMMs have no path for the transcript", remedy="check phones.txt and topo")
        determinize(graph, "the training graph")
        if disambig:
            graph = to_vector(remove_input_symbols(from_kaldifst(graph), disambig))
        kaldifst.minimize_encoded(graph)
        return add_self_loops(from_kaldifst(graph), self._model, self._options.self_loop_scale)


def transcript_ids(words: Sequence[str], word_ids: Mapping[str, int], oov_id: int | None = None) -> list[int]:
    """The ids of a transcript's words; unknown words become `oov_id`.

    Raises:
        DataError: an unknown word, and no `oov_id`.
    """
    if oov_id is None:
        unknown = [word for word in words if word not in word_ids]
        if unknown:
            raise DataError(f"word {unknown[0]} is not in words.txt", remedy="name the word for unknown ones")
        return [word_ids[word] for word in words]
    return [word_ids.get(word, oov_id) for word in words]
