"""Imported nets give the outputs of Kaldi's programs, and exported ones come back as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.decode.forward import AcousticModel
from acoustic.decode.priors import DISABLED
from acoustic.errors import ConfigError, DataError
from acoustic.exchange.importing import write_bundle
from acoustic.exchange.nnet1_export import export_nnet1
from acoustic.exchange.nnet1_import import import_nnet1, import_nnet1_dir
from acoustic.exchange.nnet3_export import export_nnet3
from acoustic.exchange.nnet3_import import import_nnet3, import_nnet3_dir
from acoustic.exchange.stages import split
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.kaldi import nnet1_components as nnet1
from acoustic.kaldi import nnet3_components as nnet3
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3Model
from acoustic.kaldi.nnet3_chain import Chain
from acoustic.kaldi.nnet3_linear import Component
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.nn.bundle import Bundle, load_bundle
from tests.exchange.models import (
    FRONTENDS,
    Utterance,
    expected,
    features_outside,
    make_bundle,
    make_frontend,
    utterances,
)
from tests.exchange.test_export import MIXED, NETS, TRI1
from tests.kaldi.goldens import GOLDEN
from tests.kaldi.nets import nnet1_output, nnet3_output


def two_utterances() -> dict[str, np.ndarray]:
    return dict(read_table(f"ark:{GOLDEN}/feats/two.ark", "matrix"))


def golden_nnet1() -> Bundle:
    return import_nnet1(GOLDEN / "nnet1/final.nnet", GOLDEN / "nnet1/feature_transform", GOLDEN / "nnet1/pdf.counts")


def test_golden_nnet1_gives_the_outputs_of_nnet_forward(tmp_path: Path) -> None:
    write_bundle(golden_nnet1(), tmp_path)
    bundle = load_bundle(tmp_path)
    config = bundle.classifier.config
    assert config.layer_activations == ["relu", "leaky_relu", "sigmoid", "tanh"]
    assert config.widths == [24, 20, 16, 12] and config.negative_slope == pytest.approx(0.01)
    frontend = FrontendConfig(**bundle.frontend_config)
    assert (frontend.splice_left, frontend.splice_right, frontend.lda_dim, frontend.global_norm) == (5, 5, 0, True)
    model = AcousticModel(bundle)
    posteriors = dict(read_table(f"ark:{GOLDEN}/nnet1/two_posteriors.ark", "matrix"))
    loglikes = dict(read_table(f"ark:{GOLDEN}/nnet1/two_loglikes.ark", "matrix"))
    for utt, feats in two_utterances().items():
        base = model.frontend.per_utterance(torch.from_numpy(feats))
        np.testing.assert_allclose(model.log_posteriors([base])[0].exp(), posteriors[utt], atol=1e-4)
        ours, theirs = model.loglikes([base])[0].numpy(), loglikes[utt]
        seen = theirs[0] > -DISABLED / 2
        np.testing.assert_allclose(ours[:, ~seen], theirs[:, ~seen], rtol=1e-6)
        # nnet-forward --no-softmax leaves out what the softmax would take off every output of a frame
        difference = ours[:, seen] - theirs[:, seen]
        np.testing.assert_allclose(difference - difference[:, :1], 0.0, atol=1e-4)


@pytest.mark.parametrize("name", ["final.mdl", "final.raw", "final.raw.txt"])
def test_golden_nnet3_gives_the_output_of_nnet3_compute(name: str) -> None:
    bundle = import_nnet3(GOLDEN / "nnet3" / name)
    assert bundle.classifier.config.layer_activations == ["relu", "sigmoid", "tanh"]
    model = AcousticModel(bundle)
    outputs = dict(read_table(f"ark:{GOLDEN}/nnet3/two_output.ark", "matrix"))
    for utt, feats in two_utterances().items():
        base = model.frontend.per_utterance(torch.from_numpy(feats))
        np.testing.assert_allclose(model.log_posteriors([base])[0], outputs[utt], atol=1e-4)


def test_golden_nnet3_model_brings_priors_and_transitions() -> None:
    bundle = import_nnet3(GOLDEN / "nnet3/final.mdl")
    transition_model = TransitionModel.read(GOLDEN / "nnet3/final.mdl")
    assert bundle.fingerprints == {"transition_model": transition_model.fingerprint()}
    priors = Nnet3Model.read(GOLDEN / "nnet3/final.mdl").priors
    np.testing.assert_allclose(bundle.pdf_counts / bundle.pdf_counts.sum(), priors, rtol=1e-5)
    assert len(set(import_nnet3(GOLDEN / "nnet3/final.raw").pdf_counts.tolist())) == 1


# -- there and back ---------------------------------------------------------------------------------------------------


def assert_same_outputs(bundle: Bundle, again: Bundle, frontend: Frontend, features: list[np.ndarray]) -> None:
    """`again`, given features from outside the net, gives what `bundle` gives from stored features."""
    for utterance, feats in zip(utterances(frontend), features, strict=True):
        ours = expected(bundle, utterance)
        theirs = expected(again, Utterance(torch.from_numpy(feats), utterance.stats, None))
        np.testing.assert_allclose(theirs[0], ours[0], atol=1e-4)
        np.testing.assert_allclose(theirs[1][:, 1:], ours[1][:, 1:], atol=1e-4)
        np.testing.assert_allclose(theirs[1][:, 0], ours[1][:, 0], rtol=1e-4)


@pytest.mark.parametrize("name", FRONTENDS)
def test_front_ends_survive_nnet1(tmp_path: Path, name: str) -> None:
    frontend = make_frontend(FRONTENDS[name])
    bundle = make_bundle(frontend, hidden_dims=[6])
    export_nnet1(bundle, frontend, tmp_path / "out")
    again = import_nnet1_dir(tmp_path / "out")
    torch.testing.assert_close(again.pdf_counts, bundle.pdf_counts)
    cut = split(frontend, deltas_outside=True)
    if (tmp_path / "out/cmvn_opts").exists():  # CMVN and deltas are the imported front end's own
        assert again.feat_dim == bundle.feat_dim
        features = [utterance.feats.numpy() for utterance in utterances(frontend)]
    else:
        features = [features_outside(cut.outside, utterance) for utterance in utterances(frontend)]
    assert_same_outputs(bundle, again, frontend, features)


@pytest.mark.parametrize("name", FRONTENDS)
def test_front_ends_survive_nnet3(tmp_path: Path, name: str) -> None:
    frontend = make_frontend(FRONTENDS[name])
    transition_model = TransitionModel.read(TRI1)
    bundle = make_bundle(frontend, transition_model.num_pdfs, hidden_dims=[6])
    export_nnet3(bundle, frontend, tmp_path / "out", TRI1)
    again = import_nnet3_dir(tmp_path / "out")
    assert again.fingerprints == {
        "transition_model": transition_model.fingerprint(),
        "tree": DecisionTree.read(TRI1.with_name("tree")).fingerprint(),
    }
    cut = split(frontend, max_contexts=1)
    stored = (tmp_path / "out/cmvn_opts").exists()
    features = [
        utterance.feats.numpy() if stored else features_outside(cut.outside, utterance)
        for utterance in utterances(frontend)
    ]
    assert_same_outputs(bundle, again, frontend, features)


@pytest.mark.parametrize("name", NETS)
def test_activations_survive(tmp_path: Path, name: str) -> None:
    frontend = make_frontend(FRONTENDS["splicing"])
    bundle = make_bundle(frontend, **NETS[name])
    features = [utterance.feats.numpy() for utterance in utterances(frontend)]
    export_nnet1(bundle, frontend, tmp_path / "nnet1")
    assert_same_outputs(bundle, import_nnet1_dir(tmp_path / "nnet1"), frontend, features)
    export_nnet3(bundle, frontend, tmp_path / "nnet3")
    again = import_nnet3_dir(tmp_path / "nnet3")
    again.pdf_counts = bundle.pdf_counts
    assert_same_outputs(bundle, again, frontend, features)
    if name == "mixed":
        assert again.classifier.config.layer_activations == MIXED["activations"]


# -- nets that we would not write ------------------------------------------------------------------------------------


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def assert_nnet1_gives_the_same(net: Nnet1, path: Path, num_frames: int = 12) -> Bundle:
    net.write(path)
    bundle = import_nnet1(path)
    feats = normal(num_frames, net.input_dim)
    posteriors = expected(bundle, Utterance(torch.from_numpy(feats), torch.zeros(0), None))[0]
    np.testing.assert_allclose(np.exp(posteriors), nnet1_output(net, feats), atol=1e-4)
    return bundle


def affine(dim: int, input_dim: int) -> nnet1.AffineTransform:
    return nnet1.AffineTransform(normal(dim, input_dim), normal(dim))


def test_nnet1_with_linear_layers_shifts_scales_and_dropout_between(tmp_path: Path) -> None:
    positive = np.abs(normal(6)) + np.float32(0.1)
    bundle = assert_nnet1_gives_the_same(
        Nnet1(
            [
                nnet1.Rescale(normal(3)),
                nnet1.AddShift(normal(3)),
                nnet1.Splice(3, np.array([-4, -1, 0, 2], np.int32)),
                nnet1.Copy(12, np.array([11, 0, 3, 3, 7], np.int32)),
                nnet1.LinearTransform(normal(4, 5)),
                affine(6, 4),
                nnet1.ParametricRelu(positive, normal(6)),
                nnet1.Dropout(6),
                nnet1.Rescale(normal(6)),
                nnet1.AddShift(normal(6)),
                affine(5, 6),
                nnet1.AddShift(normal(5)),
                nnet1.Rescale(normal(5)),
                nnet1.Softmax(5),
            ]
        ),
        tmp_path / "net",
    )
    assert bundle.classifier.config.widths == [6]
    assert (bundle.frontend_config["splice_left"], bundle.frontend_config["splice_right"]) == (4, 2)
    assert bundle.classifier.input_dim == 5  # the selected elements; a linear layer is the network's


def test_nnet1_with_transformed_frames_spliced_again(tmp_path: Path) -> None:
    frames = nnet1.Splice(3, np.arange(-1, 2, dtype=np.int32))
    again = nnet1.Splice(4, np.arange(-2, 3, dtype=np.int32))
    components = [frames, nnet1.LinearTransform(normal(4, 9)), again, affine(6, 20), nnet1.Sigmoid(6)]
    path = tmp_path / "net"
    Nnet1(components[:3]).write(path.with_suffix(".transform"))
    Nnet1([*components[3:], affine(5, 6), nnet1.Softmax(5)]).write(path)
    bundle = import_nnet1(path, path.with_suffix(".transform"))
    config = bundle.frontend_config
    assert (config["transform_splice_left"], config["transform_dim"], config["splice_left"]) == (1, 4, 2)
    feats = normal(12, 3)
    posteriors = expected(bundle, Utterance(torch.from_numpy(feats), torch.zeros(0), None))[0]
    whole = Nnet1([*components, affine(5, 6), nnet1.Softmax(5)])
    np.testing.assert_allclose(np.exp(posteriors), nnet1_output(whole, feats), atol=1e-4)


def assert_nnet1_is_refused(directory: Path, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        import_nnet1_dir(directory)
    assert str(directory / "final.nnet") in str(caught.value)


@pytest.mark.parametrize(
    ("components", "fault"),
    [
        ([affine(4, 3), nnet1.Sigmoid(4), affine(2, 4)], "does not end in a softmax"),
        ([affine(4, 3), nnet1.Softmax(4), affine(2, 4), nnet1.Softmax(2)], "softmax is not the net's last"),
        ([affine(4, 3), nnet1.Sigmoid(4), nnet1.Tanh(4), affine(2, 4), nnet1.Softmax(2)], "no matrix between"),
        ([nnet1.Sigmoid(3), affine(2, 3), nnet1.Softmax(2)], "no matrix between"),
        ([affine(4, 3), nnet1.ParametricRelu(-np.ones(4), normal(4)), affine(2, 4), nnet1.Softmax(2)], "alpha"),
        (
            [affine(2, 3), nnet1.Tanh(2), nnet1.Splice(2, np.array([-1, 1], np.int32)), affine(2, 4), nnet1.Softmax(2)],
            "hidden layers are spliced",
        ),
        (
            [*[nnet1.Splice(3**n, np.array([-1, 0, 1], np.int32)) for n in (1, 2, 3)], affine(2, 81), nnet1.Softmax(2)],
            "spliced 3 times",
        ),
    ],
)
def test_nnet1_that_is_no_stack_of_layers(tmp_path: Path, components: list[nnet1.Component], fault: str) -> None:
    Nnet1(components).write(tmp_path / "final.nnet")
    assert_nnet1_is_refused(tmp_path, fault)


def test_counts_and_transforms_that_do_not_fit(tmp_path: Path) -> None:
    golden = GOLDEN / "nnet1"
    (tmp_path / "counts").write_text(" [ 1 2 3 ]\n")
    with pytest.raises(DataError, match="counts or priors of 3 pdfs for a net of 10"):
        import_nnet1(golden / "final.nnet", golden / "feature_transform", tmp_path / "counts")
    with pytest.raises(DataError, match="feature transform of 10 outputs for a net of 440"):
        import_nnet1(golden / "final.nnet", golden / "final.nnet")
    with pytest.raises(DataError, match="beside a transition model of 104"):
        import_nnet1(golden / "final.nnet", transition_model=TransitionModel.read(TRI1))


def relu_batch_norm_chain() -> Chain:
    """As Kaldi's recipes make it: lda, then affine, ReLU, batch normalisation."""
    moments = {"stats_mean": normal(3), "stats_var": np.abs(normal(3)), "target_rms": 0.5}
    components: list[tuple[str, Component]] = [
        ("lda", nnet3.FixedAffineComponent(weight=normal(8, 9), bias=normal(8))),
        ("tdnn1.affine", nnet3.NaturalGradientAffineComponent(weight=normal(6, 8), bias=normal(6))),
        ("tdnn1.relu", nnet3.RectifiedLinearComponent(dim=6)),
        ("tdnn1.batchnorm", nnet3.BatchNormComponent(dim=6, block_dim=3, **moments)),
        ("tdnn1.dropout", nnet3.GeneralDropoutComponent(dim=6, block_dim=6)),
        ("tdnn2.linear", nnet3.LinearComponent(weight=normal(4, 6))),
        ("tdnn2.affine", nnet3.AffineComponent(weight=normal(5, 4), bias=normal(5))),
        ("tdnn2.offset", nnet3.PerElementOffsetComponent(offsets=normal(1), dim=5)),
        ("tdnn2.sigmoid", nnet3.SigmoidComponent(dim=5)),
        ("output.affine", nnet3.NaturalGradientAffineComponent(weight=normal(4, 5), bias=normal(4))),
        ("output.scale", nnet3.FixedScaleComponent(scales=normal(4))),
        ("output.log-softmax", nnet3.LogSoftmaxComponent(dim=4)),
    ]
    return Chain(3, [-2, 0, 1], components)


