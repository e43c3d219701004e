"""recipes/digits/run.sh on a stand-in for its Kaldi experiment: every stage, and a flat start on all strings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from acoustic.kaldi.alignments import read_alignments
from acoustic.kaldi.datadir import DataDir
from tests.recipes.experiments import TINY, assert_wer_line, num_words, recipe, stages


@pytest.fixture(scope="module")
def kaldi_dir(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/fold1, data/all, data/dict, data/lm.arpa, exp/tri1, exp/tri1_ali."""
    root, everything = tmp_path_factory.mktemp("digits"), DataDir()
    for name in ("train", "dev", "test"):
        part = DataDir.read(small_corpus / "corpus" / name)
        folder = root / "data/fold1" / name
        folder.mkdir(parents=True)
        DataDir(wav=part.wav, text=part.text, utt2spk=part.utt2spk).write(folder)
        for field in ("wav", "text", "utt2spk"):
            getattr(everything, field).update(getattr(part, field))
    (root / "data/all").mkdir()
    everything.write(root / "data/all")
    shutil.copytree(small_corpus / "corpus/dict", root / "data/dict")
    with (root / "data/dict/lexicon.txt").open("a") as lexicon:
        lexicon.write("<SIL> SIL\n")
    shutil.copy(small_corpus / "corpus/lm.arpa", root / "data")
    shutil.copytree(small_corpus / "mono", root / "exp/tri1")
    shutil.copytree(small_corpus / "graph", root / "exp/tri1/graph")
    shutil.copytree(small_corpus / "mono_ali", root / "exp/tri1_ali")
    return root


def digits(kaldi_dir: Path, exp: Path, *arguments: str) -> list[str]:
    """Run the recipe; the lines of its output."""
    options = [f"--kaldi-dir={kaldi_dir}", f"--exp={exp}", "--decoder=acoustic", "--num-jobs=2", *arguments]
    result = recipe("digits", *options)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.slow
def test_from_data_to_words(kaldi_dir: Path, tmp_path: Path) -> None:
    lines = digits(kaldi_dir, tmp_path / "exp", "--speeds=1.1", *TINY)
    assert stages("\n".join(lines)) == [0, *range(2, 12)]
    assert_wer_line(lines[-2], num_words(tmp_path / "exp/data/dev"))
    assert_wer_line(lines[-1], num_words(tmp_path / "exp/data/test"))


@pytest.mark.slow
def test_a_flat_start_aligns_train_and_dev_or_all(kaldi_dir: Path, tmp_path: Path) -> None:
    """Without --align-all nothing of the test set may be heard."""
    of = {name: set(DataDir.read(kaldi_dir / "data" / name).utterances) for name in ("fold1/train", "fold1/dev", "all")}
    for options, expected in (([], of["fold1/train"] | of["fold1/dev"]), (["--align-all"], of["all"])):
        exp = tmp_path / f"exp{len(options)}"
        lines = digits(kaldi_dir, exp, "--from-scratch", "--stop-stage=1", "--flat-start-gauss=60", *options)
        assert {utt for utt, _ in read_alignments(exp / "flat_ali")} == expected
        assert any("within 20 ms" in line for line in lines)
