"""`acoustic import`, training that starts from the imported network, `acoustic export`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.hydra_config import read_yaml
from acoustic.cli.main import run
from acoustic.decode.forward import AcousticModel
from acoustic.errors import CheckpointError, ConfigError, DataError
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.nn.bundle import load_bundle
from acoustic.nn.classifier import OutputLayer
from tests.kaldi.goldens import GOLDEN
from tests.kaldi.nets import nnet3_output

DEV_SPEAKER = "engb_f5"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Golden features and alignments of six utterances, one speaker for dev, and Kaldi's nnet3 imported."""
    speaker_of = DataDir.read(GOLDEN / "wav").utt2spk
    for name in ("train", "dev"):
        folder = tmp_path / name
        folder.mkdir()
        chosen = {utt: spk for utt, spk in speaker_of.items() if (spk == DEV_SPEAKER) == (name == "dev")}
        with TableWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp", "matrix") as writer:
            for utt, feats in read_table(f"ark:{GOLDEN}/feats/fbank40.ark", "matrix"):
                if utt in chosen:
                    writer.write(utt, feats)
        DataDir(utt2spk=chosen, feats=DataDir.read(folder).feats).write(folder)
    for model in ("mono", "tri1"):
        ali = shutil.copytree(GOLDEN / "align" / model, tmp_path / f"{model}_ali")
        for name in ("final.mdl", "tree"):
            shutil.copy(GOLDEN / "model" / model / name, ali)
    run(["import", "nnet3", str(GOLDEN / "nnet3/final.mdl"), str(tmp_path / "imported")])
    return tmp_path


def train(corpus: Path, *overrides: str, ali: str = "tri1_ali") -> None:
    """An epoch from the imported network on; learning rate 1e-9 unless overridden."""
    run(
        [
            "train", f"init_from={corpus}/imported", f"exp_dir={corpus}/exp", f"train.data_dir={corpus}/train",
            f"train.ali_dir={corpus}/{ali}", f"dev.data_dir={corpus}/dev", f"dev.ali_dir={corpus}/{ali}",
            "schedule=constant", "schedule.max_epochs=1", "data.dtype=float32", "runtime.precision=fp32",
            "runtime.num_threads=1", "optim.learning_rate=1e-9", *overrides,
        ]
    )  # fmt: skip


def test_training_goes_on_from_an_imported_network(corpus: Path) -> None:
    train(corpus, "model.dropout=0.1")
    config = read_yaml(corpus / "exp/config.yaml")
    assert config["model"]["hidden_dims"] == [24, 20, 16] and config["model"]["dropout"] == 0.1
    assert config["model"]["activations"] == ["relu", "sigmoid", "tanh"]
    assert (config["features"]["cmvn"], config["features"]["splice_left"]) == ("none", 5)
    trained = AcousticModel.load(corpus / "exp")
    outputs = dict(read_table(f"ark:{GOLDEN}/nnet3/two_output.ark", "matrix"))
    for utt, feats in read_table(f"ark:{GOLDEN}/feats/two.ark", "matrix"):
        base = trained.frontend.per_utterance(torch.from_numpy(feats))
        np.testing.assert_allclose(trained.log_posteriors([base])[0], outputs[utt], atol=1e-3)
    priors = trained.bundle.pdf_counts  # of the new alignments
    assert 0 < int(priors.sum()) < 10_000


def test_training_changes_the_imported_network(corpus: Path) -> None:
    before = load_bundle(corpus / "imported").classifier.output.weight
    train(corpus, "optim.learning_rate=0.1")
    after = load_bundle(corpus / "exp").classifier.output.weight
    assert 1e-3 < float((after - before).detach().abs().max()) < 1.0


def test_global_normalisation_stays_the_networks_own(corpus: Path) -> None:
    nnet1 = GOLDEN / "nnet1"
    run(["import", "nnet1", *(str(nnet1 / name) for name in ("final.nnet", "feature_transform")), f"{corpus}/n1"])
    shutil.rmtree(corpus / "imported")
    # its ten outputs are no senones of any alignments: give it those of tri1
    bundle = load_bundle(corpus / "n1")
    bundle.classifier.output = OutputLayer(12, 104)
    bundle.classifier.num_pdfs = 104
    (corpus / "imported").mkdir()
    (corpus / "imported/final.pt").write_bytes(bundle.to_bytes())
    train(corpus, "optim.learning_rate=0.1")
    trained = load_bundle(corpus / "exp")
    for name in ("shift", "scale"):
        torch.testing.assert_close(trained.frontend_state[name], bundle.frontend_state[name], rtol=0, atol=0)


def test_alignments_with_other_senones_are_refused(corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"knows 104 senones of another model than that of the alignments, .* 62"):
        train(corpus, ali="mono_ali")


