"""mkgraph against Kaldi's own graphs, and graphs over other topologies and contexts against their definition."""

import itertools
import shutil
from pathlib import Path

import kaldifst
import numpy as np
import pytest

from acoustic.decode import graph as graph_module
from acoustic.decode.graph import GRAPH_JSON, GraphOptions, make_graph, read_graph
from acoustic.decode.graph_arrays import to_vector
from acoustic.errors import DataError
from acoustic.fsio import read_json
from acoustic.kaldi.event_map import PDF_CLASS, Leaf, Split, Table
from acoustic.kaldi.fst import read_fst
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.kaldi.tree import DecisionTree

GOLDEN = Path(__file__).parents[1] / "golden"
LANG = GOLDEN / "graph" / "lang"


@pytest.mark.parametrize("system", ["mono", "tri1"])
def test_graph_is_kaldis_arc_by_arc(tmp_path, system):
    make_graph(LANG, GOLDEN / "model" / system, tmp_path / "graph")
    ours, kaldis = read_fst(tmp_path / "graph" / "HCLG.fst"), read_fst(GOLDEN / "graph" / system / "HCLG.fst")
    assert ours.start == kaldis.start
    np.testing.assert_array_equal(ours.first_arc, kaldis.first_arc)
    for column in ("ilabel", "olabel", "nextstate"):
        np.testing.assert_array_equal(ours.arcs[column], kaldis.arcs[column])
    np.testing.assert_allclose(ours.arcs["weight"], kaldis.arcs["weight"], atol=1e-6)
    np.testing.assert_allclose(ours.final, kaldis.final, atol=1e-6)
    for name in ("num_pdfs", "disambig_tid.int", "words.txt"):
        ours_text = (tmp_path / "graph" / name).read_text()
        assert ours_text.split() == (GOLDEN / "graph" / system / name).read_text().split()


