"""Six utterances of golden data with alignments and graph, and three small networks that saw none of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from acoustic.features.frontend import Frontend
from acoustic.kaldi.alignments import count_pdfs, read_alignments, read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

GOLDEN = Path(__file__).parents[1] / "golden"
ACTIVATIONS = ("relu", "leaky_relu", "sigmoid")
FBANK = {"sample_frequency": 8000.0, "num_mel_bins": 40, "frame_shift": 10.0}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data (features, text, audio), ali, graph, and the exp_dirs relu, leaky_relu and sigmoid."""
    root = tmp_path_factory.mktemp("world")
    golden = DataDir.read(GOLDEN / "wav", root=GOLDEN)
    with TableWriter(f"ark,scp:{root}/feats.ark,{root}/feats.scp", "matrix") as writer:
        for utt, feats in read_table(f"ark:{GOLDEN}/feats/fbank40.ark", "matrix"):
            if utt in golden.utt2spk:
                writer.write(utt, feats)
    (root / "data").mkdir()
    shutil.copy(root / "feats.scp", root / "data")
    wav = {utt: str(GOLDEN / "wav" / f"{utt}.wav") for utt in golden.utt2spk}
    DataDir(wav=wav, text=golden.text, utt2spk=golden.utt2spk).write(root / "data")
    shutil.copy(root / "feats.scp", root / "data")
    ali = shutil.copytree(GOLDEN / "align" / "tri1", root / "ali", ignore=shutil.ignore_patterns("*.txt"))
    shutil.copy(GOLDEN / "model" / "tri1" / "final.mdl", ali)
    graph = shutil.copytree(GOLDEN / "graph" / "tri1", root / "graph")
    shutil.copy(GOLDEN / "graph" / "lang" / "phones.txt", graph)
    for activation in ACTIVATIONS:
        write_experiment(root / activation, activation, ali)
    return root


def write_experiment(exp_dir: Path, activation: str, ali: Path) -> None:
    """An exp_dir with an untrained network of some activation, and the metrics of two epochs."""
    model = read_model(ali)
    frontend = Frontend.from_config({"cmvn": "utterance", "splice_left": 3, "splice_right": 3}, 40)
    config = ClassifierConfig(hidden_layers=2, hidden_dim=24, activation=activation, input_dropout=0.1, dropout=0.3)
    torch.manual_seed(3)
    classifier = SenoneClassifier(config, frontend.input_dim, model.num_pdfs).eval()
    bundle = Bundle(
        classifier=classifier,
        frontend_config=frontend.config_dict(),
        frontend_state=frontend.state_dict(),
        feat_dim=40,
        fbank_options=FBANK,
        pdf_counts=torch.from_numpy(count_pdfs(model, read_alignments(ali))),
        fingerprints={"transition_model": model.fingerprint()},
    )
    exp_dir.mkdir()
    (exp_dir / "final.pt").write_bytes(bundle.to_bytes())
    (exp_dir / "config.yaml").write_text(f"model: {{activation: {activation}}}\ndata: {{batch_size: 64}}\nseed: 1\n")
    records = [
        {"step": 10 * epoch, "epoch": epoch, "learning_rate": 0.1, "train_loss": 2.0 / epoch, "train_accuracy": 0.4,
         "dev_loss": 2.5 / epoch, "dev_accuracy": 0.3, "accepted": True}
        for epoch in (1, 2)
    ]  # fmt: skip
    (exp_dir / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    speed = {"step": 20, "seconds": 2.0, "steps_per_second": 10.0}
    (exp_dir / "speed.jsonl").write_text(json.dumps(speed) + "\n")
