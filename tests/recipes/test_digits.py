"""recipes/digits/run.sh on a stand-in for its Kaldi experiment: flat starts; its other stages are all recipes'."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from acoustic.kaldi.alignments import read_alignments
from acoustic.kaldi.datadir import DataDir
from tests.recipes.experiments import recipe


@pytest.fixture(scope="module")
def kaldi_dir(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/fold1, data/all, data/dict, data/lm.arpa, exp/tri1_ali."""
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
    shutil.copytree(small_corpus / "mono_ali", root / "exp/tri1_ali")
    return root


@pytest.mark.slow
def test_a_flat_start_aligns_all_or_train_and_dev(kaldi_dir: Path, tmp_path: Path) -> None:
    """On train and dev alone nothing of the test set may be heard."""
    of = {name: set(DataDir.read(kaldi_dir / "data" / name).utterances) for name in ("fold1/train", "fold1/dev", "all")}
    for sets, expected in (("train,dev", of["fold1/train"] | of["fold1/dev"]), (None, of["all"])):
        exp, options = tmp_path / f"on_{sets}", [f"--flat-start-on={sets}"] if sets else []
        arguments = ["--from-scratch", "--stop-stage=1", "--flat-start-gauss=0", "--num-jobs=1", *options]
        result = recipe("digits", f"--kaldi-dir={kaldi_dir}", f"--exp={exp}", *arguments)
        assert result.returncode == 0, result.stderr
        assert {utt for utt, _ in read_alignments(exp / "flat_ali")} == expected
        assert "within 20 ms" in result.stdout
