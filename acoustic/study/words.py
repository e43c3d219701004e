"""Word errors of a network: scales chosen on dev, errors counted on test, by our own decoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.decoder import Decoder, DecoderOptions, NoPathError, SearchOptions
from acoustic.decode.forward import AcousticModel, by_frames
from acoustic.decode.graph import read_graph, read_words
from acoustic.decode.tune import Grid, Trial, tune
from acoustic.decode.wer import Scores, score
from acoustic.features.base_frames import base_frames, speaker_stats
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally

GRID = Grid((0.06, 0.1, 0.17), (0.5,))
# A loop of ten words needs no more to tell scales apart. On test `min_active` is Kaldi's 200, as in docs/claims.md, of
# whose nets the narrower search finds other words for an utterance here and there.
SEARCH = SearchOptions(beam=10.0, min_active=20)


class Task:
    """A decoding graph and the model it was made for.

    Args:
        ali_dir: with final.mdl.
        graph_dir: HCLG.fst and words.txt.
        grid: scales and penalties to try.
    """

    def __init__(self, ali_dir: str | Path, graph_dir: str | Path, grid: Grid = GRID) -> None:
        self.grid, self.model = grid, TransitionModel.read(str(Path(ali_dir) / "final.mdl"))
        graph_path = Path(graph_dir) / "HCLG.fst"
        self.graph = read_graph(graph_path, self.model)
        self.symbols = read_words(graph_path.with_name("words.txt"), self.graph, graph_path)

    def tune(self, network: AcousticModel, data_dir: str | Path) -> Trial:
        """The scales and penalties that make the fewest word errors on a data directory, with those errors."""
        directory = DataDir.read(data_dir)
        pairs = loglikes(network, directory)
        return tune(self.model, self.graph, pairs, directory.text, self.symbols.id_of, self.grid, SEARCH).best

    def score(self, network: AcousticModel, data_dir: str | Path, scales: Trial) -> Scores:
        """Word errors on a data directory, by a wider search; an utterance without a path counts as empty."""
        directory = DataDir.read(data_dir)
        options = DecoderOptions(
            beam=SEARCH.beam, acoustic_scale=scales.acoustic_scale, insertion_penalty=scales.insertion_penalty
        )
        decoder = Decoder(self.model, self.graph, options)
        hypotheses: dict[str, list[str]] = {}
        for utt, matrix in loglikes(network, directory):
            try:
                words = decoder.decode(matrix).words
            except NoPathError:
                words = []
            hypotheses[utt] = [self.symbols.symbol_of[word] for word in words]
        return score(directory.text, hypotheses, "all")


def loglikes(network: AcousticModel, directory: DataDir) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Scaled likelihoods [T, num_pdfs] of every utterance of a data directory."""
    tally, cmvn = Tally(), None
    if network.frontend.config.needs_cmvn_stats and not directory.cmvn:
        cmvn = speaker_stats(directory, network.frontend.feat_dim)
    for group in by_frames(base_frames(directory, network.frontend, tally, cmvn=cmvn)):
        for (utt, _), matrix in zip(group, network.loglikes([base for _, base in group]), strict=True):
            yield utt, matrix.cpu().numpy()
    tally.check()
