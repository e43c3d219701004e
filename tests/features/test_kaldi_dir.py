"""Reading a Kaldi experiment's front end from its directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acoustic.errors import ConfigError, DataError
from acoustic.features.config import FrontendConfig
from acoustic.features.deltas import add_deltas
from acoustic.features.kaldi_dir import config_from_kaldi_dir, frontend_from_kaldi_dir
from acoustic.features.splice import splice
from tests.features.feature_data import FEATS, matrices, matrix, random_feats


def experiment(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_gmm_without_files_has_kaldis_defaults(tmp_path: Path) -> None:
    config, matrix_ = config_from_kaldi_dir(tmp_path)
    assert matrix_ is None
    assert config == FrontendConfig(cmvn="speaker", delta_order=2, delta_window=2)


def test_options_are_read(tmp_path: Path) -> None:
    folder = experiment(tmp_path / "e", cmvn_opts="--norm-vars=true\n", delta_opts="--delta-order=1 --delta-window=3\n")
    config, _ = config_from_kaldi_dir(folder)
    assert config == FrontendConfig(cmvn="speaker", norm_vars=True, delta_order=1, delta_window=3)


def test_no_normalisation_at_all(tmp_path: Path) -> None:
    config, _ = config_from_kaldi_dir(experiment(tmp_path / "e", cmvn_opts="--norm-means=false --norm-vars=false"))
    assert (config.cmvn, config.norm_means, config.norm_vars) == ("speaker", False, False)


def test_older_norm_vars_file(tmp_path: Path) -> None:
    assert config_from_kaldi_dir(experiment(tmp_path / "e", norm_vars="true\n"))[0].norm_vars


def test_lda_system(tmp_path: Path) -> None:
    folder = experiment(tmp_path / "e", splice_opts="--left-context=4 --right-context=4")
    (folder / "final.mat").write_bytes((FEATS / "lda.mat").read_bytes())
    frontend = frontend_from_kaldi_dir(folder, 13, splice_left=5, splice_right=5)
    assert frontend.config.cmvn == "speaker" and frontend.config.delta_order == 0
    assert (frontend.base_dim, frontend.input_dim) == (40, 440)
    feats = next(iter(matrices("mfcc13.ark").values()))
    stats = torch.zeros(2, 14).double()
    stats[0, -1] = 1.0  # mean zero
    expected = splice(feats, 4, 4) @ matrix("lda.mat").t()
    assert torch.allclose(frontend.per_utterance(feats, stats), expected, atol=1e-4)


def test_splice_defaults_are_splice_feats_own(tmp_path: Path) -> None:
    (tmp_path / "final.mat").write_bytes((FEATS / "lda.mat").read_bytes())
    config, _ = config_from_kaldi_dir(tmp_path)
    assert (config.transform_splice_left, config.transform_splice_right, config.transform_dim) == (4, 4, 40)


def test_final_mat_of_other_features(tmp_path: Path) -> None:
    (tmp_path / "final.mat").write_bytes((FEATS / "lda.mat").read_bytes())
    with pytest.raises(DataError, match=r"\(40, 117\)"):
        frontend_from_kaldi_dir(tmp_path, 20)


def test_deltas_go_before_fmllr(tmp_path: Path) -> None:
    frontend = frontend_from_kaldi_dir(tmp_path, 3, splice_left=1, splice_right=1, fmllr="speaker")
    feats, transform = random_feats(6, 3), random_feats(9, 10, 1)
    stats = torch.zeros(2, 4).double()
    stats[0, -1] = 1.0
    deltas = add_deltas(feats, 2, 2)
    expected = deltas @ transform[:, :9].t() + transform[:, 9]
    assert torch.allclose(frontend.per_utterance(feats, stats, transform), expected, atol=1e-5)
    assert (frontend.base_dim, frontend.input_dim) == (9, 27)


@pytest.mark.parametrize("marker", ["final__nnet", "final__feature_transform"])
def test_nnet1_has_only_what_its_files_say(tmp_path: Path, marker: str) -> None:
    folder = experiment(tmp_path / "e", **{marker: ""})
    assert config_from_kaldi_dir(folder)[0] == FrontendConfig(cmvn="none")
    experiment(folder, cmvn_opts="--norm-means=true --norm-vars=true", delta_opts="--delta-order=2")
    expected = FrontendConfig(cmvn="speaker", norm_vars=True, delta_order=2)
    assert config_from_kaldi_dir(folder)[0] == expected


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"cmvn_opts": "--skip-dims=13:14"}, "skip-dims"),
        ({"cmvn_opts": "--norm-vars=maybe"}, "norm-vars"),
        ({"cmvn_opts": "--norm-means=false --norm-vars=true"}, "without means"),
        ({"delta_opts": "--delta-order=two"}, "delta-order"),
        ({"delta_opts": "delta-order=2"}, "delta-order"),
        ({"online_cmvn_opts": ""}, "online"),
    ],
)
def test_what_we_cannot_do_is_said(tmp_path: Path, files: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config_from_kaldi_dir(experiment(tmp_path / "e", **files))


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no directory"):
        config_from_kaldi_dir(tmp_path / "nothing")
