"""Decision trees: Kaldi's own on the same statistics, single splits against all that can be thought of."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi.alignments import to_phones
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree, read_phone_sets
from acoustic.states.build_tree import Root, TreeOptions, best_question, build_tree, read_roots
from acoustic.states.convert import AlignmentConverter
from acoustic.states.merge_leaves import merge_leaves
from acoustic.states.questions import automatic_questions, check_questions, read_questions
from acoustic.states.tree_stats import NOT_ASKED, VARIANCE_FLOOR, Moments, StatsAccumulator, phone_windows

GOLDEN = Path(__file__).parents[1] / "golden"
TREE = GOLDEN / "tree"
SILENCE = [1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def model():
    return TransitionModel.read(GOLDEN / "model" / "mono" / "final.mdl")


@pytest.fixture(scope="module")
def topology():
    return Topology.read(GOLDEN / "graph" / "lang" / "topo")


@pytest.fixture(scope="module")
def alignments():
    return dict(read_table(f"ark:{GOLDEN / 'align' / 'mono' / 'ali.ark'}", "int_vector"))


@pytest.fixture(scope="module")
def stats(model, alignments):
    accumulator = StatsAccumulator(model, context_independent=SILENCE)
    for utt, features in read_table(f"ark:{GOLDEN / 'feats' / 'mfcc13.ark'}", "matrix"):
        accumulator.add(utt, alignments[utt], features)
    return accumulator.stats()


@pytest.mark.parametrize(("cluster_thresh", "name"), [(0.0, "tree_split.txt"), (150.0, "tree_merged.txt")])
def test_trees_are_kaldis(tmp_path, stats, topology, cluster_thresh, name):
    questions, roots = read_questions(TREE / "questions.int"), read_roots(TREE / "roots.int")
    grown = build_tree(stats, roots, questions, topology, TreeOptions(60, 40.0, cluster_thresh))
    grown.tree.write(tmp_path / "tree", binary=False)
    assert (tmp_path / "tree").read_bytes() == (TREE / name).read_bytes()
    assert len(grown.gains) == 36 and grown.num_merged == (30 if cluster_thresh else 0)


@pytest.mark.parametrize("loops_first", [False, True])
def test_alignments_are_converted_as_kaldi_converts_them(model, topology, alignments, loops_first):
    """Those of graphs made with --reorder=false, too: they are reordered."""
    tree = DecisionTree.read(TREE / "tree_split.txt")
    new = TransitionModel.from_tree(tree, topology)
    converter = AlignmentConverter(model, new, tree)
    kaldis = dict(read_table(f"ark,t:{TREE / 'ali.txt'}", "int_vector"))
    for utt, ids in alignments.items():
        converted = converter.convert(utt, with_loops_first(model, ids) if loops_first else ids)
        np.testing.assert_array_equal(converted, kaldis[utt])
        np.testing.assert_array_equal(to_phones(new, utt, converted), to_phones(model, utt, ids))


def with_loops_first(model, alignment):
    """A reordered alignment as it was before that: each state's self-loops, then the arc that leaves it."""
    states = np.cumsum(~model.is_self_loop[alignment])
    return np.concatenate([np.roll(alignment[states == state], -1) for state in np.unique(states)])


def test_converting_between_topologies_is_refused(model, topology):
    longer = TransitionModel.from_tree(DecisionTree.monophone(chain(4)), chain(4))
    with pytest.raises(DataError, match="different topologies"):
        AlignmentConverter(model, longer, DecisionTree.monophone(chain(4)))


def chain(num_phones: int) -> Topology:
    """Phones of three states each."""
    from acoustic.kaldi.topology import HmmState

    states = tuple(HmmState(i, i, ((i, 0.5), (i + 1, 0.5))) for i in range(3))
    return Topology((*[(*states, HmmState(-1, -1, ()))],), dict.fromkeys(range(1, num_phones + 1), 0))


