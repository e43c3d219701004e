"""The features of a GMM system: MFCCs, CMVN, LDA of seven frames, and something in the place of fMLLR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchaudio.compliance.kaldi import mfcc

from acoustic.features.audio import utterances_of_dir
from acoustic.features.base_frames import base_frames, speaker_stats
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.features.lda import LdaStats
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.matrix import write_matrix_file
from acoustic.kaldi.tables import TableWriter
from acoustic.log import Tally

NUM_CEPS = 13
CONTEXT = 3
"""Frames on each side that LDA sees, as steps/train_lda_mllt.sh has it."""
LDA_DIM = 40


def write_features(folder: Path, feats_dir: Path) -> None:
    """feats.scp (MFCCs as compute-mfcc-feats gives them, without energy or dither) and cmvn.scp of a data directory."""
    name = folder.name
    feats_dir.mkdir(parents=True, exist_ok=True)
    with TableWriter(f"ark,scp:{feats_dir}/raw_mfcc_{name}.ark,{folder}/feats.scp", "matrix") as writer:
        for utterance in utterances_of_dir(DataDir.read(folder)):
            samples, rate = utterance.read()
            feats = mfcc(torch.from_numpy(samples)[None], sample_frequency=rate, num_ceps=NUM_CEPS)
            writer.write(utterance.utt, feats.numpy())
    data_dir = DataDir.read(folder)
    with TableWriter(f"ark,scp:{feats_dir}/cmvn_{name}.ark,{folder}/cmvn.scp", "matrix") as writer:
        for speaker, stats in sorted(speaker_stats(data_dir, NUM_CEPS).items()):
            writer.write(speaker, stats.numpy())


def estimate_lda(folder: Path, pdf_ids: Mapping[str, np.ndarray], num_pdfs: int) -> Tensor:
    """LDA of normalised MFCCs, seven frames spliced: float32 [40, 91]. (Kaldi's systems rotate it by MLLT as well.)"""
    config = FrontendConfig(transform_splice_left=CONTEXT, transform_splice_right=CONTEXT)
    stats = LdaStats(num_pdfs, NUM_CEPS * (2 * CONTEXT + 1))
    for utt, frames in base_frames(DataDir.read(folder), Frontend(config, NUM_CEPS), Tally()):
        labels = torch.from_numpy(pdf_ids[utt]).long()
        num_frames = min(len(frames), len(labels))
        stats.accumulate(frames[:num_frames], labels[:num_frames])
    return stats.estimate(LDA_DIM)


def write_gmm_options(exp_dir: Path, lda: Tensor) -> None:
    """What steps/train_sat.sh leaves of the front end: final.mat, splice_opts, cmvn_opts."""
    write_matrix_file(exp_dir / "final.mat", lda.numpy())
    (exp_dir / "splice_opts").write_text(f"--left-context={CONTEXT} --right-context={CONTEXT}\n", encoding="utf-8")
    (exp_dir / "cmvn_opts").write_text("\n", encoding="utf-8")


def write_transforms(exp_dir: Path, speakers: Mapping[str, Tensor], num_jobs: int) -> None:
    """trans.1 ... trans.N, speakers in order."""
    for job, part in enumerate(np.array_split(sorted(speakers), num_jobs), 1):
        with TableWriter(f"ark:{exp_dir}/trans.{job}", "matrix") as writer:
            for speaker in part:
                writer.write(str(speaker), speakers[str(speaker)].numpy())


def diagonal_transforms(folder: Path, lda: Tensor) -> dict[str, Tensor]:
    """A transform [40, 41] for each speaker that gives LDA features zero mean and unit variance.

    They have the format of fMLLR and do a little of its work. Real ones are estimated with a GMM, which a stand-in
    does not have.
    """
    config = FrontendConfig(
        transform_splice_left=CONTEXT, transform_splice_right=CONTEXT, transform_dim=LDA_DIM
    )  # fmt: skip
    frontend, data_dir = Frontend(config, NUM_CEPS), DataDir.read(folder)
    frontend.set_transform(lda)
    frames_of: dict[str, list[Tensor]] = {}
    for utt, frames in base_frames(data_dir, frontend, Tally()):
        frames_of.setdefault(data_dir.utt2spk[utt], []).append(frames)
    return dict(_standardising(frames_of))


def _standardising(frames_of: Mapping[str, list[Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The affine transform of each speaker's frames to zero mean and unit variance."""
    for speaker, parts in frames_of.items():
        frames = torch.cat(parts)
        scale = frames.var(0, unbiased=False).clamp_min(1e-6).rsqrt()
        yield speaker, torch.cat([scale.diag(), (-frames.mean(0) * scale).unsqueeze(1)], 1)
