"""Kaldi's own programs load what we export and give our loglikes and words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acoustic.decode.forward import AcousticModel
from acoustic.exchange.nnet1_export import export_nnet1
from acoustic.exchange.nnet3_export import export_nnet3
from acoustic.exchange.stages import split
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.nn.bundle import Bundle
from tests.exchange.models import make_bundle, make_frontend
from tests.exchange.test_export import MIXED, TRI1
from tests.kaldi.goldens import GOLDEN

PROGRAMS = ("nnet-forward", "nnet3-compute", "nnet3-latgen-faster", "latgen-faster-mapped", "apply-cmvn", "add-deltas")
pytestmark = [
    pytest.mark.kaldi,
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="Kaldi's programs are not on PATH"),
]

FRONTENDS = {
    "splicing": FrontendConfig(cmvn="none", splice_left=5, splice_right=5),
    "deltas": FrontendConfig(cmvn="speaker", norm_vars=True, delta_order=2, splice_left=3, splice_right=3),
    "sliding": FrontendConfig(cmvn="sliding", cmvn_window=50, cmvn_min_window=20, splice_left=1, lda_dim=30),
    "global": FrontendConfig(cmvn="global", norm_vars=True, delta_order=2, splice_left=2, splice_right=2),
    "lda and mllt": FrontendConfig(
        cmvn="utterance", transform_splice_left=2, transform_splice_right=2, transform_dim=30, splice_right=3
    ),
    "fmllr": FrontendConfig(cmvn="speaker", transform_dim=20, fmllr="utterance", delta_order=1, splice_left=2),
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "mixed": MIXED,
    "batch norm": {**MIXED, "norm": "batch"},
    "maxout": {"hidden_dims": [30, 20], "activation": "maxout"},
    "maxout with batch norm": {"hidden_dims": [30, 20], "activations": ["maxout", "sigmoid"], "norm": "batch"},
    "gradient acceleration": {"hidden_dims": [30, 20], "activations": ["gaaf_relu", "gaaf_tanh"]},
    "dropout": {"hidden_dims": [30, 20], "dropout": 0.5, "input_dropout": 0.2},
}
ONLY_NNET3: dict[str, dict[str, Any]] = {
    "layer norm": {**MIXED, "norm": "layer"},
    "silu": {"hidden_dims": [30, 20], "activation": "silu"},
}
DECODING = ["--beam=13", "--lattice-beam=8", "--acoustic-scale=0.1", "--allow-partial=true"]
HCLG = GOLDEN / "graph/tri1/HCLG.fst"


def kaldi(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The two golden utterances as a data directory of one speaker, and an fMLLR transform of each."""
    feats = dict(read_table(f"ark:{GOLDEN}/feats/two.ark", "matrix"))
    with TableWriter(f"ark,scp:{tmp_path}/feats.ark,{tmp_path}/feats.scp", "matrix") as writer:
        for utt, matrix in feats.items():
            writer.write(utt, matrix)
    (tmp_path / "utt2spk").write_text("".join(f"{utt} speaker\n" for utt in feats))
    (tmp_path / "spk2utt").write_text(f"speaker {' '.join(feats)}\n")
    kaldi(
        "compute-cmvn-stats", f"--spk2utt=ark:{tmp_path}/spk2utt", f"ark:{tmp_path}/feats.ark",
        f"ark,scp:{tmp_path}/cmvn.ark,{tmp_path}/cmvn.scp",
    )  # fmt: skip
    generator = np.random.default_rng(0)
    with TableWriter(f"ark:{tmp_path}/trans.1", "matrix") as writer:
        for utt in feats:
            matrix = np.eye(20, 21) + generator.normal(size=(20, 21)) / 10
            writer.write(utt, matrix.astype(np.float32))
    return tmp_path


def base_frames(data: Path, frontend: Frontend) -> dict[str, torch.Tensor]:
    """From the stored features, through our own front end."""
    stats = dict(read_table(f"ark:{data}/cmvn.ark", "matrix"))["speaker"]
    transforms = dict(read_table(f"ark:{data}/trans.1", "matrix"))
    config = frontend.config
    return {
        utt: frontend.per_utterance(
            torch.from_numpy(feats),
            torch.from_numpy(stats) if config.needs_cmvn_stats else None,
            torch.from_numpy(transforms[utt]) if config.fmllr != "none" else None,
        )
        for utt, feats in read_table(f"ark:{data}/feats.ark", "matrix")
    }


def our_loglikes(data: Path, bundle: Bundle) -> dict[str, np.ndarray]:
    model = AcousticModel(bundle)
    return {utt: model.loglikes([base])[0].numpy() for utt, base in base_frames(data, model.frontend).items()}


def make_model(data: Path, config: FrontendConfig, **model: Any) -> tuple[Bundle, Frontend]:
    """A random model of the senones of TRI1 whose outputs vary from frame to frame; two pdfs were never seen."""
    frontend = make_frontend(config, feat_dim=40)
    frontend.set_global_norm(torch.zeros(frontend.input_dim), torch.ones(frontend.input_dim))
    inputs = torch.cat([frontend.utterance(base) for base in base_frames(data, frontend).values()])
    frontend.set_global_norm(inputs.mean(0), inputs.var(0))
    num_pdfs = TransitionModel.read(TRI1).num_pdfs
    counts = torch.randint(1, 1000, (num_pdfs,), generator=torch.Generator().manual_seed(0))
    counts[[3, 50]] = 0
    bundle = make_bundle(frontend, num_pdfs, counts, **model)
    bundle.classifier.output.weight.data *= 5
    return bundle, frontend


