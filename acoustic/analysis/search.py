"""Words for the report: the decoder with the graph of one directory, for models with scales of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from acoustic.decode.decoder import Decoder, DecoderOptions, NoPathError, Result
from acoustic.decode.forward import AcousticModel
from acoustic.decode.graph import read_graph, read_words
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.transitions import TransitionModel


@dataclass(frozen=True)
class Recogniser:
    """A decoder with its vocabulary."""

    decoder: Decoder
    symbols: SymbolTable

    def decode(self, model: AcousticModel, log_posteriors: Tensor) -> Result | NoPathError:
        """The best path of an utterance by a model's log posteriors [T, num_pdfs], or why there is none."""
        try:
            return self.decoder.decode((log_posteriors - model.scaled_log_priors).cpu().numpy())
        except NoPathError as error:
            return error

    def words(self, result: Result) -> list[str]:
        """The words of a path."""
        return [self.symbols.symbol_of[word] for word in result.words]


def make_recognisers(
    graph_dir: str | Path, model: TransitionModel, all_options: list[DecoderOptions]
) -> list[Recogniser]:
    """A recogniser for each of some decoder options, over HCLG.fst and words.txt of one directory.

    Raises:
        DataError: either is missing or damaged, words.txt lacks a word, or the graph was made for another model.
    """
    path = Path(graph_dir) / "HCLG.fst"
    graph = read_graph(path, model)
    symbols = read_words(path.with_name("words.txt"), graph, path)
    made: dict[DecoderOptions, Recogniser] = {}
    for options in all_options:
        if options not in made:
            made[options] = Recogniser(Decoder(model, graph, options), symbols)
    return [made[options] for options in all_options]
