from __future__ import annotations

import io
from pathlib import Path

import pytest

from acoustic.errors import DataError
from acoustic.kaldi.topology import NO_PDF, Topology
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors

CHAIN = b"""<Topology>
<TopologyEntry>
<ForPhones>
1 2 4
</ForPhones>
<State> 0 <ForwardPdfClass> 0 <SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 </State>
</TopologyEntry>
</Topology>
"""


def read_bytes(content: bytes, tmp_path: Path) -> Topology:
    (tmp_path / "topo").write_bytes(content)
    return Topology.read(tmp_path / "topo")


def to_bytes(topology: Topology, binary: bool) -> bytes:
    file = io.BytesIO()
    file.write(b"\0B" if binary else b"")
    topology.write(file, binary)
    return file.getvalue()


def test_topo_of_a_lang_directory() -> None:
    topology = Topology.read(GOLDEN / "graph/lang/topo")
    assert topology.phones == list(range(1, 82))
    assert topology.is_hmm
    assert [topology.num_pdf_classes(phone) for phone in (1, 5, 6, 81)] == [5, 5, 3, 3]
    silence = topology.entry(1)
    assert len(silence) == 6
    assert silence[4].transitions == ((4, 0.75), (5, 0.25))
    assert silence[5].forward_pdf_class == NO_PDF
    assert topology.entries[6] is topology.entries[81]


@pytest.mark.parametrize("binary", [True, False])
def test_chain_topology_round_trip(tmp_path: Path, binary: bool) -> None:
    topology = read_bytes(CHAIN, tmp_path)
    assert not topology.is_hmm
    assert topology.num_pdf_classes(4) == 2
    state = topology.entry(2)[0]
    assert (state.forward_pdf_class, state.self_loop_pdf_class) == (0, 1)
    assert read_bytes(to_bytes(topology, binary), tmp_path) == topology


def test_compact_binary_round_trip(tmp_path: Path) -> None:
    topology = Topology.read(GOLDEN / "graph/lang/topo")
    assert read_bytes(to_bytes(topology, binary=True), tmp_path) == topology


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"<State> 1 </State>\n", b"", "final"),
        (b"1 2 4", b"1 2 2", "twice"),
        (b"1 2 4", b"0 2 4", "positive"),
        (b"1 2 4", b"1 x 4", "phone id"),
        (b"<Transition> 1 0.5", b"<Transition> 7 0.5", "does not exist"),
        (b"<Transition> 1 0.5", b"<Transition> 1 nan", "positive"),
        (b"<Transition> 1 0.5", b"<Transition> 0 0.5", "same state"),
        (b"<Transition> 1 0.5 ", b"", "no transition into"),
        (b"<SelfLoopPdfClass> 1", b"<SelfLoopPdfClass> 2", "contiguous"),
        (b"<State> 0 ", b"<State> 1 ", "in order"),
        (b"<ForwardPdfClass> 0 <SelfLoopPdfClass> 1 ", b"", "non-emitting"),
        (b"</TopologyEntry>", b"<TopologyEntry>", "</TopologyEntry>"),
    ],
)
def test_wrong_topologies_are_refused(tmp_path: Path, old: bytes, new: bytes, fault: str) -> None:
    assert old in CHAIN
    with pytest.raises(DataError, match=fault):
        read_bytes(CHAIN.replace(old, new, 1), tmp_path)


def test_phone_that_is_not_covered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="phone 3"):
        read_bytes(CHAIN, tmp_path).entry(3)


@pytest.mark.parametrize("binary", [True, False])
def test_damaged_bytes_give_data_errors(tmp_path: Path, binary: bool) -> None:
    content = to_bytes(read_bytes(CHAIN, tmp_path), binary)
    assert_only_data_errors(content, tmp_path / "topo", Topology.read, num_trials=300)
