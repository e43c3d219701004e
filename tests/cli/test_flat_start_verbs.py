"""Where training begins without a model: a monophone tree and model, and states of equal length."""

from __future__ import annotations

import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.decode.align_equal import align_equally, c_random
from acoustic.errors import DataError
from acoustic.kaldi.alignments import split_to_phones
from acoustic.kaldi.fst import FstArrays, empty_fst
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree

GOLDEN = Path(__file__).parents[1] / "golden"
LANG = GOLDEN / "graph" / "lang"
MONO = GOLDEN / "align" / "mono"
GRAPHS = f"ark:{MONO / 'graphs.fsts'}"

EQUAL = {  # zlib.crc32 of the transition_ids, as little-endian int32
    "engb_f2-000": 82513823,
    "engb_f2-005": 3162959648,
    "engb_f3-002": 2504518235,
    "engb_f3-007": 1677531495,
    "engb_f4-004": 1983189737,
    "engb_f5-001": 4011940850,
}
RAND = {
    0: [1804289383, 846930886, 1681692777, 1714636915],
    1: [1804289383, 846930886, 1681692777, 1714636915],
    12345: [383100999, 858300821, 357768173, 455528251],
    2**32 - 1: [254925627, 1205188300, 366127624, 1401405153],
}


@pytest.fixture
def feats(tmp_path):
    """Features as long as Kaldi's alignments."""
    with TableWriter(f"ark:{tmp_path / 'feats'}", "matrix") as writer:
        for utt, ids in read_table(f"ark:{MONO / 'ali.ark'}", "int_vector"):
            writer.write(utt, np.zeros((len(ids), 1), dtype=np.float32))
    return f"ark:{tmp_path / 'feats'}"


def test_alignments_are_paths_with_states_of_equal_length(tmp_path, feats):
    run(["align-equal", GRAPHS, feats, f"ark:{tmp_path / 'ali'}"])
    model = TransitionModel.read(GOLDEN / "model" / "mono" / "final.mdl")
    graphs = dict(read_table(GRAPHS, "fst"))
    lengths = {utt: len(matrix) for utt, matrix in read_table(feats, "matrix")}
    alignments = dict(read_table(f"ark:{tmp_path / 'ali'}", "int_vector"))
    assert {utt: len(ids) for utt, ids in alignments.items()} == lengths
    for utt, ids in alignments.items():
        split_to_phones(model, utt, ids)
        runs = np.diff(np.flatnonzero(np.append(np.append(True, np.diff(model.transition_state_of[ids]) != 0), True)))
        assert runs.max() - runs.min() <= 1
        assert accepts(graphs[utt], ids)


def accepts(graph: FstArrays, labels: np.ndarray) -> bool:
    """Whether some path of the graph has these input labels."""
    sources, arcs = graph.sources(), graph.arcs

    def after(states: set[int], label: int) -> set[int]:
        return set(arcs["nextstate"][np.isin(sources, list(states)) & (arcs["ilabel"] == label)].tolist())

    states = {graph.start}
    for label in [*labels, 0]:
        while not after(states, 0) <= states:
            states |= after(states, 0)
        states = after(states, label) if label else states
    return bool(np.isfinite(graph.final[list(states)]).any())


def test_draws_depend_on_utterance_and_seed_alone():
    graphs = dict(read_table(GRAPHS, "fst"))
    graph = graphs["engb_f2-000"]
    drawn = [align_equally(graph, utt, 300, seed).tolist() for utt in ("a", "b") for seed in range(8)]
    assert drawn[0] == align_equally(graph, "a", 300).tolist()
    assert len({tuple(ids) for ids in drawn}) > 1


def test_random_numbers_are_those_of_the_c_library():
    """The numbers that srand(seed) and rand() of glibc 2.36 gave."""
    for seed, numbers in RAND.items():
        assert list(islice(c_random(seed), len(numbers))) == numbers


def test_equal_alignments_are_kaldis():
    """Hashes of what align-equal-compiled wrote for these graphs and lengths."""
    lengths = {utt: len(ids) for utt, ids in read_table(f"ark:{MONO / 'ali.ark'}", "int_vector")}
    for utt, graph in read_table(GRAPHS, "fst"):
        assert zlib.crc32(align_equally(graph, utt, lengths[utt]).astype("<i4").tobytes()) == EQUAL[utt]


def test_utterances_that_are_too_short_are_counted(tmp_path, feats):
    graphs = dict(read_table(GRAPHS, "fst"))
    with pytest.raises(DataError, match="5 frames are too few"):
        align_equally(graphs["engb_f2-000"], "engb_f2-000", 5)
    with pytest.raises(DataError, match="empty"):
        align_equally(empty_fst(), "a", 5)
    with TableWriter(f"ark:{tmp_path / 'short'}", "matrix") as writer:
        for utt, matrix in read_table(feats, "matrix"):
            writer.write(utt, matrix[:5] if utt == "engb_f2-000" else matrix)
    arguments = [GRAPHS, f"ark:{tmp_path / 'short'}", f"ark:{tmp_path / 'ali'}"]
    with pytest.raises(DataError, match=r"1 of 6 .*too_short.*engb_f2-000"):
        run(["align-equal", *arguments])
    run(["align-equal", "--max-skip-fraction=0.2", *arguments])
    assert len(dict(read_table(f"ark:{tmp_path / 'ali'}", "int_vector"))) == 5


def test_graphs_without_features_are_counted(tmp_path, feats):
    random = np.random.default_rng(0)
    with TableWriter(f"ark:{tmp_path / 'some'}", "matrix") as writer:
        for utt, matrix in list(read_table(feats, "matrix"))[1:]:
            writer.write(utt, random.standard_normal(matrix.shape).astype(np.float32))
    features = f"ark:{tmp_path / 'some'}"
    with pytest.raises(DataError, match=r"1 of 6 .*no_features.*engb_f2-000"):
        run(["align-equal", GRAPHS, features, f"ark:{tmp_path / 'ali'}"])
    model = str(GOLDEN / "model" / "mono" / "final.mdl")
    with pytest.raises(DataError, match=r"1 of 6 .*no_features.*engb_f2-000"):
        run(
            [
                "flat-start",
                "--num-ceps=0",
                "--num-iters=1",
                "--num-jobs=1",
                model,
                GRAPHS,
                features,
                str(tmp_path / "alis"),
            ]
        )


def test_init_mono_has_pdfs_for_each_set_of_phones(tmp_path):
    lang = tmp_path / "lang"
    (lang / "phones").mkdir(parents=True)
    topo = Topology.read(LANG / "topo")
    (lang / "topo").write_bytes((LANG / "topo").read_bytes())
    sets = [topo.phones[:5]] + [topo.phones[i : i + 4] for i in range(5, len(topo.phones), 4)]
    (lang / "phones" / "sets.int").write_text("".join(" ".join(map(str, phones)) + "\n" for phones in sets))
    run(["init-mono", str(lang), str(tmp_path / "mono")])
    tree = DecisionTree.read(tmp_path / "mono" / "tree")
    model, kaldis = (TransitionModel.read(p / "final.mdl") for p in (tmp_path / "mono", GOLDEN / "model" / "mono"))
    assert tree.num_pdfs == model.num_pdfs == 5 + 3 * (len(sets) - 1)
    assert model.fingerprint() == kaldis.fingerprint()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/mono.* cannot be written"):
        run(["init-mono", str(lang), str(tmp_path / "file" / "mono")])
