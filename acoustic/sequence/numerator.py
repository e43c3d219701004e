"""Numerators from training graphs: all pronunciations and pauses of a transcript, near the times of its alignment.

As Kaldi's chain models have them (chain-get-supervision): the paths of the training graph are weighed as the
denominator weighs them, so that a numerator is a part of its denominator and the objective of LF-MMI a log probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import kaldifst
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acoustic.decode.graph_arrays import from_kaldifst, to_vector
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.sequence.criteria import UnusableError
from acoustic.sequence.denominator import graph_from_anywhere
from acoustic.sequence.forward_backward import Posteriors
from acoustic.sequence.hmm import Hmm, hmm_from_fst, subsampled
from acoustic.sequence.lattice_batch import LatticeBatch, Scales
from acoustic.sequence.prepared import IntArray, PreparedLattice, archives_in


class GraphNumerators:
    """Makes numerators of training graphs.

    Args:
        denominator_graph: as `make_denominator_graph` gives it.
        model: the transition model.
        graphs: the training graph of each utterance, over transition_ids (`acoustic compile-train-graphs`); their
            weights are not used.
        factor: only every so many-th frame is seen.
    """

    def __init__(
        self, denominator_graph: FstArrays, model: TransitionModel, graphs: Mapping[str, FstArrays], factor: int = 1
    ) -> None:
        self._denominator = to_vector(graph_from_anywhere(denominator_graph, model))
        kaldifst.arcsort(self._denominator, sort_type="ilabel")
        self._pdf_of, self._graphs, self._factor = model.pdf_of, graphs, factor

    def lattice(self, utt: str, allowed: Tensor) -> PreparedLattice:
        """The numerator of an utterance; costs are in `graph_cost`, and transition_ids stand for pdf_ids, plus one.

        Args:
            utt: the utterance.
            allowed: int64 [num_frames, n], the pdf_ids that a path may emit at each frame that is seen.

        Raises:
            UnusableError: it has no training graph, or none of the graph's paths is allowed.
        """
        if utt not in self._graphs:
            raise UnusableError("no training graph")
        graph = to_vector(_without_weights(self._graphs[utt]))
        kaldifst.arcsort(graph, sort_type="olabel")
        weighed = kaldifst.compose(graph, self._denominator)
        if weighed.start < 0:
            raise UnusableError("no path of the training graph in the denominator")
        hmm = hmm_from_fst(from_kaldifst(weighed), self._pdf_of)
        ends_for_sure = replace(hmm, final=(hmm.final > 0).astype(np.float64))  # as the denominator does
        return paths_near(subsampled(ends_for_sure, self._factor), allowed.numpy())


def paths_near(hmm: Hmm, allowed: NDArray[np.int64]) -> PreparedLattice:
    """All paths of an HMM that emit nothing but the pdf_ids allowed, as a lattice; see GraphNumerators.lattice.

    Raises:
        UnusableError: there is none.
    """
    num_frames = len(allowed)
    is_allowed = np.zeros((num_frames, int(max(hmm.pdf_of.max(), allowed.max())) + 1), bool)
    np.put_along_axis(is_allowed, allowed, values=True, axis=1)
    may_emit = is_allowed[:, hmm.pdf_of]  # [num_frames, num_states]
    may_emit &= np.bincount(hmm.targets, minlength=hmm.num_states) > 0  # START is never entered
    reached = _spread(hmm.initial > 0, may_emit, hmm.sources, hmm.targets)
    ends = _spread((hmm.final > 0) & reached[-1], reached[-2::-1], hmm.targets, hmm.sources)[::-1]
    if not ends[0].any():
        raise UnusableError("no path of the training graph near the alignment")

    number = np.full((num_frames + 1, hmm.num_states), -1)
    number[ends] = np.arange(1, np.count_nonzero(ends) + 1)  # 0 is a start before the first frame
    last = np.count_nonzero(ends) + 1
    taken = ends[:-1, hmm.sources] & ends[1:, hmm.targets]
    frame, transition = np.nonzero(taken)
    first, final = np.flatnonzero(ends[0]), np.flatnonzero(ends[-1])
    before, behind = np.zeros(len(first)), np.full(len(final), last)
    weights = np.concatenate([hmm.initial[first], hmm.probs[transition], hmm.final[final]])
    return PreparedLattice(
        num_frames=num_frames,
        source=_joined(before, number[frame, hmm.sources[transition]], number[-1, final]),
        target=_joined(number[0, first], number[frame + 1, hmm.targets[transition]], behind),
        transition_id=_joined(before, hmm.pdf_of[hmm.targets[transition]] + 1, np.zeros(len(final))),
        frame=_joined(before, frame, np.full(len(final), num_frames)),
        graph_cost=-np.log(weights).astype(np.float32),
        acoustic_cost=np.zeros(len(weights), np.float32),
        level=_joined([0], np.nonzero(ends)[0] + 1, [num_frames + 2]),
    )


def _joined(*parts: ArrayLike) -> IntArray:
    return np.concatenate(parts).astype(np.int32)


def _spread(
    first: NDArray[np.bool_], may: NDArray[np.bool_], sources: NDArray[np.int64], targets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The states that are reached from `first` with each step, [len(may) + 1, num_states]; `may` says who may be."""
    reached = np.zeros((len(may) + 1, len(first)), bool)
    reached[0] = first
    for step, allowed in enumerate(may):
        reached[step + 1, targets[reached[step, sources]]] = True
        reached[step + 1] &= allowed
    return reached


def _without_weights(graph: FstArrays) -> FstArrays:
    """An acceptor of the graph's input labels, all of its paths as good."""
    arcs = graph.arcs.copy()
    arcs["olabel"] = arcs["ilabel"]
    arcs["weight"] = 0.0
    return replace(graph, final=np.where(np.isfinite(graph.final), 0.0, graph.final), arcs=arcs, properties=0)


def read_train_graphs(graph_dirs: Sequence[str | Path], utts: set[str]) -> dict[str, FstArrays]:
    """The training graphs of `utts`: `fsts.*.gz`, as Kaldi's steps/align_si.sh leaves them, fsts.scp or fsts.ark.

    Raises:
        DataError: there are none, or they are damaged.
    """
    found: dict[str, FstArrays] = {}
    for graph_dir in graph_dirs:
        for rspecifier in archives_in(Path(graph_dir), "fsts", "training graphs", "acoustic compile-train-graphs"):
            found |= {utt: graph for utt, graph in read_table(rspecifier, "fst") if utt in utts}
    if not found:
        raise DataError("no training graph of any of the utterances", path=Path(graph_dirs[0]))
    return found


def log_sums(lattices: Sequence[PreparedLattice], scaled: Tensor, lengths: Tensor) -> Posteriors:
    """What forward-backward finds over numerators.

    Args:
        lattices: of each utterance.
        scaled: [T, B, num_pdfs], log emissions.
        lengths: int64 [B], frames of each utterance, in falling order.
    """
    sizes, num_pdfs = lengths.tolist(), scaled.shape[2]
    rows = torch.cat([scaled[:size, utt] for utt, size in enumerate(sizes)])
    batch = LatticeBatch(lattices, np.arange(-1, num_pdfs), Scales(acoustic_scale=1.0), scaled.device)
    scores = batch.scores(rows)
    alpha = batch.forward(scores)
    posteriors = batch.by_pdf(batch.posteriors(scores, alpha, batch.backward_pass(scores)), num_pdfs)
    return Posteriors(batch.totals(alpha), pad_sequence(posteriors.to(scaled.dtype).split(sizes)))
