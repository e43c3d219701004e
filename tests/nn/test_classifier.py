"""The senone classifier: shapes, initialisation, dropout, the bundle."""

import math

import pytest
import torch

from acoustic.errors import CheckpointError
from acoustic.nn import classifier as classifier_module
from acoustic.nn.bundle import Bundle, load_bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.nn.dropout import Dropout


def make(**options):
    torch.manual_seed(0)
    return SenoneClassifier(ClassifierConfig(**options), input_dim=12, num_pdfs=5)


def test_forward_equals_the_layers_written_out():
    net = make(hidden_dims=[7, 3], activation="leaky_relu", negative_slope=0.1).eval()
    x = torch.randn(4, 12)
    hidden = x
    for layer in net.hidden:
        affine = hidden @ layer.affine.weight.T + layer.affine.bias
        hidden = torch.where(affine > 0, affine, 0.1 * affine)
    torch.testing.assert_close(net(x), hidden @ net.output.weight.T + net.output.bias)
    torch.testing.assert_close(net.log_posteriors(x).exp().sum(1), torch.ones(4))


def test_each_layer_may_have_its_own_activation_and_initialisation():
    net = make(hidden_dims=[400, 300], activations=["maxout", "tanh"])
    first, second = net.hidden
    assert (first.affine.out_features, second.affine.out_features) == (800, 300)
    assert abs(float(first.affine.weight.detach().std()) / math.sqrt(2 / 12) - 1) < 0.05
    assert float(second.affine.weight.detach().abs().max()) <= math.sqrt(6 / 700)
    x = torch.randn(4, 12)
    pieces = first.affine(x).view(4, 400, 2)
    torch.testing.assert_close(net(x), net.output(torch.tanh(second.affine(pieces.amax(2)))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_of_the_output_layer_changes_neither_logits_nor_gradients(monkeypatch, dtype):
    net, x = make(hidden_dims=[8]), torch.randn(4, 12)

    def logits_and_gradients():
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = net(x)
        torch.nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1, 4, 4])).backward()
        gradients = [parameter.grad for parameter in net.parameters()]
        net.zero_grad()
        return logits, gradients

    expected_logits, expected_gradients = logits_and_gradients()
    monkeypatch.setattr(classifier_module, "PADDED_ON", {"cpu"})
    logits, gradients = logits_and_gradients()
    assert logits.stride() == (64, 1), "rows begin where fast kernels want them"
    assert logits.dtype == expected_logits.dtype == dtype
    torch.testing.assert_close((logits, gradients), (expected_logits, expected_gradients))


@pytest.mark.parametrize(("activation", "he"), [("relu", True), ("sigmoid", False), ("tanh", False)])
def test_initialisation(activation, he):
    torch.manual_seed(1)
    net = SenoneClassifier(ClassifierConfig(hidden_dims=[400, 600], activation=activation), 300, 50)
    weight = net.hidden[1].affine.weight.detach()
    std = math.sqrt(2 / 400) if he else math.sqrt(2 / (400 + 600))
    assert abs(float(weight.std()) / std - 1) < 0.02
    if not he:
        assert float(weight.abs().max()) <= math.sqrt(6 / 1000)
    output = net.output.weight.detach()
    assert abs(float(output.std()) / math.sqrt(2 / (600 + 50)) - 1) < 0.02
    assert float(output.abs().max()) <= math.sqrt(6 / 650)
    for affine in [*net.hidden_affines, net.output]:
        assert float(affine.bias.detach().abs().max()) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"activation": "relo"},
        {"dropout": 1.0},
        {"hidden_layers": -1},
        {"dropouts": [0.1]},
        {"activations": ["relu"]},
        {"activations": ["relu", "relo"], "hidden_layers": 2},
        {"norm": "x"},
        {"init": "x"},
    ],
)
def test_config_refuses(wrong):
    with pytest.raises(ValueError, match="model"):
        ClassifierConfig(**wrong)


def test_dropout_keeps_the_mean_and_drops_the_rate():
    torch.manual_seed(3)
    x = torch.ones(1000, 1000, requires_grad=True)
    layer = Dropout(0.3)
    y = layer(x)
    dropped = float((y == 0).float().mean())
    assert abs(dropped - 0.3) < 0.003
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.7), rtol=1e-4, atol=0)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert layer.eval()(x) is x


def test_dropout_is_on_the_input_and_behind_each_activation():
    net = make(hidden_dims=[8], activation="sigmoid", input_dropout=0.5, dropout=0.25)
    seen = {}
    net.hidden[0].affine.register_forward_pre_hook(lambda module, inputs: seen.update(input=inputs[0]))
    net.output.register_forward_pre_hook(lambda module, inputs: seen.update(hidden=inputs[0]))
    net(torch.ones(2000, 12))
    assert set(seen["input"].unique().tolist()) == {0.0, 2.0}
    assert abs(float((seen["hidden"] == 0).float().mean()) - 0.25) < 0.02  # a dropped net input would give 1/2


def test_dropout_masks_are_independent_of_position():
    torch.manual_seed(4)
    y = Dropout(0.5)(torch.ones(4000, 50)) > 0
    shares = y.float().mean(0)
    assert float((shares - 0.5).abs().max()) < 0.04
    correlation = torch.corrcoef(y.float().T) - torch.eye(50)
    assert float(correlation.abs().max()) < 0.09


def bundle(net):
    return Bundle(
        classifier=net.eval(),
        frontend_config={"splice_left": 2},
        frontend_state={"shift": torch.arange(12.0)},
        feat_dim=12,
        pdf_counts=torch.tensor([1, 2, 3, 4, 5]),
        fingerprints={"tree": "abc"},
        config={"seed": 1},
    )


@pytest.mark.parametrize("num_frames", [0, 1])
def test_batch_normalisation_trains_on_a_minibatch_without_variance(num_frames):
    """An epoch's last minibatch is what is left of it."""
    net = make(hidden_layers=1, hidden_dim=8, norm="batch")
    net(3 + torch.randn(32, 12))
    moments = net.hidden[0].norm.running_var.clone()
    x = torch.randn(num_frames, 12)
    logits = net.train()(x)
    logits.sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in net.parameters())
    assert torch.equal(net.hidden[0].norm.running_var, moments)
    assert torch.equal(logits, net.eval()(x))


def test_bundle_round_trip_is_exact(tmp_path):
    net = make(hidden_layers=2, hidden_dim=8, norm="batch", activation="prelu")
    net(torch.randn(6, 12))
    (tmp_path / "final.pt").write_bytes(bundle(net).to_bytes())
    loaded = load_bundle(tmp_path)
    x = torch.randn(3, 12)
    assert torch.equal(loaded.classifier(x), net(x))
    assert loaded.fingerprints == {"tree": "abc"} and loaded.to_bytes() == bundle(net).to_bytes()


def test_damaged_bundles_are_refused(tmp_path):
    content = bundle(make(hidden_layers=1, hidden_dim=4)).to_bytes()
    path = tmp_path / "final.pt"
    for damaged in (content[: len(content) // 2], b"", b"no bundle at all"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"final\.pt"):
            load_bundle(path)
    torch.save({"format": "other"}, path)
    with pytest.raises(CheckpointError, match="not a model bundle"):
        load_bundle(path)
    with pytest.raises(CheckpointError, match="no trained model"):
        load_bundle(tmp_path / "nowhere")
