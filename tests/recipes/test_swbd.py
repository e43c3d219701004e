"""recipes/swbd/run.sh on a stand-in for egs/swbd/s5c: every stage, and what it says when something is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from acoustic.decode.forward import AcousticModel
from acoustic.kaldi.datadir import DataDir
from tests.recipes.experiments import TINY, assert_wer_line, num_words, recipe, run, stages, table

StandIn = Callable[[str], Path]
KALDI = ["latgen-faster-mapped", "lattice-lmrescore", "lattice-scale", "lattice-1best", "compute-wer", "fstproject"]
HAS_KALDI = all(shutil.which(program) for program in KALDI)


@pytest.mark.slow
def test_maas2013_from_data_to_the_table(laid_out: StandIn, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    arguments = [f"--kaldi-dir={laid_out('swbd')}", f"--exp={exp}", "--decoder=acoustic", "--num-jobs=2"]
    result = recipe("swbd", *arguments, "--tuning-utterances=3", "experiment=maas2013", "model=tanh", *TINY)
    assert result.returncode == 0, result.stderr
    assert stages(result.stdout) == list(range(14))
    lines = result.stdout.splitlines()
    assert_wer_line(lines[-1], num_words(exp / "data/test"))
    assert "stand-in" in lines[-2]
    rows = table(result.stdout)
    assert rows["system"] == ["dev CE", "dev acc", "swbd", "callhome", "total", "train_dev"]
    assert rows["Maas 2013: 4 x 2048 leaky ReLU"] == ["1.78", "53.9", "17.3", "29.9", "23.7", "-"]
    assert not any(row.startswith("Maas 2014") for row in rows)
    here = rows["here, sw1_tg"]
    assert len(here) == 6 and here[4] == lines[-1].split()[1] and "-" not in here
    assert (exp / "RESULTS").read_text().splitlines() == lines[-len(rows) - 3 : -1]

    model = AcousticModel.load(exp / "dnn")
    config = model.frontend.config
    assert (config.cmvn, config.transform_dim, config.fmllr) == ("speaker", 40, "speaker")
    assert (config.splice_left, config.splice_right, config.delta_order) == (3, 3, 2)
    assert model.frontend.base_dim == 40 and model.frontend.input_dim == 300
    assert model.classifier.config.activation == "tanh"
    assert len(DataDir.read(exp / "data/tune").utterances) == 3

    again = recipe("swbd", *arguments, "--stage=13")
    assert again.stdout.splitlines()[1:] == lines[-len(rows) - 3 :]


@pytest.mark.slow
@pytest.mark.kaldi
@pytest.mark.skipif(not HAS_KALDI, reason="Kaldi's programs are not on PATH")
def test_maas2014_with_kaldis_lattices(laid_out: StandIn, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    arguments = [f"--kaldi-dir={laid_out('swbd')}", f"--exp={exp}", "--decoder=kaldi", "--num-jobs=2"]
    result = recipe("swbd", *arguments, "experiment=maas2014", *TINY)
    assert result.returncode == 0, result.stderr
    assert stages(result.stdout) == list(range(14))
    assert_wer_line(result.stdout.splitlines()[-1], num_words(exp / "data/test"))
    rows = table(result.stdout)
    assert rows["here, sw1_fsh_fg"] == rows["here, sw1_tg"]  # the stand-in's grammars are one
    assert (exp / "decode/test_rescored/lat.1.gz").exists()
    assert AcousticModel.load(exp / "dnn").frontend.input_dim == 21 * 40


@pytest.mark.slow
def test_swbd_fbank_reads_the_audio(laid_out: StandIn, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    arguments = [f"--kaldi-dir={laid_out('swbd')}", f"--exp={exp}", "--stop-stage=7", "--num-jobs=2"]
    result = recipe("swbd", *arguments, "experiment=swbd_fbank", *TINY)
    assert result.returncode == 0, result.stderr
    model = AcousticModel.load(exp / "dnn")
    assert model.frontend.feat_dim == 40 and model.frontend.input_dim == 21 * 120
    assert model.bundle.fbank_options is not None and model.bundle.fbank_options["low_freq"] == 64


def fake_alignment(kaldi_dir: Path) -> None:
    """The experiment's steps/align_fmllr.sh, which hands out the alignments that lie in `aside`."""
    script = kaldi_dir / "steps/align_fmllr.sh"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\necho "$@" > "$PWD/called"\nmkdir -p "$8" && cp aside/* "$8"\n')
    script.chmod(0o755)
    shutil.move(kaldi_dir / "exp/tri4_ali_dev", kaldi_dir / "aside")


def test_missing_alignments_are_made_by_kaldis_script(stand_in: StandIn, tmp_path: Path) -> None:
    kaldi_dir, exp = stand_in("swbd"), tmp_path / "exp"
    fake_alignment(kaldi_dir)
    arguments = [f"--kaldi-dir={kaldi_dir}", f"--exp={exp}", "--num-jobs=1"]
    result = recipe("swbd", *arguments, "--stop-stage=1")
    assert result.returncode == 0, result.stderr
    called = (kaldi_dir / "called").read_text().split()
    assert called == ["--nj", "1", "--cmd", "run.pl", "data/train_dev", "data/lang", "exp/tri4", f"{exp}/tri4_ali_dev"]
    (kaldi_dir / "called").unlink()
    assert recipe("swbd", *arguments, "--stage=1", "--stop-stage=1").returncode == 0
    assert not (kaldi_dir / "called").exists()  # they are there now


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("data/eval2000", "data/eval2000/utt2spk is missing"),
        ("exp/tri4/graph_sw1_tg/HCLG.fst", "utils/mkgraph.sh data/lang_sw1_tg exp/tri4 exp/tri4/graph_sw1_tg"),
        ("exp/tri4/decode_eval2000_sw1_tg", "steps/decode_fmllr.sh exp/tri4/graph_sw1_tg data/eval2000"),
        ("exp/tri4_ali_nodup", "the alignments exp/tri4_ali_nodup are missing"),
    ],
)
def test_what_is_missing_is_said_with_what_makes_it(
    stand_in: StandIn, tmp_path: Path, missing: str, message: str
) -> None:
    kaldi_dir = stand_in("swbd")
    path = kaldi_dir / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    result = recipe("swbd", f"--kaldi-dir={kaldi_dir}", f"--exp={tmp_path}/exp", "--stop-stage=1")
    assert result.returncode == 2
    assert message in result.stderr


def test_data_directories_are_copies_with_absolute_paths(stand_in: StandIn, tmp_path: Path) -> None:
    kaldi_dir, exp = stand_in("swbd"), tmp_path / "exp"
    scp = kaldi_dir / "data/eval2000/feats.scp"
    scp.write_text("".join(f"{line.split()[0]} mfcc/x.ark:5\n" for line in scp.read_text().splitlines()))
    before = {path: path.stat().st_mtime_ns for path in kaldi_dir.rglob("*")}
    result = recipe("swbd", f"--kaldi-dir={kaldi_dir}", f"--exp={exp}", "--stop-stage=0")
    assert result.returncode == 0, result.stderr
    assert set(DataDir.read(exp / "data/test").feats.values()) == {f"{kaldi_dir}/mfcc/x.ark:5"}
    assert (exp / "data/test/stm").exists()
    assert {path: path.stat().st_mtime_ns for path in kaldi_dir.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kaldi-dir=nowhere"], "nowhere/data is no folder"),
        (["--stag=3"], "no option --stag"),
        (["--tuning-utterances=few"], "expected a whole number"),
        (["--decoder=htk"], "choose auto, kaldi or acoustic"),
    ],
)
def test_wrong_command_lines(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = recipe("swbd", f"--exp={tmp_path}/exp", *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_acronyms_are_spelt_by_the_experiments_own_program(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "recipes/swbd/local/ctm_filter.sh"
    (tmp_path / "data/local/dict_nosp").mkdir(parents=True)
    (tmp_path / "data/local/dict_nosp/acronyms.map").write_text("")
    (tmp_path / "local").mkdir()
    program = "import sys\nfor line in sys.stdin: print(line.strip().replace('u._s.', 'u s'))\n"
    (tmp_path / "local/map_acronyms_ctm.py").write_text(program)
    ctm = tmp_path / "in.ctm"
    ctm.write_text("sw_1 A 0.1 0.2 u._s.\nsw_1 A 0.1 0.2 um\n")
    result = run(["sh", "-c", f"'{script}' < '{ctm}'"], kaldi_dir=str(tmp_path), HOME=os.environ.get("HOME", "/"))
    assert result.stdout == "sw_1 A 0.1 0.2 u s\n"
