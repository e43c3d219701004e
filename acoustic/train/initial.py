"""Training that starts from a trained network: one of ours, or one of Kaldi's that `acoustic import` brought in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from acoustic import fsio
from acoustic.data.cache import FramesCache
from acoustic.data.join import Source, feat_dim
from acoustic.errors import ConfigError
from acoustic.features.frontend import Frontend
from acoustic.nn.bundle import Bundle, load_bundle
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.config import TrainConfig

# What a configuration still decides of a network that is there already.
FREE_MODEL_FIELDS = ("input_dropout", "dropout", "dropouts")
FRONTEND_FILES = ("kaldi_dir", "transform_mat", "lda_mat")


def take_over(config: TrainConfig) -> None:
    """Make `features` and `model` those of the network at `init_from`, all but dropout.

    Raises:
        ConfigError: options that ask for another front end, dropout rates of other layers, or a front end of that
            network that is unknown here.
        CheckpointError: no such model, or a damaged one.
    """
    bundle = initial_bundle(config)
    for name in FRONTEND_FILES:
        if getattr(config.features, name) is not None:
            raise ConfigError(f"features.{name} and init_from, whose front end is taken: give one of them")
    try:
        known = Frontend.from_config(bundle.frontend_config, bundle.feat_dim).config_dict()
    except ConfigError as error:
        raise ConfigError(f"{config.init_from}: {error}") from error
    for name, value in known.items():
        setattr(config.features, name, value)
    config.features.fbank = config.features.fbank or bundle.fbank_options
    free = {name: getattr(config.model, name) for name in FREE_MODEL_FIELDS}
    try:
        config.model = dataclasses.replace(bundle.classifier.config, **free)
    except ValueError as error:
        raise ConfigError(f"{error} of {config.init_from}") from error
    config.init_sha256 = fsio.sha256_file(_path(config))


def initial_bundle(config: TrainConfig) -> Bundle:
    """The model at `init_from`.

    Raises:
        CheckpointError: no such model, or a damaged one.
    """
    return load_bundle(_path(config))


def initial_frontend(config: TrainConfig, sources: Sequence[Source]) -> Frontend:
    """The front end of the model at `init_from`, its values included, for the stored features of `sources`.

    Raises:
        ConfigError: features of another dimension, or values that do not fit that front end.
    """
    bundle = initial_bundle(config)
    found = feat_dim(sources)
    if found != bundle.feat_dim:
        raise ConfigError(f"features of {found} values, but {config.init_from} was trained on {bundle.feat_dim}")
    try:
        return Frontend.restored(bundle.frontend_config, bundle.feat_dim, bundle.frontend_state)
    except ConfigError as error:
        raise ConfigError(f"{config.init_from}: {error}") from error


def load_initial_weights(config: TrainConfig, classifier: SenoneClassifier, cache: FramesCache) -> None:
    """Copy the weights of the model at `init_from`.

    Raises:
        ConfigError: it was trained on other senones than those of `cache`.
    """
    bundle = initial_bundle(config)
    known_senones = (None, cache.meta.fingerprints["transition_model"])
    if bundle.classifier.num_pdfs != cache.num_pdfs or bundle.fingerprints.get("transition_model") not in known_senones:
        raise ConfigError(
            f"{config.init_from} knows {bundle.classifier.num_pdfs} senones of another model than that of the "
            f"alignments, which has {cache.num_pdfs}: align with the model that it was trained on"
        )
    classifier.load_state_dict(bundle.classifier.state_dict())


def _path(config: TrainConfig) -> Path:
    """The file that holds the model."""
    path = Path(str(config.init_from))
    return path / "final.pt" if path.is_dir() else path
