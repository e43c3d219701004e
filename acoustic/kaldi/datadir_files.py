"""The single files of a data directory: each reader lists the faults it finds and leaves those lines out."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from acoustic.errors import DataError
from acoustic.kaldi.basic import check_token
from acoustic.kaldi.specifiers import read_pairs

T = TypeVar("T", str, int, float)

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")


class DataDirError(DataError):
    """A fault of one key of a data directory.

    Attributes:
        reason: its kind: duplicate, unsorted, malformed, no_recording or speakers.
    """

    def __init__(
        self, reason: str, problem: str, *, path: Path, utt: str, remedy: str, line: int | None = None
    ) -> None:
        super().__init__(problem, path=path, line=line, utt=utt, remedy=remedy)
        self.reason = reason


@dataclass(frozen=True)
class Segment:
    """Which part of a recording an utterance is.

    Args:
        recording: the recording's id in wav.scp.
        begin: where it begins, in seconds.
        end: where it ends, in seconds.
    """

    recording: str
    begin: float
    end: float

    def line(self) -> str:
        """What stands behind the utterance in `segments`."""
        return f"{check_token(self.recording)} {self.begin!r} {self.end!r}"


def _rows(path: Path, faults: list[DataError]) -> Iterator[tuple[int, str, str]]:
    """Lines of a file, if it exists, as (line number, key, rest), keys checked."""
    if not path.exists():
        return
    last_key = ""
    keys: set[str] = set()
    try:
        for line, key, rest in read_pairs(path):
            if key in keys:
                remedy = "delete one of the two"
                faults.append(DataDirError("duplicate", "comes twice", path=path, line=line, utt=key, remedy=remedy))
                continue
            if key < last_key:
                problem = f"comes after {last_key}, so the file is not in C order"
                remedy = "sort it with LC_ALL=C sort"
                faults.append(DataDirError("unsorted", problem, path=path, line=line, utt=key, remedy=remedy))
            keys.add(key)
            last_key = key
            yield line, key, rest
    except DataError as error:
        faults.append(error)


def _malformed(problem: str, path: Path, line: int, key: str) -> DataDirError:
    return DataDirError("malformed", problem, path=path, line=line, utt=key, remedy="mend or delete the line")


def read_columns(path: Path, faults: list[DataError]) -> dict[str, list[str]]:
    """A key and any number of words on each line."""
    return {key: _split(rest) for _, key, rest in _rows(path, faults)}


def _split(text: str) -> list[str]:
    """Words between ASCII white space; str.split would also split at no-break spaces."""
    return re.findall(r"[^ \t\v\f\r]+", text)


def read_rxfilenames(path: Path, root: str | Path | None, faults: list[DataError]) -> dict[str, str]:
    """A key and an rxfilename on each line; plain relative paths are taken from `root` when it is given."""
    names = {}
    for line, key, rest in _rows(path, faults):
        if rest:
            names[key] = _from_root(rest, root)
        else:
            faults.append(_malformed("a key without a file", path, line, key))
    return names


def _from_root(rxfilename: str, root: str | Path | None) -> str:
    is_plain_path = rxfilename != "-" and not rxfilename.endswith("|")
    return os.path.join(root, rxfilename) if root is not None and is_plain_path else rxfilename


def read_single(path: Path, convert: Callable[[str], T], faults: list[DataError]) -> dict[str, T]:
    """A key and one word, or one positive number, on each line."""
    values = {}
    for line, key, rest in _rows(path, faults):
        is_number = _NUMBER.fullmatch(rest) is not None and (convert is not int or rest.isdigit())
        if len(_split(rest)) == 1 and (convert is str or is_number):
            values[key] = convert(rest)
        else:
            problem = f"expected one {'word' if convert is str else 'number'}, found {rest!r}"
            faults.append(_malformed(problem, path, line, key))
    return values


def read_segments(path: Path, faults: list[DataError]) -> dict[str, Segment]:
    """An utterance, its recording, begin and end in seconds on each line."""
    segments = {}
    for line, utt, rest in _rows(path, faults):
        words = _split(rest)
        if len(words) != 3 or not (_NUMBER.fullmatch(words[1]) and _NUMBER.fullmatch(words[2])):
            problem = f"expected a recording, begin and end in seconds, found {rest!r}"
            faults.append(_malformed(problem, path, line, utt))
            continue
        begin, end = float(words[1]), float(words[2])
        if not begin < end < math.inf:
            problem = f"ends at {words[2]} s, not after its begin at {words[1]} s"
            faults.append(_malformed(problem, path, line, utt))
            continue
        segments[utt] = Segment(words[0], begin, end)
    return segments
