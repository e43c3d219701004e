"""Data directories: reading, writing, and every fault named with file, line, utterance and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from acoustic.errors import DataError
from acoustic.kaldi.datadir import DataDir, Segment, turn_round
from acoustic.kaldi.symbols import SymbolTable
from tests.kaldi.goldens import GOLDEN, damaged


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with every file, two recordings and three utterances of two speakers."""
    files = {
        "wav.scp": "rec1 wav/one.wav\nrec2 sph2pipe -f wav two.sph |\n",
        "segments": "a-1 rec1 0 1.5\na-2 rec1 1.5 2.25\nb-1 rec2 0.125 3\n",
        "text": "a-1 one two\na-2\nb-1 zwölf\u00a0Uhr\n",
        "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
        "spk2utt": "a a-1 a-2\nb b-1\n",
        "feats.scp": "a-1 feats.ark:4\na-2 feats.ark:400[0:9]\nb-1 /abs/feats.ark:800\n",
        "cmvn.scp": "a cmvn.ark:2\nb cmvn.ark:100\n",
        "utt2dur": "a-1 1.5\na-2 0.75\nb-1 2.875\n",
        "utt2num_frames": "a-1 150\na-2 75\nb-1 287\n",
        "utt2uniq": "a-1 a-1\na-2 a-1\nb-1 b-1\n",
    }
    path = tmp_path / "data"
    path.mkdir()
    for name, content in files.items():
        (path / name).write_text(content)
    return path


def test_reading(data: Path) -> None:
    read = DataDir.read(data)
    assert read.utterances == ["a-1", "a-2", "b-1"]
    assert read.wav == {"rec1": "wav/one.wav", "rec2": "sph2pipe -f wav two.sph |"}
    assert read.segments["b-1"] == Segment("rec2", 0.125, 3.0)
    assert read.text == {"a-1": ["one", "two"], "a-2": [], "b-1": ["zwölf\u00a0Uhr"]}
    assert read.utt2spk == {"a-1": "a", "a-2": "a", "b-1": "b"}
    assert read.spk2utt == {"a": ["a-1", "a-2"], "b": ["b-1"]} == turn_round(read.utt2spk)
    assert read.feats["a-2"] == "feats.ark:400[0:9]" and read.cmvn["b"] == "cmvn.ark:100"
    assert read.utt2dur["b-1"] == 2.875 and read.utt2num_frames["b-1"] == 287


def test_relative_paths_from_a_root(data: Path) -> None:
    read = DataDir.read(data, root="/corpus")
    assert read.wav == {"rec1": "/corpus/wav/one.wav", "rec2": "sph2pipe -f wav two.sph |"}
    assert read.feats == {
        "a-1": "/corpus/feats.ark:4",
        "a-2": "/corpus/feats.ark:400[0:9]",
        "b-1": "/abs/feats.ark:800",
    }
    assert read.cmvn["a"] == "/corpus/cmvn.ark:2"


def test_writing_gives_the_same_directory(data: Path, tmp_path: Path) -> None:
    read = DataDir.read(data)
    read.write(tmp_path / "copy")
    assert DataDir.read(tmp_path / "copy") == read
    for name in {path.name for path in data.iterdir()} - {"segments"}:
        assert (tmp_path / "copy" / name).read_bytes() == (data / name).read_bytes()


def test_writing_sorts_makes_spk2utt_and_removes_what_is_empty(data: Path) -> None:
    DataDir(wav={"b": "b.wav", "B": "B.wav"}, utt2spk={"b": "s", "B": "s"}).write(data)
    assert (data / "wav.scp").read_text() == "B B.wav\nb b.wav\n"
    assert (data / "spk2utt").read_text() == "s B b\n"
    assert sorted(path.name for path in data.iterdir()) == ["spk2utt", "utt2spk", "wav.scp"]


def test_words_with_white_space_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        DataDir(text={"a": ["one two"]}).write(tmp_path)


def test_subset(data: Path) -> None:
    part = DataDir.read(data).subset(["b-1"])
    assert part.utterances == ["b-1"] and list(part.wav) == ["rec2"] and part.spk2utt == {"b": ["b-1"]}
    assert list(part.cmvn) == ["b"] and list(part.feats) == list(part.text) == list(part.utt2dur) == ["b-1"]
    without_segments = DataDir(wav={"a": "a.wav", "b": "b.wav"}).subset(["b"])
    assert without_segments.wav == {"b": "b.wav"}


def test_files_are_optional(tmp_path: Path) -> None:
    (tmp_path / "feats.scp").write_text("a feats.ark:2\n")
    assert DataDir.read(tmp_path).utterances == ["a"]


def append(name: str, line: str) -> Callable[[Path], None]:
    def edit(data: Path) -> None:
        (data / name).write_text((data / name).read_text() + line)

    return edit


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(data: Path) -> None:
        text = (data / name).read_text()
        assert old in text
        (data / name).write_text(text.replace(old, new))

    return edit