def test_statistics_are_sums_over_frames_in_context(stats, alignments):
    assert stats.moments.counts.sum() == sum(map(len, alignments.values()))
    assert set(stats.events[stats.events[:, 1] <= 5][:, [0, 2]].ravel().tolist()) == {NOT_ASKED}
    assert (stats.events[stats.events[:, 1] > 5][:, [0, 2]] >= 0).all()
    features = np.concatenate([x for _, x in read_table(f"ark:{GOLDEN / 'feats' / 'mfcc13.ark'}", "matrix")])
    np.testing.assert_allclose(stats.moments.total().sums, features.sum(axis=0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(stats.moments.total().squares, (features.astype(float) ** 2).sum(axis=0), rtol=1e-9)


def test_windows_have_zero_beyond_the_edges():
    assert phone_windows([7, 8, 9], 3, 1).tolist() == [[0, 7, 8], [7, 8, 9], [8, 9, 0]]
    assert phone_windows([7], 2, 1).tolist() == [[0, 7]]
    assert phone_windows([7, 8], 1, 0).tolist() == [[7], [8]]


def moments_of(groups: list[np.ndarray]) -> Moments:
    """Moments of groups of frames, each [num_frames, dim]."""
    return Moments(
        np.array([float(len(x)) for x in groups]),
        np.array([x.sum(axis=0) for x in groups]),
        np.array([(x**2).sum(axis=0) for x in groups]),
    )


def likelihood_of(frames: np.ndarray) -> float:
    """Log likelihood of frames under their own Gaussian, frame by frame."""
    if not len(frames):
        return 0.0
    variance = np.maximum(frames.var(axis=0), VARIANCE_FLOOR)
    exponents = (frames - frames.mean(axis=0)) ** 2 / variance
    return float(-0.5 * (exponents + np.log(2 * math.pi * variance)).sum())


@pytest.fixture
def groups():
    random = np.random.default_rng(3)
    means = np.array([[0, 0], [0.2, 0], [4, 0], [4, 0.3], [4, 5]])
    return [mean + random.standard_normal((random.integers(5, 30), 2)) for mean in means]


def test_likelihoods_and_gains_are_those_of_the_frames(groups):
    moments = moments_of(groups)
    np.testing.assert_allclose(moments.log_likelihood(), [likelihood_of(x) for x in groups])
    answers = np.array([list(bits) for bits in itertools.product([0.0, 1.0], repeat=len(groups))])
    gain, best = best_question(moments, answers)

    def gain_of(bits: np.ndarray) -> float:
        parts = [[x for x, bit in zip(groups, bits, strict=True) if bit == side] for side in (0.0, 1.0)]
        if not all(parts):
            return 0.0
        return sum(likelihood_of(np.concatenate(p)) for p in parts) - likelihood_of(np.concatenate(groups))

    expected = [gain_of(bits) for bits in answers]
    assert gain == pytest.approx(max(expected)) and expected[best] == pytest.approx(max(expected))
    assert best_question(moments, answers, np.zeros(len(answers), dtype=bool))[0] == 0.0
    assert best_question(moments[np.array([0])], answers[:, :1])[0] == 0.0


def test_merging_joins_the_pair_that_loses_least_and_stays_within_roots(groups):
    roots, leaves = np.array([0, 0, 0, 1, 1]), np.array([2, 3, 5, 7, 8])
    loss = {
        (a, b): likelihood_of(groups[a]) + likelihood_of(groups[b]) - likelihood_of(np.concatenate(groups[a : b + 1]))
        for a, b in [(0, 1), (3, 4)]
    }
    merged = merge_leaves(moments_of(groups), roots, leaves, loss[0, 1] + 1e-6)
    assert merged == {2: 2, 3: 2, 5: 3, 7: 7, 8: 8}  # numbered as Kaldi numbers them: the root's first leaves
    assert merge_leaves(moments_of(groups), roots, leaves, 0.0) == {leaf: leaf for leaf in leaves.tolist()}
    everything = merge_leaves(moments_of(groups), roots, leaves, 1e9)
    assert len(set(everything.values())) == 2


def test_questions_are_nested_clusters_of_similar_phones(stats):
    sets = read_phone_sets(TREE / "sets.int")
    questions = automatic_questions(stats, sets)
    assert questions == automatic_questions(stats, sets)
    assert {tuple(phones) for phones in sets} <= set(questions) and len(set(questions)) == len(questions)
    for one, other in itertools.combinations(questions, 2):
        assert not set(one) & set(other) or set(one) <= set(other) or set(other) <= set(one)
    kaldis = set(read_questions(TREE / "questions.int"))
    assert len(kaldis & set(questions)) >= 0.7 * len(questions)


def test_faults_in_roots_and_questions_are_named(tmp_path, stats, topology):
    (tmp_path / "roots.int").write_text("shared split 1 2\nshared maybe 3\n")
    with pytest.raises(DataError, match="split") as caught:
        read_roots(tmp_path / "roots.int")
    assert caught.value.line == 2
    with pytest.raises(DataError, match="cannot be read"):
        read_roots(tmp_path / "none")
    with pytest.raises(DataError, match="phone 999"):
        check_questions([(1, 999)], topology.phones)
    with pytest.raises(DataError, match="same phones"):
        build_tree(stats, [Root((1, 2), True, True)], [(1,)], topology)
    with pytest.raises(DataError, match="no frames"):
        StatsAccumulator(TransitionModel.read(GOLDEN / "model" / "mono" / "final.mdl")).stats()
