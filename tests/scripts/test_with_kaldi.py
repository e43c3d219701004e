"""The scripts with real Kaldi: its golden answers again, and our streamed loglikes against our own decoder."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from acoustic.cli import main
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.kaldi.alignments import read_alignments, read_model
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from tests.scripts.script_world import SCRIPTS, write

GOLDEN = Path(__file__).parents[1] / "golden"
PROGRAMS = ["latgen-faster-mapped", "align-compiled-mapped", "compile-train-graphs", "lattice-scale", "compute-wer"]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
ON_PATH = all(shutil.which(program) for program in PROGRAMS)

pytestmark = [pytest.mark.kaldi, pytest.mark.skipif(not ON_PATH, reason="Kaldi's programs are not on PATH")]


def run(cwd: Path, script: str, *args: str | Path) -> str:
    """Run a script that must succeed; its standard output."""
    result = subprocess.run(
        [SCRIPTS / script, *args], cwd=cwd, env={**os.environ, "PATH": PATH}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def unzipped(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def ids(line: str) -> tuple[str, list[int]]:
    utt, *numbers = line.split()
    return utt, [int(number) for number in numbers]


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden lang directory as prepare_lang.sh lays it out: integers of phones under phones/."""
    lang = tmp_path_factory.mktemp("lang") / "lang"
    shutil.copytree(GOLDEN / "graph/lang", lang)
    shutil.copytree(lang, lang / "phones")
    position_of = {"B": "begin", "E": "end", "I": "internal", "S": "singleton"}
    lines = [line.split() for line in (lang / "phones.txt").read_text().splitlines()]
    real = [(phone, number) for phone, number in lines if phone != "<eps>" and not phone.startswith("#")]
    positions = {
        number: "nonword" if phone.startswith(("SIL", "SPN")) else position_of[phone.rsplit("_", 1)[1]]
        for phone, number in real
    }
    write(lang / "phones/word_boundary.int", "".join(f"{number} {where}\n" for number, where in positions.items()))
    return lang


@pytest.mark.parametrize("name", ["mono", "tri1"])
def test_golden_words_and_alignments(tmp_path: Path, lang: Path, name: str) -> None:
    loglikes = f"--loglikes=ark:{GOLDEN}/decode/{name}/loglikes.ark"
    model = GOLDEN / "model" / name
    graph = GOLDEN / "graph" / name
    options = ("--nj=1", loglikes)
    run(tmp_path, "decode_kaldi.sh", *options, f"--model={model}/final.mdl", "-", GOLDEN / "wav", graph, "out")
    run(tmp_path, "score_kaldi.sh", "--lmwt=10", "--wip=0.0", GOLDEN / "wav", graph, "out")
    symbols = dict(line.split()[::-1] for line in (graph / "words.txt").read_text().splitlines())
    golden = dict(map(ids, (GOLDEN / "decode" / name / "words_int.txt").read_text().splitlines()))
    words = [line.split() for line in (tmp_path / "out/scoring_kaldi/penalty_0.0/10.txt").read_text().splitlines()]
    assert {utt: rest for utt, *rest in words} == {
        utt: [symbols[str(word)] for word in numbers] for utt, numbers in golden.items()
    }
    run(tmp_path, "align_kaldi.sh", *options, f"--model-dir={model}", "-", GOLDEN / "wav", lang, "ali")
    assert unzipped(tmp_path / "ali/ali.1.gz") == (GOLDEN / "align" / name / "ali.ark").read_bytes()


def make_experiment(root: Path) -> None:
    """A network of random weights for the golden tri1 model, and a data directory where speakers span jobs."""
    torch.manual_seed(0)
    num_pdfs = read_model(GOLDEN / "model/tri1").num_pdfs
    config = FrontendConfig(cmvn="speaker", norm_vars=True, splice_left=2, splice_right=2)
    frontend = Frontend.from_config(config, 40)
    classifier = SenoneClassifier(ClassifierConfig(hidden_layers=1, hidden_dim=32), frontend.input_dim, num_pdfs)
    bundle = Bundle(
        classifier=classifier,
        frontend_config=frontend.config.__dict__,
        frontend_state=frontend.state_dict(),
        feat_dim=40,
        pdf_counts=torch.randint(1, 100, (num_pdfs,)),
    )
    write(root / "exp/config.yaml", f"train:\n  ali_dir:\n  - {GOLDEN}/model/tri1\n")
    (root / "exp/final.pt").write_bytes(bundle.to_bytes())
    utts = [utt for utt, _ in read_table(f"ark:{GOLDEN}/feats/fbank40.ark", "matrix")]
    data = root / "data"
    shutil.copytree(GOLDEN / "wav", data)
    (data / "segments").unlink()
    write(data / "utt2spk", "".join(f"{utt} spk{i // 4}\n" for i, utt in enumerate(utts)))
    write(data / "spk2utt", f"spk0 {' '.join(utts[:4])}\nspk1 {' '.join(utts[4:])}\n")
    with TableWriter(f"ark,scp:{data}/feats.ark,{data}/feats.scp", "matrix") as writer:
        for utt, feats in read_table(f"ark:{GOLDEN}/feats/fbank40.ark", "matrix"):
            writer.write(utt, feats)


def test_streamed_loglikes(tmp_path: Path, lang: Path) -> None:
    """Lattices do not depend on the number of jobs, and their best words are those of `acoustic decode`."""
    make_experiment(tmp_path)
    model, graph = f"--model={GOLDEN}/model/tri1/final.mdl", GOLDEN / "graph/tri1"
    for nj in (1, 2):
        run(tmp_path, "decode_kaldi.sh", f"--nj={nj}", model, "exp", "data", graph, f"out{nj}")
    parts = [unzipped(tmp_path / f"out2/lat.{job}.gz") for job in (1, 2)]
    assert b"".join(parts) == unzipped(tmp_path / "out1/lat.1.gz")
    run(tmp_path, "score_kaldi.sh", "--lmwt=10", "--wip=0.0", "data", graph, "out2")

    loglikes, words = f"ark:{tmp_path}/loglikes.ark", f"ark,t:{tmp_path}/words"
    main.run(["loglikes", f"{tmp_path}/exp", f"{tmp_path}/data", loglikes])
    options = ["--acoustic-scale=0.1", "--beam=13", "--num-jobs=1", f"--word-symbol-table={graph}/words.txt"]
    main.run(["decode", *options, model.partition("=")[2], str(graph / "HCLG.fst"), loglikes, words])
    kaldi = (tmp_path / "out2/scoring_kaldi/penalty_0.0/10.txt").read_text().split()
    assert kaldi == (tmp_path / "words").read_text().split()

    run(tmp_path, "align_kaldi.sh", "--nj=1", "exp", "data", lang, "ali")
    aligned = dict(read_alignments(tmp_path / "ali"))
    lengths = {utt: len(feats) for utt, feats in read_table(f"ark:{GOLDEN}/feats/fbank40.ark", "matrix")}
    assert {utt: len(ali) for utt, ali in aligned.items()} == lengths
    assert read_model(tmp_path / "ali").num_pdfs == read_model(GOLDEN / "model/tri1").num_pdfs
