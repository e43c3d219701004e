"""Kaldi's features, audio and statistics as tensors, and small made-up ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic.features.audio import read_audio
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.matrix import read_matrix_file
from acoustic.kaldi.tables import TableWriter, read_table

GOLDEN = Path(__file__).parent.parent / "golden"
FEATS = GOLDEN / "feats"


def matrices(name: str) -> dict[str, Tensor]:
    """A golden archive of feats/ by utterance."""
    values = {utt: torch.from_numpy(matrix) for utt, matrix in read_table(f"ark:{FEATS / name}", "matrix")}
    assert values, f"{name} is empty: a test over it would pass whatever it checks"
    return values


def matrix(name: str) -> Tensor:
    """A golden matrix of feats/."""
    return torch.from_numpy(read_matrix_file(FEATS / name))


def waveforms() -> dict[str, Tensor]:
    """The golden utterances' samples."""
    data_dir = DataDir.read(GOLDEN / "wav", GOLDEN)
    return {utt: torch.from_numpy(read_audio(name)[0]) for utt, name in data_dir.wav.items()}


def random_feats(num_frames: int, dim: int, seed: int = 0) -> Tensor:
    """Normal values [num_frames, dim]."""
    return torch.randn(num_frames, dim, generator=torch.Generator().manual_seed(seed))


def write_feats(folder: Path, feats: dict[str, Tensor], speakers: dict[str, str] | None = None) -> DataDir:
    """A data directory with these features (speaker = utterance when not given), read back."""
    folder.mkdir(parents=True, exist_ok=True)
    with TableWriter(f"ark,scp:{folder / 'feats.ark'},{folder / 'feats.scp'}", "matrix") as writer:
        for utt, value in feats.items():
            writer.write(utt, np.asarray(value))
    DataDir(
        utt2spk={utt: (speakers or {}).get(utt, utt) for utt in feats},
        feats=DataDir.read(folder).feats,
    ).write(folder)
    return DataDir.read(folder)
