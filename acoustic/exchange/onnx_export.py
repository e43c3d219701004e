"""Export to ONNX: features of one utterance of any length to log posteriors and scaled likelihoods."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acoustic import fsio
from acoustic.decode.priors import log_priors
from acoustic.errors import ConfigError, DataError
from acoustic.exchange.pipeline import PIPELINE_FILE, feature_pipeline
from acoustic.exchange.stages import Affine, Deltas, GlobalCmvn, Scaling, Splice, Stage, split
from acoustic.features.deltas import delta_filters
from acoustic.features.frontend import Frontend
from acoustic.log import get_logger
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import SenoneClassifier

OUTPUTS = ["log_posteriors", "loglikes"]
TOLERANCE = 1e-3
CHECKED_LENGTHS = (1, 2, 7, 300)
EXAMPLE_LENGTH = 50

logger = get_logger(__name__)


def export_onnx(bundle: Bundle, frontend: Frontend, path: str | Path) -> None:
    """Write an ONNX file, after onnxruntime has given our own outputs with it.

    Input `features`, float32 [T, dim], are what is left of the front end outside (speaker's CMVN, fMLLR), named by the
    file's metadata `feature_pipeline`; all else is inside, exact at the edges. Outputs, float32 [T, num_pdfs]:
    `log_posteriors`, and `loglikes` = log_posteriors - log prior.

    Raises:
        ConfigError: the packages of the extra `onnx` are not installed.
        DataError: onnxruntime computes something else than we do.
    """
    onnx, runtime = _require("onnx"), _require("onnxruntime")
    _require("onnxscript")
    cut = split(frontend)
    model = UtteranceModel(cut.inside, cut.dim, bundle.classifier, log_priors(bundle.pdf_counts)).eval()
    proto = _to_onnx(model, cut.dim)
    onnx.helper.set_model_props(proto, {PIPELINE_FILE: feature_pipeline(cut.outside)})
    content = proto.SerializeToString()
    check(runtime, content, model, cut.dim)
    with fsio.atomic_write(path) as file:
        file.write(content)
    logger.info("onnxruntime agrees; input of %d values a frame: %s", cut.dim, feature_pipeline(cut.outside))


class UtteranceModel(nn.Module):
    """Stages and classifier over one utterance: [T, dim] -> log posteriors and loglikes, [T, num_pdfs] each."""

    log_prior: Tensor

    def __init__(self, stages: list[Stage], dim: int, classifier: SenoneClassifier, log_prior: Tensor) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        for stage in stages:
            self.stages.append(stage_module(stage))
        self.classifier = classifier
        self.register_buffer("log_prior", log_prior)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[T, dim] -> log posteriors, loglikes."""
        log_posteriors = torch.log_softmax(self.classifier(self.stages(features)), dim=-1)
        return log_posteriors, log_posteriors - self.log_prior


class SpliceModule(nn.Module):
    """Joins the frames t - left .. t + right: [T, dim] -> [T, num_frames, dim], the edge frames repeated."""

    offsets: Tensor

    def __init__(self, left: int, right: int) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.arange(-left, right + 1))

    def forward(self, features: Tensor) -> Tensor:
        """[T, dim] -> [T, num_frames, dim]."""
        index = torch.arange(features.shape[0]).unsqueeze(1) + self.offsets
        return features[index.clamp(torch.tensor(0), torch.tensor(features.shape[0] - 1))]


class DeltasModule(nn.Module):
    """add-deltas: [T, dim] -> [T, (order + 1) * dim]."""

    filters: Tensor

    def __init__(self, stage: Deltas) -> None:
        super().__init__()
        self.context = SpliceModule(stage.reach, stage.reach)
        self.register_buffer("filters", delta_filters(stage.order, stage.window))

    def forward(self, features: Tensor) -> Tensor:
        """[T, dim] -> [T, (order + 1) * dim]."""
        return torch.matmul(self.filters, self.context(features)).flatten(1)


