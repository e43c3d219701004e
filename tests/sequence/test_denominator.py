"""Phone n-grams and denominator graphs: against counts by hand, and against all that was aligned."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.decode.graph_arrays import from_kaldifst
from acoustic.decode.lang_fst import build_fst
from acoustic.errors import DataError
from acoustic.kaldi.alignments import read_alignments, split_to_phones, write_alignments
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.sequence.criteria import UnusableError
from acoustic.sequence.denominator import make_denominator, make_denominator_graph, start_anywhere
from acoustic.sequence.forward_backward import ForwardBackward
from acoustic.sequence.hmm import START, Hmm, hmm_from_fst
from acoustic.sequence.lattice_free import LatticeFreeConfig
from acoustic.sequence.make_criterion import make_lattice_free
from acoustic.sequence.phone_ngram import PhoneNgram, PhoneNgramOptions

GOLDEN = Path(__file__).parents[1] / "golden"
SEQUENCES = [(1, 2, 3), (1, 2, 4), (3, 2, 3), (1, 2, 3)]


def options(order: int, no_prune: int, extra: int) -> PhoneNgramOptions:
    return PhoneNgramOptions(ngram_order=order, no_prune_ngram_order=no_prune, num_extra_lm_states=extra)


def test_an_ngram_has_relative_frequencies() -> None:
    bigram = PhoneNgram(SEQUENCES, options(2, 2, 0))
    assert bigram.counts[(0,)] == {1: 3, 3: 1}
    assert bigram.counts[(2,)] == {3: 3, 4: 1}
    assert bigram.counts[(3,)] == {0: 3, 2: 1}
    assert bigram.log_prob((1, 2, 4)) == pytest.approx(math.log(3 / 4 * 1 * 1 / 4 * 1))
    assert bigram.log_prob((2,)) == -math.inf


def test_longer_histories_are_kept_where_they_tell_more() -> None:
    # After (1, 2) follow 3, 3, 4; after (3, 2) follows 3: only the first of these differs much from 3, 3, 3, 4.
    trigram = PhoneNgram(SEQUENCES, options(3, 3, 0))
    assert trigram.counts[(1, 2)] == {3: 2, 4: 1} and trigram.counts[(3, 2)] == {3: 1}
    pruned = PhoneNgram(SEQUENCES, options(3, 2, 1))
    assert [history for history in pruned.counts if len(history) == 2] == [(0, 3)]
    assert pruned.counts[(0, 3)] == {2: 1} and pruned.counts[(3,)] == {0: 3}
    likelihoods = [
        sum(map(PhoneNgram(SEQUENCES, options(3, 2, extra)).log_prob, SEQUENCES)) for extra in (0, 1, 2, 1000)
    ]
    assert likelihoods == sorted(likelihoods) and likelihoods[-1] > likelihoods[0]
    assert sum(map(trigram.log_prob, SEQUENCES)) == pytest.approx(likelihoods[-1])


def test_faulty_phones_are_refused() -> None:
    with pytest.raises(DataError, match="no phones"):
        PhoneNgram([(), ()])
    with pytest.raises(DataError, match="positive"):
        PhoneNgram([(1, 0)])
    with pytest.raises(ValueError, match="ngram-order"):
        options(2, 3, 0)


@pytest.fixture(scope="module", params=["mono", "tri1"])
def system(request: pytest.FixtureRequest) -> tuple[DecisionTree, TransitionModel, dict[str, np.ndarray]]:
    folder = GOLDEN / "model" / request.param
    alignments = dict(read_alignments(GOLDEN / "align" / request.param))
    return DecisionTree.read(folder / "tree"), TransitionModel.read(folder / "final.mdl"), alignments


def phones_of(model: TransitionModel, alignments: dict[str, np.ndarray]) -> list[list[int]]:
    return [[phone for phone, _ in split_to_phones(model, utt, ids)] for utt, ids in alignments.items()]


def test_probabilities_of_a_denominator_sum_to_one(system) -> None:
    tree, model, alignments = system
    hmm = hmm_from_fst(make_denominator_graph(phones_of(model, alignments), tree, model), model.pdf_of)
    leaving = np.bincount(hmm.sources, hmm.probs, minlength=hmm.num_states) + hmm.final
    np.testing.assert_allclose(leaving, 1.0, atol=2e-3)  # Kaldi's transition probabilities are rounded
    assert START not in hmm.targets
    anywhere = start_anywhere(hmm)
    assert anywhere.initial.sum() == pytest.approx(1.0) and np.all(anywhere.final == 1.0)
    following = np.bincount(hmm.targets, anywhere.initial[hmm.sources] * hmm.probs, minlength=hmm.num_states)
    assert np.abs(following - anywhere.initial).sum() < 0.1  # near the stationary distribution


def test_an_alignment_has_the_probability_of_its_phones_and_transitions(system) -> None:
    """From the utterance's beginning to its end, one path: the n-gram times the transition model."""
    tree, model, alignments = system
    phones = phones_of(model, alignments)
    ngram = PhoneNgram(phones)
    hmm = hmm_from_fst(make_denominator_graph(phones, tree, model), model.pdf_of)
    recursions = ForwardBackward(hmm, model.num_pdfs, leaky_coefficient=0.0, dtype=torch.float64)
    for sequence, ids in zip(phones, alignments.values(), strict=True):
        emissions = torch.full((len(ids), 1, model.num_pdfs), -torch.inf, dtype=torch.float64)
        emissions[torch.arange(len(ids)), 0, torch.from_numpy(model.pdf_of[ids]).long()] = 0.0
        found = recursions.log_likelihood(emissions, torch.tensor([len(ids)])).item()
        one_path = ngram.log_prob(sequence) + model.log_prob[ids].sum(dtype=np.float64)
        # Where the same pdfs are also those of other phones, their paths come on top.
        assert one_path - 1e-3 <= found <= one_path + 5.0


