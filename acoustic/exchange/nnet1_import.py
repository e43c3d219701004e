"""Import of Kaldi's nnet1 nets: final.nnet with its feature transform and class counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from acoustic.errors import DataError
from acoustic.exchange.importing import add_tree, assemble
from acoustic.exchange.steps import Join, Linear, Rectifier, Scale, Softmax, Squash, Step
from acoustic.features.config import FrontendConfig
from acoustic.features.kaldi_dir import config_from_network_dir
from acoustic.kaldi import nnet1_components as components
from acoustic.kaldi.matrix import read_vector_file
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import get_logger
from acoustic.nn.bundle import Bundle

# steps/nnet/decode.sh looks for them in this order.
COUNTS_FILES = ("prior_counts", "ali_train_pdf.counts")

logger = get_logger(__name__)


def import_nnet1_dir(directory: str | Path) -> Bundle:
    """The model of a directory of steps/nnet/train.sh, with cmvn_opts, delta_opts and final.mdl where they are there.

    Raises:
        DataError: files missing or damaged, or a net that has no counterpart here.
        ConfigError: options of CMVN or deltas that we do not have.
    """
    directory = Path(directory)
    transform, mdl = directory / "final.feature_transform", directory / "final.mdl"
    counts = next((directory / name for name in COUNTS_FILES if (directory / name).exists()), None)
    bundle = import_nnet1(
        directory / "final.nnet",
        transform if transform.exists() else None,
        counts,
        config_from_network_dir(directory),
        TransitionModel.read(mdl) if mdl.exists() else None,
    )
    add_tree(bundle, directory)
    return bundle


def import_nnet1(
    nnet: str | Path,
    feature_transform: str | Path | None = None,
    class_frame_counts: str | Path | None = None,
    config: FrontendConfig | None = None,
    transition_model: TransitionModel | None = None,
) -> Bundle:
    """A net as a bundle that gives the posteriors and loglikes of nnet-forward.

    Args:
        nnet: affine maps and activations under a softmax.
        feature_transform: linear components and splicings before it.
        class_frame_counts: frames of each pdf; without them all pdfs count alike.
        config: CMVN and deltas before the feature transform; default: none.
        transition_model: whose pdfs the outputs are.

    Raises:
        DataError: as for `import_nnet1_dir`.
    """
    net = Nnet1.read(nnet)
    transform = Nnet1([]) if feature_transform is None else Nnet1.read(feature_transform)
    if transform.components and transform.output_dim != net.input_dim:
        raise DataError(
            f"a feature transform of {transform.output_dim} outputs for a net of {net.input_dim} inputs", path=nnet
        )
    if class_frame_counts is None:
        logger.warning("%s: no class counts, so all pdfs get the same prior", nnet)
    steps = [step for component in transform.components for step in _steps(component, trained=False)]
    steps += [step for component in net.components for step in _steps(component, trained=True)]
    input_dim = (transform if transform.components else net).input_dim
    counts = None if class_frame_counts is None else read_vector_file(class_frame_counts).astype(np.float64)
    try:
        return assemble(steps, config or FrontendConfig(cmvn="none"), input_dim, counts, transition_model)
    except DataError as error:
        raise DataError(error.problem, path=nnet, remedy=error.remedy) from error


def _steps(component: components.Component, trained: bool) -> list[Step]:
    """What a component does; dropout does nothing."""
    match component:
        case components.AffineTransform():
            return [Linear(component.weight.astype(np.float64), component.bias.astype(np.float64), trained)]
        case components.LinearTransform():
            return [Linear(component.weight.astype(np.float64), np.zeros(component.output_dim), trained)]
        case components.Copy():
            return [Linear(np.eye(component.input_dim)[component.indices], np.zeros(component.output_dim), False)]
        case components.AddShift():
            return [Scale(np.ones(component.input_dim), component.shift.astype(np.float64))]
        case components.Rescale():
            return [Scale(component.scale.astype(np.float64), np.zeros(component.input_dim))]
        case components.Splice():
            return [Join([int(offset) for offset in component.frame_offsets])]
        case components.ParametricRelu():
            return [Rectifier(component.alpha.astype(np.float64), component.beta.astype(np.float64))]
        case components.Sigmoid():
            return [Squash("sigmoid")]
        case components.Tanh():
            return [Squash("tanh")]
        case components.Softmax():
            return [Softmax()]
        case components.Dropout():
            return []
