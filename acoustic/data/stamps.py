"""Path, size and time of change of the files that a source consists of: what is known of them without reading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from acoustic.data.join import Source
from acoustic.errors import ConfigError, DataError
from acoustic.features.fmllr import transform_files
from acoustic.kaldi.alignments import alignment_rspecifiers
from acoustic.kaldi.sources import parse_rxfilename
from acoustic.kaldi.specifiers import Rspecifier, parse_rspecifier, parse_script_entry

Stamp = tuple[str, int, int]
# A source of more is a file per utterance: asking a network disk about each would take minutes before every run.
MAX_ARCHIVES = 10_000


def file_stamps(source: Source) -> list[Stamp]:
    """Stamps of a source's own files: path, size, time of change in nanoseconds. What is missing is left out."""
    data_dir, ali_dir = Path(source.data_dir), Path(source.ali_dir)
    paths = [data_dir / name for name in ("feats.scp", "cmvn.scp", "utt2spk")]
    paths += [ali_dir / name for name in ("final.mdl", "tree")]
    paths += [Path(rspecifier.split(":", 1)[1]) for rspecifier in alignment_rspecifiers(ali_dir)]
    if source.fmllr is not None and Path(source.fmllr).is_dir():
        paths += transform_files(source.fmllr)
    elif (table := _transform_table(source)) is not None:
        paths.append(Path(table.rxfilename))
    return _stamps(paths)


def archive_stamps(source: Source) -> list[Stamp]:
    """Stamps of the archives that a source's scp files name: they may be written again in place.

    Left out are what commands write, of which nothing is known before they run, and all where they are more than
    `MAX_ARCHIVES`.
    """
    scripts = {path for path, _, _ in file_stamps(source) if path.endswith(".scp")}
    table = _transform_table(source)
    if table is not None and table.is_script:
        scripts.add(table.rxfilename)
    archives = sorted(set().union(*map(_archives, scripts)))
    return _stamps(map(Path, archives)) if len(archives) <= MAX_ARCHIVES else []


def _transform_table(source: Source) -> Rspecifier | None:
    """The rspecifier of a source's transforms, if it is one of a file."""
    if source.fmllr is None or source.fmllr.endswith("|") or Path(source.fmllr).is_dir():
        return None
    with contextlib.suppress(ConfigError):  # whoever opens it tells what is the matter with it
        return parse_rspecifier(source.fmllr)
    return None


def _archives(script: str) -> set[str]:
    """The files into which the lines of an scp point. A line without sense names none: whoever reads it complains."""
    if not os.path.isfile(script):  # what a pipe gives is gone when it has been read
        return set()
    places, archives = set(), set()
    with contextlib.suppress(OSError), open(script, "rb") as file:
        for line in file:
            # Millions of lines name some hundred archives: only what differs in more than the offset is parsed.
            place = b"".join(line.split(maxsplit=1)[1:]).rstrip()
            archive, _, offset = place.rpartition(b":")
            places.add(archive if offset.isdigit() else place)
    for place in places:
        with contextlib.suppress(DataError):
            name = parse_rxfilename(parse_script_entry(os.fsdecode(place)).rxfilename)
            if name.kind == "file":
                archives.add(name.target)
    return archives


def _stamps(paths: Iterable[Path]) -> list[Stamp]:
    stamps = []
    for path in paths:
        with contextlib.suppress(OSError):
            stat = path.stat()
            stamps.append((str(path), stat.st_size, stat.st_mtime_ns))
    return stamps
