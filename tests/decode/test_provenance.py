"""Nothing is decoded with a graph, model or network of another tree."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.main import run
from acoustic.decode.graph import make_graph
from acoustic.decode.provenance import fingerprints_of, note_of_table, read_note, remove_notes, write_notes
from acoustic.errors import DataError
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.kaldi.tables import TableWriter
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

GOLDEN = Path(__file__).parents[1] / "golden"
TRI1 = GOLDEN / "model" / "tri1"
LOGLIKES = f"ark:{GOLDEN / 'decode' / 'tri1' / 'loglikes.ark'}"


@pytest.fixture
def same_model_other_tree(tmp_path):
    """A final.mdl beside a tree that leads to the same pdfs in other contexts."""
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(TRI1 / "final.mdl", folder)
    text = (TRI1 / "tree.txt").read_text()
    swapped = re.sub(r"\{ CE (\d+) CE (\d+) ", r"{ CE \2 CE \1 ", text, count=1)
    assert swapped != text
    (folder / "tree").write_text(swapped)
    return folder


@pytest.fixture
def graph(tmp_path):
    """Of the right tree."""
    make_graph(GOLDEN / "graph" / "lang", TRI1, tmp_path / "graph")
    return tmp_path / "graph" / "HCLG.fst"


def decode(model_dir, graph, loglikes, out):
    run(["decode", "--num-jobs=1", str(model_dir / "final.mdl"), str(graph), loglikes, f"ark,t:{out}"])


def test_a_graph_of_another_tree_is_refused_though_the_model_is_the_same(same_model_other_tree, graph, tmp_path):
    decode(TRI1, graph, LOGLIKES, tmp_path / "words")
    with pytest.raises(DataError, match="made for another tree"):
        decode(same_model_other_tree, graph, LOGLIKES, tmp_path / "words")
    with pytest.raises(DataError, match="made for another tree"):
        run(
            ["decode-tune", str(same_model_other_tree / "final.mdl"), str(graph), LOGLIKES, str(GOLDEN / "wav/text"),
             str(tmp_path / "tuned.json")]
        )  # fmt: skip


def test_decode_tune_that_cannot_write_does_not_begin(tmp_path):
    with pytest.raises(DataError, match=r"cannot be written \(Is a directory\)"):
        run(["decode-tune", "mdl", "fst", "ark:loglikes", "text", str(tmp_path)])


def test_a_damaged_description_of_a_graph_is_refused(graph, tmp_path):
    (graph.parent / "graph.json").write_text("[]")
    with pytest.raises(DataError, match=r"graph\.json: is no description"):
        decode(TRI1, graph, LOGLIKES, tmp_path / "words")


@pytest.fixture
def network(tmp_path):
    """A network for mono's pdfs, trained (so it says) on alignments by its tree; features for it."""
    torch.manual_seed(0)
    frontend = Frontend(FrontendConfig(cmvn="none", global_norm=False), 3)
    bundle = Bundle(
        classifier=SenoneClassifier(ClassifierConfig(hidden_layers=1, hidden_dim=2), 3, 104).eval(),
        frontend_config=frontend.config_dict(),
        frontend_state=frontend.state_dict(),
        feat_dim=3,
        pdf_counts=torch.ones(104, dtype=torch.int64),
        fingerprints={**fingerprints_of(TRI1 / "final.mdl"), "alignments": "abc"},
    )
    (tmp_path / "final.pt").write_bytes(bundle.to_bytes())
    with TableWriter(f"ark:{tmp_path}/feats.ark", "matrix") as writer:
        writer.write("utt", np.ones((9, 3), np.float32))
    return tmp_path / "final.pt"


def loglikes_by(network, out, *options):
    run(["loglikes", "--device=cpu", *options, str(network), f"ark:{network.parent}/feats.ark", out])


def test_a_network_trained_for_another_tree_is_refused(network, same_model_other_tree, tmp_path):
    loglikes_by(network, f"ark:{tmp_path}/out.ark", f"--for-model={TRI1}/final.mdl")
    with pytest.raises(DataError, match=r"final\.pt: was made with another tree than .*other"):
        loglikes_by(network, f"ark:{tmp_path}/out.ark", f"--for-model={same_model_other_tree}/final.mdl")
    with pytest.raises(DataError, match="another transition model"):
        loglikes_by(network, f"ark:{tmp_path}/out.ark", f"--for-model={GOLDEN}/model/mono/final.mdl")


@pytest.mark.parametrize("kind", ["ark", "scp"])
def test_loglikes_in_a_file_remember_their_network(network, same_model_other_tree, graph, tmp_path, kind):
    loglikes_by(network, f"ark,scp:{tmp_path}/out.ark,{tmp_path}/out.scp")
    loglikes = f"{kind}:{tmp_path}/out.{kind}"
    assert note_of_table(loglikes)["alignments"] == "abc"
    decode(TRI1, graph, loglikes, tmp_path / "words")
    assert read_note(tmp_path / "words")["alignments"] == "abc"
    with pytest.raises(DataError, match=rf"out\.{kind}: was made with another tree"):
        decode(same_model_other_tree, graph, loglikes, tmp_path / "words")


def test_a_note_about_another_version_of_a_file_does_not_count(tmp_path):
    path = tmp_path / "out.ark"
    path.write_bytes(b"one")
    write_notes(f"ark:{path}", {"tree": "x"})
    assert read_note(path) == {"tree": "x"}
    path.write_bytes(b"another")
    assert read_note(path) == {}
    remove_notes(f"ark:{path}")
    assert [item.name for item in tmp_path.iterdir()] == ["out.ark"]


@pytest.mark.parametrize("wspecifier", ["ark:-", "ark:| cat", "ark:/dev/null"])
def test_pipes_have_no_notes(wspecifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_notes(wspecifier, {"tree": "x"})
    assert not list(tmp_path.iterdir())
    assert note_of_table("ark:cat x |") == {}


def test_a_damaged_note_is_an_error(tmp_path):
    (tmp_path / "x").touch()
    (tmp_path / "x.made_with.json").write_text(json.dumps({"size": None, "fingerprints": {}}))
    with pytest.raises(DataError, match="no note"):
        read_note(tmp_path / "x")
