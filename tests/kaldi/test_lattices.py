"""Lattices: Kaldi's own files come back byte by byte, compact ones expand as Kaldi expands them, damage is refused."""

from __future__ import annotations

import gzip
import itertools
import struct
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi.lattices import (
    ARC,
    CompactLattice,
    Lattice,
    Strings,
    compact,
    empty_lattice,
    expand,
    sort_topologically,
    state_times,
)
from acoustic.kaldi.tables import read_table
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors
from tests.kaldi.table_values import COMPACT_LATTICE, FST, LATTICE, equal, write

AnyLattice: TypeAlias = Lattice | CompactLattice
BINARY, TEXT = GOLDEN / "decode/mono/lat.ark", GOLDEN / "decode/mono/lat.txt"


@pytest.mark.parametrize("path", [BINARY, TEXT, GOLDEN / "decode/tri1/lat.ark", GOLDEN / "decode/tri1/lat.txt"])
def test_compact_lattices_of_kaldi_come_back_byte_by_byte(path: Path, tmp_path: Path) -> None:
    option = ",t" if path.suffix == ".txt" else ""
    write(f"ark{option}:{tmp_path / 'lat'}", "compact_lattice", dict(read_table(f"ark:{path}", "compact_lattice")))
    assert (tmp_path / "lat").read_bytes() == path.read_bytes()


def test_binary_and_gz_and_text_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "lat.1.gz").write_bytes(gzip.compress(BINARY.read_bytes()))
    binary, packed, text = (
        dict(read_table(f"ark:{path}", "compact_lattice")) for path in (BINARY, tmp_path / "lat.1.gz", TEXT)
    )
    assert binary.keys() == packed.keys() == text.keys() and len(text) == 6
    for utt, lattice in binary.items():
        assert equal(lattice, packed[utt])
        assert equal(lattice.arcs[["ilabel", "olabel", "nextstate"]], text[utt].arcs[["ilabel", "olabel", "nextstate"]])
        assert equal(lattice.arc_strings, text[utt].arc_strings)
        for cost in ("graph_cost", "acoustic_cost"):  # text has six digits
            np.testing.assert_allclose(lattice.arcs[cost], text[utt].arcs[cost], rtol=1e-5)


Paths = set[tuple[tuple[int, ...], tuple[int, ...], float]]


def paths(lattice: Lattice, state: int | None = None) -> Paths:
    """All paths: transition_ids, words, cost."""
    state = lattice.start if state is None else state
    found: Paths = {((), (), float(lattice.final[state].sum()))} if lattice.is_final[state] else set()
    for ilabel, olabel, graph_cost, acoustic_cost, target in lattice.arcs[
        lattice.first_arc[state] : lattice.first_arc[state + 1]
    ].tolist():
        for ids, words, cost in paths(lattice, target):
            cost += graph_cost + acoustic_cost
            found.add(((ilabel,) * (ilabel > 0) + ids, (olabel,) * (olabel > 0) + words, cost))
    return found


def test_expanding_puts_word_and_costs_on_the_first_arc() -> None:
    lattice = expand(COMPACT_LATTICE)
    assert paths(lattice) == {((3, 3, 7, 8, 7), (4,), 12.25), ((7, 8, 7), (6,), 1.75)}
    # states: 0 and 1, then one within the first arc's string, three behind the final state, numbered by state
    assert lattice.arcs.tolist() == [
        (3, 4, 0.5, 10.0, 2), (0, 6, 0.0, 0.0, 1), (7, 0, 0.5, 1.25, 3), (3, 0, 0.0, 0.0, 1), (8, 0, 0.0, 0.0, 4),
        (7, 0, 0.0, 0.0, 5),
    ]  # fmt: skip
    assert lattice.first_arc.tolist() == [0, 2, 3, 4, 5, 6, 6] and lattice.is_final.tolist() == 5 * [False] + [True]


