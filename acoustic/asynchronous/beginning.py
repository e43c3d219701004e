"""What the processes of a run start from, in a file that the coordinator writes for them."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from acoustic import fsio
from acoustic.data.batches import Store
from acoustic.data.cache import FramesCache
from acoustic.data.windows import open_store
from acoustic.features.frontend import Frontend
from acoustic.nn.bundle import load_weights_only
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train.config import DataConfig

NAME = "beginning.pt"


@dataclass(frozen=True)
class Beginning:
    """Network, front end and data.

    Attributes:
        model: options of the network.
        input_dim, num_pdfs: of the network.
        frontend, feat_dim, frontend_state: as of Bundle.
        cache_dir: training frames.
        dtype: of computations, `float32` or `bfloat16`.
        device: `cpu` or `cuda`.
    """

    model: dict[str, Any]
    input_dim: int
    num_pdfs: int
    frontend: dict[str, Any]
    feat_dim: int
    frontend_state: dict[str, Any]
    cache_dir: str
    dtype: str
    device: str

    @classmethod
    def of(cls, classifier: SenoneClassifier, store: Store, dtype: torch.dtype) -> Beginning:
        """That of a run."""
        frontend = store.frontend
        return cls(
            model=dataclasses.asdict(classifier.config),
            input_dim=classifier.input_dim,
            num_pdfs=classifier.num_pdfs,
            frontend=frontend.config_dict(),
            feat_dim=frontend.feat_dim,
            frontend_state={name: tensor.cpu() for name, tensor in frontend.state_dict().items()},
            cache_dir=str(store.cache.directory.resolve()),
            dtype=str(dtype).removeprefix("torch."),
            device=store.device.type,
        )

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        write_tensors(folder / NAME, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Beginning:
        """Read it.

        Raises:
            CheckpointError: missing or damaged.
        """
        return cls(**load_weights_only(folder / NAME))

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of computations."""
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    def classifier(self) -> SenoneClassifier:
        """The network, with weights that mean nothing."""
        return SenoneClassifier(ClassifierConfig(**self.model), self.input_dim, self.num_pdfs)

    def store(self, device: torch.device, options: DataConfig) -> Store:
        """The training frames, in the same order as everywhere in the run."""
        frontend = Frontend.restored(self.frontend, self.feat_dim, self.frontend_state)
        return open_store(
            FramesCache.open(self.cache_dir), frontend, device, kind=options.store,
            max_bytes=1e9 * options.memory_gb, window_shards=options.window_shards,
        )  # fmt: skip


def write_tensors(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values, complete or not at all."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    with fsio.atomic_write(path) as file:
        file.write(buffer.getbuffer())
