"""The programs that recipes on Kaldi experiments share: parts of data directories, tables of results, stand-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import results_table
import select_utterances
import soundfile
import torch
from stand_in import sides

from acoustic.errors import DataError
from acoustic.features.base_frames import base_frames
from acoustic.features.kaldi_dir import frontend_from_kaldi_dir
from acoustic.kaldi.alignments import read_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.log import Tally
from tests.recipes.experiments import RECIPES, run

# --- parts of data directories


def data_dir(num_speakers: int) -> DataDir:
    """Two utterances of each speaker, in one recording."""
    names = [f"s{i:02d}" for i in range(num_speakers)]
    return DataDir(
        wav={name: f"{name}.wav" for name in names},
        segments={f"{name}-{i}": sides.Segment(name, i, i + 1) for name in names for i in range(2)},
        utt2spk={f"{name}-{i}": name for name in names for i in range(2)},
        cmvn={name: f"cmvn.ark:{i}" for i, name in enumerate(names)},
    )


@pytest.mark.parametrize(("num_speakers", "chosen"), [(2, ["s01"]), (20, ["s19"]), (45, ["s19", "s39"])])
def test_every_twentieth_speaker(num_speakers: int, chosen: list[str]) -> None:
    utterances = select_utterances.every_speaker(data_dir(num_speakers), 20)
    assert utterances == [f"{name}-{i}" for name in chosen for i in range(2)]


def test_one_speaker_cannot_be_divided() -> None:
    with pytest.raises(DataError, match="only one speaker"):
        select_utterances.every_speaker(data_dir(1), 20)


def test_utterances_from_all_over() -> None:
    assert select_utterances.spread(data_dir(10), 4) == ["s00-0", "s02-1", "s05-0", "s07-1"]
    assert len(select_utterances.spread(data_dir(10), 400)) == 20


def test_both_parts_are_written(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    data_dir(5).write(tmp_path / "all")
    program = RECIPES / "common/local/select_utterances.py"
    folders = ["--rest", tmp_path / "rest", tmp_path / "all", tmp_path / "chosen"]
    result = run([sys.executable, program, "--every-speaker", "2", *folders])
    assert result.returncode == 0, result.stderr
    chosen, rest = DataDir.read(tmp_path / "chosen"), DataDir.read(tmp_path / "rest")
    assert list(chosen.spk2utt) == ["s01", "s03"] and list(rest.spk2utt) == ["s00", "s02", "s04"]
    assert list(chosen.wav) == list(chosen.cmvn) == ["s01", "s03"]


# --- tables


def test_table_of_results(tmp_path: Path) -> None:
    published, metrics, parts = tmp_path / "p.tsv", tmp_path / "m.jsonl", tmp_path / "parts"
    published.write_text(
        "# a comment\nexperiment\tsystem\tdev CE\tdev acc\tswbd\ttotal\n"
        "one\tPaper: net\t1.79\t53.9\t17.3\t23.6\ntwo\tPaper: other\n*\tKaldi\t\t\t14.6\n"
    )
    records = [
        {"dev_loss": 2.5, "dev_accuracy": 0.4, "accepted": True},
        {"dev_loss": 1.5, "dev_accuracy": 0.6, "accepted": True},
        {"dev_loss": 1.4, "dev_accuracy": 0.7, "accepted": False},
        {"dev_loss": None, "dev_accuracy": 0.0, "accepted": True},
        {"step": 7, "rolled_back_to": 3},
    ]
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    parts.write_text("swbd 20.5\ntotal 25.0\ndev 30.1\n")
    columns, rows = results_table.published_rows(published, "one")
    rows.append(results_table.measured_row("here", parts, results_table.frame_metrics(metrics)))
    assert results_table.format_table([*columns, "dev"], rows).splitlines() == [
        "system      dev CE  dev acc  swbd  total   dev",
        "----------------------------------------------",
        "Paper: net    1.79     53.9  17.3   23.6     -",
        "Kaldi            -        -  14.6      -     -",
        "here          1.50     60.0  20.5   25.0  30.1",
    ]


@pytest.mark.parametrize("recipe", ["swbd", "bn"])
def test_published_numbers_are_numbers(recipe: str) -> None:
    experiments = {path.stem for path in (RECIPES.parent / "conf/experiment").glob("*.yaml")}
    lines = (RECIPES / recipe / "published.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert len(rows) > 5
    for row in rows[1:]:
        assert row[0] in experiments | {"*"} and len(row) <= len(rows[0])
        assert all(0 < float(cell) < 100 for cell in row[2:] if cell)


# --- stand-ins


def test_sides_join_utterances_of_a_speaker(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = DataDir()
    samples = {}
    for i in range(30):
        utt = f"s{i % 2}-{i:02d}"
        samples[utt] = rng.integers(-9000, 9000, 900 + 37 * i).astype(np.int16)
        soundfile.write(tmp_path / f"{utt}.wav", samples[utt], 8000)
        source.wav[utt] = str(tmp_path / f"{utt}.wav")
        source.utt2spk[utt] = utt[:2]
        source.text[utt] = [utt]
    (tmp_path / "source").mkdir()
    source.write(tmp_path / "source")
    source = DataDir.read(tmp_path / "source")
    parts = list(sides.divide([source], ("sw_4", "en_4")))
    assert [side.name for side in parts] == ["sw_4000-A", "en_4001-A"]
    new_names = sides.write_set(tmp_path / "data", parts, [source], tmp_path / "audio")
    made = DataDir.read(tmp_path / "data")
    assert set(made.wav) == set(made.spk2utt) == {"sw_4000-A", "en_4001-A"}
    for utt, expected in samples.items():
        segment = made.segments[new_names[utt]]
        begin = round(8000 * segment.begin)
        side, _ = soundfile.read(made.wav[segment.recording], dtype="int16")
        assert np.array_equal(side[begin : begin + len(expected)], expected)
        assert round(8000 * segment.end) == begin + len(expected)
        assert made.text[new_names[utt]] == [utt]


def test_long_speakers_have_several_sides() -> None:
    source = DataDir(spk2utt={"s0": [f"s0-{i:02d}" for i in range(60)]})
    assert [len(side.utterances) for side in sides.divide([source], ("sw02",))] == [25, 25, 10]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "train", "ali"), [("swbd", "train_nodup", "tri4_ali_nodup"), ("bn", "train", "tri4_ali")]
)
def test_stand_ins_are_whole_experiments(laid_out: Callable[[str], Path], recipe: str, train: str, ali: str) -> None:
    """Alignments fit features, and the transforms give speakers zero mean and unit variance."""
    folder = laid_out(recipe)
    data = DataDir.read(folder / "data" / train)
    frontend = frontend_from_kaldi_dir(folder / "exp/tri4", 13, fmllr="speaker")
    alignments = dict(read_alignments(folder / "exp" / ali))
    frames: dict[str, list[torch.Tensor]] = {}
    for utt, base in base_frames(data, frontend, Tally(), fmllr=str(folder / "exp" / ali)):
        assert abs(len(base) - len(alignments[utt])) <= 1
        frames.setdefault(data.utt2spk[utt], []).append(base)
    assert set(alignments) == set(data.utterances)
    for parts in frames.values():
        speaker = torch.cat(parts)
        assert speaker.mean(0).abs().max() < 1e-2 and (speaker.var(0) - 1).abs().max() < 2e-2
