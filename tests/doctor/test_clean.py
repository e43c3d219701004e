"""Cleaned copies, and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.doctor.scan_alignments import scan_alignments
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.transitions import TransitionModel, fault_of_tree
from acoustic.kaldi.tree import DecisionTree
from tests.doctor.experiments import GOLDEN, Made


def arguments(made: Made, *more: str, data: Path | None = None) -> list[str]:
    """The command line that examines an experiment."""
    return [
        "doctor",
        f"--ali-dir={made.ali}",
        f"--graph-dir={made.graph}",
        f"--lang-dir={made.root}/lang",
        f"--model={made.network}",
        f"--transform-dir={made.transforms}",
        "--num-jobs=2",
        *more,
        str(data or made.data),
    ]


def break_much(made: Made) -> set[str]:
    """Many faults at once; returns the utterances that are lost by them."""
    text = made.lines("text")
    made.write_lines("text", [*reversed(text), text[0]])
    made.write_lines("utt2spk", [*made.lines("utt2spk")[1:], made.lines("utt2spk")[1]])
    made.write_feats(made.feats() | {"bert-1": np.full((50, 4), np.nan, np.float32)})
    (made.root / "wav" / "carl-0.wav").write_bytes(b"RIFF")
    made.write_lines("reco2file_and_channel", [f"{utt} {utt} A" for utt in made.utterances])
    (made.data / "glm").write_text("A => B\n")
    return {"bert-1", "carl-0"}


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_command_is_quiet_about_a_faultless_experiment(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run(arguments(made))
    captured = capsys.readouterr()
    assert captured.out == ""
    parts = "files, audio, features, alignments, model, graph, lang, transforms"
    assert f"24 utterances ({parts}): 0 errors, 0 warnings, 0 notes" in captured.err


def test_command_prints_the_table_and_fails(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    break_much(made)
    with pytest.raises(DataError, match="--fix"):
        run(arguments(made))
    captured = capsys.readouterr()
    for fault in ("id comes twice", "file not sorted", "utterance not in utt2spk", "features with NaN or infinity"):
        assert f" {fault} " in captured.out
    assert "error" in captured.out and "->" in captured.out and "errors" in captured.err


def test_warnings_alone_do_not_fail(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.write_lines("text", ["anna-0", *made.lines("text")[1:]])
    run(arguments(made))
    assert "empty text" in capsys.readouterr().out


def test_cleaned_copy_is_without_fault_and_the_original_as_it_was(made: Made, tmp_path: Path) -> None:
    lost, before = break_much(made), snapshot(made.data)
    run(arguments(made, f"--fix={tmp_path}/clean", "--max-skip-fraction=0.1"))
    assert snapshot(made.data) == before
    run(arguments(made, data=tmp_path / "clean"))
    copy = DataDir.read(tmp_path / "clean")
    assert copy.utterances == [utt for utt in made.utterances if utt not in lost | {"anna-0"}]
    assert set(copy.text) == set(copy.feats) == set(copy.wav) == set(copy.utterances)
    assert copy.spk2utt["anna"] == [f"anna-{number}" for number in range(1, 8)]
    assert copy.cmvn.keys() == {"anna", "bert", "carl"}


def test_cleaned_copy_lists_what_was_dropped_and_keeps_other_files(made: Made, tmp_path: Path) -> None:
    lost = break_much(made)
    run(arguments(made, f"--fix={tmp_path}/clean", "--max-skip-fraction=0.1"))
    lines = [line.split("\t") for line in (tmp_path / "clean" / "dropped_utterances.txt").read_text().splitlines()]
    assert {utt for _, utt, _ in lines} == lost
    assert [fault for fault, _, _ in lines] == ["audio unreadable", "features with NaN or infinity"]
    assert (tmp_path / "clean" / "glm").read_text() == "A => B\n"
    channels = (tmp_path / "clean" / "reco2file_and_channel").read_text().split("\n")
    assert channels[0] == "anna-1 anna-1 A" and len(channels) == 24 - len(lost)


def test_too_much_dropped_fails(made: Made, tmp_path: Path) -> None:
    break_much(made)
    with pytest.raises(DataError, match="2 of 23 utterances are left out"):
        run(arguments(made, f"--fix={tmp_path}/clean"))


def test_errors_outside_the_data_directory_remain(made: Made, tmp_path: Path) -> None:
    (made.graph / "HCLG.fst").unlink()
    with pytest.raises(DataError, match="does not help against: graph unreadable"):
        run(arguments(made, f"--fix={tmp_path}/clean"))


def test_cleaning_with_segments_drops_the_utterances_of_a_damaged_recording(made: Made, tmp_path: Path) -> None:
    made.use_segments()
    (made.root / "wav" / "bert.wav").write_bytes(b"RIFF")
    run(arguments(made, f"--fix={tmp_path}/clean", "--max-skip-fraction=0.5"))
    copy = DataDir.read(tmp_path / "clean")
    assert set(copy.utt2spk.values()) == set(copy.wav) == {"anna", "carl"}
    assert len(copy.segments) == 16


def test_a_malformed_line_of_wav_scp_is_one_fault_and_is_cleaned(made: Made, tmp_path: Path) -> None:
    made.use_segments()
    made.write_lines("wav.scp", [*made.lines("wav.scp")[:2], "carl"])
    assert made.faults() == {"malformed line": "error"}
    run(arguments(made, f"--fix={tmp_path}/clean", "--max-skip-fraction=0.5"))
    assert set(DataDir.read(tmp_path / "clean").utt2spk.values()) == {"anna", "bert"}


def test_nothing_is_overwritten(made: Made) -> None:
    before = snapshot(made.data)
    with pytest.raises(DataError, match="exists already"):
        run(arguments(made, f"--fix={made.data}"))
    assert snapshot(made.data) == before


def test_nothing_left_is_an_error_and_no_copy(made: Made, tmp_path: Path) -> None:
    made.write_feats({utt: feats * np.nan for utt, feats in made.feats().items()})
    with pytest.raises(DataError, match="no utterance is without fault"):
        run(arguments(made, f"--fix={tmp_path}/clean"))
    assert not (tmp_path / "clean").exists()


def test_paths_relative_to_a_root(made: Made, tmp_path: Path) -> None:
    for name in ("wav.scp", "feats.scp", "cmvn.scp"):
        made.write_lines(name, [line.replace(f"{made.root}/", "") for line in made.lines(name)])
    run(arguments(made, f"--root={made.root}", f"--fix={tmp_path}/clean"))
    assert made.faults(root=made.root) == {}
    run(arguments(made, data=tmp_path / "clean"))


def test_no_such_directory(made: Made) -> None:
    with pytest.raises(DataError, match="nowhere: is no directory"):
        run(["doctor", f"{made.root}/nowhere"])
    with pytest.raises(DataError, match="nowhere: is no directory"):
        run(["doctor", f"--ali-dir={made.root}/nowhere", str(made.data)])


@pytest.mark.parametrize("option", ["--num-jobs=0", "--length-tolerance=-1", "--max-skip-fraction=2", "--channel=-1"])
def test_bad_options(made: Made, option: str) -> None:
    with pytest.raises(ConfigError):
        run(["doctor", option, str(made.data)])


def test_data_of_kaldis_own_layout_has_no_fault() -> None:
    """Kaldi's alignments, tree, model, graph and lang directory go together."""
    for system in ("mono", "tri1"):
        model = TransitionModel.read(GOLDEN / "model" / system / "final.mdl")
        assert fault_of_tree(DecisionTree.read(GOLDEN / "model" / system / "tree"), model) is None
        scan = scan_alignments(GOLDEN / "align" / system, model, [])
        assert scan.complete and not scan.findings and scan.num_frames
        assert scan.legal_share == 1.0
