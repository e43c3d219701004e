from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi import nnet1_components as components
from acoustic.kaldi.matrix import read_vector_file
from acoustic.kaldi.nnet1 import Nnet1, write_class_counts
from acoustic.kaldi.tables import read_table
from tests.kaldi.goldens import GOLDEN, assert_only_data_errors
from tests.kaldi.nets import nnet1_output

NNET1 = GOLDEN / "nnet1"


@pytest.mark.parametrize("name", ["final.nnet", "feature_transform", "splice.nnet"])
def test_binary_is_written_back_identically(tmp_path: Path, name: str) -> None:
    Nnet1.read(NNET1 / name).write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == (NNET1 / name).read_bytes()


@pytest.mark.parametrize("name", ["final.nnet", "feature_transform"])
def test_text_is_read_and_written_as_kaldi_does(tmp_path: Path, name: str) -> None:
    golden = NNET1 / f"{name}.txt"
    for source in (NNET1 / name, golden):
        Nnet1.read(source).write(tmp_path / name, binary=False)
        assert (tmp_path / name).read_bytes() == golden.read_bytes()


def test_posteriors_and_loglikes_are_those_of_nnet_forward() -> None:
    transform, net = Nnet1.read(NNET1 / "feature_transform"), Nnet1.read(NNET1 / "final.nnet")
    assert (transform.input_dim, transform.output_dim, net.input_dim, net.output_dim) == (40, 440, 440, 10)
    counts = read_vector_file(NNET1 / "pdf.counts").astype(np.float64)
    posteriors = dict(read_table(f"ark:{NNET1}/two_posteriors.ark", "matrix"))
    loglikes = dict(read_table(f"ark:{NNET1}/two_loglikes.ark", "matrix"))
    frequency = counts / counts.sum()
    log_prior = np.where(frequency < 1e-10, np.sqrt(np.finfo(np.float32).max), np.log(frequency + 1e-20))
    logits_net = Nnet1(net.components[:-1])
    for utt, feats in read_table(f"ark:{GOLDEN}/feats/two.ark", "matrix"):
        spliced = nnet1_output(transform, feats)
        np.testing.assert_allclose(nnet1_output(net, spliced), posteriors[utt], atol=1e-4)
        # nnet-forward --no-softmax subtracts the log prior from the outputs before the softmax
        expected = (nnet1_output(logits_net, spliced) - log_prior).astype(np.float32)
        np.testing.assert_allclose(expected, loglikes[utt], atol=1e-4)


def every_component() -> Nnet1:
    generator = np.random.default_rng(0)
    return Nnet1(
        [
            components.Splice(3, np.array([-1, 0, 2], dtype=np.int32)),
            components.Copy(9, np.array([8, 0, 0, 5], dtype=np.int32)),
            components.AddShift(generator.normal(size=4).astype(np.float32)),
            components.Rescale(generator.normal(size=4).astype(np.float32), learn_rate_coef=0.5),
            components.LinearTransform(generator.normal(size=(6, 4)).astype(np.float32)),
            components.Dropout(6, dropout_rate=0.25),
            components.AffineTransform(
                generator.normal(size=(2, 6)).astype(np.float32), np.zeros(2, dtype=np.float32), max_norm=1.5
            ),
            components.ParametricRelu(np.ones(2, dtype=np.float32), np.full(2, 0.01, dtype=np.float32)),
            components.Sigmoid(2),
            components.Tanh(2),
            components.Softmax(2),
        ]
    )


@pytest.mark.parametrize("binary", [True, False])
def test_every_component_survives_a_round_trip(tmp_path: Path, binary: bool) -> None:
    net = every_component()
    net.write(tmp_path / "net", binary)
    again = Nnet1.read(tmp_path / "net")
    assert [type(c) for c in again.components] == [type(c) for c in net.components]
    x = np.random.default_rng(1).normal(size=(7, 3))
    np.testing.assert_allclose(nnet1_output(again, x), nnet1_output(net, x), atol=1e-5)
    assert again.components[5].dropout_rate == 0.25  # type: ignore[union-attr]
    assert again.components[6].max_norm == 1.5  # type: ignore[union-attr]


def test_old_nets_without_separators_and_with_dropout_retention(tmp_path: Path) -> None:
    (tmp_path / "net").write_text("<Nnet>\n<Dropout> 2 2\n<DropoutRetention> 0.75\n<Sigmoid> 2 2\n</Nnet>\n")
    net = Nnet1.read(tmp_path / "net")
    assert net.components[0].dropout_rate == 0.25  # type: ignore[union-attr]
    assert isinstance(net.components[1], components.Sigmoid)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("<Nnet>\n</Nnet>\n", "without components"),
        ("<Nnet>\n<LstmProjected> 2 2\n</Nnet>\n", "<LstmProjected> is not supported"),
        ("<Nnet>\n<Sigmoid> 2 2\n<Tanh> 3 3\n</Nnet>\n", "takes 3 inputs"),
        ("<Nnet>\n<Sigmoid> 2 3\n</Nnet>\n", "3 inputs, 2 outputs"),
        ("<Nnet>\n<Sigmoid> 2 2\n", "ends"),
        ("<Nnet>\n<LinearTransform> 1 2\n<MaxNorm> 1\n [ 1 2 ]\n</Nnet>\n", "unknown field <MaxNorm>"),
        ("<Nnet>\n<LinearTransform> 1 2\n [ 1 2 3 ]\n</Nnet>\n", "2 inputs, 1 outputs"),
        ("<Nnet>\n<AffineTransform> 1 2\n [ 1 2 ]\n [ 1 2 ]\n</Nnet>\n", "2 inputs, 1 outputs"),
        ("<Nnet>\n<AffineTransform> 1 2\n [ 1 nan ]\n [ 1 ]\n</Nnet>\n", "not finite"),
        ("<Nnet>\n<Copy> 2 2\n[ 1 3 ]\n</Nnet>\n", "parameters of <Copy>"),
        ("<Nnet>\n<AddShift> 2 2\n</Nnet>\n", r"expected \["),
        ("<Nnet3>\n", "expected <Nnet>"),
    ],
)
def test_wrong_nets_are_refused(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "net").write_text(content)
    with pytest.raises(DataError, match=fault):
        Nnet1.read(tmp_path / "net")


@pytest.mark.parametrize("binary", [True, False])
def test_damaged_bytes_give_data_errors(tmp_path: Path, binary: bool) -> None:
    every_component().write(tmp_path / "net", binary)
    assert_only_data_errors((tmp_path / "net").read_bytes(), tmp_path / "damaged", Nnet1.read, num_trials=600)


def test_class_counts(tmp_path: Path) -> None:
    counts = np.array([100, 250, 30, 0, 123456789])
    write_class_counts(tmp_path / "pdf.counts", counts)
    assert (tmp_path / "pdf.counts").read_text() == " [ 100 250 30 0 123456789 ]\n"
    golden = read_vector_file(NNET1 / "pdf.counts")
    write_class_counts(tmp_path / "again", golden)
    assert (tmp_path / "again").read_bytes() == (NNET1 / "pdf.counts").read_bytes()
    with pytest.raises(DataError):
        write_class_counts(tmp_path / "wrong", np.array([0.5]))