def test_a_chain_topology_s_self_loops_have_their_own_pdfs(tmp_path: Path) -> None:
    (tmp_path / "topo").write_text(
        "<Topology>\n<TopologyEntry>\n<ForPhones> 1 2 </ForPhones>\n"
        "<State> 0 <ForwardPdfClass> 0 <SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State>\n"
        "<State> 1 </State>\n</TopologyEntry>\n</Topology>\n"
    )
    topology = Topology.read(tmp_path / "topo")
    tree = DecisionTree.monophone(topology)
    model = TransitionModel.from_tree(tree, topology)
    hmm = make_denominator([(1, 2), (1, 1, 2)], tree, model)
    assert sorted(set(hmm.pdf_of[1:].tolist())) == list(range(model.num_pdfs)) == [0, 1, 2, 3]
    recursions = ForwardBackward(hmm, 4, leaky_coefficient=0.0)
    forward, loop = (tree.pdf_id((1,), pdf_class) for pdf_class in (0, 1))
    for pdfs, is_possible in (([forward, loop, loop], True), ([loop, loop, forward], True), ([loop] * 2, True)):
        emissions = torch.full((len(pdfs), 1, 4), -torch.inf)
        emissions[torch.arange(len(pdfs)), 0, torch.tensor(pdfs)] = 0.0
        found = recursions.log_likelihood(emissions, torch.tensor([len(pdfs)]))
        assert bool(found.isfinite()) is is_possible


def test_epsilons_are_followed_and_their_cycles_refused() -> None:
    arcs = [(0, 1, 1, 0, 0.5), (1, 2, 0, 0, 0.25), (1, 2, 0, 0, 0.25), (2, 0, 0, 0, 1.0), (2, 2, 2, 0, 2.0)]
    hmm = hmm_from_fst(from_kaldifst(build_fst(3, 0, arcs, {2: 0.125})), np.array([0, 5, 6]))
    assert hmm.pdf_of.tolist() == [0, 5, 6]
    twice = 2 * math.exp(-0.25)
    expected = Hmm(
        hmm.pdf_of,
        np.array([0, 1, 1, 2, 2]),
        np.array([1, 1, 2, 1, 2]),
        np.array([math.exp(-0.5), twice * math.exp(-1.5), twice * math.exp(-2), math.exp(-1.5), math.exp(-2)]),
        np.array([1.0, 0.0, 0.0]),
        np.array([0.0, twice * math.exp(-0.125), math.exp(-0.125)]),
    )
    torch.testing.assert_close(
        hmm.transition_matrix(torch.float64).to_dense(), expected.transition_matrix(torch.float64).to_dense()
    )
    np.testing.assert_allclose(hmm.final, expected.final)
    cyclic = build_fst(2, 0, [(0, 1, 1, 0, 0.0), (1, 1, 0, 0, 1.0)], {1: 0.0})
    with pytest.raises(DataError, match="cycle"):
        hmm_from_fst(from_kaldifst(cyclic), np.array([0, 0]))
    with pytest.raises(DataError, match="label 1"):
        hmm_from_fst(from_kaldifst(cyclic), np.array([0]))


def test_a_criterion_is_made_of_an_alignment_directory(tmp_path: Path) -> None:
    for name in ("final.mdl", "tree"):
        (tmp_path / name).write_bytes((GOLDEN / "model" / "tri1" / name).read_bytes())
    alignments = dict(sorted(read_alignments(GOLDEN / "align" / "tri1"), key=lambda item: item[0]))
    first, second, *others = alignments
    alignments[second] = alignments[second][:-1]  # its last phone lacks its last frame, as in copies at other speeds
    write_alignments(tmp_path, alignments.items())
    device = torch.device("cpu")
    criterion = make_lattice_free(LatticeFreeConfig(), [str(tmp_path)], {first, second}, set(others[:1]), device)
    for utt in (first, second, others[0]):
        supervision = criterion.prepare(utt, len(alignments[utt]))
        found = criterion(torch.zeros(len(alignments[utt]), criterion.num_pdfs), [supervision])
        assert found.num_frames == len(alignments[utt])
        # The n-gram knows the phones of the first alone; others may need pdf_ids that the graph has not.
        assert found.value.item() < 0.0 or (utt != first and found.statistics["utterances_without_path"] == 1.0)
    with pytest.raises(UnusableError, match="no_alignment"):
        criterion.prepare(others[1], 10)
    with pytest.raises(DataError, match="no phones"):
        make_lattice_free(LatticeFreeConfig(), [str(tmp_path)], {second}, set(), device)
