"""What nnet1 and nnet3 exports share: the Kaldi model whose transitions belong to a bundle, and the priors."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from acoustic import fsio
from acoustic.decode.forward import AcousticModel
from acoustic.errors import ConfigError, DataError
from acoustic.exchange.pipeline import PIPELINE_FILE
from acoustic.features.frontend import Frontend
from acoustic.kaldi.transitions import TransitionModel
from acoustic.nn.bundle import Bundle, load_bundle

# What mkgraph.sh and the decoding scripts want beside a model.
COMPANIONS = ("tree", "phones.txt")


def load_for_export(path: str | Path) -> tuple[Bundle, Frontend]:
    """A bundle and its front end, ready for use.

    Raises:
        CheckpointError: no such file, or damaged.
    """
    bundle = load_bundle(path)
    return bundle, AcousticModel(bundle).frontend


@contextlib.contextmanager
def output_dir(directory: str | Path) -> Iterator[Path]:
    """A new directory that is complete or absent; an earlier export there is replaced.

    Raises:
        ConfigError: there is a directory with anything else.
    """
    directory = Path(directory)
    if directory.is_dir() and any(directory.iterdir()) and not (directory / PIPELINE_FILE).exists():
        raise ConfigError(f"{directory} holds files, but no exported model: choose another directory")
    with fsio.atomic_dir(directory) as folder:
        yield folder


def read_transition_model(path: str | Path, bundle: Bundle) -> TransitionModel:
    """The transition model of `path` (a GMM's final.mdl will do), which must be the one a bundle was trained on.

    Raises:
        DataError: no such file, or other senones than the bundle's.
    """
    model = TransitionModel.read(path)
    num_pdfs, fingerprint = bundle.classifier.num_pdfs, bundle.fingerprints.get("transition_model")
    if model.num_pdfs != num_pdfs or fingerprint not in (None, model.fingerprint()):
        raise DataError(
            f"a transition model of {model.num_pdfs} pdfs, but the network was trained on another, of {num_pdfs} pdfs",
            path=path,
            remedy="give the final.mdl of the alignments that the network was trained on",
        )
    return model


def copy_companions(model_path: str | Path, directory: Path) -> None:
    """Copy the tree and phone table that lie beside a model, where they are."""
    for name in COMPANIONS:
        source = Path(model_path).parent / name
        if source.exists():
            shutil.copyfile(source, directory / name)


def to_float32(values: np.ndarray) -> np.ndarray:
    """Parameters as files hold them."""
    return values.astype(np.float32)
