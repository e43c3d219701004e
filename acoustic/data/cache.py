"""The frames cache on disk: base frames and pdf ids of whole utterances in shards, ready for training.

A cache is a directory:

- `meta.json`: CacheMeta with a SHA-256 of itself, written last;
- `shard-00000.feats`: base frames, little-endian float16 or float32 [num_frames, base_dim], no header;
- `shard-00000.pdfs`: pdf ids, little-endian uint16 or int32 [num_frames];
- `utts.tsv`: a line per utterance: id, speaker, shard, its first frame in the shard, its number of frames.

Beside it, `NAME.skipped.tsv` has a line per utterance left out: reason, id, details. `build.py` makes caches.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import operator
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic.errors import DataError
from acoustic.fsio import read_json, write_json

VERSION = 2
REMEDY = "remove the cache directory, it will be built again"
KINDS = ("feats", "pdfs")


@dataclass(kw_only=True)
class CacheMeta:
    """What a cache holds and what it was made of.

    Attributes:
        version: of this layout.
        key: hash of everything the cache was made of; another key means another cache.
        base_dim: values in a base frame.
        feat_dim: values in a frame of the features it was made of.
        dtype: of the base frames, float16 or float32.
        pdf_dtype: of the pdf ids, uint16 or int32.
        num_utts: utterances.
        num_frames: frames.
        num_pdfs: senones of the alignments' model.
        shard_num_frames: frames in each shard.
        shard_checksums: CRC-32 of each shard's two files: base frames, pdf ids.
        utts_checksum: CRC-32 of utts.tsv.
        pdf_counts: frames of each senone, [num_pdfs].
        fingerprints: sha256 of alignments, tree, transition_model and frontend.
        sources: the data and alignment directories.
        mean, var: moments of the base frames, [base_dim].
    """

    version: int = VERSION
    key: str
    base_dim: int
    feat_dim: int
    dtype: str
    pdf_dtype: str
    num_utts: int
    num_frames: int
    num_pdfs: int
    shard_num_frames: list[int]
    shard_checksums: list[list[int]]
    utts_checksum: int
    pdf_counts: list[int]
    fingerprints: dict[str, str]
    sources: list[dict[str, Any]]
    mean: list[float]
    var: list[float]

    @classmethod
    def read(cls, directory: str | Path) -> CacheMeta:
        """The meta.json of a cache.

        Raises:
            DataError: missing, damaged, or of another version of the layout.
        """
        path = Path(directory) / "meta.json"
        values = read_json(path)
        if not isinstance(values, dict) or values.get("version") != VERSION:
            raise DataError(f"not a frames cache of version {VERSION}", path=path, remedy=REMEDY)
        if values.pop("sha256", None) != _sha256(values):
            raise DataError("is damaged: its SHA-256 does not fit", path=path, remedy=REMEDY)
        return cls(**values)

    def content_fingerprints(self) -> dict[str, str]:
        """`fingerprints` and one of the frames themselves, which also depends on how they are cut into shards."""
        checksums = json.dumps([self.shard_checksums, self.utts_checksum])
        return {**self.fingerprints, "frames": hashlib.sha256(checksums.encode()).hexdigest()}

    def write(self, directory: Path) -> None:
        """Write meta.json, which makes the cache complete."""
        values = dataclasses.asdict(self)
        write_json(directory / "meta.json", values | {"sha256": _sha256(values)})


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def shard_path(directory: Path, shard: int, kind: str) -> Path:
    """The file of a shard's base frames (`feats`) or pdf ids (`pdfs`)."""
    return directory / f"shard-{shard:05d}.{kind}"


def write_shard_file(directory: Path, shard: int, kind: str, values: np.ndarray) -> int:
    """Write the base frames (`feats`) or pdf ids (`pdfs`) of a shard; returns their CRC-32."""
    data = values.tobytes()
    with open(shard_path(directory, shard, kind), "wb") as file:
        file.write(data)
    return zlib.crc32(data)


def utterance_lines(path: Path, checksum: int) -> Iterator[tuple[str, str, int, int, int]]:
    """The lines of utts.tsv: id, speaker, shard, first frame in the shard, number of frames.

    Raises:
        DataError: unreadable, or damaged since it was written: its CRC-32 is not `checksum`.
    """
    try:
        with open(path, "rb") as file:
            found = functools.reduce(lambda crc, part: zlib.crc32(part, crc), iter(lambda: file.read(1 << 20), b""), 0)
            if found != checksum:
                raise DataError("is damaged: its checksum does not fit", path=path, remedy=REMEDY)
            file.seek(0)
            for line in file:
                utt, speaker, *numbers = line.decode().split("\t")
                yield utt, speaker, int(numbers[0]), int(numbers[1]), int(numbers[2])
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path, remedy=REMEDY) from error


