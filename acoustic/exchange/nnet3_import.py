"""Import of Kaldi's plain feed-forward nnet3 nets: final.mdl or final.raw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from acoustic.decode.priors import DISABLED
from acoustic.errors import DataError
from acoustic.exchange.importing import add_tree, assemble
from acoustic.exchange.stages import Array
from acoustic.exchange.steps import Join, Linear, Rectifier, Scale, Softmax, Squash, Step
from acoustic.features.config import FrontendConfig
from acoustic.features.kaldi_dir import config_from_network_dir
from acoustic.kaldi import nnet3_chain, nnet3_linear
from acoustic.kaldi import nnet3_components as components
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.nnet3_chain import Chain
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.transitions import ACOUSTIC_MODELS, read_head
from acoustic.log import get_logger
from acoustic.nn.bundle import Bundle

logger = get_logger(__name__)


def import_nnet3_dir(directory: str | Path) -> Bundle:
    """The model of a directory: final.mdl, or else final.raw, with cmvn_opts and delta_opts where they are there.

    Raises:
        DataError: files missing or damaged, or a net that has no counterpart here.
        ConfigError: options of CMVN or deltas that we do not have.
    """
    directory = Path(directory)
    model = directory / "final.mdl"
    bundle = import_nnet3(model if model.exists() else directory / "final.raw", config_from_network_dir(directory))
    add_tree(bundle, directory)
    return bundle


def import_nnet3(path: str | Path, config: FrontendConfig | None = None) -> Bundle:
    """A net as a bundle that gives the log posteriors of nnet3-compute and the loglikes of nnet3-latgen-faster.

    Args:
        path: final.mdl; or final.raw, without priors, so that all pdfs count alike.
        config: CMVN and deltas before the net; default: none.

    Raises:
        DataError: as for `import_nnet3_dir`.
    """
    with open_reader(path) as reader:
        reader.read_binary_header()
        model = None
        if reader.peek_token() == "<TransitionModel>":
            what = read_head(path)[1]
            if what != ACOUSTIC_MODELS["<Nnet3>"]:
                remedy = "name the final.mdl or final.raw of an nnet3 network"
                raise DataError(f"is {what or 'a transition model alone'}", path=path, remedy=remedy)
            model = Nnet3Model.read_from(reader)
        net = Nnet3.read_from(reader) if model is None else model.nnet
    priors = None if model is None or len(model.priors) == 0 else model.priors.astype(np.float64)
    if priors is None:
        logger.warning("%s: no priors, so all pdfs get the same", path)
    try:
        chain = Chain.of_net(net)
        if priors is not None:
            priors = _without_disabled(chain, priors)
        transition_model = None if model is None else model.transition_model
        config = config or FrontendConfig(cmvn="none")
        return assemble(_chain_steps(chain), config, chain.input_dim, priors, transition_model)
    except DataError as error:
        raise DataError(error.problem, path=path, remedy=error.remedy) from error


def _without_disabled(chain: Chain, priors: Array) -> Array:
    """Take off the end of a chain what export put there to disable pdfs, and set their priors to zero."""
    _, last = chain.components[-1]
    if isinstance(last, components.FixedBiasComponent) and set(last.bias) <= {0.0, np.float32(-DISABLED)}:
        chain.components.pop()
        return np.where(last.bias == 0.0, priors, 0.0)
    return priors


def _chain_steps(chain: Chain) -> list[Step]:
    steps = [step for _, component in chain.frame_components for step in _steps(component)]
    steps.append(Join(chain.frame_offsets))
    return steps + [step for _, component in chain.components for step in _steps(component)]


def _steps(component: nnet3_linear.Component) -> list[Step]:
    """What a component does at test time; dropout does nothing."""
    dim = component.input_dim
    match component:
        case nnet3_linear.Affine():
            return [Linear(component.weight.astype(np.float64), component.bias.astype(np.float64), True)]
        case components.LinearComponent():
            return [Linear(component.weight.astype(np.float64), np.zeros(component.output_dim), True)]
        case components.FixedAffineComponent():
            return [Linear(component.weight.astype(np.float64), component.bias.astype(np.float64), False)]
        case components.FixedScaleComponent() | components.PerElementScaleComponent():
            return [Scale(component.scales.astype(np.float64), np.zeros(dim))]
        case components.FixedBiasComponent():
            return [Scale(np.ones(dim), component.bias.astype(np.float64))]
        case components.PerElementOffsetComponent():
            return [Scale(np.ones(dim), _repeated(component.offsets, dim))]
        case components.BatchNormComponent():
            deviation = np.sqrt(np.maximum(component.stats_var.astype(np.float64), 0.0) + component.epsilon)
            scale = component.target_rms / deviation
            return [Scale(_repeated(scale, dim), _repeated(-component.stats_mean * scale, dim))]
        case components.RectifiedLinearComponent():
            return [Rectifier(np.ones(dim), np.zeros(dim))]
        case nnet3_chain.Rectifier():
            return [Rectifier(np.ones(dim), component.slope.astype(np.float64))]
        case components.SigmoidComponent():
            return [Squash("sigmoid")]
        case components.TanhComponent():
            return [Squash("tanh")]
        case components.SoftmaxComponent() | components.LogSoftmaxComponent():
            return [Softmax()]
        case components.DropoutComponent() | components.GeneralDropoutComponent() | components.NoOpComponent():
            return []
        case _:
            raise DataError(f"nnet3 component of type {type(component).__name__} cannot be imported")


def _repeated(values: np.ndarray, dim: int) -> Array:
    """Values of a block, repeated to fill `dim`."""
    return np.tile(values.astype(np.float64), dim // len(values))