def test_a_folder_that_cannot_be_written_is_told_before_the_graph_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_module, "compile_graph", lambda *_: pytest.fail("hours of work would be lost"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file/graph: cannot be written"):
        make_graph(LANG, GOLDEN / "model" / "mono", tmp_path / "file" / "graph")


def test_graph_directory_says_what_it_was_made_of(tmp_path):
    make_graph(LANG, GOLDEN / "model" / "tri1", tmp_path / "graph", GraphOptions(0.9, 0.2))
    description = read_json(tmp_path / "graph" / GRAPH_JSON)
    assert description["tree"] == DecisionTree.read(GOLDEN / "model" / "tri1" / "tree").fingerprint()
    assert description["context_width"] == 3
    assert (description["transition_scale"], description["self_loop_scale"]) == (0.9, 0.2)
    mono, tri1 = (TransitionModel.read(GOLDEN / "model" / system / "final.mdl") for system in ("mono", "tri1"))
    assert read_graph(tmp_path / "graph" / "HCLG.fst", tri1).num_states > 0
    with pytest.raises(DataError, match="another tree"):
        read_graph(tmp_path / "graph" / "HCLG.fst", mono)


def test_graph_of_kaldi_for_another_model_is_refused(tmp_path):
    mono, tri1 = (TransitionModel.read(GOLDEN / "model" / system / "final.mdl") for system in ("mono", "tri1"))
    with pytest.raises(DataError, match="transition_id"):
        read_graph(GOLDEN / "graph" / "tri1" / "HCLG.fst", mono)
    with pytest.raises(DataError, match="62 pdfs"):
        read_graph(GOLDEN / "graph" / "mono" / "HCLG.fst", tri1)


# ---- small worlds: two words, three phones, every context width and topology --------------------------------------

PHONES = {"<eps>": 0, "SIL": 1, "a": 2, "b": 3, "#0": 4, "#1": 5}
WORDS = {"<eps>": 0, "ab": 1, "ba": 2, "#0": 3}
PRONUNCIATIONS = {1: (2, 3), 2: (3, 2)}

BAKIS = """<Topology>
<TopologyEntry>
<ForPhones> 1 2 3 </ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.6 <Transition> 1 0.4 </State>
<State> 1 <PdfClass> 1 <Transition> 1 0.7 <Transition> 2 0.3 </State>
<State> 2 </State>
</TopologyEntry>
</Topology>
"""
# Starts with a choice, so that the start of the HMM cannot be shared with the loop; has a non-emitting state inside.
SKIPPING = """<Topology>
<TopologyEntry>
<ForPhones> 1 2 3 </ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.3 <Transition> 2 0.2 </State>
<State> 1 <PdfClass> 1 <Transition> 1 0.5 <Transition> 2 0.5 </State>
<State> 2 <Transition> 3 1.0 </State>
<State> 3 <PdfClass> 1 <Transition> 3 0.25 <Transition> 4 0.75 </State>
<State> 4 </State>
</TopologyEntry>
</Topology>
"""
# Self-loop pdfs of their own, as in chain models.
CHAIN = """<Topology>
<TopologyEntry>
<ForPhones> 1 2 3 </ForPhones>
<State> 0 <ForwardPdfClass> 0 <SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 </State>
</TopologyEntry>
</Topology>
"""
TOPOLOGIES = {"bakis": BAKIS, "skipping": SKIPPING, "chain": CHAIN}


def write_lang(folder: Path) -> None:
    """Words `ab` and `ba`, any sequence of them with cost 1 a word and 0.5 to end."""
    (folder / "phones").mkdir(parents=True)
    (folder / "phones" / "disambig.int").write_text("4\n5\n")
    (folder / "phones.txt").write_text("".join(f"{symbol} {id_}\n" for symbol, id_ in PHONES.items()))
    (folder / "words.txt").write_text("".join(f"{symbol} {id_}\n" for symbol, id_ in WORDS.items()))
    lexicon = kaldifst.compile("0 1 2 1\n1 0 3 0\n0 2 3 2\n2 0 2 0\n0 0 4 3\n0 0\n")
    kaldifst.arcsort(lexicon, sort_type="olabel")
    lexicon.write(str(folder / "L_disambig.fst"))
    kaldifst.compile("0 0 1 1 1.0\n0 0 2 2 1.0\n0 0.5\n").write(str(folder / "G.fst"))


def context_tree(width: int, position: int, num_pdf_classes: int) -> DecisionTree:
    """Every position of the window is asked about, so that each context of `a` and `b` has its own pdfs."""
    numbers = itertools.count()

    def grow(positions: list[int]):
        if not positions:
            return Table(PDF_CLASS, tuple(Leaf(next(numbers)) for _ in range(num_pdf_classes)))
        return Split(positions[0], frozenset([2]), grow(positions[1:]), grow(positions[1:]))

    others = [p for p in range(width) if p != position]
    return DecisionTree(width, position, Table(position, (None, *(grow(others) for _ in range(3)))))


def path_cost(graph: kaldifst.StdVectorFst, transition_ids: list[int], words: list[int]) -> float:
    """Least cost of the graph's paths with these labels, inf when there is none."""
    labels = kaldifst.make_linear_acceptor(transition_ids)
    outputs = kaldifst.make_linear_acceptor(words)
    kaldifst.arcsort(graph, sort_type="ilabel")
    left = kaldifst.compose(labels, graph)
    if left.start < 0:
        return float("inf")
    kaldifst.arcsort(left, sort_type="olabel")
    both = kaldifst.compose(left, outputs)
    if both.start < 0:
        return float("inf")
    return kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(both))[3].value