def test_a_path_may_end_with_a_string_where_others_go_on() -> None:
    both = CompactLattice(
        0, np.array([[0.5, 1.0], [0.25, 2.0]], np.float32), np.array([0, 2, 2]),
        np.array([(4, 4, 1.0, 3.0, 1), (6, 6, 2.0, 4.0, 1)], ARC), None,
        arc_strings=Strings.of([[1, 2, 3], [7, 8]]), final_strings=Strings.of([[5, 6], [9, 9, 9]]),
    )  # fmt: skip
    expected = {((5, 6), (), 1.5), ((1, 2, 3, 9, 9, 9), (4,), 6.25), ((7, 8, 9, 9, 9), (6,), 8.25)}
    assert paths(expand(both)) == expected
    assert paths(sort_topologically(expand(both))) == expected


def test_either_kind_is_read_as_the_other(tmp_path: Path) -> None:
    for option in ("", ",t"):
        write(f"ark{option}:{tmp_path / 'lat'}", "lattice", {"utt": LATTICE})
        [(_, as_compact)] = read_table(f"ark:{tmp_path / 'lat'}", "compact_lattice")
        assert equal(as_compact, compact(LATTICE)) and paths(expand(as_compact)) == paths(LATTICE)
        write(f"ark{option}:{tmp_path / 'lat'}", "compact_lattice", {"utt": COMPACT_LATTICE})
        [(_, as_states)] = read_table(f"ark:{tmp_path / 'lat'}", "lattice")
        assert equal(as_states, expand(COMPACT_LATTICE))


def random_lattice(seed: int, num_frames: int = 5) -> Lattice:
    """A lattice with epsilon arcs whose states have shuffled numbers; some of them lead nowhere or are not reached."""
    generator = np.random.default_rng(seed)
    times = np.concatenate([[0], np.sort(generator.integers(0, num_frames + 1, 12)), [num_frames]])
    number = generator.permutation(len(times))
    arcs: list[list[tuple[int, int, float, float, int]]] = [[] for _ in times]
    for source, target in itertools.combinations(range(len(times)), 2):
        step = times[target] - times[source]
        if step <= 1 and generator.random() < 0.6:
            costs = generator.normal(size=2).round(3).tolist()
            arcs[number[source]].append((int(step), int(generator.integers(3)), *costs, int(number[target])))
    final = np.full((len(times), 2), np.inf, np.float32)
    final[number[-1]] = 0.5, 0.25
    first = np.concatenate([[0], np.cumsum([len(group) for group in arcs])])
    return Lattice(int(number[0]), final, first, np.array([arc for group in arcs for arc in group], ARC), None)


@pytest.mark.parametrize("seed", range(5))
def test_sorting_keeps_the_paths(seed: int) -> None:
    lattice = random_lattice(seed)
    ordered = sort_topologically(lattice)
    assert ordered.start == 0 and (ordered.sources() < ordered.arcs["nextstate"]).all()
    # float32 costs are added in the same order along a path, so that they are the same bits
    assert paths(ordered) == paths(lattice)
    times = state_times(ordered)
    assert times[0] == 0 and times[ordered.is_final].tolist() in ([], [5])
    steps = times[ordered.arcs["nextstate"]] - times[ordered.sources()]
    np.testing.assert_array_equal(steps, ordered.arcs["ilabel"] != 0)


def test_times_of_kaldis_lattices_are_the_frames_of_their_utterances() -> None:
    lengths = {line.split()[0]: len(line.split()) - 1 for line in (GOLDEN / "decode/mono/ali.txt").open()}
    for utt, lattice in read_table(f"ark:{BINARY}", "lattice"):
        assert state_times(sort_topologically(lattice)).max() == lengths[utt]


