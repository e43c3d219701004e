"""Tables that must be refused: cut, damaged, contradictory; and fuzzing."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoustic.errors import DataError
from acoustic.kaldi.holders import KINDS
from acoustic.kaldi.tables import RandomAccessTable, TableWriter, read_table
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors
from tests.kaldi.table_values import VALUES, write


def small_archives(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """Archives of every kind, binary and text, whose keys are long enough to be cut."""
    for kind in KINDS:
        for option in ("", ",t"):
            path = tmp_path / f"{kind}{option[1:]}.ark"
            write(
                f"ark{option},scp:{path},{path}.scp",
                kind,
                {"key1": VALUES[kind][0], "key2": VALUES[kind][0]},
            )
            yield kind, option, path


def test_an_archive_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    num_refused = 0
    for kind, _, path in small_archives(tmp_path):
        whole, script = path.read_bytes(), path.with_name(f"{path.name}.scp")
        boundary = whole.index(b"key2")
        for num_bytes in range(len(whole)):
            path.write_bytes(whole[:num_bytes])
            if num_bytes in (0, boundary):  # such a cut shows only through the scp
                assert len(list(read_table(f"ark:{path}", kind))) == (num_bytes > 0)
            else:
                with pytest.raises(DataError) as caught:
                    list(read_table(f"ark:{path}", kind))
                assert caught.value.byte is not None and str(path) in str(caught.value)
            with pytest.raises(DataError):
                list(read_table(f"scp:{script}", kind))
            num_refused += 1
    assert num_refused > 500


def test_a_script_cut_at_any_byte_of_its_last_line_is_refused(table: dict[str, Any], tmp_path: Path) -> None:
    whole = (tmp_path / "x.scp").read_bytes()
    for num_bytes in range(whole.rindex(b"utt2") + 1, len(whole)):
        (tmp_path / "x.scp").write_bytes(whole[:num_bytes])
        with pytest.raises(DataError, match=r"newline|without a file"):
            list(read_table(f"scp:{tmp_path / 'x.scp'}", "matrix"))


def test_a_gzip_archive_cut_at_any_byte_or_with_garbage_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress((GOLDEN / "align/tri1/ali.ark").read_bytes()[:500])
    path = tmp_path / "x.gz"
    for damage in [packed[:n] for n in range(len(packed))] + [packed + b"garbage"]:
        path.write_bytes(damage)
        with pytest.raises(DataError):
            list(read_table(f"ark:{path}", "int_vector"))


@pytest.mark.parametrize("command", ["cat {}; exit 1", "cat {}; kill -9 $$", "(cat {}; false) | cat"])
def test_a_failing_command_is_refused_though_all_its_data_came(
    command: str, table: dict[str, Any], tmp_path: Path
) -> None:
    rspecifier = f"ark:{command.format(tmp_path / 'x.ark')} |"
    with pytest.raises(DataError, match="command"):
        list(read_table(rspecifier, "matrix"))
    random = RandomAccessTable(rspecifier, "matrix")
    assert "utt0" in random
    with pytest.raises(DataError, match="command"):
        random.close()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("kill -9 $$", r"killed by signal 9 \(SIGKILL\)"),
        ("kill -35 $$", "killed by signal 35;"),
        ("(exit 137)", r"exit status 137 \(signal SIGKILL\)"),
        ("(exit 163)", "exit status 163;"),
        ("exit 128", "exit status 128;"),
    ],
)
def test_it_is_told_how_a_command_failed_whatever_the_signal(command: str, told: str) -> None:
    with pytest.raises(DataError, match=f"the command .*{told}"):
        list(read_table(f"ark:{command} |", "matrix"))


def test_keys_that_come_twice_are_refused(table: dict[str, Any], tmp_path: Path) -> None:
    archive = (tmp_path / "x.ark").read_bytes()
    (tmp_path / "x.ark").write_bytes(archive + archive)
    with pytest.raises(DataError, match=rf"utterance utt0, byte {len(archive)}"):
        list(read_table(f"ark:{tmp_path / 'x.ark'}", "matrix"))
    script = (tmp_path / "x.scp").read_text()
    (tmp_path / "x.scp").write_text(script + script.splitlines()[1] + "\n")
    for open_table in (lambda name: list(read_table(name, "matrix")), lambda name: RandomAccessTable(name, "matrix")):
        with pytest.raises(DataError, match="line 4, utterance utt1: comes twice"):
            open_table(f"scp:{tmp_path / 'x.scp'}")
    with pytest.raises(DataError, match="twice"), TableWriter(f"ark:{tmp_path / 'y'}", "int32") as writer:
        writer.write("a", 1)
        writer.write("a", 1)
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("key", ["", "a b", "a\n", "a\0b", "a\x1fb", "\x7f", "\udc80"])
def test_keys_that_could_not_be_read_back_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(DataError), TableWriter(f"ark:{tmp_path / 'y'}", "int32") as writer:
        writer.write(key, 1)
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    "content",
    [b"k\xff 1\n", b"k\0 1\n", b"k 1\n\x7fl 1\n", b"k", b"k 1 2\n", b"k x\n", b"\0B\4\0", b"k" * 100_000 + b" 1\n"],
)
def test_malformed_archives_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError):
        list(read_table(f"ark:{tmp_path / 'x'}", "int32"))


@pytest.mark.parametrize(
    "text", ["[ 12 0.6 34 ]", "[ 12 x ]", "[ 1.5 0.6 ]", "[ 1 0.5 ] x [ 2 1 ]", "x [ 1 1 ]", "[ 1 1", "[ 1 1 ] ]"]
)
def test_malformed_posteriors_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(f"utt1 {text}\n")
    with pytest.raises(DataError, match="utt1"):
        list(read_table(f"ark:{tmp_path / 'x'}", "posterior"))


def test_alignments_read_as_posteriors_are_told_as_such(tmp_path: Path) -> None:
    for text, told in (("12 13 13", True), ("12 x", False)):
        (tmp_path / "x").write_text(f"utt1 {text}\n")
        with pytest.raises(DataError, match="expected \\[ of a posterior") as caught:
            list(read_table(f"ark:{tmp_path / 'x'}", "posterior"))
        assert ("these look like alignments" in str(caught.value)) == told


@pytest.mark.parametrize("place", [0, 5, 10, 15])
def test_posteriors_whose_numbers_have_another_size_are_refused(place: int, tmp_path: Path) -> None:
    """The byte before an id or a weight says how long it is; 8 would be that of a double."""
    write(f"ark:{tmp_path / 'x'}", "posterior", {"utt1": VALUES["posterior"][0]})
    content = bytearray((tmp_path / "x").read_bytes())
    first_pair = content.index(b"\0B") + 2 + 5 + 5  # behind the numbers of frames and of pairs
    assert content[first_pair + place] == 4
    content[first_pair + place] = 8
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match="expected pairs of an int32 and a float"):
        list(read_table(f"ark:{tmp_path / 'x'}", "posterior"))


@pytest.mark.parametrize(
    "script",
    [
        b"\n",
        b"a\n",
        b"a x.ark:1",
        b"\xff x.ark:1\n",
        b"\0B x\n",
        b"a x.ark]\n",
        b"a [0:1]\n",
        b"a | x\n",
        b"a no/such/file:0\n",
    ],
)
def test_malformed_scripts_are_refused(script: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.scp").write_bytes(script)
    with pytest.raises(DataError, match=r"x\.scp|utterance a"):
        list(read_table(f"scp:{tmp_path / 'x.scp'}", "matrix"))


def test_the_permissive_option_leaves_out_what_cannot_be_read(table: dict[str, Any], tmp_path: Path) -> None:
    script = (tmp_path / "x.scp").read_text().splitlines()
    (tmp_path / "x.scp").write_text(f"{script[0]}\nbad no/such/file:7\n{script[2]}\n")
    assert [key for key, _ in read_table(f"scp,p:{tmp_path / 'x.scp'}", "matrix")] == ["utt0", "utt2"]
    with RandomAccessTable(f"scp,p:{tmp_path / 'x.scp'}", "matrix") as random:
        assert "bad" not in random and "utt2" in random
    content = (tmp_path / "x.ark").read_bytes()
    (tmp_path / "x.ark").write_bytes(content[:-1])
    assert [key for key, _ in read_table(f"ark,p:{tmp_path / 'x.ark'}", "matrix")] == ["utt0", "utt1"]


def test_broken_promises_of_order_are_refused(tmp_path: Path) -> None:
    write(f"ark:{tmp_path / 'x'}", "int32", {"b": 1, "a": 2, "c": 3})
    with RandomAccessTable(f"ark:{tmp_path / 'x'}", "int32") as random:
        assert random["c"] == 3 and random["b"] == 1
    with pytest.raises(DataError, match="option s"), RandomAccessTable(f"ark,s:{tmp_path / 'x'}", "int32") as random:
        random.get("c")
    write(f"ark:{tmp_path / 'x'}", "int32", {"a": 1, "b": 2, "c": 3})
    with (
        pytest.raises(DataError, match="option cs"),
        RandomAccessTable(f"ark,s,cs:{tmp_path / 'x'}", "int32") as random,
    ):
        assert random["b"] == 2
        random.get("a")
    with pytest.raises(DataError, match="option o"), RandomAccessTable(f"ark,o:{tmp_path / 'x'}", "int32") as random:
        assert random["b"] == 2
        random.get("b")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", ["", ",t"])
def test_damage_gives_values_or_a_data_error(kind: str, option: str, tmp_path: Path) -> None:
    write(f"ark{option}:{tmp_path / 'x'}", kind, {f"key{i}": value for i, value in enumerate(VALUES[kind])})
    content = (tmp_path / "x").read_bytes()
    path = tmp_path / "y"
    assert_only_data_errors(content, path, lambda name: list(read_table(f"ark:{name}", kind)), 100)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [
            "feats/two.ark",
            "feats/fbank40_compress1.ark",
            "feats/fbank40_compress3.ark",
            "align/tri1/ali.ark",
            "align/tri1/pdf_post.ark",
            "align/tri1/ali.1.gz",
        ]
    ),
    kind=st.sampled_from(sorted(KINDS)),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 3), st.binary(min_size=0, max_size=6)), max_size=4),
    through_pipe=st.booleans(),
)
def test_fuzz(name: str, kind: str, edits: list[tuple[int, int, bytes]], through_pipe: bool, tmp_path: Path) -> None:
    content = bytearray((GOLDEN / name).read_bytes()[:5000])
    for position, num_replaced, replacement in edits:
        content[position : position + num_replaced] = replacement
    path = tmp_path / Path(name).name
    path.write_bytes(content)
    try:
        for key, _ in read_table(f"ark:cat {path} |" if through_pipe else f"ark:{path}", kind):
            assert key
    except DataError as error:
        assert str(path) in str(error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.binary(max_size=40).filter(lambda line: b"|" not in line))
def test_fuzz_of_scripts(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.scp").write_bytes(b"utt1 " + line + b"\n")
    try:
        list(read_table(f"scp:{tmp_path / 'x.scp'}", "matrix"))
    except DataError as error:
        assert "x.scp" in str(error) or "utterance" in str(error)
