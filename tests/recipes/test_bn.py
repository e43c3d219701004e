"""recipes/bn/run.sh on a stand-in for egs/hub4_english/s5: every stage, dev speakers held out or given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from acoustic.decode.forward import AcousticModel
from acoustic.kaldi.datadir import DataDir
from tests.recipes.experiments import TINY, assert_wer_line, num_words, recipe, stages, table

StandIn = Callable[[str], Path]


@pytest.mark.slow
def test_dahl2013_from_data_to_the_table(laid_out: StandIn, tmp_path: Path) -> None:
    kaldi_dir, exp = laid_out("bn"), tmp_path / "exp"
    arguments = [f"--kaldi-dir={kaldi_dir}", f"--exp={exp}", "--decoder=acoustic", "--num-jobs=2"]
    result = recipe("bn", *arguments, "experiment=dahl2013_sigmoid2k", *TINY)
    assert result.returncode == 0, result.stderr
    assert stages(result.stdout) == list(range(14))
    lines = result.stdout.splitlines()
    assert_wer_line(lines[-1], num_words(exp / "data/test"))
    rows = table(result.stdout)
    assert rows["system"] == ["dev CE", "dev acc", "rt03", "dev04f", "eval97.pem"]
    assert rows["Dahl 2013: ReLU 3k dropout, no pre-training"] == ["-", "-", "11.0", "18.9", "-"]
    here = rows["here, nosp_test"]
    assert here[2:4] == ["-", "-"] and here[4] == lines[-1].split()[1]

    model = AcousticModel.load(exp / "dnn")
    assert model.frontend.config.fmllr == "speaker" and model.frontend.input_dim == 11 * 40
    assert model.classifier.config.activation == "sigmoid" and model.classifier.config.rates == [0.0]

    everything = DataDir.read(kaldi_dir / "data/train")
    train, dev = DataDir.read(exp / "data/train"), DataDir.read(exp / "data/dev")
    assert set(train.utterances) | set(dev.utterances) == set(everything.utterances)
    assert len(dev.spk2utt) == len(everything.spk2utt) // 20
    assert not set(train.utt2spk.values()) & set(dev.utt2spk.values())


def test_a_dev_set_of_its_own(stand_in: StandIn, tmp_path: Path) -> None:
    """As in the paper: --dev-set rt03, its word error rate in rt03's column."""
    kaldi_dir, exp = stand_in("bn"), tmp_path / "exp"
    shutil.copytree(kaldi_dir / "data/train", kaldi_dir / "data/rt03")
    shutil.copytree(kaldi_dir / "exp/tri4_ali", kaldi_dir / "exp/tri4_ali_rt03")
    sets = ["--dev-set=rt03", "--dev-ali=tri4_ali_rt03"]
    result = recipe("bn", f"--kaldi-dir={kaldi_dir}", f"--exp={exp}", *sets, "--stop-stage=1")
    assert result.returncode == 0, result.stderr
    assert DataDir.read(exp / "data/dev").utterances == DataDir.read(kaldi_dir / "data/rt03").utterances
    assert f"{kaldi_dir}/exp/tri4_ali_rt03 is there" in result.stdout