def pipeline(out: Path, data: Path) -> str:
    """The rspecifier that the export says its features come from."""
    text = (out / "feature_pipeline").read_text().strip()
    return text.replace("DATA", str(data)).replace("MODEL", str(out)).replace("TRANS", str(data))


def assert_loglikes(rspecifier: str, expected: dict[str, np.ndarray], per_frame_constant: bool = False) -> None:
    """Kaldi's loglikes are ours; of disabled pdfs both are hugely negative."""
    found = dict(read_table(rspecifier, "matrix"))
    assert found.keys() == expected.keys()
    for utt, ours in expected.items():
        disabled = ours[0] < -1e10
        assert (found[utt][:, disabled] < -1e10).all()
        difference = found[utt][:, ~disabled] - ours[:, ~disabled]
        if per_frame_constant:
            difference -= difference[:, :1]
        np.testing.assert_allclose(difference, 0.0, atol=1e-3)


def decode_ours(loglikes: dict[str, np.ndarray], folder: Path) -> tuple[str, str]:
    """Words and transition_ids of our loglikes."""
    with TableWriter(f"ark:{folder}/ours.ark", "matrix") as writer:
        for utt, matrix in loglikes.items():
            writer.write(utt, matrix)
    kaldi(
        "latgen-faster-mapped", *DECODING, TRI1, HCLG, f"ark:{folder}/ours.ark", "ark:/dev/null",
        f"ark,t:{folder}/ours.words", f"ark,t:{folder}/ours.ali",
    )  # fmt: skip
    return (folder / "ours.words").read_text(), (folder / "ours.ali").read_text()


def decoded(folder: Path) -> tuple[str, str]:
    """Words and transition_ids that Kaldi found with an exported net."""
    return (folder / "theirs.words").read_text(), (folder / "theirs.ali").read_text()


def check_nnet1(data: Path, bundle: Bundle, frontend: Frontend, binary: bool = True) -> None:
    out, expected = data / "nnet1", our_loglikes(data, bundle)
    export_nnet1(bundle, frontend, out, TRI1, binary)
    options = [f"--feature-transform={out}/final.feature_transform", out / "final.nnet", pipeline(out, data)]
    counts = f"--class-frame-counts={out}/ali_train_pdf.counts"
    kaldi("nnet-forward", "--no-softmax=true", counts, *options, f"ark:{data}/theirs.ark")
    assert_loglikes(f"ark:{data}/theirs.ark", expected, per_frame_constant=True)
    kaldi(
        "latgen-faster-mapped", *DECODING, out / "final.mdl", HCLG, f"ark:{data}/theirs.ark", "ark:/dev/null",
        f"ark,t:{data}/theirs.words", f"ark,t:{data}/theirs.ali",
    )  # fmt: skip
    assert decoded(data) == decode_ours(expected, data)


def check_nnet3(data: Path, bundle: Bundle, frontend: Frontend, binary: bool = True) -> None:
    out, expected = data / "nnet3", our_loglikes(data, bundle)
    export_nnet3(bundle, frontend, out, TRI1, binary)
    feats = pipeline(out, data)
    kaldi("nnet3-compute", "--use-priors=true", out / "final.mdl", feats, f"ark:{data}/theirs.ark")
    assert_loglikes(f"ark:{data}/theirs.ark", expected)
    kaldi(
        "nnet3-latgen-faster", *DECODING, out / "final.mdl", HCLG, feats, "ark:/dev/null",
        f"ark,t:{data}/theirs.words", f"ark,t:{data}/theirs.ali",
    )  # fmt: skip
    assert decoded(data) == decode_ours(expected, data)
    kaldi("nnet3-compute", out / "final.raw", feats, f"ark:{data}/raw.ark")
    total = np.exp(np.concatenate([m for _, m in read_table(f"ark:{data}/raw.ark", "matrix")])).sum(1)
    np.testing.assert_allclose(total, 1.0, atol=1e-4)


@pytest.mark.parametrize("name", FRONTENDS)
def test_every_front_end(data: Path, name: str) -> None:
    bundle, frontend = make_model(data, FRONTENDS[name], hidden_dims=[30])
    check_nnet1(data, bundle, frontend)
    check_nnet3(data, bundle, frontend)


@pytest.mark.parametrize("name", MODELS)
def test_every_activation_of_both(data: Path, name: str) -> None:
    bundle, frontend = make_model(data, FRONTENDS["splicing"], **MODELS[name])
    check_nnet1(data, bundle, frontend, binary=False)
    check_nnet3(data, bundle, frontend, binary=False)


@pytest.mark.parametrize("name", ONLY_NNET3)
def test_every_activation_of_nnet3_alone(data: Path, name: str) -> None:
    bundle, frontend = make_model(data, FRONTENDS["splicing"], **ONLY_NNET3[name])
    check_nnet3(data, bundle, frontend)


def test_deltas_inside_nnet3(data: Path) -> None:
    bundle, frontend = make_model(data, FRONTENDS["deltas"], hidden_dims=[30])
    out, expected = data / "nnet3", our_loglikes(data, bundle)
    export_nnet3(bundle, frontend, out, TRI1, exact_edges=False)
    kaldi("nnet3-compute", "--use-priors=true", out / "final.mdl", pipeline(out, data), f"ark:{data}/theirs.ark")
    reach = 3 + 4
    inner = {utt: matrix[reach:-reach] for utt, matrix in read_table(f"ark:{data}/theirs.ark", "matrix")}
    assert not split(frontend).outside[1:]
    for utt, ours in expected.items():
        seen = ours[0] > -1e10
        np.testing.assert_allclose(inner[utt][:, seen], ours[reach:-reach, seen], atol=1e-3)
