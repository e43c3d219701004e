"""The front end of a Kaldi experiment, read from the files its training left in its directory.

GMM systems (steps/train_deltas.sh, train_lda_mllt.sh, train_sat.sh, and decode.sh which reads the files back): speaker
CMVN with `cmvn_opts`, then either deltas with `delta_opts` or, where there is a `final.mat`, splicing with
`splice_opts` and that matrix; Kaldi's defaults hold where a file is missing. nnet1 systems (steps/nnet/train.sh): CMVN
and deltas only where their file is there. Older ones have `norm_vars` instead of `cmvn_opts`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from acoustic.errors import ConfigError, DataError
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.kaldi.matrix import read_matrix_file

# add-deltas' and splice-feats' own defaults.
DEFAULT_DELTA_OPTS = {"delta-order": "2", "delta-window": "2"}
DEFAULT_SPLICE_OPTS = {"left-context": "4", "right-context": "4"}


def config_from_kaldi_dir(exp_dir: str | Path, fmllr: str = "none") -> tuple[FrontendConfig, Tensor | None]:
    """The stages that a Kaldi experiment's features went through before its model, without a network's splicing.

    Args:
        exp_dir: such as exp/tri3 or exp/dnn4.
        fmllr: whose fMLLR transforms (`trans.N`) the features are to have: none, speaker or utterance. With them,
            deltas belong to the base frames, for the transforms apply behind them.

    Returns:
        The config, its splice_left and splice_right still 0 (`dataclasses.replace` them), and the matrix `final.mat`
        for `Frontend.set_transform`, if there is one.

    Raises:
        DataError: no such directory, or a file that cannot be read.
        ConfigError: an option that we do not have.
    """
    exp_dir = Path(exp_dir)
    if not exp_dir.is_dir():
        raise DataError("is no directory", path=exp_dir)
    if (exp_dir / "final.nnet").exists() or (exp_dir / "final.feature_transform").exists():
        config = replace(config_from_network_dir(exp_dir), fmllr=fmllr)
        return (config if fmllr == "none" else _deltas_before_transform(config)), None
    _refuse_online_cmvn(exp_dir)
    config = _with_cmvn(FrontendConfig(cmvn="none", fmllr=fmllr), exp_dir)
    if (exp_dir / "final.mat").exists():
        return _with_transform(config, exp_dir)
    config = _with_deltas(config, exp_dir)
    return (config if fmllr == "none" else _deltas_before_transform(config)), None


def config_from_network_dir(exp_dir: str | Path) -> FrontendConfig:
    """CMVN and deltas in front of a neural network (steps/nnet/train.sh): only those whose options are there.

    Raises:
        DataError, ConfigError: as for `config_from_kaldi_dir`.
    """
    exp_dir = Path(exp_dir)
    _refuse_online_cmvn(exp_dir)
    config = FrontendConfig(cmvn="none")
    if (exp_dir / "cmvn_opts").exists() or (exp_dir / "norm_vars").exists():
        config = _with_cmvn(config, exp_dir)
    return _with_deltas(config, exp_dir) if (exp_dir / "delta_opts").exists() else config


def frontend_from_kaldi_dir(
    exp_dir: str | Path, feat_dim: int, splice_left: int = 0, splice_right: int = 0, fmllr: str = "none"
) -> Frontend:
    """The front end of a Kaldi experiment for stored features of `feat_dim` values, with a network's splicing.

    Raises:
        DataError: a file is missing or damaged, or `final.mat` does not fit the features.
        ConfigError: an option that we do not have.
    """
    config, matrix = config_from_kaldi_dir(exp_dir, fmllr)
    frontend = Frontend.from_config(replace(config, splice_left=splice_left, splice_right=splice_right), feat_dim)
    if matrix is not None:
        frontend.set_transform(matrix)
    return frontend


def _refuse_online_cmvn(exp_dir: Path) -> None:
    if (exp_dir / "online_cmvn_opts").exists():
        raise ConfigError(f"{exp_dir}/online_cmvn_opts: online CMVN is not supported; use sliding CMVN")


def _with_deltas(config: FrontendConfig, exp_dir: Path) -> FrontendConfig:
    """Add deltas."""
    options = read_options(exp_dir / "delta_opts", DEFAULT_DELTA_OPTS)
    order, window = _integer(options, "delta-order", exp_dir), _integer(options, "delta-window", exp_dir)
    return replace(config, delta_order=order, delta_window=window)


def _deltas_before_transform(config: FrontendConfig) -> FrontendConfig:
    """Move the deltas into the base frames."""
    order, window = config.delta_order, config.delta_window
    return replace(
        config, delta_order=0, delta_window=2, transform_delta_order=order, transform_delta_window=window
    )  # fmt: skip


def _with_cmvn(config: FrontendConfig, exp_dir: Path) -> FrontendConfig:
    """Add speaker CMVN."""
    path = exp_dir / "cmvn_opts"
    options = read_options(path, {"norm-means": "true", "norm-vars": "false"})
    if not path.exists() and (exp_dir / "norm_vars").exists():
        options["norm-vars"] = (exp_dir / "norm_vars").read_text(encoding="utf-8").strip()
    norm_means, norm_vars = (_boolean(options, name, exp_dir) for name in ("norm-means", "norm-vars"))
    if norm_vars and not norm_means:
        raise ConfigError(f"{path}: variances cannot be normalised without means")
    return replace(config, cmvn="speaker", norm_means=norm_means, norm_vars=norm_vars)


def _with_transform(config: FrontendConfig, exp_dir: Path) -> tuple[FrontendConfig, Tensor]:
    """Add splicing and the matrix of an LDA+MLLT system."""
    options = read_options(exp_dir / "splice_opts", DEFAULT_SPLICE_OPTS)
    matrix = torch.from_numpy(read_matrix_file(exp_dir / "final.mat")).float()
    left, right = _integer(options, "left-context", exp_dir), _integer(options, "right-context", exp_dir)
    config = replace(
        config, transform_splice_left=left, transform_splice_right=right, transform_dim=matrix.shape[0]
    )  # fmt: skip
    return config, matrix


def read_options(path: Path, defaults: dict[str, str]) -> dict[str, str]:
    """Options `--name=value` in a file, over `defaults`, which also say which names there are.

    Raises:
        ConfigError: another word.
    """
    options = dict(defaults)
    words = path.read_text(encoding="utf-8").split() if path.exists() else []
    for word in words:
        name, equals, value = word.removeprefix("--").replace("_", "-").partition("=")
        if not word.startswith("--") or not equals or name not in defaults:
            raise ConfigError(f"{path}: option {word!r} is not supported, only {', '.join(defaults)}")
        options[name] = value
    return options


def _integer(options: dict[str, str], name: str, exp_dir: Path) -> int:
    if not options[name].isdecimal():
        raise ConfigError(f"{exp_dir}: --{name}={options[name]} is no number")
    return int(options[name])


def _boolean(options: dict[str, str], name: str, exp_dir: Path) -> bool:
    if options[name] not in ("true", "false"):
        raise ConfigError(f"{exp_dir}: --{name}={options[name]} is neither true nor false")
    return options[name] == "true"
