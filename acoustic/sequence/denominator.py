"""Denominator graphs: all that could have been said, as a phone n-gram in context (Kaldi: chain-make-den-fst).

Povey et al., "Purely sequence-trained neural networks for ASR based on lattice-free MMI", Interspeech 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import kaldifst
import numpy as np

from acoustic.decode.graph import expand_hmms
from acoustic.decode.graph_hmm import make_h_transducer
from acoustic.decode.graph_operations import add_self_loops
from acoustic.kaldi.fst import ARC, FstArrays
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.log import get_logger
from acoustic.sequence.hmm import Hmm, emitting_states, hmm_from_fst
from acoustic.sequence.phone_ngram import PhoneNgram, PhoneNgramOptions

logger = get_logger(__name__)
NUM_INITIAL_FRAMES = 100  # over which the initial distribution is averaged; Kaldi's


def make_denominator(
    phone_sequences: Iterable[Sequence[int]],
    tree: DecisionTree,
    model: TransitionModel,
    options: PhoneNgramOptions | None = None,
) -> Hmm:
    """The denominator of alignments' phones, with all transition probabilities.

    As in Kaldi's chain models an utterance may begin anywhere (with the probability that a long stretch of speech is
    there) and end anywhere, so that parts of utterances can be trained on.

    Args:
        phone_sequences: the phones of each training utterance.
        tree: the decision tree.
        model: the transition model.
        options: of the phone n-gram.

    Raises:
        DataError: no phones, or phones, tree and model do not belong together.
    """
    return denominator_hmm(make_denominator_graph(phone_sequences, tree, model, options), model)


def denominator_hmm(graph: FstArrays, model: TransitionModel) -> Hmm:
    """The denominator of a graph as `make_denominator_graph` gives it."""
    hmm = start_anywhere(hmm_from_fst(graph, model.pdf_of))
    logger.info("denominator: %d states, %d transitions", hmm.num_states, hmm.num_transitions)
    return hmm


def make_denominator_graph(
    phone_sequences: Iterable[Sequence[int]],
    tree: DecisionTree,
    model: TransitionModel,
    options: PhoneNgramOptions | None = None,
) -> FstArrays:
    """The phone n-gram in context, expanded to HMM states: transition_ids of whole utterances, their probabilities.

    Arguments and errors as for `make_denominator`.
    """
    ngram = PhoneNgram(phone_sequences, options).acceptor()
    clg, windows = kaldifst.compose_context([], tree.context_width, tree.central_position, ngram)
    kaldifst.arcsort(clg, sort_type="ilabel")
    h, disambig = make_h_transducer(windows, tree, model)
    return add_self_loops(expand_hmms(h, clg, disambig), model, self_loop_scale=1.0)


def start_anywhere(hmm: Hmm, num_frames: int = NUM_INITIAL_FRAMES) -> Hmm:
    """The HMM with an initial distribution that is its average over the first frames, and final weights of one.

    Kaldi's DenominatorGraph::SetInitialProbs: each frame the distribution moves on, normalised over what neither ended
    nor died out.
    """
    leaving = np.bincount(hmm.sources, hmm.probs, minlength=hmm.num_states) + hmm.final
    moving = hmm.probs / leaving[hmm.sources]
    average = np.zeros(hmm.num_states)
    current = hmm.initial
    for _ in range(num_frames):
        average += current / num_frames
        moved = np.bincount(hmm.targets, current[hmm.sources] * moving, minlength=hmm.num_states)
        current = moved / moved.sum()
    return replace(hmm, initial=average, final=np.ones(hmm.num_states))


def graph_from_anywhere(graph: FstArrays, model: TransitionModel) -> FstArrays:
    """A graph whose paths and weights are those of its denominator: it begins and ends where that does.

    Kaldi's normalization_fst. A new start state leads to each state of the graph with its initial probability.

    Args:
        graph: as `make_denominator_graph` gives it.
        model: the transition model.
    """
    initial = start_anywhere(hmm_from_fst(graph, model.pdf_of)).initial
    _, place, _ = emitting_states(graph, model.pdf_of)
    probs = np.bincount(place, initial, minlength=graph.num_states)
    beginnings = np.zeros(np.count_nonzero(probs), ARC)
    beginnings["nextstate"] = np.flatnonzero(probs)
    beginnings["weight"] = -np.log(probs[probs > 0])
    return FstArrays(
        start=graph.num_states,
        final=np.append(np.zeros(graph.num_states, np.float32), np.float32(np.inf)),
        first_arc=np.append(graph.first_arc, graph.num_arcs + len(beginnings)),
        arcs=np.concatenate([graph.arcs, beginnings]),
    )
