from __future__ import annotations

import io
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi.event_map import PDF_CLASS, Leaf, Split, Table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.kaldi.tree import DecisionTree
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors

MODELS = ["mono", "tri1"]


def read_golden(model: str) -> TransitionModel:
    return TransitionModel.read(GOLDEN / "model" / model / "final.mdl")


def to_bytes(model: TransitionModel, binary: bool) -> bytes:
    file = io.BytesIO()
    file.write(b"\0B" if binary else b"")
    model.write(file, binary)
    return file.getvalue()


@pytest.mark.parametrize("name", MODELS)
def test_binary_head_of_a_gmm_is_written_back_identically(name: str) -> None:
    written = to_bytes(read_golden(name), binary=True)
    assert (GOLDEN / "model" / name / "final.mdl").read_bytes().startswith(written)


@pytest.mark.parametrize("name", MODELS)
def test_text_is_read_alike_and_written_back_identically(name: str) -> None:
    path = GOLDEN / "model" / name / "transition_model.txt"
    from_text, from_binary = TransitionModel.read(path), read_golden(name)
    np.testing.assert_array_equal(from_text.tuples, from_binary.tuples)
    np.testing.assert_allclose(from_text.log_prob, from_binary.log_prob, rtol=1e-6)
    assert from_text.fingerprint() == from_binary.fingerprint()
    assert to_bytes(from_binary, binary=False) == path.read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_every_transition_id_is_what_show_transitions_says(name: str) -> None:
    model = read_golden(name)
    lines = (GOLDEN / "graph/lang/phones.txt").read_text().splitlines()
    phone_ids = {symbol: int(phone) for symbol, phone in map(str.split, lines)}
    state = phone = hmm_state = pdf = 0
    transition_id = 0
    for line in (GOLDEN / "model" / name / "show_transitions.txt").read_text().splitlines():
        if match := re.match(r"Transition-state (\d+): phone = (\S+) hmm-state = (\d+) pdf = (\d+)$", line):
            state, phone, hmm_state, pdf = int(match[1]), phone_ids[match[2]], int(match[3]), int(match[4])
            assert model.transition_state(phone, hmm_state, pdf, pdf) == state
            continue
        match = re.match(r" Transition-id = (\d+) p = (\S+) \[(self-loop|\d+ -> (\d+))\]$", line)
        assert match is not None
        transition_id = int(match[1])
        assert model.transition_state_of[transition_id] == state
        assert model.phone_of[transition_id] == phone
        assert model.hmm_state_of[transition_id] == hmm_state
        assert model.pdf_of[transition_id] == pdf
        assert np.exp(model.log_prob[transition_id]) == pytest.approx(float(match[2]), rel=1e-5)
        assert bool(model.is_self_loop[transition_id]) == (match[3] == "self-loop")
        last_state = len(model.topology.entry(phone)) - 1
        assert bool(model.is_final[transition_id]) == (match[4] == str(last_state))
        assert transition_id in model.transition_ids(state)
    assert transition_id == model.num_transition_ids
    assert state == model.num_transition_states


@pytest.mark.parametrize("name", MODELS)
def test_model_of_tree_and_topology_is_that_of_kaldi(name: str) -> None:
    golden = read_golden(name)
    model = TransitionModel.from_tree(DecisionTree.read(GOLDEN / "model" / name / "tree"), golden.topology)
    assert model.fingerprint() == golden.fingerprint()
    assert np.exp(model.log_prob[1:5]).tolist() == [0.25, 0.25, 0.25, 0.25]
    assert (model.num_pdfs, model.num_phones) == (golden.num_pdfs, 81)


def test_head_of_an_nnet3_model() -> None:
    model = TransitionModel.read(GOLDEN / "nnet3/final.mdl")
    assert model.fingerprint() == read_golden("tri1").fingerprint()


def test_non_self_loop_probability() -> None:
    model = read_golden("mono")
    assert model.self_loop_of[1] == 1
    expected = np.log(1.0 - np.exp(float(model.log_prob[1])))
    assert model.non_self_loop_log_prob(1) == pytest.approx(expected, rel=1e-5)
    without_loop = float(model.log_prob[2]) - expected
    assert model.log_prob_ignoring_self_loops(2) == pytest.approx(without_loop, rel=1e-5)


def chain_topology(tmp_path: Path) -> Topology:
    (tmp_path / "topo").write_text(
        "<Topology>\n<TopologyEntry>\n<ForPhones>\n1 2 3\n</ForPhones>\n"
        "<State> 0 <ForwardPdfClass> 0 <SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State>\n"
        "<State> 1 </State>\n</TopologyEntry>\n</Topology>\n"
    )
    return Topology.read(tmp_path / "topo")


