"""`final.pt`: everything a trained classifier needs at test time, in one file that loads with `weights_only=True`."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acoustic.errors import CheckpointError
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

FORMAT = "acoustic-bundle-1"


@dataclass(kw_only=True)
class Bundle:
    """A trained network with its front end, its priors and where it came from.

    Attributes:
        classifier: the network, in evaluation mode.
        frontend_config: options of the Frontend that made its inputs.
        frontend_state: the Frontend's tensors (global normalisation, transforms).
        feat_dim: values per frame of the features the Frontend reads.
        fbank_options: options of the features, when the model knows them and so can read audio; else None.
        pdf_counts: int64 [num_pdfs], frames of each senone in the training targets: in the alignments, unless smoothed.
        fingerprints: sha256 of alignments, tree, transition model, front end and configuration.
        config: the training run's resolved configuration.
    """

    classifier: SenoneClassifier
    frontend_config: dict[str, Any]
    frontend_state: dict[str, Tensor]
    feat_dim: int
    pdf_counts: Tensor
    fbank_options: dict[str, Any] | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's contents; equal bundles give equal bytes."""
        buffer = io.BytesIO()
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.classifier.state_dict().items()}
        torch.save(
            {
                "format": FORMAT,
                "model_config": asdict(self.classifier.config),
                "input_dim": self.classifier.input_dim,
                "num_pdfs": self.classifier.num_pdfs,
                "model_state": state,
                "frontend_config": self.frontend_config,
                "frontend_state": {name: tensor.detach().cpu() for name, tensor in self.frontend_state.items()},
                "feat_dim": self.feat_dim,
                "fbank_options": self.fbank_options,
                "pdf_counts": self.pdf_counts.cpu(),
                "fingerprints": self.fingerprints,
                "config": self.config,
            },
            buffer,
        )
        return buffer.getvalue()


def load_weights_only(path: str | Path) -> Any:
    """torch.load without unpickling code.

    Raises:
        CheckpointError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
            if (damaged := archive.testzip()) is not None:
                raise CheckpointError(f"{path}: damaged, {damaged} in it differs from its checksum")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        # Of torch's long advice the first sentence; the rest would have the user load code.
        reason = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged, or not a file of a trained model ({reason})") from error


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle from `final.pt`, or from the exp_dir that holds one.

    Raises:
        CheckpointError: no such file, damaged, or not a bundle of this version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "final.pt"
    if not path.exists():
        raise CheckpointError(f"{path}: no trained model there; `acoustic train exp_dir=...` writes one")
    content = load_weights_only(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a model bundle of format {FORMAT}")
    try:
        config = ClassifierConfig(**content["model_config"])
        classifier = SenoneClassifier(config, content["input_dim"], content["num_pdfs"])
        classifier.load_state_dict(content["model_state"])
        return Bundle(
            classifier=classifier.eval(),
            frontend_config=content["frontend_config"],
            frontend_state=content["frontend_state"],
            feat_dim=content["feat_dim"],
            fbank_options=content["fbank_options"],
            pdf_counts=content["pdf_counts"],
            fingerprints=content["fingerprints"],
            config=content["config"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: incomplete or inconsistent bundle ({error})") from error