@pytest.mark.parametrize("binary", [True, False])
def test_nnet3_with_lda_batch_norm_and_linear_layers(tmp_path: Path, binary: bool) -> None:
    net = relu_batch_norm_chain().to_net()
    net.write(tmp_path / "final.raw", binary)
    bundle = import_nnet3_dir(tmp_path)
    config = FrontendConfig(**bundle.frontend_config)
    assert config == replace(
        config, cmvn="none", splice_left=2, splice_right=1, lda_dim=8, global_norm=False, delta_order=0
    )
    assert bundle.classifier.config.widths == [6, 5]
    for num_frames in (1, 2, 12):
        feats = normal(num_frames, 3)
        posteriors = expected(bundle, Utterance(torch.from_numpy(feats), torch.zeros(0), None))[0]
        np.testing.assert_allclose(posteriors, nnet3_output(net, feats), atol=1e-4)


def test_nnet3_without_softmax_or_with_other_components_is_refused(tmp_path: Path) -> None:
    chain = relu_batch_norm_chain()
    for components, fault in (
        (chain.components[:-1], "trained with cross-entropy"),
        ([*chain.components, ("rms", nnet3.NormalizeComponent(dim=4))], "NormalizeComponent cannot be imported"),
    ):
        Chain(3, [-2, 0, 1], components).to_net().write(tmp_path / "final.raw")
        with pytest.raises(DataError, match=fault) as caught:
            import_nnet3(tmp_path / "final.raw")
        assert "final.raw" in str(caught.value)


def test_a_trained_model_is_not_overwritten(tmp_path: Path) -> None:
    write_bundle(golden_nnet1(), tmp_path)
    with pytest.raises(ConfigError, match="there already"):
        write_bundle(golden_nnet1(), tmp_path)


@pytest.mark.parametrize(
    ("name", "what"),
    [("final.mdl", "is a GMM acoustic model"), ("transition_model.txt", "is a transition model alone")],
)
def test_a_model_without_network_is_told_for_what_it_is(name: str, what: str) -> None:
    """As exported to nnet1, whose final.mdl has no parameters, and not as damaged."""
    with pytest.raises(DataError, match=f"{what}; name the final.mdl or final.raw of an nnet3"):
        import_nnet3(GOLDEN / "model" / "tri1" / name)
