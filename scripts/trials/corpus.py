"""A tiny corpus for the trials: random features with alignments of a monophone system, in Kaldi's files."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic.cli.hydra_config import compose_train_config
from acoustic.kaldi.alignments import read_model, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter
from acoustic.train.config import TrainConfig

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
MODEL_DIR = GOLDEN / "model" / "mono"
FEAT_DIM = 4
UTTS_PER_SPEAKER = 5


@dataclass(frozen=True)
class Corpus:
    """Where a corpus lies, and what was put into it.

    Attributes:
        data_dir: feats.scp, utt2spk, spk2utt.
        ali_dir: ali.*.gz, final.mdl, tree.
        feats: float32 [T, FEAT_DIM] of each utterance.
        alignments: int32 [T] transition_ids of each utterance.
    """

    data_dir: Path
    ali_dir: Path
    feats: dict[str, np.ndarray]
    alignments: dict[str, np.ndarray]


def make_corpus(directory: Path, num_utts: int = 40, mean_frames: int = 40, seed: int = 0) -> Corpus:
    """Write a corpus without fault under `directory`: each senone has a mean of its own, so that there is something
    to learn."""
    rng = np.random.default_rng(seed)
    model = read_model(MODEL_DIR)
    means = rng.normal(size=(model.num_pdfs, FEAT_DIM))
    feats, alignments = {}, {}
    for number in range(num_utts):
        utt = f"spk{number // UTTS_PER_SPEAKER:04d}-utt{number:05d}"
        num_frames = int(rng.integers(mean_frames // 2, mean_frames * 3 // 2 + 1))
        alignments[utt] = rng.integers(1, model.num_transition_ids + 1, num_frames).astype(np.int32)
        noise = 0.5 * rng.normal(size=(num_frames, FEAT_DIM))
        feats[utt] = (means[model.pdf_of[alignments[utt]]] + noise).astype(np.float32)
    corpus = Corpus(directory / "data", directory / "ali", feats, alignments)
    write_data(corpus, feats)
    write_ali(corpus, alignments)
    return corpus


def speaker_of(utt: str) -> str:
    """The speaker of an utterance."""
    return utt.split("-")[0]


def write_data(corpus: Corpus, feats: dict[str, np.ndarray], utts: list[str] | None = None) -> None:
    """(Re)write the data directory with these features; `utts` may name more utterances than have features."""
    corpus.data_dir.mkdir(parents=True, exist_ok=True)
    DataDir(utt2spk={utt: speaker_of(utt) for utt in utts or feats}).write(corpus.data_dir)
    with TableWriter(f"ark,scp:{corpus.data_dir}/feats.ark,{corpus.data_dir}/feats.scp", "matrix") as writer:
        for utt in sorted(feats):
            writer.write(utt, feats[utt])


def write_ali(corpus: Corpus, alignments: dict[str, np.ndarray], num_jobs: int = 2) -> None:
    """(Re)write the alignment directory."""
    corpus.ali_dir.mkdir(parents=True, exist_ok=True)
    for name in ("final.mdl", "tree"):
        shutil.copy(MODEL_DIR / name, corpus.ali_dir)
    write_alignments(corpus.ali_dir, sorted(alignments.items()), num_jobs)


def train_config(corpus: Corpus, exp_dir: Path, **options: object) -> TrainConfig:
    """A training run of a second or two, with all that a checkpoint could forget: masks, averages, running statistics.

    `options` are further overrides, `__` standing for a dot.
    """
    values: dict[str, object] = {
        "exp_dir": "-",
        "train.data_dir": corpus.data_dir,
        "train.ali_dir": corpus.ali_dir,
        "features.splice_left": 1,
        "features.splice_right": 1,
        "features.delta_order": 1,
        "model.hidden_layers": 2,
        "model.hidden_dim": 16,
        "model.dropout": 0.2,
        "model.norm": "batch",
        "masking.num_time_masks": 1,
        "masking.max_time_width": 2,
        "average.name": "ema",
        "average.decay": 0.9,
        "schedule.max_epochs": 4,
        "data.batch_size": 64,
        "runtime.device": "cpu",
        "runtime.precision": "fp32",
        "runtime.num_threads": 1,
        "runtime.checkpoint_minutes": 0.002,
    }
    values |= {name.replace("__", "."): value for name, value in options.items()}
    return dataclasses.replace(
        _compose(tuple(f"{name}={value}" for name, value in values.items())), exp_dir=str(exp_dir)
    )


@functools.cache
def _compose(overrides: tuple[str, ...]) -> TrainConfig:
    return compose_train_config(overrides)