def chain_tree() -> DecisionTree:
    """A left-biphone tree whose forward and self-loop pdfs both depend on the left phone."""
    forward = Split(0, frozenset({0, 1}), Leaf(0), Split(0, frozenset({2}), Leaf(1), Leaf(2)))
    self_loop = Split(0, frozenset({1, 2}), Leaf(3), Leaf(4))
    rest = Table(PDF_CLASS, (Leaf(5), Leaf(6)))
    to_pdf = Split(1, frozenset({1}), Split(PDF_CLASS, frozenset({0}), forward, self_loop), rest)
    return DecisionTree(context_width=2, central_position=1, to_pdf=to_pdf)


def test_chain_model_has_the_pdf_pairs_that_occur_together(tmp_path: Path) -> None:
    tree, topology = chain_tree(), chain_topology(tmp_path)
    model = TransitionModel.from_tree(tree, topology)
    expected = {
        (phone, 0, tree.pdf_id((left, phone), 0), tree.pdf_id((left, phone), 1))
        for left, phone in product(range(4), (1, 2, 3))
    }
    assert model.tuples.tolist() == [list(row) for row in sorted(expected)]
    self_loop = model.self_loop_of[1]
    assert model.pdf_of[self_loop] == model.tuples[0, 3]
    assert model.pdf_of[self_loop + 1] == model.tuples[0, 2]


@pytest.mark.parametrize("binary", [True, False])
def test_chain_model_round_trip(tmp_path: Path, binary: bool) -> None:
    model = TransitionModel.from_tree(chain_tree(), chain_topology(tmp_path))
    write_model(tmp_path / "final.mdl", model, binary)
    assert (b"<Tuples>" in (tmp_path / "final.mdl").read_bytes()) is True
    again = TransitionModel.read(tmp_path / "final.mdl")
    np.testing.assert_array_equal(again.tuples, model.tuples)
    assert again.fingerprint() == model.fingerprint()


def test_tree_without_pdfs_for_a_phone() -> None:
    tree = DecisionTree(1, 0, Table(0, (None, Leaf(0))))
    with pytest.raises(DataError, match="phone 2"):
        TransitionModel.from_tree(tree, Topology.read(GOLDEN / "graph/lang/topo"))


def test_reestimation_floors_and_skips_rare_states() -> None:
    model = read_golden("mono")
    counts = np.zeros(model.num_transition_ids + 1)
    counts[1:5] = [90, 10, 0, 0]  # state 1: two arcs never taken
    counts[5:9] = [1, 1, 1, 1]  # state 2: four frames, fewer than five
    new = model.reestimated(counts)
    probability = np.array([0.9, 0.1, 0.0, 0.0])
    for _ in range(3):  # MleUpdate: normalise, floor, three times
        probability = np.maximum(probability / probability.sum(), 0.01)
    np.testing.assert_allclose(np.exp(new.log_prob[1:5]), probability, rtol=1e-5)
    np.testing.assert_array_equal(new.log_prob[5:], model.log_prob[5:])
    assert new.fingerprint() == model.fingerprint()


def test_reestimation_needs_a_count_for_each_transition_id() -> None:
    with pytest.raises(DataError, match="transition counts"):
        read_golden("mono").reestimated(np.zeros(3))


def test_unknown_tuple_is_a_model_of_another_tree() -> None:
    with pytest.raises(DataError, match="tree and model"):
        read_golden("mono").transition_state(1, 0, 99, 99)


def test_fingerprint_tells_models_apart() -> None:
    assert read_golden("mono").fingerprint() != read_golden("tri1").fingerprint()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("<Triples> 253", "<Triples> 252", "</Triples>"),
        ("1 0 0 \n", "1 0 9 \n1 0 0 \n", "</Triples>"),
        ("1 0 0 \n1 1 1 ", "1 1 1 \n1 0 0 ", "sorted"),
        ("1 0 0 \n", "1 0 -3 \n", "pdf id"),
        ("81 2 61 ", "81 3 61 ", "HMM state 3"),
        ("81 2 61 ", "82 0 61 ", "phone 82"),
        ("<LogProbs> \n [ 0", "<LogProbs> \n [ 0 0", "transition_ids"),
        ("<LogProbs> \n [ 0 -", "<LogProbs> \n [ 0 ", "positive or not finite"),
    ],
)
def test_wrong_models_are_refused(tmp_path: Path, old: str, new: str, fault: str) -> None:
    text = (GOLDEN / "model/mono/transition_model.txt").read_text()
    assert old in text
    (tmp_path / "final.mdl").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=fault):
        TransitionModel.read(tmp_path / "final.mdl")


def test_file_that_is_no_model() -> None:
    with pytest.raises(DataError, match="<TransitionModel>"):
        TransitionModel.read(GOLDEN / "model/mono/tree")


def test_damaged_bytes_give_data_errors(tmp_path: Path) -> None:
    content = to_bytes(read_golden("mono"), binary=True)
    assert_only_data_errors(content, tmp_path / "final.mdl", TransitionModel.read, num_trials=300)