def test_cycles_and_paths_of_different_lengths_are_refused() -> None:
    final = np.array([[np.inf, np.inf], [0, 0]], np.float32)
    loop = Lattice(0, final, np.array([0, 1, 2]), np.array([(1, 1, 0, 0, 1), (1, 1, 0, 0, 0)], ARC), None)
    with pytest.raises(DataError, match="cycle"):
        sort_topologically(loop)
    behind_the_start = Lattice(
        0, np.array([[np.inf, np.inf], [np.inf, np.inf], [0, 0]], np.float32), np.array([0, 1, 2, 3]),
        np.array([(1, 1, 0, 0, 1), (1, 1, 0, 0, 2), (1, 1, 0, 0, 1)], ARC), None,
    )  # fmt: skip
    with pytest.raises(DataError, match="cycle"):
        sort_topologically(behind_the_start)
    uneven = Lattice(0, final, np.array([0, 2, 2]), np.array([(1, 1, 0, 0, 1), (0, 1, 0, 0, 1)], ARC), None)
    with pytest.raises(DataError, match="different lengths"):
        state_times(uneven)
    early = Lattice(0, 0 * final[[1, 1]], np.array([0, 1, 1]), uneven.arcs[:1], None)
    with pytest.raises(DataError, match="before the last frame"):
        state_times(early)


def test_an_empty_lattice_is_a_value(tmp_path: Path) -> None:
    for option in ("", ",t"):
        write(f"ark{option}:{tmp_path / 'lat'}", "lattice", {"utt": empty_lattice()})
        for kind in ("lattice", "compact_lattice"):
            [(_, lattice)] = read_table(f"ark:{tmp_path / 'lat'}", kind)
            assert lattice.num_states == 0 and lattice.start == -1
    assert equal(sort_topologically(empty_lattice()), empty_lattice()) and len(state_times(empty_lattice())) == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\n0 1 5 0.5,0.5\n1\n\n", "5 0.5,0.5"),  # compact weight without a string
        ("\n0 1 5 3 0.5,0.5,4\n1\n\n", "0.5,0.5,4"),
        ("\n0 1 5 0.5,0.5,4_x\n1\n\n", "4_x"),
        ("\n0 1 5 0.5,0.5,0\n1\n\n", "0.5,0.5,0"),
        ("\n0 1 5 nan,0.5,4\n1\n\n", "not a number"),
        ("\n0 900000000 5 1,0.5,4\n1\n\n", "900000000"),
        ("\n0 1 99999999999 1,0.5,4\n1\n\n", "99999999999"),
        ("\n0 1 -5 1,0.5,4\n1\n\n", "-5"),
        ("\n0 1 5 1,0.5,4\n1 Infinity,0.5,\n\n", "not a number"),
        (" x\n0\n\n", "newline"),
        ("\n0 1 5 1,0.5,4\n1\n", "no newline"),
    ],
)
def test_malformed_text_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "lat").write_text(f"utt {text}")
    with pytest.raises(DataError, match="utt") as caught:
        list(read_table(f"ark:{tmp_path / 'lat'}", "lattice"))
    assert problem in str(caught.value)


def test_announced_lengths_are_not_believed(tmp_path: Path) -> None:
    whole = BINARY.read_bytes()
    first_state = whole.index(b"compactlattice44") + 16 + 40
    for offset, form, value in ((-16, "<q", 2**31 - 1), (8, "<i", 2**31 - 1), (12, "<q", 2**62), (-16, "<q", -2)):
        damaged = bytearray(whole)
        struct.pack_into(form, damaged, first_state + offset, value)
        (tmp_path / "lat").write_bytes(damaged)
        with pytest.raises(DataError):
            list(read_table(f"ark:{tmp_path / 'lat'}", "compact_lattice"))


@pytest.mark.parametrize(("place", "value"), [(0, 3), (4, 1), (4, 2)])
def test_other_versions_and_symbol_tables_are_refused(place: int, value: int, tmp_path: Path) -> None:
    whole = BINARY.read_bytes()
    damaged = bytearray(whole)
    struct.pack_into("<i", damaged, whole.index(b"compactlattice44") + 16 + place, value)
    (tmp_path / "lat").write_bytes(damaged)
    with pytest.raises(DataError, match=r"has version \d and flags"):
        list(read_table(f"ark:{tmp_path / 'lat'}", "compact_lattice"))


