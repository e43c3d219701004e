from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi import nnet3_components as components
from acoustic.kaldi.matrix import read_vector_file
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.nnet3_chain import Chain
from acoustic.kaldi.nnet3_config import Descriptor, parse_node
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors
from tests.kaldi.nets import nnet3_output

NNET3 = GOLDEN / "nnet3"


@pytest.mark.parametrize("source", ["final.raw", "final.raw.txt"])
def test_net_is_written_as_kaldi_does(tmp_path: Path, source: str) -> None:
    net = Nnet3.read(NNET3 / source)
    net.write(tmp_path / "text", binary=False)
    assert (tmp_path / "text").read_bytes() == (NNET3 / "final.raw.txt").read_bytes()
    net.write(tmp_path / "binary")
    if source == "final.raw":
        assert (tmp_path / "binary").read_bytes() == (NNET3 / "final.raw").read_bytes()


def test_model_is_written_back_identically(tmp_path: Path) -> None:
    model = Nnet3Model.read(NNET3 / "final.mdl")
    priors = read_vector_file(NNET3 / "priors.vec")  # Kaldi scaled them to add up to one
    np.testing.assert_allclose(model.priors, priors / priors.sum(), rtol=1e-5)
    assert model.nnet.context() == (5, 5)
    model.write(tmp_path / "final.mdl")
    assert (tmp_path / "final.mdl").read_bytes() == (NNET3 / "final.mdl").read_bytes()
    model.write(tmp_path / "text.mdl", binary=False)
    again = Nnet3Model.read(tmp_path / "text.mdl")
    assert again.transition_model.fingerprint() == model.transition_model.fingerprint()
    np.testing.assert_allclose(again.priors, model.priors, rtol=1e-6)


@pytest.mark.parametrize("source", ["final.raw", "final.mdl"])
def test_outputs_are_those_of_nnet3_compute(source: str) -> None:
    chain = Chain.of_net(Nnet3.read(NNET3 / source))
    assert (chain.input_dim, list(chain.frame_offsets)) == (40, list(range(-5, 6)))
    outputs = dict(read_table(f"ark:{NNET3}/two_output.ark", "matrix"))
    assert len(outputs) == 2
    for utt, feats in read_table(f"ark:{GOLDEN}/feats/two.ark", "matrix"):
        np.testing.assert_allclose(nnet3_output(chain.to_net(), feats), outputs[utt], atol=1e-4)


def every_component() -> Chain:
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    return Chain(
        input_dim=3,
        frame_offsets=[-2, 0, 1],
        components=[
            ("lda", components.FixedAffineComponent(weight=normal(8, 9), bias=normal(8))),
            ("scale", components.FixedScaleComponent(scales=normal(8))),
            ("bias", components.FixedBiasComponent(bias=normal(8))),
            ("affine", components.AffineComponent(weight=normal(6, 8), bias=normal(6), max_change=0.75)),
            ("relu", components.RectifiedLinearComponent(dim=6, block_dim=3, self_repair_scale=1e-5)),
            (
                "norm",
                components.BatchNormComponent(
                    dim=6, block_dim=3, stats_mean=normal(3), stats_var=np.abs(normal(3)), target_rms=0.5
                ),
            ),
            ("drop", components.GeneralDropoutComponent(dim=6, block_dim=6, continuous=True)),
            ("linear", components.LinearComponent(weight=normal(4, 6), orthonormal_constraint=-1.0)),
            (
                "ng",
                components.NaturalGradientAffineComponent(
                    weight=normal(4, 4), bias=normal(4), learning_rate_factor=0.5
                ),
            ),
            ("sigmoid", components.SigmoidComponent(dim=4)),
            ("drop2", components.DropoutComponent(dim=4, dropout_proportion=0.25)),
            ("element", components.PerElementScaleComponent(scales=normal(4), l2_regularize=0.01)),
            ("offset", components.PerElementOffsetComponent(offsets=normal(2), dim=4)),
            ("tanh", components.TanhComponent(dim=4)),
            ("product", components.ElementwiseProductComponent(dim=4, product_dim=2)),
            ("expand", components.LinearComponent(weight=normal(4, 2))),
            ("rms", components.NormalizeComponent(dim=4, target_rms=0.5)),
            ("noop", components.NoOpComponent(dim=4)),
            ("softmax", components.SoftmaxComponent(dim=4)),
            ("logsoftmax", components.LogSoftmaxComponent(dim=4)),
        ],
    )


