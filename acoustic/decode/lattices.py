"""Lattices from log likelihoods and a graph: kaldi-decoder's LatticeSimpleDecoder, as latgen-faster-mapped makes them.

The library has no determinisation: these are what Kaldi writes with --determinize-lattice=false, state by state, which
training by sequence criteria can use as they are. Its decoder prunes by beam alone, not by a number of active states.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import kaldi_decoder
import numpy as np
from numpy.typing import NDArray

from acoustic.decode.graph import read_graph
from acoustic.decode.graph_arrays import to_const
from acoustic.decode.search import NO_FINAL_STATE, NO_PATH, GraphLabels, NoPathError
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.lattice_files import read_lattice
from acoustic.kaldi.lattices import Lattice
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.transitions import TransitionModel


@dataclass(frozen=True)
class LatticeOptions:
    """Options of `acoustic lattices`, with the names of latgen-faster-mapped."""

    acoustic_scale: float = field(default=0.1, metadata={"help": "scale of the log likelihoods while searching"})
    beam: float = field(default=13.0, metadata={"help": "paths this much worse than the best are dropped"})
    lattice_beam: float = field(default=8.0, metadata={"help": "what complete paths may be worse by and be kept"})
    prune_interval: int = field(default=25, metadata={"help": "frames between prunings of the lattice"})
    allow_partial: bool = field(default=False, metadata={"help": "keep lattices in which no path ends a sentence"})

    def __post_init__(self) -> None:
        """ValueError on values the decoder cannot use."""
        if not (math.isfinite(self.acoustic_scale) and self.acoustic_scale > 0.0):
            raise ValueError(f"--acoustic-scale={self.acoustic_scale}: must be positive")
        if not (self.beam > 0.0 and self.lattice_beam > 0.0):
            raise ValueError(f"--beam={self.beam} --lattice-beam={self.lattice_beam}: must be positive")
        if self.prune_interval < 1:
            raise ValueError(f"--prune-interval={self.prune_interval}: must be positive")


class LatticeDecoder:
    """Makes lattices over one graph.

    Args:
        model: what the graph's transition_ids mean.
        graph: HCLG, as a file or read by `read_graph`.
        options: beams and scale.

    Raises:
        DataError: the graph is damaged or made for another model.
    """

    def __init__(
        self, model: TransitionModel, graph: str | Path | FstArrays, options: LatticeOptions | None = None
    ) -> None:
        self.options = options or LatticeOptions()
        self._labels = GraphLabels(graph if isinstance(graph, FstArrays) else read_graph(graph, model), model)
        self._fst = to_const(self._labels.graph)
        self._config = kaldi_decoder.LatticeSimpleDecoderConfig(
            beam=self.options.beam, lattice_beam=self.options.lattice_beam, prune_interval=self.options.prune_interval
        )

    def decode(self, loglikes: NDArray[np.float32]) -> Lattice:
        """The lattice of one utterance; its acoustic costs are not scaled.

        Args:
            loglikes: [num_frames, num_pdfs], log posterior minus log prior.

        Raises:
            NoPathError: no frames, no path, or without `allow_partial` none that ends a sentence.
            DataError: another number of columns, or values that are not numbers.
        """
        self._labels.check(loglikes)
        scores = self._labels.scores(loglikes, 0, self.options.acoustic_scale)
        # One that has searched before numbers states in another order.
        decoder = kaldi_decoder.LatticeSimpleDecoder(self._fst, self._config)
        decoder.decode(kaldi_decoder.DecodableCtc(scores))
        found, raw = decoder.get_raw_lattice()
        if not found:
            raise NoPathError(NO_PATH, "no path within the beam")
        if math.isinf(decoder.final_relative_cost()) and not self.options.allow_partial:
            raise NoPathError(NO_FINAL_STATE, "no path reaches a final state")
        lattice = _from_kaldifst(raw)
        arcs = lattice.arcs.copy()
        arcs["ilabel"] = self._labels.transition_ids[arcs["ilabel"]]
        arcs["acoustic_cost"] /= np.float32(self.options.acoustic_scale)
        return replace(lattice, arcs=arcs)


def _from_kaldifst(lattice: object) -> Lattice:
    """The arrays of a lattice of kaldifst, which visits arcs one Python call at a time."""
    with tempfile.NamedTemporaryFile(suffix=".lat") as file:
        if not lattice.write(file.name):  # type: ignore[attr-defined]
            raise DataError("a lattice cannot be written", path=file.name, remedy="free space there or set TMPDIR")
        with open_reader(file.name) as reader:
            return read_lattice(reader)
