from __future__ import annotations

import io
from pathlib import Path

import pytest

from acoustic.errors import DataError
from acoustic.kaldi.event_map import PDF_CLASS, Leaf, Split, Table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.tree import DecisionTree, read_phone_sets
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors

MODELS = ["mono", "tri1"]


@pytest.fixture
def topology() -> Topology:
    return Topology.read(GOLDEN / "graph/lang/topo")


@pytest.mark.parametrize("model", MODELS)
def test_binary_and_text_are_read_alike_and_written_back_identically(tmp_path: Path, model: str) -> None:
    tree = DecisionTree.read(GOLDEN / "model" / model / "tree")
    from_text = DecisionTree.read(GOLDEN / "model" / model / "tree.txt")
    assert tree == from_text
    assert tree.fingerprint() == from_text.fingerprint()
    tree.write(tmp_path / "tree")
    assert (tmp_path / "tree").read_bytes() == (GOLDEN / "model" / model / "tree").read_bytes()
    tree.write(tmp_path / "tree.txt", binary=False)
    assert (tmp_path / "tree.txt").read_bytes() == (GOLDEN / "model" / model / "tree.txt").read_bytes()


def test_sizes_and_windows_of_a_triphone_tree() -> None:
    tree = DecisionTree.read(GOLDEN / "model/tri1/tree")
    assert (tree.context_width, tree.central_position, tree.num_pdfs) == (3, 1, 104)
    # The first levels of tree.txt by hand: phone 1 (silence) splits on the pdf class alone.
    assert [tree.pdf_id([0, 1, 0], pdf_class) for pdf_class in range(5)] == [0, 61, 34, 88, 40]
    assert tree.pdf_id([1, 6, 1], 0) == 1
    assert tree.pdf_id([6, 6, 1], 0) == 51


def test_possible_pdfs_are_those_of_all_windows() -> None:
    tree = DecisionTree.read(GOLDEN / "model/tri1/tree")
    windows = [(left, 6, right) for left in range(82) for right in range(82)]
    for pdf_class in range(3):
        assert tree.possible_pdfs(6, pdf_class) == sorted({tree.pdf_id(window, pdf_class) for window in windows})


def test_monophone_tree_with_shared_phone_sets_is_that_of_kaldi(tmp_path: Path, topology: Topology) -> None:
    lines = [[1, 2, 3, 4, 5], *[list(range(first, first + 4)) for first in range(6, 82, 4)]]
    (tmp_path / "sets.int").write_text("".join(" ".join(map(str, phones)) + "\n" for phones in lines))
    tree = DecisionTree.monophone(topology, read_phone_sets(tmp_path / "sets.int"))
    assert tree == DecisionTree.read(GOLDEN / "model/mono/tree")


def test_monophone_tree_without_sharing(topology: Topology) -> None:
    tree = DecisionTree.monophone(topology)
    assert isinstance(tree.to_pdf, Table)  # one table over phones, as GetStubMap makes of single phones
    assert tree.to_pdf.children[0] is None
    assert tree.num_pdfs == 5 * 5 + 76 * 3
    assert tree.pdf_id([1], 4) == 4
    assert tree.pdf_id([6], 0) == 25
    assert tree.pdf_id([81], 2) == tree.num_pdfs - 1
    assert tree.pdf_id([82], 0) is None
    assert tree.pdf_id([6], 3) is None


@pytest.mark.parametrize("sets", [[[1, 2], [2, 3]], [[1], []], [[*range(1, 82), 99]], [], [list(range(2, 82))]])
def test_wrong_phone_sets(topology: Topology, sets: list[list[int]]) -> None:
    with pytest.raises(DataError):
        DecisionTree.monophone(topology, sets)


def test_phone_sets_file_with_a_symbol(tmp_path: Path) -> None:
    (tmp_path / "sets.int").write_text("1 2\n3 AA\n")
    with pytest.raises(DataError, match="line 2"):
        read_phone_sets(tmp_path / "sets.int")


def test_null_children_and_negative_keys_round_trip(tmp_path: Path) -> None:
    to_pdf = Table(0, (None, Split(PDF_CLASS, frozenset({0, 2}), Leaf(3), Leaf(1)), None, Leaf(0)))
    tree = DecisionTree(context_width=1, central_position=0, to_pdf=to_pdf)
    for binary in (True, False):
        tree.write(tmp_path / "tree", binary)
        assert DecisionTree.read(tmp_path / "tree") == tree
    assert [tree.pdf_id([phone], 1) for phone in range(5)] == [None, 1, None, 0, None]


def test_old_trees_with_a_length_map_are_read(tmp_path: Path) -> None:
    (tmp_path / "tree").write_text("ContextDependency 1 0 ToLength CE 3 ToPdf CE 0 EndContextDependency ")
    assert DecisionTree.read(tmp_path / "tree").to_pdf == Leaf(0)


@pytest.mark.parametrize(
    "content",
    [
        "ContextDependency 3 3 ToPdf CE 0 EndContextDependency ",
        "ContextDependency 1 0 ToPdf NULL EndContextDependency ",
        "ContextDependency 1 0 ToPdf CE -1 EndContextDependency ",
        "ContextDependency 1 0 ToPdf SE 0 [ 1 ]\n{ CE 0 NULL }\nEndContextDependency ",
        "ContextDependency 1 0 ToPdf XX 0 EndContextDependency ",
        "ContextDependency 1 0 ToPdf " + 400 * "TE 0 1 ( " + "CE 0 " + 400 * ") " + "EndContextDependency ",
    ],
)
def test_wrong_trees_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tree").write_text(content)
    with pytest.raises(DataError):
        DecisionTree.read(tmp_path / "tree")


def test_damaged_bytes_give_data_errors(tmp_path: Path) -> None:
    file = io.BytesIO()
    file.write(b"\0B")
    DecisionTree.read(GOLDEN / "model/mono/tree").write_to(file, binary=True)
    assert_only_data_errors(file.getvalue(), tmp_path / "tree", DecisionTree.read, num_trials=300)
