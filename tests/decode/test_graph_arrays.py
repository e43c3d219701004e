"""Transducer files: round trips through kaldifst, damage at every byte, and the array operations on graphs."""

import struct
from pathlib import Path

import kaldifst
import numpy as np
import pytest

from acoustic.decode.graph_arrays import from_kaldifst, to_const, to_vector
from acoustic.decode.graph_epsilons import log_add, remove_epsilons_locally
from acoustic.decode.graph_operations import (
    add_self_loops,
    push_special,
    remove_input_symbols,
    separate_entered_states,
)
from acoustic.errors import DataError
from acoustic.kaldi.fst import ARC, FstArrays, read_fst
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel

GRAPHS = Path(__file__).parents[1] / "golden" / "graph"


def same(a: FstArrays, b: FstArrays) -> bool:
    return (
        a.start == b.start
        and np.array_equal(a.final, b.final)
        and np.array_equal(a.first_arc, b.first_arc)
        and np.array_equal(a.arcs, b.arcs)
    )


@pytest.mark.parametrize("name", ["tri1/HCLG.fst", "lang/L_disambig.fst", "lang/G.fst"])
def test_round_trip_through_kaldifst_and_files(tmp_path, name):
    fst = read_fst(GRAPHS / name)
    assert same(from_kaldifst(to_const(fst)), fst)
    assert same(from_kaldifst(to_vector(fst)), fst)
    fst.write(tmp_path / "const.fst")
    assert same(read_fst(tmp_path / "const.fst"), fst)
    to_vector(fst).write(str(tmp_path / "vector.fst"))
    assert same(read_fst(tmp_path / "vector.fst"), fst)


def test_num_epsilons_are_those_of_kaldi(tmp_path):
    read_fst(GRAPHS / "tri1" / "HCLG.fst").write(tmp_path / "ours.fst")
    ours, kaldis = (tmp_path / "ours.fst").read_bytes(), (GRAPHS / "tri1" / "HCLG.fst").read_bytes()
    assert len(ours) == len(kaldis)
    assert ours[65:] == kaldis[65:]  # behind the header, whose property bits differ


def test_aligned_files_are_read(tmp_path):
    plain = (GRAPHS / "mono" / "HCLG.fst").read_bytes()
    fst = read_fst(GRAPHS / "mono" / "HCLG.fst")
    header = bytearray(plain[:65])
    struct.pack_into("<ii", header, 25, 1, 4)  # version of aligned files, flag for alignment
    states = plain[65 : 65 + 20 * fst.num_states]
    parts = bytes(header) + bytes(-65 % 16) + states
    parts += bytes(-len(parts) % 16) + plain[65 + len(states) :]
    (tmp_path / "aligned.fst").write_bytes(parts)
    assert same(read_fst(tmp_path / "aligned.fst"), fst)


@pytest.mark.parametrize("name", ["mono/HCLG.fst", "lang/G.fst"])
def test_a_file_cut_anywhere_is_refused(tmp_path, name):
    content = (GRAPHS / name).read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut.fst").write_bytes(content[:length])
        with pytest.raises(DataError):
            read_fst(tmp_path / "cut.fst")


@pytest.mark.parametrize("name", ["mono/HCLG.fst", "lang/L.fst"])
def test_flipped_bytes_give_a_graph_within_its_bounds_or_an_error(tmp_path, name):
    content = (GRAPHS / name).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        (tmp_path / "damaged.fst").write_bytes(damaged)
        try:
            fst = read_fst(tmp_path / "damaged.fst")
        except DataError:
            continue
        assert 0 <= fst.start < fst.num_states
        assert fst.arcs["nextstate"].max() < fst.num_states


def test_other_types_are_refused(tmp_path):
    content = (GRAPHS / "mono" / "HCLG.fst").read_bytes()
    (tmp_path / "log.fst").write_bytes(content.replace(b"\x08\0\0\0standard", b"\x03\0\0\0log"))
    with pytest.raises(DataError, match="'log'"):
        read_fst(tmp_path / "log.fst")
    (tmp_path / "text").write_text("0 1 1 1\n1\n")
    with pytest.raises(DataError, match="not an OpenFst file"):
        read_fst(tmp_path / "text")


def test_word_penalty_goes_to_arcs_with_words_only():
    fst = read_fst(GRAPHS / "tri1" / "HCLG.fst")
    change = fst.with_word_penalty(1.5).arcs["weight"] - fst.arcs["weight"]
    np.testing.assert_allclose(change, np.where(fst.arcs["olabel"] != 0, 1.5, 0.0), atol=1e-6)


@pytest.mark.parametrize("form", ["ark", "ark,t"])
def test_tables_of_transducers(tmp_path, form):
    graphs = {name: read_fst(GRAPHS / name) for name in ("lang/L.fst", "lang/G.fst")}
    with TableWriter(f"{form}:{tmp_path}/graphs", "fst") as writer:
        for name, fst in graphs.items():
            writer.write(name, fst)
    again = dict(read_table(f"ark:{tmp_path}/graphs", "fst"))
    assert list(again) == list(graphs)
    assert all(same(again[name], graphs[name]) for name in graphs)