class FramesCache:
    """A cache that was opened, its files' sizes checked.

    Of an utterance it keeps 8 bytes and a compressed id, which is asked for seldom: 2,000 hours are a million of them.

    Attributes:
        directory: where it is.
        meta: what it holds.
        shard_num_frames: int64 [num_shards], frames in each shard.
    """

    def __init__(self, directory: Path, meta: CacheMeta) -> None:
        self.directory, self.meta = directory, meta
        self._inode = _inode(directory)
        self.shard_num_frames = np.array(meta.shard_num_frames, dtype=np.int64)
        self._ids: dict[int, bytes] = {}  # of the utterances of each shard that has any
        shards, lengths = array("q"), array("q")
        lines = utterance_lines(directory / "utts.tsv", meta.utts_checksum)
        for shard, utterances in itertools.groupby(lines, operator.itemgetter(2)):
            ids = []
            for utt, _, _, _, num_frames in utterances:
                ids.append(utt)
                shards.append(shard)
                lengths.append(num_frames)
            self._ids[shard] = zlib.compress("\n".join(ids).encode())
        self._check(np.array(shards), np.array(lengths))
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._first_utts = np.searchsorted(shards, np.arange(self.num_shards + 1))

    @classmethod
    def open(cls, directory: str | Path) -> FramesCache:
        """Open a cache.

        Raises:
            DataError: missing, of another version, or a file is not as long as meta.json says.
        """
        return cls(Path(directory), CacheMeta.read(directory))

    def _check(self, shards: np.ndarray, lengths: np.ndarray) -> None:
        """Compare the shard and the length of each utterance, and file sizes, with the meta data."""
        totals = np.bincount(shards, lengths, minlength=self.num_shards)
        if len(lengths) != self.meta.num_utts or not np.array_equal(totals, self.shard_num_frames):
            raise DataError("does not fit meta.json", path=self.directory / "utts.tsv", remedy=REMEDY)
        for shard, num_frames in enumerate(self.shard_num_frames.tolist()):
            frame_bytes = self.base_dim * np.dtype(self.meta.dtype).itemsize
            for kind, row_bytes in (("feats", frame_bytes), ("pdfs", np.dtype(self.meta.pdf_dtype).itemsize)):
                path = shard_path(self.directory, shard, kind)
                size = path.stat().st_size if path.exists() else 0
                if size != num_frames * row_bytes:
                    raise DataError(f"has {size} bytes instead of {num_frames * row_bytes}", path=path, remedy=REMEDY)

    @property
    def num_frames(self) -> int:
        """Frames in all shards."""
        return self.meta.num_frames

    @property
    def num_pdfs(self) -> int:
        """Senones of the alignments' model."""
        return self.meta.num_pdfs

    @property
    def base_dim(self) -> int:
        """Values in a base frame."""
        return self.meta.base_dim

    @property
    def num_shards(self) -> int:
        """Shards."""
        return len(self.meta.shard_num_frames)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of the base frames."""
        return torch.float16 if self.meta.dtype == "float16" else torch.float32

    @property
    def pdf_counts(self) -> torch.Tensor:
        """Frames of each senone, int64 [num_pdfs]."""
        return torch.tensor(self.meta.pdf_counts, dtype=torch.int64)

    def read_frames(self, shard: int) -> np.ndarray:
        """The base frames of a shard, [num_frames, base_dim].

        Raises:
            DataError: unreadable, or damaged since they were written.
        """
        return self._read(shard, "feats", self.meta.dtype).reshape(-1, self.base_dim)

    def read_pdf_ids(self, shard: int) -> np.ndarray:
        """The pdf ids of a shard, int32 [num_frames].

        Raises:
            DataError: unreadable, or damaged since they were written.
        """
        return self._read(shard, "pdfs", self.meta.pdf_dtype).astype(np.int32)

    def _read(self, shard: int, kind: str, dtype: str) -> np.ndarray:
        """One file of a shard."""
        path = shard_path(self.directory, shard, kind)
        try:
            if _inode(self.directory) != self._inode:
                remedy = "give runs on different data different data.cache_dir"
                raise DataError("was replaced by another run", path=self.directory, remedy=remedy)
            values = np.fromfile(path, dtype=np.dtype(dtype).newbyteorder("<"))
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", path=path, remedy=REMEDY) from error
        if zlib.crc32(values.data) != self.meta.shard_checksums[shard][KINDS.index(kind)]:
            raise DataError("is damaged: its checksum does not fit", path=path, remedy=REMEDY)
        return values

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each utterance, int64 [num_utts]."""
        return np.diff(self._ends, prepend=0)

    def utterance_lengths(self, shard: int) -> np.ndarray:
        """Frames of each utterance of a shard, int64."""
        first, end = self._first_utts[shard : shard + 2]
        return np.diff(self._ends[first:end], prepend=self._ends[first - 1] if first else 0)

    def ids(self) -> Iterator[str]:
        """Utterance ids, in the order of their frames."""
        for shard in range(self.num_shards):
            yield from self._ids_of_shard(shard)

    def _ids_of_shard(self, shard: int) -> list[str]:
        return zlib.decompress(self._ids[shard]).decode().split("\n") if shard in self._ids else []

    def utterances_of(self, frames: np.ndarray) -> list[str]:
        """The utterance of each frame, given by its index in the whole cache."""
        utts = np.searchsorted(self._ends, frames, side="right")
        shards = np.searchsorted(self._first_utts, utts, side="right") - 1
        ids_of = {shard: self._ids_of_shard(shard) for shard in np.unique(shards).tolist()}
        places = zip(shards.tolist(), (utts - self._first_utts[shards]).tolist(), strict=True)
        return [ids_of[shard][place] for shard, place in places]


def _inode(directory: Path) -> int:
    """What tells a directory from another that takes its name."""
    return directory.stat().st_ino
