"""Small corpora in Kaldi's files, made on the fly: random features with alignments of a real transition model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic.data.build import CacheOptions, ensure_cache
from acoustic.data.cache import FramesCache
from acoustic.data.join import Source
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.kaldi.alignments import read_model, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter

GOLDEN = Path(__file__).parents[1] / "golden"
FEAT_DIM = 3


@dataclass
class Corpus:
    """What a test corpus was made of: features [T, FEAT_DIM] and transition_ids [T] by utterance."""

    source: Source
    feats: dict[str, np.ndarray]
    alignments: dict[str, np.ndarray]

    def pdf_ids(self, utt: str) -> np.ndarray:
        """The utterance's pdf ids."""
        return read_model(self.source.ali_dir).pdf_of[self.alignments[utt]]


def speaker_of(utt: str) -> str:
    """Ten utterances are one speaker's."""
    return utt[:-1]


def make_corpus(directory: Path, num_frames: Sequence[int], prefix: str = "s", num_jobs: int = 2) -> Corpus:
    """A corpus of utterances of these lengths, complete and without fault."""
    rng = np.random.default_rng(len(num_frames))
    lengths = {f"{prefix}{i:04d}": length for i, length in enumerate(num_frames)}
    model = read_model(GOLDEN / "model" / "mono")
    feats = {utt: rng.normal(size=(length, FEAT_DIM)).astype(np.float32) for utt, length in lengths.items()}
    alignments = {
        utt: rng.integers(1, model.num_transition_ids + 1, length).astype(np.int32) for utt, length in lengths.items()
    }
    source = Source(str(directory / "data"), str(directory / "ali"))
    corpus = Corpus(source, feats, alignments)
    Path(source.ali_dir).mkdir(parents=True)
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "mono" / name, source.ali_dir)
    write_feats(corpus, feats)
    write_alignments(source.ali_dir, sorted(alignments.items()), min(num_jobs, len(alignments)))
    return corpus


def write_feats(corpus: Corpus, feats: Mapping[str, np.ndarray], without: Sequence[str] = ()) -> None:
    """(Re)write the data directory with these features; utterances `without` stay in utt2spk only."""
    data_dir = Path(corpus.source.data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    DataDir(utt2spk={utt: speaker_of(utt) for utt in feats}).write(data_dir)
    with TableWriter(f"ark,scp:{data_dir}/feats.ark,{data_dir}/feats.scp", "matrix") as writer:
        for utt in sorted(set(feats) - set(without)):
            writer.write(utt, feats[utt])


def frontend(**config: object) -> Frontend:
    """A front end with deltas and splicing, which leaves base frames as they are unless told otherwise."""
    values = {"cmvn": "none", "delta_order": 2, "splice_left": 3, "splice_right": 2, "global_norm": False, **config}
    return Frontend(FrontendConfig(**values), FEAT_DIM)  # type: ignore[arg-type]


def make_cache(
    directory: Path, num_frames: Sequence[int], shard_frames: int = 1 << 18, dtype: str = "float32"
) -> tuple[Corpus, FramesCache]:
    """A corpus and its cache."""
    corpus = make_corpus(directory, num_frames)
    options = CacheOptions(dtype=dtype, shard_frames=shard_frames)
    return corpus, ensure_cache(directory / "cache", [corpus.source], frontend(), options)