def test_tables_of_kaldi_and_damaged_text(tmp_path):
    graphs = dict(read_table(f"ark:{GRAPHS.parent / 'align' / 'tri1' / 'graphs.fsts'}", "fst"))
    assert len(graphs) == 6
    for text in ("u \n0 1 1\n\n", "u \n0 1 x 1\n\n", "u \n0 1 1 1 0.5\n1", "u \n0 99999999999 1 1\n\n"):
        (tmp_path / "text").write_text(text)
        with pytest.raises(DataError):
            list(read_table(f"ark:{tmp_path}/text", "fst"))


def random_fst(rng: np.random.Generator, num_states: int, epsilon_share: float) -> FstArrays:
    """A random acyclic transducer in which every state leads to the last one."""
    lines = []
    for state in range(num_states - 1):
        for target in {state + 1, *rng.integers(state + 1, num_states, rng.integers(1, 4)).tolist()}:
            ilabel, olabel = (0 if rng.random() < epsilon_share else int(rng.integers(1, 4)) for _ in range(2))
            lines.append(f"{state} {target} {ilabel} {olabel} {rng.random():.3f}")
        if rng.random() < 0.2:
            lines.append(f"{state} {rng.random():.3f}")
    return from_kaldifst(kaldifst.compile("\n".join([*lines, f"{num_states - 1}", ""])))


def path_costs(fst: FstArrays) -> dict[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """The least cost of every pair of input and output strings."""
    costs: dict = {}
    pending = [(fst.start, (), (), 0.0)]
    while pending:
        state, ins, outs, cost = pending.pop()
        if np.isfinite(fst.final[state]):
            total = cost + float(fst.final[state])
            costs[ins, outs] = min(total, costs.get((ins, outs), np.inf))
        for arc in fst.arcs[fst.first_arc[state] : fst.first_arc[state + 1]].tolist():
            ilabel, olabel, weight, target = arc
            pending.append((target, ins + (ilabel,) * (ilabel > 0), outs + (olabel,) * (olabel > 0), cost + weight))
    return costs


@pytest.mark.parametrize("seed", range(20))
def test_local_epsilon_removal_keeps_every_path_and_adds_nothing(seed):
    fst = random_fst(np.random.default_rng(seed), 9, epsilon_share=0.6)
    smaller = remove_epsilons_locally(fst)
    assert path_costs(smaller) == pytest.approx(path_costs(fst), abs=1e-5)
    trimmed = to_vector(smaller)
    kaldifst.connect(trimmed)
    assert from_kaldifst(trimmed).num_arcs <= fst.num_arcs


def test_local_epsilon_removal_joins_input_with_output():
    fst = from_kaldifst(kaldifst.compile("0 1 1 0 0.25\n1 2 0 2 0.5\n2\n"))
    smaller = remove_epsilons_locally(fst)
    assert smaller.arcs.tolist() == [(1, 2, 0.75, 2)]


def test_log_add():
    assert log_add(1.0, 2.0) == pytest.approx(-np.log(np.exp(-1.0) + np.exp(-2.0)))
    assert log_add(np.inf, 3.0) == log_add(3.0, np.inf) == 3.0


@pytest.mark.parametrize("seed", range(5))
def test_pushing_makes_every_state_sum_to_the_same_and_keeps_paths(seed):
    fst = random_fst(np.random.default_rng(seed), 8, epsilon_share=0.0)
    pushed = push_special(fst)
    assert path_costs(pushed) == pytest.approx(path_costs(fst), abs=1e-4)
    sums = np.bincount(pushed.sources(), np.exp(-pushed.arcs["weight"]), minlength=8) + np.exp(-pushed.final)
    np.testing.assert_allclose(np.log(sums), np.log(sums[0]), atol=2e-3)


def test_separating_states_leaves_one_class_into_each():
    fst = from_kaldifst(kaldifst.compile("0 2 1 0\n0 2 2 5\n0 1 1 0\n1 2 0 0\n1 0 3 0\n2 0 2 0\n2\n"))
    split = separate_entered_states(fst, fst.arcs["ilabel"].astype(np.int32))
    classes: dict[int, set[int]] = {split.start: {0}}
    for arc in split.arcs:
        classes.setdefault(int(arc["nextstate"]), set()).add(int(arc["ilabel"]))
    assert all(len(entering) == 1 for entering in classes.values())
    assert split.num_states > fst.num_states


def test_removing_symbols_and_refusing_self_loops():
    fst = from_kaldifst(kaldifst.compile("0 1 7 0\n1 1 8 0\n1\n"))
    assert remove_input_symbols(fst, [7, 9]).arcs["ilabel"].tolist() == [0, 8]
    model = TransitionModel.read(GRAPHS.parent / "model" / "mono" / "final.mdl")
    looped = FstArrays(0, np.array([0], np.float32), np.array([0, 1]), np.zeros(1, ARC))
    looped.arcs["ilabel"] = int(model.self_loop_of[1])
    with pytest.raises(DataError, match="self-loops already"):
        add_self_loops(looped, model, 0.1)
    looped.arcs["ilabel"] = model.num_transition_ids + 1
    with pytest.raises(DataError, match="label"):
        add_self_loops(looped, model, 0.1)