@pytest.mark.parametrize(
    ("edit", "name", "line", "utt"),
    [
        (append("utt2spk", "b-1 b\n"), "utt2spk", 4, "b-1"),
        (append("text", "a-3 six\n"), "text", 4, "a-3"),
        (replace("feats.scp", "a-1 ", "z-1 "), "feats.scp", 2, "a-2"),
        (replace("wav.scp", "rec2 ", "recB "), "segments", None, "b-1"),
        (replace("wav.scp", " wav/one.wav", ""), "wav.scp", 1, "rec1"),
        (replace("segments", "0 1.5", "1.5 1.5"), "segments", 1, "a-1"),
        (replace("segments", "0 1.5", "2 1.5"), "segments", 1, "a-1"),
        (replace("segments", "0 1.5", "0 1e400"), "segments", 1, "a-1"),
        (replace("segments", "0 1.5", "-1 1.5"), "segments", 1, "a-1"),
        (replace("segments", "0 1.5", "nan 1.5"), "segments", 1, "a-1"),
        (replace("segments", "0 1.5", "1.5"), "segments", 1, "a-1"),
        (replace("spk2utt", "a a-1 a-2", "a a-1"), "spk2utt", None, "a-2"),
        (replace("utt2spk", "b-1 b", "b-1 a"), "spk2utt", None, "b-1"),
        (replace("spk2utt", "a-1 a-2", "a-1 a-1 a-2"), "spk2utt", None, "a-1"),
        (replace("utt2spk", "a-1 a", "a-1 a b"), "utt2spk", 1, "a-1"),
        (replace("utt2dur", "0.75", "long"), "utt2dur", 2, "a-2"),
        (replace("utt2num_frames", "75", "75.5"), "utt2num_frames", 2, "a-2"),
        (append("text", "\n"), "text", 4, None),
        (append("text", "c-1 one"), "text", 4, None),
        (append("text", "c-1 \0\n"), "text", 4, None),
    ],
)
def test_faults(edit: Callable[[Path], None], name: str, line: int | None, utt: str | None, data: Path) -> None:
    edit(data)
    with pytest.raises(DataError) as caught:
        DataDir.read(data)
    error = caught.value
    assert (Path(str(error.path)).name, error.line, error.utt) == (name, line, utt)
    assert error.remedy


def test_all_faults_are_listed(data: Path) -> None:
    replace("segments", "0 1.5", "2 1.5")(data)
    append("text", "a-3 six\n")(data)
    replace("utt2spk", "b-1 b", "b-1 a")(data)
    _, faults = DataDir.read_with_faults(data)
    assert {(Path(str(fault.path)).name, fault.utt) for fault in faults} == {
        ("segments", "a-1"),
        ("text", "a-3"),
        ("spk2utt", "b-1"),
    }


def test_text_in_another_encoding_is_refused(data: Path) -> None:
    (data / "text").write_bytes("a-1 zwölf\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 1.*UTF-8"):
        DataDir.read(data)


def test_a_byte_order_mark_is_no_part_of_the_first_utterance(data: Path) -> None:
    path = data / "utt2spk"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with pytest.raises(
        DataError, match=r"utt2spk, line 1: begins with a byte order mark.*save the file as UTF-8 without"
    ):
        DataDir.read(data)


def test_no_directory_and_no_data(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(DataError):
            DataDir.read(path)


@pytest.mark.parametrize("name", ["wav.scp", "segments", "text", "utt2spk", "utt2num_frames"])
def test_damage_gives_a_value_or_a_data_error(name: str, data: Path) -> None:
    num_refused = 0
    for content in damaged((data / name).read_bytes(), 60):
        (data / name).write_bytes(content)
        try:
            DataDir.read(data)
        except DataError as error:
            num_refused += 1
            assert str(data) in str(error)
    assert num_refused > 20


@pytest.mark.parametrize("name", ["words.txt", "phones.txt"])
def test_symbol_tables(name: str, tmp_path: Path) -> None:
    path = GOLDEN / "graph/lang" / name
    table = SymbolTable.read(path)
    assert table.id_of["<eps>"] == 0 and table.symbol_of[0] == "<eps>" and "<eps>" in table and len(table) > 3
    table.write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "line", ["a\n", "a x\n", "a -1\n", "a 99999999999\n", "a 1 2\n", "b 5", "<eps> 7\n", "b 0\n", "b ²\n"]
)
def test_malformed_symbol_tables_are_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("<eps> 0\n" + line)
    with pytest.raises(DataError, match="line 2"):
        SymbolTable.read(tmp_path / "x")
    with pytest.raises(DataError):
        SymbolTable({"a": 1, "b": 1})