@pytest.mark.parametrize("binary", [True, False])
def test_every_component_survives_a_round_trip(tmp_path: Path, binary: bool) -> None:
    chain = every_component()
    assert {type(component).__name__ for _, component in chain.components} == set(components.COMPONENTS)
    chain.to_net().write(tmp_path / "final.raw", binary)
    again = Chain.of_net(Nnet3.read(tmp_path / "final.raw"))
    assert [(name, type(c)) for name, c in again.components] == [(name, type(c)) for name, c in chain.components]
    feats = np.random.default_rng(1).normal(size=(9, 3))
    np.testing.assert_allclose(nnet3_output(again.to_net(), feats), nnet3_output(chain.to_net(), feats), atol=1e-4)
    fields = dict(again.components)
    assert fields["affine"].max_change == 0.75  # type: ignore[attr-defined]
    assert fields["ng"].learning_rate_factor == 0.5  # type: ignore[attr-defined]
    assert fields["drop"].continuous and not fields["drop"].test_mode  # type: ignore[attr-defined]


def test_optional_fields_are_written_where_kaldi_writes_them(tmp_path: Path) -> None:
    every_component().to_net().write(tmp_path / "final.raw", binary=False)
    text = (tmp_path / "final.raw").read_text()
    assert "<NaturalGradientAffineComponent> <LearningRateFactor> 0.5 <LearningRate> 0.001 <LinearParams> " in text
    assert "<RectifiedLinearComponent> <Dim> 6 <BlockDim> 3 <ValueAvg>  [ ]\n" in text
    assert "<NumDimsProcessed> 0 <SelfRepairScale> 1e-05 </RectifiedLinearComponent> \n" in text
    assert "<TimePeriod> 0 <DropoutProportion> 0.5 <Continuous> </GeneralDropoutComponent> \n" in text
    assert "<OrthonormalConstraint> -1 <UseNaturalGradient> T <RankInOut> 20 80 <Alpha> 4 " in text


def test_trained_model_of_our_own_is_read_back(tmp_path: Path) -> None:
    transition_model = TransitionModel.read(GOLDEN / "model/mono/final.mdl")
    affine = components.AffineComponent(weight=np.ones((62, 6), np.float32), bias=np.zeros(62, np.float32))
    chain = Chain(2, [-1, 0, 1], [("affine", affine), ("softmax", components.LogSoftmaxComponent(dim=62))])
    Nnet3Model(transition_model, chain.to_net(), np.full(62, 1 / 62, np.float32)).write(tmp_path / "final.mdl")
    again = Nnet3Model.read(tmp_path / "final.mdl")
    assert again.nnet.context() == (1, 1)
    assert again.transition_model.fingerprint() == transition_model.fingerprint()


def test_model_with_wrong_priors_or_outputs() -> None:
    model = Nnet3Model.read(NNET3 / "final.mdl")
    with pytest.raises(DataError, match="3 priors for 104"):
        Nnet3Model(model.transition_model, model.nnet, np.ones(3, np.float32)).check()
    chain = Chain(2, [0], [("noop", components.NoOpComponent(dim=2))])
    with pytest.raises(DataError, match="2 outputs for 104 pdfs"):
        Nnet3Model(model.transition_model, chain.to_net(), np.zeros(0, np.float32)).check()


@pytest.mark.parametrize(
    "text",
    [
        "input",
        "Offset(input, -3)",
        "Append(Offset(input, -1), input, Scale(0.5, Offset(a.b-c, 2)))",
        "Sum(a, Failover(b, IfDefined(c)))",
        "Switch(a, Offset(b, 1, 2))",
        "Append(ReplaceIndex(ivector, t, 0), Round(x, 3), Const(1.5, 4))",
    ],
)
def test_descriptors_are_written_as_they_were(text: str) -> None:
    assert str(Descriptor.parse(text)) == text
    assert str(Descriptor.parse(text.replace(" ", ""))) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "Offset", "Offset(a)", "Offset(a, b)", "Offset(a, 1.5)", "Offset(a, 1", "a b", "f(a)", "Append()",
        "Append(a,)", "Append(a, 2)", "Scale(a, 2)", "Const(1, 2.5)", "ReplaceIndex(a, n, 0)", "(a)", "Sum(a))",
        "Append(" * 60 + "a" + ")" * 60,
    ],
)  # fmt: skip
def test_wrong_descriptors(text: str) -> None:
    with pytest.raises(DataError):
        Descriptor.parse(text)


@pytest.mark.parametrize(
    "line",
    [
        "input-node name=input dim=40",
        "component-node name=a component=b input=Append(Offset(input, -1), input)",
        "output-node name=output input=a objective=quadratic",
        "dim-range-node name=r input-node=a dim-offset=0 dim=2",
    ],
)
def test_config_lines_are_written_as_they_were(line: str) -> None:
    assert str(parse_node(line)) == line


@pytest.mark.parametrize(
    "line",
    [
        "input-node name=input", "input-node name=input dim=0", "input-node name=input dim=x", "frob-node name=a dim=1",
        "component-node name=a component=b", "input-node what name=input dim=1", "dim-range-node name=r dim=1",
        "input-node name=9 dim=1", "output-node name=output input=a extra=1",
    ],
)  # fmt: skip
def test_wrong_config_lines(line: str) -> None:
    with pytest.raises(DataError):
        parse_node(line)