def random_path(model, tree, words, scales, rng):
    """Transition_ids through the HMMs of a word sequence, and the cost that the definition of HCLG gives them."""
    transition_scale, loop_scale = scales
    phones = [phone for word in words for phone in PRONUNCIATIONS[word]]
    left, right = tree.central_position, tree.context_width - tree.central_position - 1
    padded = [0] * left + phones + [0] * right
    ids, cost = [], len(words) * 1.0 + 0.5
    for number, phone in enumerate(phones):
        window = padded[number : number + tree.context_width]
        entry = model.topology.entry(phone)
        state = 0
        while state != len(entry) - 1:
            hmm_state = entry[state]
            forward = [t for t in hmm_state.transitions if t[0] != state]
            destination, probability = forward[rng.integers(len(forward))]
            if hmm_state.forward_pdf_class < 0:
                cost -= transition_scale * np.log(probability)
                state = destination
                continue
            pdfs = [tree.pdf_id(window, c) for c in (hmm_state.forward_pdf_class, hmm_state.self_loop_pdf_class)]
            tstate = model.transition_state(phone, state, *pdfs)
            index = hmm_state.transitions.index((destination, probability))
            ids.append(model.transition_ids(tstate)[index])
            cost -= transition_scale * model.log_prob_ignoring_self_loops(ids[-1])
            cost -= loop_scale * model.non_self_loop_log_prob(tstate)
            loop = int(model.self_loop_of[tstate])
            for _ in range(rng.integers(3) if loop else 0):
                ids.append(loop)
                cost -= loop_scale * float(model.log_prob[loop])
            state = destination
    return ids, cost


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("width", "position"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_paths_have_the_words_and_costs_that_hclg_is_defined_by(tmp_path, topology, width, position):
    write_lang(tmp_path / "lang")
    (tmp_path / "topo").write_text(TOPOLOGIES[topology])
    topo = Topology.read(tmp_path / "topo")
    tree = context_tree(width, position, topo.num_pdf_classes(2))
    model = TransitionModel.from_tree(tree, topo)
    (tmp_path / "model").mkdir()
    tree.write(tmp_path / "model" / "tree")
    write_model(tmp_path / "model" / "final.mdl", model)
    scales = (0.8, 0.3)
    graph = to_vector(make_graph(tmp_path / "lang", tmp_path / "model", tmp_path / "graph", GraphOptions(*scales)))
    rng = np.random.default_rng(width)
    for words in ([1], [2, 1], [1, 1, 2], [2, 2, 1, 1]):
        ids, cost = random_path(model, tree, words, scales, rng)
        assert path_cost(graph, ids, words) == pytest.approx(cost, abs=0.01)
        assert path_cost(graph, ids, [*words[::-1], 1]) == float("inf")


# ---- faulty input --------------------------------------------------------------------------------------------------


@pytest.fixture
def lang(tmp_path) -> Path:
    shutil.copytree(LANG, tmp_path / "lang")
    return tmp_path / "lang"


@pytest.mark.parametrize("name", ["L_disambig.fst", "G.fst", "words.txt", "phones.txt", "disambig.int"])
def test_a_missing_file_is_named(tmp_path, lang, name):
    (lang / name).unlink()
    with pytest.raises(DataError, match=name):
        make_graph(lang, GOLDEN / "model" / "mono", tmp_path / "graph")
    assert not (tmp_path / "graph").exists()


def test_parts_that_do_not_fit_are_refused(tmp_path, lang):
    shutil.copytree(GOLDEN / "model" / "tri1", tmp_path / "model")
    shutil.copy(GOLDEN / "model" / "mono" / "tree", tmp_path / "model" / "tree")
    with pytest.raises(DataError, match="one experiment"):
        make_graph(lang, tmp_path / "model", tmp_path / "graph")
    kaldifst.compile("0 1 999 999\n1\n").write(str(lang / "G.fst"))
    with pytest.raises(DataError, match="no path in common"):
        make_graph(lang, GOLDEN / "model" / "tri1", tmp_path / "graph")


def test_a_foreign_folder_is_not_replaced(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("")
    with pytest.raises(DataError, match="not a graph directory"):
        make_graph(LANG, GOLDEN / "model" / "mono", tmp_path / "precious")


def test_an_empty_graph_is_refused(tmp_path):
    kaldifst.compile("0\n").write(str(tmp_path / "HCLG.fst"))
    with pytest.raises(DataError, match="empty"):
        read_graph(tmp_path / "HCLG.fst", TransitionModel.read(GOLDEN / "model" / "mono" / "final.mdl"))
