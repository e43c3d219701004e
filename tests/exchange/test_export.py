"""Exported nets, read back and computed with numpy, give our own outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.info import describe
from acoustic.decode.priors import DISABLED
from acoustic.errors import ConfigError, DataError
from acoustic.exchange.nnet1_export import export_nnet1
from acoustic.exchange.nnet3_export import export_nnet3
from acoustic.exchange.nnet3_import import import_nnet3_dir
from acoustic.exchange.stages import Deltas, split
from acoustic.kaldi.matrix import read_matrix_file, read_vector_file
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.transitions import TransitionModel
from acoustic.nn.bundle import Bundle
from tests.exchange.models import (
    FRONTENDS,
    NUM_PDFS,
    Utterance,
    expected,
    features_outside,
    make_bundle,
    make_frontend,
    utterances,
)
from tests.kaldi.goldens import GOLDEN
from tests.kaldi.nets import nnet1_output, nnet3_output

TRI1 = GOLDEN / "model/tri1/final.mdl"
MIXED = {
    "hidden_dims": [12, 11, 10, 13, 8],
    "activations": ["relu", "leaky_relu", "prelu", "sigmoid", "tanh"],
    "negative_slope": 0.02,
}
NETS = {
    "mixed": MIXED,
    "batch norm": {**MIXED, "norm": "batch"},
    "maxout": {"hidden_dims": [6, 5], "activation": "maxout"},
    "maxout with batch norm": {"hidden_dims": [6, 5], "activations": ["maxout", "sigmoid"], "norm": "batch"},
    "gradient acceleration": {"hidden_dims": [6, 5], "activations": ["gaaf_relu", "gaaf_tanh"]},
    "no hidden layer": {"hidden_dims": []},
    "dropout": {"hidden_dims": [6], "dropout": 0.5, "input_dropout": 0.2},
}
ONLY_NNET3 = {
    "layer norm": {**MIXED, "norm": "layer"},
    "silu": {"hidden_dims": [6, 5], "activation": "silu"},
}
REFUSED = {"elu": {"activations": ["relu", "elu"]}, "gelu": {"activations": ["relu", "gelu"]}}


def nnet1_of(directory: Path) -> Nnet1:
    transform, net = Nnet1.read(directory / "final.feature_transform"), Nnet1.read(directory / "final.nnet")
    return Nnet1(transform.components + net.components)


def assert_nnet1_gives(directory: Path, bundle: Bundle, features: np.ndarray, utterance: Utterance) -> None:
    posteriors = nnet1_output(nnet1_of(directory), features)
    np.testing.assert_allclose(posteriors, np.exp(expected(bundle, utterance)[0]), atol=1e-4)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", FRONTENDS)
def test_nnet1_has_every_front_end_exactly(tmp_path: Path, name: str, binary: bool) -> None:
    frontend = make_frontend(FRONTENDS[name])
    bundle = make_bundle(frontend, hidden_dims=[6])
    export_nnet1(bundle, frontend, tmp_path / "out", binary=binary)
    for utterance in utterances(frontend):
        features = features_outside(split(frontend, deltas_outside=True).outside, utterance)
        assert_nnet1_gives(tmp_path / "out", bundle, features, utterance)


@pytest.mark.parametrize("name", NETS)
def test_nnet1_has_every_activation_it_can(tmp_path: Path, name: str) -> None:
    frontend = make_frontend(FRONTENDS["splicing"])
    bundle = make_bundle(frontend, **NETS[name])
    export_nnet1(bundle, frontend, tmp_path / "out")
    for utterance in utterances(frontend):
        features = features_outside(split(frontend).outside, utterance)
        assert_nnet1_gives(tmp_path / "out", bundle, features, utterance)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", FRONTENDS)
def test_nnet3_has_every_front_end_exactly(tmp_path: Path, name: str, binary: bool) -> None:
    frontend = make_frontend(FRONTENDS[name])
    bundle = make_bundle(frontend, hidden_dims=[6])
    export_nnet3(bundle, frontend, tmp_path / "out", binary=binary)
    net = Nnet3.read(tmp_path / "out/final.raw")
    for utterance in utterances(frontend):
        features = features_outside(split(frontend, max_contexts=1).outside, utterance)
        np.testing.assert_allclose(nnet3_output(net, features), expected(bundle, utterance)[0], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "num_first", "num_last"), [("deltas", 2, 2), ("global and deltas", 2, 2), ("lda and mllt", 0, 3)]
)
def test_nnet3_with_everything_inside_is_exact_away_from_the_edges(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, num_first: int, num_last: int
) -> None:
    frontend = make_frontend(FRONTENDS[name])
    bundle = make_bundle(frontend, hidden_dims=[6])
    export_nnet3(bundle, frontend, tmp_path / "out", exact_edges=False)
    net = Nnet3.read(tmp_path / "out/final.raw")
    assert not any(isinstance(stage, Deltas) for stage in split(frontend).outside)
    utterance = utterances(frontend)[-1]
    output = nnet3_output(net, features_outside(split(frontend).outside, utterance))
    is_exact = np.isclose(output, expected(bundle, utterance)[0], atol=1e-4).all(axis=1).tolist()
    assert is_exact == [False] * num_first + [True] * (len(output) - num_first - num_last) + [False] * num_last
    told = f"outputs of the first {num_first} and the last {num_last} frames of an utterance differ"
    assert told in caplog.text and "--edges=exact" in caplog.text
    assert told in " ".join(describe(tmp_path / "out"))
    with pytest.raises(DataError, match="export with --edges=exact what is to be imported again"):
        import_nnet3_dir(tmp_path / "out")


@pytest.mark.parametrize("name", FRONTENDS)
def test_nothing_is_told_of_edges_that_are_exact(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    frontend = make_frontend(FRONTENDS[name])
    export_nnet3(make_bundle(frontend, hidden_dims=[6]), frontend, tmp_path / "out")
    assert "differ" not in caplog.text + " ".join(describe(tmp_path / "out"))


@pytest.mark.parametrize("name", NETS | ONLY_NNET3)
def test_nnet3_has_every_activation_it_can(tmp_path: Path, name: str) -> None:
    frontend = make_frontend(FRONTENDS["splicing"])
    bundle = make_bundle(frontend, **(NETS | ONLY_NNET3)[name])
    export_nnet3(bundle, frontend, tmp_path / "out")
    net = Nnet3.read(tmp_path / "out/final.raw")
    for utterance in utterances(frontend):
        features = features_outside(split(frontend).outside, utterance)
        np.testing.assert_allclose(nnet3_output(net, features), expected(bundle, utterance)[0], atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_activations_that_a_format_lacks_are_refused_by_the_layers_name(tmp_path: Path, name: str) -> None:
    frontend = make_frontend(FRONTENDS["splicing"])
    bundle = make_bundle(frontend, hidden_dims=[6, 5], **REFUSED[name])
    for export, file_format in ((export_nnet1, "nnet1"), (export_nnet3, "nnet3")):
        with pytest.raises(ConfigError, match=f"hidden2: activation {name} cannot be expressed in {file_format}"):
            export(bundle, frontend, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (ONLY_NNET3["layer norm"], "hidden1: layer normalisation cannot be expressed in nnet1"),
        (ONLY_NNET3["silu"], "hidden1: activation silu cannot be expressed in nnet1"),
    ],
)
def test_what_nnet1_lacks_is_refused(tmp_path: Path, model: dict[str, object], fault: str) -> None:
    frontend = make_frontend(FRONTENDS["splicing"])
    with pytest.raises(ConfigError, match=fault):
        export_nnet1(make_bundle(frontend, **model), frontend, tmp_path / "out")


def senone_bundle() -> Bundle:
    """A model of the pdfs of TRI1."""
    transition_model = TransitionModel.read(TRI1)
    frontend = make_frontend(FRONTENDS["splicing"])
    bundle = make_bundle(frontend, num_pdfs=transition_model.num_pdfs, hidden_dims=[6])
    bundle.fingerprints["transition_model"] = transition_model.fingerprint()
    return bundle


@pytest.mark.parametrize("zero_counts", [True, False])
def test_nnet3_model_divides_by_our_priors(tmp_path: Path, zero_counts: bool) -> None:
    bundle, frontend = senone_bundle(), make_frontend(FRONTENDS["splicing"])
    if not zero_counts:
        bundle.pdf_counts += 3
    export_nnet3(bundle, frontend, tmp_path / "out", TRI1)
    model = Nnet3Model.read(tmp_path / "out/final.mdl")
    assert model.transition_model.fingerprint() == bundle.fingerprints["transition_model"]
    assert abs(float(model.priors.sum()) - 1) < 1e-5
    for utterance in utterances(frontend):
        features = features_outside(split(frontend).outside, utterance)
        loglikes = nnet3_output(model.nnet, features) - np.log(model.priors)
        ours = expected(bundle, utterance)[1]
        np.testing.assert_allclose(loglikes[:, 1:], ours[:, 1:], atol=1e-4)
        np.testing.assert_allclose(loglikes[:, 0], ours[:, 0], rtol=1e-4)
        assert (ours[0, 0] < -0.9 * DISABLED) == zero_counts


@pytest.mark.parametrize("export", [export_nnet1, export_nnet3])
def test_the_models_tree_and_transitions_come_along(tmp_path: Path, export: object) -> None:
    bundle, frontend = senone_bundle(), make_frontend(FRONTENDS["splicing"])
    export(bundle, frontend, tmp_path / "out", TRI1)  # type: ignore[operator]
    assert (tmp_path / "out/tree").read_bytes() == TRI1.with_name("tree").read_bytes()
    transition_model = TransitionModel.read(tmp_path / "out/final.mdl")
    assert transition_model.fingerprint() == bundle.fingerprints["transition_model"]
    np.testing.assert_allclose(transition_model.log_prob, TransitionModel.read(TRI1).log_prob, atol=1e-5)


@pytest.mark.parametrize("export", [export_nnet1, export_nnet3])
def test_another_systems_model_is_refused(tmp_path: Path, export: object) -> None:
    bundle, frontend = senone_bundle(), make_frontend(FRONTENDS["splicing"])
    with pytest.raises(DataError, match=r"give the final\.mdl of the alignments"):
        export(bundle, frontend, tmp_path / "out", GOLDEN / "model/mono/final.mdl")  # type: ignore[operator]
    bundle.fingerprints["transition_model"] = "0" * 64
    with pytest.raises(DataError, match="trained on another"):
        export(bundle, frontend, tmp_path / "out", TRI1)  # type: ignore[operator]
    assert not (tmp_path / "out").exists()


def test_counts_are_those_of_the_alignments(tmp_path: Path) -> None:
    frontend = make_frontend(FRONTENDS["nothing"])
    export_nnet1(make_bundle(frontend), frontend, tmp_path / "out")
    counts = read_vector_file(tmp_path / "out/ali_train_pdf.counts")
    np.testing.assert_array_equal(counts, np.arange(NUM_PDFS) * 10)


# -- what says how to make the features -----------------------------------------------------------------------------

APPLY_CMVN = "apply-cmvn --norm-means=true --norm-vars=%s --utt2spk=ark:DATA/utt2spk scp:DATA/cmvn.scp ark:- ark:-"


def pipeline_of(directory: Path) -> list[str]:
    text = (directory / "feature_pipeline").read_text()
    assert text.startswith("ark:copy-feats scp:DATA/feats.scp ark:- |") and text.endswith("|\n")
    return [command.strip() for command in text.split(" | ")[1:]]


def test_cmvn_and_deltas_are_left_as_nnet1s_training_leaves_them(tmp_path: Path) -> None:
    frontend = make_frontend(FRONTENDS["deltas"])
    for export in (export_nnet1, export_nnet3):
        out = tmp_path / export.__name__
        export(make_bundle(frontend), frontend, out)
        assert (out / "cmvn_opts").read_text() == "--norm-means=true --norm-vars=true\n"
        assert (out / "delta_opts").read_text() == "--delta-order=2 --delta-window=2\n"
        assert pipeline_of(out) == [APPLY_CMVN % "true", "add-deltas --delta-order=2 --delta-window=2 ark:- ark:- |"]


def test_a_pipeline_beyond_the_scripts_options_comes_with_its_matrices(tmp_path: Path) -> None:
    frontend = make_frontend(FRONTENDS["fmllr"])
    export_nnet3(make_bundle(frontend), frontend, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*_opts"))
    assert pipeline_of(tmp_path / "out") == [
        APPLY_CMVN % "false",
        "add-deltas --delta-order=1 --delta-window=2 ark:- ark:-",
        "transform-feats MODEL/final.mat ark:- ark:-",
        "transform-feats --utt2spk=ark:DATA/utt2spk 'ark:cat TRANS/trans.* |' ark:- ark:-",
        "add-deltas --delta-order=1 --delta-window=2 ark:- ark:- |",
    ]
    assert frontend.transform is not None
    np.testing.assert_array_equal(read_matrix_file(tmp_path / "out/final.mat"), frontend.transform.numpy())


def test_global_cmvn_outside_brings_its_statistics(tmp_path: Path) -> None:
    frontend = make_frontend(FRONTENDS["global and deltas"])
    export_nnet3(make_bundle(frontend), frontend, tmp_path / "out")
    assert pipeline_of(tmp_path / "out")[0].startswith("apply-cmvn --norm-means=true --norm-vars=false MODEL/global")
    assert frontend.global_cmvn is not None
    stats = read_matrix_file(tmp_path / "out/global_cmvn.mat")
    np.testing.assert_array_equal(stats, frontend.global_cmvn.numpy())


# -- where to ---------------------------------------------------------------------------------------------------------


def test_an_earlier_export_is_replaced_and_other_files_never(tmp_path: Path) -> None:
    frontend = make_frontend(FRONTENDS["deltas"])
    bundle = make_bundle(frontend)
    export_nnet1(bundle, frontend, tmp_path / "out")
    export_nnet3(bundle, frontend, tmp_path / "out")
    assert not (tmp_path / "out/final.nnet").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("x")
    with pytest.raises(ConfigError, match="holds files"):
        export_nnet1(bundle, frontend, tmp_path / "mine")
    assert (tmp_path / "mine/thesis").exists()


def test_export_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    frontend = make_frontend(FRONTENDS["splicing"])
    bundle = make_bundle(frontend, **NETS["batch norm"])
    before = {name: tensor.clone() for name, tensor in bundle.classifier.state_dict().items()}
    export_nnet1(bundle, frontend, tmp_path / "out")
    for name, tensor in bundle.classifier.state_dict().items():
        assert torch.equal(tensor, before[name])