def write_text_net(path: Path, config: list[str], content: str) -> None:
    path.write_text("<Nnet3> \n" + "".join(line + "\n" for line in config) + "\n" + content + "</Nnet3> ")


NO_OP = "<NumComponents> 1 \n<ComponentName> c <NoOpComponent> <Dim> 2 <BackpropScale> 1 </NoOpComponent> \n"
INPUT = "input-node name=input dim=2"
NODE = "component-node name=c component=c input=input"
OUTPUT = "output-node name=output input=c objective=linear"


@pytest.mark.parametrize(
    ("config", "content", "fault"),
    [
        ([INPUT, NODE, OUTPUT], NO_OP.replace("NoOp", "Lstm"), "component c of type <LstmComponent> is not supported"),
        ([INPUT, NODE, OUTPUT], NO_OP.replace("<BackpropScale> 1", "<What> 1"), "unknown field <What>"),
        ([INPUT, NODE, OUTPUT], NO_OP.replace("<Dim> 2 ", ""), "without <Dim>"),
        ([INPUT, NODE, OUTPUT], NO_OP.replace("<Dim> 2 ", "<Dim> 0 "), "no inputs"),
        ([INPUT, NODE, OUTPUT], NO_OP.replace("<Dim> 2 ", "<Dim> 3 "), "gets 2 elements, its component takes 3"),
        ([INPUT, NODE.replace("=c input", "=x input"), OUTPUT], NO_OP, "no component 'x'"),
        ([INPUT, NODE.replace("input=input", "input=x"), OUTPUT], NO_OP, "no node 'x'"),
        ([INPUT, INPUT, NODE, OUTPUT], NO_OP, "one name"),
        ([INPUT, NODE, OUTPUT.replace("input=c", "input=Sum(c, Append(c, c))")], NO_OP, r"\[2, 4\] elements"),
        ([INPUT, "dim-range-node name=r input-node=input dim-offset=1 dim=2"], NO_OP, "beyond its input"),
        (["input-node name=input"], NO_OP, "config line"),
    ],
)
def test_wrong_nets_are_refused(tmp_path: Path, config: list[str], content: str, fault: str) -> None:
    write_text_net(tmp_path / "final.raw", config, content)
    with pytest.raises(DataError, match=fault):
        Nnet3.read(tmp_path / "final.raw")


def test_old_no_op_with_statistics(tmp_path: Path) -> None:
    old = "<Dim> 2 <ValueAvg>  [ ]\n<DerivAvg>  [ ]\n<Count> 0 <NumDimsSelfRepaired> 0 "
    write_text_net(tmp_path / "final.raw", [INPUT, NODE, OUTPUT], NO_OP.replace("<Dim> 2 <BackpropScale> 1 ", old))
    assert Nnet3.read(tmp_path / "final.raw").components["c"].input_dim == 2


def test_context_of_a_net_that_splices_hidden_layers(tmp_path: Path) -> None:
    config = [
        "output-node name=output input=Sum(Offset(c, -3), Offset(d, 1)) objective=linear",
        "component-node name=d component=c input=Offset(c, -2)",
        "component-node name=c component=c input=Offset(input, 2)",
        INPUT,
    ]
    write_text_net(tmp_path / "final.raw", config, NO_OP)
    net = Nnet3.read(tmp_path / "final.raw")
    assert net.context() == (1, 1)  # c: +2; d: 0; output: -1 and +1
    with pytest.raises(DataError, match="no chain"):
        Chain.of_net(net)


def test_recurrent_net_has_no_context_and_is_no_chain(tmp_path: Path) -> None:
    loop = "component-node name=c component=c input=c"
    write_text_net(tmp_path / "final.raw", [INPUT, loop, OUTPUT], NO_OP)
    net = Nnet3.read(tmp_path / "final.raw")
    with pytest.raises(DataError, match="recurrent"):
        net.context()
    with pytest.raises(DataError, match="recurrent"):
        Chain.of_net(net)


def test_parameters_that_are_not_finite(tmp_path: Path) -> None:
    bias = components.FixedBiasComponent(bias=np.array([0.0, np.nan], np.float32))
    Chain(2, [0], [("bias", bias)]).to_net().write(tmp_path / "final.raw")
    with pytest.raises(DataError, match="not finite"):
        Nnet3.read(tmp_path / "final.raw")


@pytest.mark.parametrize("binary", [True, False])
def test_damaged_bytes_give_data_errors(tmp_path: Path, binary: bool) -> None:
    every_component().to_net().write(tmp_path / "net", binary)
    content = (tmp_path / "net").read_bytes()

    def read(path: Path) -> None:
        net = Nnet3.read(path)
        with contextlib.suppress(DataError):
            net.context()
            Chain.of_net(net)

    assert_only_data_errors(content, tmp_path / "damaged", read, num_trials=400)
