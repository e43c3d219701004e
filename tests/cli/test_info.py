"""`acoustic info` on the files of the golden experiment: each is told for what it is, from its content alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from acoustic.cli.main import run
from acoustic.errors import DataError
from acoustic.kaldi.transitions import TransitionModel

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model/tri1/final.mdl", "938 transition_ids"),
        ("model/tri1/transition_model.txt", "938 transition_ids"),
        ("model/tri1/tree", "decision tree over 3 phones, 104 pdfs"),
        ("model/tri1", "decision tree over 3 phones"),
        ("graph/tri1", "graph directory"),
        ("graph/lang", "lang directory"),
        ("graph/lang/topo", "topology of 81 phones"),
        ("graph/lang/lm.arpa", "ngram 1="),
        ("feats/two.ark", "40 values in a frame"),
        ("feats/lda.mat", "matrix [40, 117]"),
        ("align/tri1/ali.1.gz", "table of 6 entries (int_vector), 606"),
        ("align/tri1/pdf_post.ark", "table of 6 entries (posterior), 606"),
        ("nnet1/final.nnet", "nnet1 of 10 components"),
        ("nnet3/final.raw", "nnet3 of 8 components"),
        ("align/mono/graphs.fsts", "table of 6 transducers, 1"),
        ("nnet3/two_lat.ark", "table of 2 compact lattices, "),
        ("sequence/raw.ark", "table of 2 lattices, state by state, "),
        ("sequence/values.json", "JSON"),
        ("wav/text", "table of 6 entries (tokens), 19 words"),
        ("wav/engb_f2-000.wav", "audio of 1.98 s at 8000 Hz"),
    ],
)
def test_what_a_file_is(name: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not (GOLDEN / name).exists():
        pytest.skip(f"{name} is not among the golden files kept here")
    run(["info", str(GOLDEN / name)])
    printed = capsys.readouterr()
    assert printed.out.startswith(str(GOLDEN / name)) and expected in printed.out
    assert printed.err.startswith("acoustic info: done 1 files and folders")


def test_models_have_fingerprints(capsys: pytest.CaptureFixture[str]) -> None:
    path = GOLDEN / "model" / "mono" / "final.mdl"
    run(["info", str(path)])
    assert TransitionModel.read(path).fingerprint() in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"\xff" * 50])
def test_what_is_not_known_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="file"):
        run(["info", str(tmp_path / "file")])
    with pytest.raises(DataError, match="no known kind"):
        run(["info", str(tmp_path)])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["lat.1.gz", "lat.2.gz", "num_jobs"], "lattices in 2 archives"),
        (["step-000000003/x", "step-000000012/x"], "2 checkpoints, after 3, 12 updates"),
        (["lexicon.txt"], "dictionary directory"),
        (["journal.log", "report.md"], "search of acoustic tune"),
        (["claims.md"], "trainings of acoustic claims"),
        (["report.html"], "report of acoustic analyze"),
    ],
)
def test_what_a_folder_is(files: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    run(["info", str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path}: {expected}\n"


def test_what_training_leaves_beside_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not tables of words whose keys come twice, as which they were damaged."""
    (tmp_path / "config.yaml").write_text("seed: 1\nmodel:\n- relu\n- tanh\ntrain:\n  data_dir: data\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "dev_loss": 2.0}\n{"step": 2, "dev_loss": 1.0}\n')
    (tmp_path / "tuned.json").write_text('{\n  "wer": 1,\n  "trials": []\n}\n')
    for name, expected in {
        "config.yaml": "YAML\n  seed, model, train",
        "metrics.jsonl": "2 lines of JSON\n  step, dev_loss",
        "tuned.json": "JSON\n  wer, trials",
    }.items():
        run(["info", str(tmp_path / name)])
        assert capsys.readouterr().out == f"{tmp_path / name}: {expected}\n"
    (tmp_path / "tuned.json").write_text('{"wer": 1, ')
    with pytest.raises(DataError, match=r"tuned\.json: is not JSON"):
        run(["info", str(tmp_path / "tuned.json")])


def test_the_list_of_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    assert "info" in capsys.readouterr().out
