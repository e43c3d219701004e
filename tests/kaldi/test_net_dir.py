"""Directories with a net of Kaldi's: parts that belong together, and parts of different systems."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.errors import DataError
from acoustic.kaldi.net_dir import NetOfDir, check_net_dir, has_net, read_net
from acoustic.kaldi.nnet1 import write_class_counts
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from tests.kaldi.goldens import GOLDEN


@pytest.fixture
def nnet1(tmp_path: Path) -> Path:
    """A net of 10 outputs with its transform and counts."""
    shutil.copy(GOLDEN / "nnet1/final.nnet", tmp_path)
    shutil.copy(GOLDEN / "nnet1/feature_transform", tmp_path / "final.feature_transform")
    shutil.copy(GOLDEN / "nnet1/pdf.counts", tmp_path / "ali_train_pdf.counts")
    return tmp_path


@pytest.fixture
def nnet3(tmp_path: Path) -> Path:
    """The golden nnet3 model of the tri1 tree, with its raw net."""
    for name in ("final.mdl", "final.raw"):
        shutil.copy(GOLDEN / "nnet3" / name, tmp_path)
    shutil.copy(GOLDEN / "model/tri1/tree", tmp_path)
    return tmp_path


def test_nets_that_fit(nnet1: Path) -> None:
    assert has_net(nnet1)
    assert check_net_dir(nnet1) == NetOfDir("nnet1", input_dim=40, num_outputs=10, num_priors=10)


def test_an_nnet3_model_with_tree_and_raw_net(nnet3: Path) -> None:
    expected = NetOfDir("nnet3", input_dim=40, num_outputs=104, num_priors=104)
    assert check_net_dir(nnet3) == expected
    (nnet3 / "final.raw").unlink()
    assert has_net(nnet3) and check_net_dir(nnet3) == expected


def test_a_gmm_is_no_net() -> None:
    assert not has_net(GOLDEN / "model/tri1")
    with pytest.raises(DataError, match="holds no net"):
        read_net(GOLDEN / "model/tri1")


def test_counts_of_another_system(nnet1: Path) -> None:
    write_class_counts(nnet1 / "ali_train_pdf.counts", np.ones(9))
    with pytest.raises(DataError, match="9 priors for a net of 10 outputs"):
        check_net_dir(nnet1)


def test_transform_of_another_net(nnet1: Path) -> None:
    shutil.copy(GOLDEN / "nnet1/final.nnet", nnet1 / "final.feature_transform")
    with pytest.raises(DataError, match=r"final\.nnet takes 440"):
        check_net_dir(nnet1)


def test_model_of_another_net(nnet1: Path) -> None:
    shutil.copy(GOLDEN / "model/tri1/final.mdl", nnet1)
    with pytest.raises(DataError, match=r"a net of 10 outputs, final\.mdl has 104 pdfs"):
        check_net_dir(nnet1)


def test_tree_of_another_model(nnet3: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["info", str(nnet3)])
    assert "final.mdl and tree fit" in capsys.readouterr().out
    shutil.copy(GOLDEN / "model/mono/tree", nnet3)
    with pytest.raises(DataError, match="a tree of 62 pdfs"):
        run(["info", str(nnet3)])


def test_priors_of_another_net(nnet3: Path) -> None:
    model = Nnet3Model.read(nnet3 / "final.mdl")
    model.priors = np.full(103, 1 / 103, np.float32)
    model.write(nnet3 / "final.mdl")
    with pytest.raises(DataError, match="103 priors for 104 outputs"):
        check_net_dir(nnet3)


def test_raw_net_of_another_model(nnet3: Path) -> None:
    net = Nnet3.read(nnet3 / "final.raw")
    net.components["final-affine"].weight = np.zeros((7, 16), np.float32)  # type: ignore[attr-defined]
    net.components["final-affine"].bias = np.zeros(7, np.float32)  # type: ignore[attr-defined]
    net.components["logsoftmax"].dim = 7  # type: ignore[attr-defined]
    net.write(nnet3 / "final.raw")
    with pytest.raises(DataError, match=r"7 outputs, the net in final\.mdl 40 and 104"):
        check_net_dir(nnet3)
