"""Tables: round trips with Kaldi's and kaldiio's files, options, and what must be refused."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest

from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.holders import KINDS
from acoustic.kaldi.tables import RandomAccessTable, TableWriter, read_table
from tests.kaldi.goldens import GOLDEN
from tests.kaldi.table_values import VALUES, equal, write

ARCHIVES = [
    ("feats/two.ark", "matrix"),
    ("feats/fbank40.ark", "matrix"),
    ("feats/cmvn_spk.ark", "matrix"),
    ("align/mono/ali.ark", "int_vector"),
    ("align/tri1/ali.ark", "int_vector"),
    ("align/tri1/pdf_post.ark", "posterior"),
    ("nnet1/two_posteriors.ark", "matrix"),
]


@pytest.mark.parametrize(("name", "kind"), ARCHIVES)
def test_kaldis_archives_are_written_back_byte_for_byte(name: str, kind: str, tmp_path: Path) -> None:
    entries = dict(read_table(f"ark:{GOLDEN / name}", kind))
    write(f"ark:{tmp_path / 'x'}", kind, entries)
    assert (tmp_path / "x").read_bytes() == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize(
    ("binary", "text", "kind"),
    [
        ("align/mono/ali.ark", "align/mono/ali.txt", "int_vector"),
        ("align/tri1/ali.ark", "align/tri1/ali.txt", "int_vector"),
    ],
)
def test_kaldis_text_archives_hold_the_same_and_are_written_back(
    binary: str, text: str, kind: str, tmp_path: Path
) -> None:
    from_binary = dict(read_table(f"ark:{GOLDEN / binary}", kind))
    from_text = dict(read_table(f"ark:{GOLDEN / text}", kind))
    assert list(from_binary) == list(from_text)
    assert all(equal(from_binary[key], from_text[key]) for key in from_text)
    write(f"ark,t:{tmp_path / 'x'}", kind, from_binary)
    assert (tmp_path / "x").read_bytes() == (GOLDEN / text).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", ["", ",t"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_kind_comes_back(kind: str, option: str, suffix: str, tmp_path: Path) -> None:
    entries = {f"key{i}": value for i, value in enumerate(VALUES[kind])}
    write(f"ark{option}:{tmp_path / f'x{suffix}'}", kind, entries)
    back = dict(read_table(f"ark:{tmp_path / f'x{suffix}'}", kind))
    assert list(back) == list(entries)
    for key, value in entries.items():
        assert np.allclose(back[key], value, rtol=1e-6) if kind == "float" else equal(back[key], value)


def test_tables_with_kaldiio(tmp_path: Path) -> None:
    entries = dict(read_table(f"ark:{GOLDEN / 'feats/two.ark'}", "matrix"))
    write(f"ark,scp:{tmp_path / 'x.ark'},{tmp_path / 'x.scp'}", "matrix", entries)
    theirs = kaldiio.load_scp(str(tmp_path / "x.scp"))
    assert all(equal(theirs[key], value) for key, value in entries.items())
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path / 'y.ark'},{tmp_path / 'y.scp'}") as helper:
        for key, value in entries.items():
            helper(key, value)
    for rspecifier in (f"ark:{tmp_path / 'y.ark'}", f"scp:{tmp_path / 'y.scp'}"):
        back = dict(read_table(rspecifier, "matrix"))
        assert list(back) == list(entries) and all(equal(back[key], value) for key, value in entries.items())


@pytest.mark.parametrize(
    "rspecifier",
    [
        "ark:{}/x.ark",
        "scp:{}/x.scp",
        "ark:cat {}/x.ark |",
        "scp,p:cat {}/x.scp |",
        "ark,s,cs:{}/x.ark",
        "b,t,bg,ark:{}/x.ark",
    ],
)
def test_rspecifiers(rspecifier: str, table: dict[str, Any], tmp_path: Path) -> None:
    back = dict(read_table(rspecifier.format(tmp_path), "matrix"))
    assert list(back) == list(table) and all(equal(back[key], table[key]) for key in table)
    with RandomAccessTable(rspecifier.format(tmp_path), "matrix") as random:
        assert "utt" not in random
        assert "utt1" in random and equal(random["utt1"], table["utt1"])
        assert random.get("utt1x") is None
        assert equal(random.get("utt2"), table["utt2"])
        with pytest.raises(DataError, match="zzz"):
            random["zzz"]


@pytest.mark.parametrize("options", ["ark", "ark,o", "ark,s,cs", "scp"])
def test_keys_that_were_never_asked_for(options: str, tmp_path: Path) -> None:
    with TableWriter(f"ark,scp:{tmp_path / 'ark'},{tmp_path / 'scp'}", "int_vector") as writer:
        for key in "abcde":
            writer.write(key, np.array([1], dtype=np.int32))
    with RandomAccessTable(f"{options}:{tmp_path / options[:3]}", "int_vector") as random:
        assert "b" in random and list(random["b"]) == [1]
        assert "bb" not in random and "d" in random
        assert random.unasked() == ["a", "c", "e"]


@pytest.mark.parametrize(
    "specifier",
    ["x.ark", "foo:x.ark", "ark,scp:x.ark", "ark,q:x", "ark:x ", "scp,ark:a,b", "ark,scp:-,b", "ark,scp:a.gz,b"],
)
def test_what_is_no_specifier_is_a_config_error(specifier: str) -> None:
    with pytest.raises(ConfigError):
        TableWriter(specifier, "matrix")
    with pytest.raises(ConfigError):
        read_table(specifier, "matrix")


def test_kinds_and_compression_are_checked() -> None:
    for call in (lambda: read_table("ark:x", "pickle"), lambda: TableWriter("ark:x", "vector", compression_method=2)):
        with pytest.raises(ConfigError):
            call()


@pytest.mark.parametrize(
    ("range_", "rows", "cols"),
    [
        ("0:3", slice(0, 4), slice(None)),
        ("2:2,0:0", slice(2, 3), slice(0, 1)),
        (":,1:1", slice(None), slice(1, 2)),
        ("8:11", slice(8, 10), slice(None)),
    ],
)
def test_ranges(range_: str, rows: slice, cols: slice, table: dict[str, Any], tmp_path: Path) -> None:
    lines = (tmp_path / "x.scp").read_text().splitlines()
    (tmp_path / "r.scp").write_text("".join(f"{line}[{range_}]\n{line.replace('utt', 'all', 1)}\n" for line in lines))
    back = dict(read_table(f"scp:{tmp_path / 'r.scp'}", "matrix"))
    for key, value in table.items():
        np.testing.assert_array_equal(back[key], value[rows, cols])
        np.testing.assert_array_equal(back[key.replace("utt", "all")], value)


def test_ranges_of_vectors(tmp_path: Path) -> None:
    write(f"ark,scp:{tmp_path / 'v.ark'},{tmp_path / 'v.scp'}", "vector", {"a": np.arange(9.0)})
    line = (tmp_path / "v.scp").read_text().strip()
    (tmp_path / "v.scp").write_text(f"{line}[2:4]\n")
    assert dict(read_table(f"scp:{tmp_path / 'v.scp'}", "vector"))["a"].tolist() == [2, 3, 4]


@pytest.mark.parametrize("range_", ["0:13", "4:3", "10:11", "0:", "-1:2", "0:1,0:2", "0:1,0:1,0:1", "a:b", ""])
def test_ranges_that_do_not_fit(range_: str, table: dict[str, Any], tmp_path: Path) -> None:
    lines = (tmp_path / "x.scp").read_text().splitlines()
    (tmp_path / "r.scp").write_text(f"{lines[0]}[{range_}]\n")
    with pytest.raises(DataError, match="utt0"):
        list(read_table(f"scp:{tmp_path / 'r.scp'}", "matrix"))


def test_an_empty_table_has_no_entries(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for rspecifier in (f"ark:{tmp_path / 'empty'}", f"scp:{tmp_path / 'empty'}", "ark:true |"):
        assert list(read_table(rspecifier, "matrix")) == []
        with RandomAccessTable(rspecifier, "matrix") as random:
            assert "a" not in random


def test_archive_and_script_appear_together_or_not_at_all(table: dict[str, Any], tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    wspecifier = f"ark,scp:{tmp_path / 'x.ark'},{tmp_path / 'x.scp'}"
    with pytest.raises(DataError, match="utt1"), TableWriter(wspecifier, "matrix", compression_method=2) as writer:
        writer.write("utt0", table["utt0"])
        writer.write("utt1", np.full((10, 2), np.nan))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_leaves_the_earlier_table(table: dict[str, Any], tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for size in (30_000, 24_990):  # met while writing, and when the last bytes are flushed
            with pytest.raises(DataError, match="too large"):
                write(
                    f"ark,scp:{tmp_path / 'x.ark'},{tmp_path / 'x.scp'}",
                    "vector",
                    {"a": np.zeros(size), "b": np.zeros(9)},
                )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_output_to_commands(tmp_path: Path) -> None:
    write(f"ark,f:| gzip -c > {tmp_path / 'x.gz'}", "int32", {"a": 1})
    assert dict(read_table(f"ark:{tmp_path / 'x.gz'}", "int32")) == {"a": 1}
    with pytest.raises(DataError, match="exit status 7"):
        write("ark:| head -c 10 > /dev/null; exit 7", "vector", {f"k{i}": np.zeros(10_000) for i in range(100)})


def test_values_in_files_that_a_script_names(tmp_path: Path) -> None:
    (tmp_path / "names.scp").write_text(f"a {tmp_path / 'a.mat'}\nb {tmp_path / 'b.mat'}\n")
    entries = {"a": np.ones((2, 2)), "b": np.zeros((1, 3))}
    write(f"scp:{tmp_path / 'names.scp'}", "matrix", entries)
    back = dict(read_table(f"scp:{tmp_path / 'names.scp'}", "matrix"))
    assert all(equal(back[key], value) for key, value in entries.items())
    with pytest.raises(DataError, match="names no file"):
        write(f"scp:{tmp_path / 'names.scp'}", "matrix", {"c": np.ones((2, 2))})
    write(f"scp,p:{tmp_path / 'names.scp'}", "matrix", {"c": np.ones((2, 2))})