def test_options_that_contradict_the_initial_network_are_refused(corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"dropouts names 2 rates for 3 hidden layers of .*imported"):
        train(corpus, "model.hidden_layers=2", "model.dropouts=[0.1,0.2]")
    with pytest.raises(ConfigError, match=r"features\.lda_mat and init_from"):
        train(corpus, "features.lda_mat=lda.mat")
    with pytest.raises(CheckpointError, match="no trained model there"):
        train(corpus, f"init_from={corpus}/nowhere")


def test_features_of_another_dimension_are_refused(corpus: Path) -> None:
    for name in ("train", "dev"):
        with TableWriter(f"ark,scp:{corpus}/{name}/feats.ark,{corpus}/{name}/feats.scp", "matrix") as writer:
            for utt in DataDir.read(corpus / name).utt2spk:
                writer.write(utt, np.zeros((200, 13), np.float32))
    with pytest.raises(ConfigError, match=r"features of 13 values, but .*imported was trained on 40"):
        train(corpus)


def test_an_imported_network_is_not_taken_for_the_end_of_a_training(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="imported holds a network that was not trained there"):
        train(corpus, f"exp_dir={corpus}/imported")
    assert [item.name for item in (corpus / "imported").iterdir()] == ["final.pt"]


def test_a_run_does_not_go_on_from_a_network_that_was_exchanged(corpus: Path) -> None:
    train(corpus)
    (corpus / "exp/final.pt").unlink()
    bundle = load_bundle(corpus / "imported")
    bundle.pdf_counts += 1
    (corpus / "imported/final.pt").write_bytes(bundle.to_bytes())
    with pytest.raises(ConfigError, match="init_sha256"):
        train(corpus)


# -- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", ["true", "false"])
def test_export_to_nnet3_and_nnet1(corpus: Path, binary: str) -> None:
    model = f"--model={corpus}/tri1_ali/final.mdl"
    exported = Nnet3Model.read(GOLDEN / "nnet3/final.mdl")
    for file_format in ("nnet3", "nnet1"):
        run(["export", file_format, model, f"--binary={binary}", f"{corpus}/imported", f"{corpus}/{file_format}"])
    again = Nnet3Model.read(corpus / "nnet3/final.mdl")
    np.testing.assert_allclose(again.priors, exported.priors, rtol=1e-5)
    for _, feats in read_table(f"ark:{GOLDEN}/feats/two.ark", "matrix"):
        np.testing.assert_allclose(nnet3_output(again.nnet, feats), nnet3_output(exported.nnet, feats), atol=1e-4)
    header = b"\0B" if binary == "true" else b"<N"
    assert (corpus / "nnet3/final.raw").read_bytes()[:2] == header
    assert (corpus / "nnet1/final.nnet").read_bytes()[:2] == header
    assert Nnet1.read(corpus / "nnet1/final.nnet").output_dim == 104
    run(["import", "nnet1", f"{corpus}/nnet1", f"{corpus}/again"])
    assert load_bundle(corpus / "again").fingerprints == load_bundle(corpus / "imported").fingerprints | {
        "tree": load_bundle(corpus / "again").fingerprints["tree"]
    }


def test_export_with_padded_edges(corpus: Path) -> None:
    for edges in ("exact", "padded"):
        run(["export", "nnet3", f"--edges={edges}", f"{corpus}/imported/final.pt", f"{corpus}/{edges}"])
        assert Nnet3.read(corpus / edges / "final.raw").context() == (5, 5)
        assert not (corpus / edges / "final.mdl").exists()


def test_export_to_onnx(corpus: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run(["export", "onnx", f"{corpus}/imported", f"{corpus}/model.onnx"])
    session = runtime.InferenceSession(f"{corpus}/model.onnx")
    outputs = dict(read_table(f"ark:{GOLDEN}/nnet3/two_output.ark", "matrix"))
    for utt, feats in read_table(f"ark:{GOLDEN}/feats/two.ark", "matrix"):
        (posteriors,) = session.run(["log_posteriors"], {"features": feats})
        np.testing.assert_allclose(posteriors, outputs[utt], atol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [
        ["export"],
        ["export", "nnet2", "a", "b"],
        ["export", "nnet1", "a"],
        ["export", "nnet1", "--edges=padded", "a", "b"],
        ["import", "nnet1", "a"],
        ["import", "nnet1", "a", "b", "c", "d", "e"],
        ["import", "nnet3", "a", "b", "c"],
    ],
)
def test_wrong_command_lines(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        run(arguments)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        run(["export", "nnet1", f"{tmp_path}/none", f"{tmp_path}/out"])
    for arguments in (["nnet1", f"{tmp_path}"], ["nnet3", f"{tmp_path}"], ["nnet3", f"{tmp_path}/final.mdl"]):
        with pytest.raises(DataError):
            run(["import", *arguments, f"{tmp_path}/exp"])
    assert not list(tmp_path.iterdir())