def changed(lattice: AnyLattice, place: str, index: int, value: float) -> AnyLattice:
    """The lattice with another start, or another number in a field of `arcs` or in a column of `final`."""
    if place == "start":
        return replace(lattice, start=int(value))
    arcs, final = lattice.arcs.copy(), lattice.final.copy()
    if place.startswith("final"):
        final[index, int(place[-1])] = value
    else:
        arcs[place][index] = value
    return replace(lattice, arcs=arcs, final=final)


@pytest.mark.parametrize("lattice", [LATTICE, COMPACT_LATTICE], ids=["lattice", "compact"])
@pytest.mark.parametrize(
    ("place", "index", "value", "problem"),
    [
        ("start", 0, 9, "start state 9"),
        ("start", 0, -2, "start state -2"),
        ("nextstate", 1, 9, "an arc to a state"),
        ("nextstate", 1, -1, "an arc to a state"),
        ("ilabel", 0, -1, "negative"),
        ("olabel", 1, -1, "negative"),
        ("graph_cost", 0, np.nan, "not a number"),
        ("acoustic_cost", 1, np.inf, "not a number"),
        ("final0", -1, np.nan, "not a number|not final"),
        ("final1", -1, -np.inf, "not a number|not final"),
        ("final0", -1, np.inf, "not a number|not final"),
        ("final1", -1, np.inf, "not a number|not final"),
    ],
)
def test_lattices_that_make_no_sense_are_refused(
    lattice: AnyLattice, place: str, index: int, value: float, problem: str, tmp_path: Path
) -> None:
    kind = "lattice" if isinstance(lattice, Lattice) else "compact_lattice"
    write(f"ark:{tmp_path / 'lat'}", kind, {"utt": changed(lattice, place, index, value)})
    with pytest.raises(DataError, match=f"utt.*({problem})"):
        list(read_table(f"ark:{tmp_path / 'lat'}", kind))


@pytest.mark.parametrize("wrong", [0, -3])
def test_strings_of_other_numbers_than_transition_ids_are_refused(wrong: int, tmp_path: Path) -> None:
    for lattice in (
        replace(COMPACT_LATTICE, arc_strings=Strings.of([[3, wrong], []])),
        replace(COMPACT_LATTICE, final_strings=Strings.of([[], [7, wrong, 7]])),
    ):
        write(f"ark:{tmp_path / 'lat'}", "compact_lattice", {"utt": lattice})
        with pytest.raises(DataError, match="negative"):
            list(read_table(f"ark:{tmp_path / 'lat'}", "compact_lattice"))


def test_a_string_behind_a_state_that_is_not_final_is_refused(tmp_path: Path) -> None:
    final = np.full_like(COMPACT_LATTICE.final, np.inf)
    write(f"ark:{tmp_path / 'lat'}", "compact_lattice", {"utt": replace(COMPACT_LATTICE, final=final)})
    with pytest.raises(DataError, match="behind a state that is not final"):
        list(read_table(f"ark:{tmp_path / 'lat'}", "compact_lattice"))


def test_other_transducers_are_refused(tmp_path: Path) -> None:
    write(f"ark:{tmp_path / 'fst'}", "fst", {"utt": FST})
    with pytest.raises(DataError, match="which is no lattice"):
        list(read_table(f"ark:{tmp_path / 'fst'}", "lattice"))


@pytest.mark.parametrize("option", ["", ",t"])
@pytest.mark.parametrize("kind", ["lattice", "compact_lattice"])
def test_damage_gives_data_errors_only(kind: str, option: str, tmp_path: Path) -> None:
    entries = dict(itertools.islice(read_table(f"ark:{BINARY}", kind), 2))
    write(f"ark{option}:{tmp_path / 'seed'}", kind, entries)
    assert_only_data_errors(
        (tmp_path / "seed").read_bytes(), tmp_path / "lat", lambda path: list(read_table(f"ark:{path}", kind)), 60
    )


def test_strings_know_their_lengths() -> None:
    strings = Strings.of([[1, 2], [], [3]])
    assert len(strings) == 3 and strings.lengths.tolist() == [2, 0, 1] and strings[2].tolist() == [3]
    assert isinstance(compact(LATTICE), CompactLattice)
