"""A corpus divided into train, dev and test, once or in several ways, with features ready for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from acoustic import fsio
from acoustic.errors import ConfigError, DataError
from acoustic.features.audio import utterances_of_dir
from acoustic.features.base_frames import speaker_stats
from acoustic.features.extract import extract
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import RandomAccessTable, TableWriter
from acoustic.log import Tally

SETS = ("train", "dev", "test")
# What decides results, beside audio and stored features themselves.
DATA_FILES = ("wav.scp", "segments", "text", "utt2spk", "feats.scp", "cmvn.scp")
ALI_FILES = ("ali.*", "final.mdl")
GRAPH_FILES = ("HCLG.fst", "words.txt")


@dataclass(frozen=True)
class Corpus:
    """Where a Kaldi experiment keeps its things.

    Attributes:
        root: folder with data/foldK/{train,dev,test}, or data/{train,dev,test} for a single division; the paths in
            its wav.scp are relative to it.
        ali_dir: alignments of all utterances, with final.mdl and tree.
        graph_dir: HCLG.fst and words.txt.
        fbank: options of the features of data directories without feats.scp.
    """

    root: Path
    ali_dir: Path
    graph_dir: Path
    fbank: FbankOptions

    def divisions(self) -> dict[str, Path]:
        """Name of each fold -> the folder of its sets; a single division is called "all".

        Raises:
            DataError: there is none, or one that lacks a set.
        """
        folds = sorted((self.root / "data").glob("fold*")) or [self.root / "data"]
        for folder in folds:
            for name in SETS:
                if not (folder / name).is_dir():
                    remedy = "give a folder with data/fold1/{train,dev,test}, ... or data/{train,dev,test}"
                    raise DataError(f"has no folder {name}", path=folder, remedy=remedy)
        return {folder.name if folder.name.startswith("fold") else "all": folder for folder in folds}


@dataclass(frozen=True)
class Fold:
    """One division, its data directories with features and statistics.

    Attributes:
        name: of the division.
        data: folder of train, dev and test.
        cache_dir: of the frames caches, shared by all trainings.
        ali_dir, graph_dir: as of the corpus.
    """

    name: str
    data: Path
    cache_dir: Path
    ali_dir: Path
    graph_dir: Path

    def overrides(self) -> list[str]:
        """hydra's overrides that name the data of a training."""
        return [
            f"train.data_dir='{self.data}/train'", f"train.ali_dir='{self.ali_dir}'", f"dev.data_dir='{self.data}/dev'",
            f"dev.ali_dir='{self.ali_dir}'", f"data.cache_dir='{self.cache_dir}'",
        ]  # fmt: skip


def fold_at(corpus: Corpus, name: str, out_dir: Path) -> Fold:
    """The fold as it will stand once `prepare_fold` has run for the same `out_dir`."""
    folder = out_dir.resolve() / name
    return Fold(name, folder / "data", folder / "cache", corpus.ali_dir.resolve(), corpus.graph_dir.resolve())


def prepare_fold(corpus: Corpus, name: str, out_dir: Path) -> Fold:
    """Make the data directories of a fold below `out_dir`; those that are there already stay.

    Stored features are taken as they are, others are computed from the audio; statistics are by speaker.

    Raises:
        ConfigError: what is there is of another corpus, or one that has changed, or its features have other options.
        DataError: no such division, or faulty data.
    """
    fold = fold_at(corpus, name, out_dir)
    claim_folder(fold.data.parent, corpus, name)
    torch.set_num_threads(1)
    for part in SETS:
        if (fold.data / part).exists():
            continue
        directory = DataDir.read(corpus.divisions()[name] / part, str(corpus.root))
        store = fold.data.parent / "features" / part
        store.mkdir(parents=True, exist_ok=True)
        if not directory.feats:
            directory.feats = write_features(directory, corpus.fbank, store)
        directory.cmvn = directory.cmvn or write_statistics(directory, store)
        fold.data.mkdir(parents=True, exist_ok=True)
        with fsio.atomic_dir(fold.data / part) as folder:
            directory.write(folder)
    return fold


def claim_folder(folder: Path, corpus: Corpus, name: str) -> None:
    """Write down what division of what corpus a fold's folder is of, or check that it is the same.

    Raises:
        ConfigError: it is another, or has changed since, or its features have other options.
        DataError: no such division.
    """
    path = folder / "corpus.json"
    places = {name: str(getattr(corpus, name).resolve()) for name in ("root", "ali_dir", "graph_dir")}
    now = {**places, "fbank": asdict(corpus.fbank), "contents": contents(corpus, name)}
    if path.exists() and now != now | fsio.read_json(path):  # an older one does not name the contents
        raise ConfigError(
            f"{folder} is of another corpus, graph or options of filter banks, or of what these held before: choose "
            "another output folder, or remove that one"
        )
    fsio.write_json(path, now)


def contents(corpus: Corpus, name: str) -> str:
    """SHA-256 of the tables of a division, the alignments and the graph."""
    division = corpus.divisions()[name]
    folders: list[tuple[Path, tuple[str, ...]]] = [
        *((division / part, DATA_FILES) for part in SETS), (corpus.ali_dir, ALI_FILES), (corpus.graph_dir, GRAPH_FILES)
    ]  # fmt: skip
    return files_fingerprint(folders)


def files_fingerprint(folders: Sequence[tuple[Path, tuple[str, ...]]]) -> str:
    """SHA-256 of the files in some folders that match patterns; the folders' own names do not count."""
    found = [
        [str(number), path.name, fsio.sha256_file(path)]
        for number, (folder, patterns) in enumerate(folders)
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
    ]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def write_features(directory: DataDir, options: FbankOptions, store: Path) -> dict[str, str]:
    """Filter banks of every utterance into `store`: utterance -> where they are."""
    tally = Tally()
    with TableWriter(f"ark,scp:{store}/feats.ark,{store}/feats.scp", "matrix") as writer:
        for result in extract(utterances_of_dir(directory), Fbank(options)):
            if result.feats is None:
                tally.skip(result.reason, result.utt, result.detail)
            else:
                writer.write(result.utt, result.feats)
                tally.done()
    tally.check(path=store)
    return read_places(store / "feats.scp")


def write_statistics(directory: DataDir, store: Path) -> dict[str, str]:
    """CMVN statistics of every speaker into `store`: speaker -> where they are."""
    with TableWriter(f"ark,scp:{store}/cmvn.ark,{store}/cmvn.scp", "matrix") as writer:
        for speaker, stats in speaker_stats(directory, feat_dim_of(directory)).items():
            writer.write(speaker, stats.numpy())
    return read_places(store / "cmvn.scp")


def feat_dim_of(directory: DataDir) -> int:
    """Values in a frame of the stored features."""
    utt = next(iter(directory.feats))
    with RandomAccessTable.from_rxfilenames({utt: directory.feats[utt]}, "matrix", "feats.scp") as table:
        return int(table[utt].shape[1])


def read_places(scp: Path) -> dict[str, str]:
    """Key -> rxfilename of a script file of ours."""
    lines = scp.read_text(encoding="utf-8").splitlines()
    return {key: place for key, place in (line.split(" ", 1) for line in lines)}