class ScalingModule(nn.Module):
    """y = (x + shift) scale."""

    shift: Tensor
    scale: Tensor

    def __init__(self, stage: Scaling) -> None:
        super().__init__()
        self.register_buffer("shift", torch.from_numpy(stage.shift).float())
        self.register_buffer("scale", torch.from_numpy(stage.scale).float())

    def forward(self, features: Tensor) -> Tensor:
        """[T, dim] -> [T, dim]."""
        return (features + self.shift) * self.scale


def stage_module(stage: Stage) -> nn.Module:
    """A stage that is inside a net as a module on [T, dim]."""
    match stage:
        case Splice():
            return nn.Sequential(SpliceModule(stage.left, stage.right), nn.Flatten(1))
        case Deltas():
            return DeltasModule(stage)
        case GlobalCmvn():
            return ScalingModule(stage.scaling())
        case Scaling():
            return ScalingModule(stage)
        case Affine():
            linear = nn.Linear(stage.weight.shape[1], stage.weight.shape[0])
            linear.weight.data = torch.from_numpy(stage.weight).float()
            linear.bias.data = torch.from_numpy(stage.bias).float()
            return linear
        case _:
            raise ValueError(f"{type(stage).__name__} cannot be inside a net")


def check(runtime: ModuleType, content: bytes, model: UtteranceModel, dim: int) -> None:
    """Compare onnxruntime's outputs with our own on random features of several lengths.

    Raises:
        DataError: they differ by more than TOLERANCE.
    """
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for num_frames in CHECKED_LENGTHS:
        features = torch.randn(num_frames, dim, generator=generator)
        with torch.inference_mode():
            ours = model(features)[0].numpy()
        theirs = session.run(OUTPUTS[:1], {"features": features.numpy()})[0]
        if theirs.shape != ours.shape or np.abs(theirs - ours).max() > TOLERANCE:
            raise DataError(f"onnxruntime computes other log posteriors for {num_frames} frames than we do")


@dataclass(frozen=True)
class OnnxFacts:
    """What an ONNX file says of itself.

    Attributes:
        input_dim: values in a frame; 0 where the file leaves it open.
        num_outputs: pdfs; 0 where the file leaves it open.
        feature_pipeline: rspecifier of the features, in files of `export_onnx`.
    """

    input_dim: int
    num_outputs: int
    feature_pipeline: str | None


def onnx_facts(path: str | Path) -> OnnxFacts:
    """Read what an ONNX file says of itself.

    Raises:
        ConfigError: the packages of the extra `onnx` are not installed.
        DataError: not such a file, or a damaged one.
    """
    onnx = _require("onnx")
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        proto = onnx.load_model_from_string(Path(path).read_bytes())
    except (OSError, decode_error) as error:
        raise DataError(f"cannot be read as ONNX ({error})", path=path) from error
    if not (proto.graph.input and proto.graph.output):
        raise DataError("an ONNX file without a network", path=path)
    input_dim, num_outputs = (_last_dim(values[0]) for values in (proto.graph.input, proto.graph.output))
    return OnnxFacts(
        input_dim, num_outputs, {entry.key: entry.value for entry in proto.metadata_props}.get(PIPELINE_FILE)
    )


def _last_dim(value: Any) -> int:
    """The last dimension of a network's input or output, 0 where it is left open."""
    dims = value.type.tensor_type.shape.dim
    return int(dims[-1].dim_value) if dims else 0


def _require(package: str) -> ModuleType:
    """A package that only ONNX needs."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f"{package} is not installed: install acoustic with its extra `onnx`") from error


def _to_onnx(model: UtteranceModel, dim: int) -> Any:
    """The model as onnx.ModelProto, its number of frames dynamic."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            (torch.zeros(EXAMPLE_LENGTH, dim),),
            dynamo=True,
            input_names=["features"],
            output_names=OUTPUTS,
            dynamic_shapes=({0: torch.export.Dim("num_frames", min=1)},),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages and operators that no model of ours uses."""
    names = ["torch.onnx", "onnxscript", "onnx_ir"]
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
