"""The front end of a training run: its options from the configuration and a Kaldi experiment, its values from data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acoustic.data.join import Source, feat_dim
from acoustic.errors import ConfigError
from acoustic.features.base_frames import global_stats
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.features.kaldi_dir import config_from_kaldi_dir
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.matrix import read_matrix_file
from acoustic.train.config import FeaturesConfig

# What a Kaldi experiment decides of a front end, whatever the configuration says.
TAKEN_FIELDS = (
    "cmvn", "norm_means", "norm_vars", "transform_delta_order", "transform_delta_window", "transform_splice_left",
    "transform_splice_right", "transform_dim",
)  # fmt: skip
DELTA_FIELDS = ("delta_order", "delta_window")


@dataclass
class FrontendPlan:
    """A front end's options, and the matrices that come from files.

    Attributes:
        config: the options.
        transform: [transform_dim, D (+ 1)] for `Frontend.set_transform`, or None.
        lda: [lda_dim, D (+ 1)] for `Frontend.set_lda`, or None: none, or estimated on the training frames.
    """

    config: FrontendConfig
    transform: Tensor | None
    lda: Tensor | None


def plan_frontend(features: FeaturesConfig) -> FrontendPlan:
    """Bring together `features` and the files it names.

    Of an experiment with `final.mat`, or whose features get fMLLR, what comes before the network is taken; deltas and
    splicing in front of the network are those of `features`. Of any other experiment its deltas are taken as well.

    Raises:
        ConfigError: options that contradict each other or the files.
        DataError: a file that cannot be read.
    """
    names = [field.name for field in dataclasses.fields(FrontendConfig)]
    values = {name: getattr(features, name) for name in names}
    transform = None
    if features.kaldi_dir is not None:
        if features.transform_mat is not None:
            raise ConfigError("features.transform_mat and features.kaldi_dir (its final.mat): give one of them")
        taken, transform = config_from_kaldi_dir(features.kaldi_dir, features.fmllr)
        has_deltas = transform is None and features.fmllr == "none"
        values |= {name: getattr(taken, name) for name in TAKEN_FIELDS + (DELTA_FIELDS if has_deltas else ())}
    if features.transform_mat is not None:
        transform = _read_matrix(features.transform_mat)
        values["transform_dim"] = _rows(transform, features.transform_dim, "features.transform_dim")
    lda = None
    if features.lda_mat is not None:
        lda = _read_matrix(features.lda_mat)
        values["lda_dim"] = _rows(lda, features.lda_dim, "features.lda_dim")
    if values["transform_dim"] and transform is None:
        raise ConfigError("features.transform_dim without features.transform_mat or features.kaldi_dir")
    try:
        return FrontendPlan(FrontendConfig(**values), transform, lda)
    except ValueError as error:
        raise ConfigError(f"features.{error}") from error


def resolve_features(features: FeaturesConfig) -> None:
    """Put what `plan_frontend` finds in files into `features`, so that a stored configuration shows what was used.

    Raises:
        ConfigError, DataError: as `plan_frontend`.
    """
    for name, value in dataclasses.asdict(plan_frontend(features).config).items():
        setattr(features, name, value)


def make_frontend(features: FeaturesConfig, sources: Sequence[Source]) -> Frontend:
    """The front end for the stored features of `sources`; an LDA to be estimated is not set yet.

    Raises:
        ConfigError, DataError: as `plan_frontend`, or a matrix that does not fit the features.
    """
    plan = plan_frontend(features)
    dim = feat_dim(sources)
    spliced_dim = Frontend.from_config(dataclasses.replace(plan.config, lda_dim=0), dim).spliced_dim
    if plan.lda is None and plan.config.lda_dim > spliced_dim:
        problem = f"features.lda_dim={plan.config.lda_dim}: LDA cannot give more than the {spliced_dim} spliced values"
        raise ConfigError(f"{problem} of a frame")
    frontend = Frontend.from_config(plan.config, dim)
    if plan.transform is not None:
        frontend.set_transform(plan.transform)
    if plan.lda is not None:
        frontend.set_lda(plan.lda)
    if plan.config.cmvn == "global":
        stats = [global_stats(DataDir.read(source.data_dir), frontend.feat_dim) for source in sources]
        frontend.set_global_cmvn(torch.stack(stats).sum(0))
    return frontend


def _read_matrix(path: str) -> Tensor:
    return torch.from_numpy(read_matrix_file(path)).float()


def _rows(matrix: Tensor, wanted: int, option: str) -> int:
    """The rows of a matrix, which must be as many as `option` asks for unless that is 0."""
    if wanted not in (0, len(matrix)):
        raise ConfigError(f"{option}={wanted}, but the matrix has {len(matrix)} rows")
    return len(matrix)
