"""What a Kaldi user writes to name a table: rspecifiers to read, wspecifiers to write (util/kaldi-table).

`ark:FILE` is an archive, keys and values in a row; `scp:FILE` is a script, lines of a key and where its value is,
perhaps a part of it (`feats.ark:1234[0:9,2:5]`). Options stand before the colon: `ark,s,cs:FILE`, `ark,t:-`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.sinks import is_plain_file
from acoustic.kaldi.stream import open_reader

_READ_FLAGS = {
    "o": ("once", True),
    "no": ("once", False),
    "s": ("sorted", True),
    "ns": ("sorted", False),
    "cs": ("called_sorted", True),
    "ncs": ("called_sorted", False),
    "p": ("permissive", True),
    "np": ("permissive", False),
}
_READ_IGNORED = ("b", "t", "bg")
_WRITE_FLAGS = {
    "b": ("binary", True),
    "t": ("binary", False),
    "f": ("flush", True),
    "nf": ("flush", False),
    "p": ("permissive", True),
}
_RANGE = re.compile(r"([^\[]+)\[([^\[\]]+)\]")


@dataclass(frozen=True)
class Rspecifier:
    """A table to read.

    Args:
        is_script: whether it is an scp rather than an ark.
        rxfilename: where the archive or script is.
        once: each key is asked for at most once (`o`).
        sorted: the keys of the table are in C order (`s`).
        called_sorted: the keys are asked for in C order (`cs`).
        permissive: what cannot be read counts as absent, with a warning (`p`).
    """

    is_script: bool
    rxfilename: str
    once: bool = False
    sorted: bool = False
    called_sorted: bool = False
    permissive: bool = False


@dataclass(frozen=True)
class Wspecifier:
    """A table to write.

    Args:
        archive: wxfilename of the archive; None when every value goes to the file a script names.
        script: wxfilename of the scp to write; with no archive, rxfilename of the scp that names the files.
        binary: binary or text (`t`).
        flush: pass each value on at once (`f`).
        permissive: values the script has no file for are dropped (`p`).
    """

    archive: str | None
    script: str | None
    binary: bool = True
    flush: bool = False
    permissive: bool = False


def parse_rspecifier(rspecifier: str) -> Rspecifier:
    """Take an rspecifier apart. `b`, `t` and `bg` are accepted and change nothing, as in Kaldi's results.

    Raises:
        ConfigError: it is none.
    """
    words, target = _split(rspecifier)
    flags = {}
    tables = []
    for word in words:
        if word in ("ark", "scp"):
            tables.append(word)
        elif word in _READ_FLAGS:
            name, value = _READ_FLAGS[word]
            flags[name] = value
        elif word not in _READ_IGNORED:
            raise ConfigError(f"{rspecifier!r}: unknown option {word!r} of an rspecifier")
    if len(tables) != 1:
        raise ConfigError(f"{rspecifier!r} is no rspecifier: expected ark:FILE or scp:FILE")
    return Rspecifier(tables[0] == "scp", target, **flags)


def parse_wspecifier(wspecifier: str) -> Wspecifier:
    """Take a wspecifier apart.

    Raises:
        ConfigError: it is none, or wants an scp of an archive in which nothing can be found again.
    """
    words, target = _split(wspecifier)
    flags = {}
    tables = []
    for word in words:
        if word in ("ark", "scp"):
            tables.append(word)
        elif word in _WRITE_FLAGS:
            name, value = _WRITE_FLAGS[word]
            flags[name] = value
        else:
            raise ConfigError(f"{wspecifier!r}: unknown option {word!r} of a wspecifier")
    if tables == ["ark"]:
        return Wspecifier(target, None, **flags)
    if tables == ["scp"]:
        return Wspecifier(None, target, **flags)
    archive, comma, script = target.partition(",")
    if tables != ["ark", "scp"] or not comma:
        raise ConfigError(f"{wspecifier!r} is no wspecifier: expected ark:FILE, scp:FILE or ark,scp:FILE,FILE")
    if not is_plain_file(archive):
        raise ConfigError(f"{wspecifier!r}: an scp can only point into a plain uncompressed file")
    return Wspecifier(archive, script, **flags)


def is_folder(source: str) -> bool:
    """Whether what may be a folder or an rspecifier is a folder.

    Raises:
        DataError: it is neither: a folder that is not there.
    """
    if Path(source).is_dir():
        return True
    if ":" not in source:
        raise DataError("is no folder that is there, and no table (ark:FILE, scp:FILE)", path=source)
    return False


def _split(specifier: str) -> tuple[list[str], str]:
    options, colon, target = specifier.partition(":")
    if not colon or specifier != specifier.rstrip():
        raise ConfigError(f"{specifier!r} names no table: expected ark:FILE or scp:FILE")
    return re.split("[, ]", options), target


@dataclass(frozen=True)
class ScriptEntry:
    """Where a script says that a value is.

    Args:
        rxfilename: file, file and offset, or command.
        range: the part wanted, as written between the brackets; None for all.
    """

    rxfilename: str
    range: str | None = None


def parse_script_entry(text: str) -> ScriptEntry:
    """Take the second column of an scp line apart.

    Raises:
        DataError: it ends like a range but is none.
    """
    if not text.endswith("]"):
        return ScriptEntry(text)
    match = _RANGE.fullmatch(text)
    if not match:
        raise DataError(f"cannot make sense of {text!r}", remedy="a range looks like feats.ark:1234[0:9]")
    return ScriptEntry(match[1], match[2])


def read_pairs(rxfilename: str | Path) -> Iterator[tuple[int, str, str]]:
    """Read a text file of keys and what follows them, as (line number, key, rest); the rest may be empty.

    Raises:
        DataError: it is not text, or has an empty or unended line.
    """
    with open_reader(rxfilename) as reader:
        line_number = 0
        while not reader.at_end():
            line_number += 1
            try:
                line = reader.read_line()
                if b"\0" in line:
                    raise reader.error("a binary file where text should be")
                if line.startswith(codecs.BOM_UTF8):
                    raise reader.error("begins with a byte order mark, which would be part of the first key")
                # Split before decoding: only ASCII blanks separate, whatever Unicode calls a space.
                words = [reader.decode(word) for word in line.rstrip().split(maxsplit=1)]
            except DataError as error:
                problem = error.problem
                raise DataError(problem, path=reader.name, line=line_number, remedy=_line_remedy(problem)) from None
            if not words:
                raise DataError("empty line", path=reader.name, line=line_number, remedy="delete it")
            yield line_number, words[0], words[1] if len(words) == 2 else ""


def _line_remedy(problem: str) -> str:
    if "newline" in problem:
        return "the file was cut short; if it is complete, end it with a newline"
    if "byte order mark" in problem:
        return "save the file as UTF-8 without it"
    return "convert the file to UTF-8" if "UTF-8" in problem else "is it the right file?"


def read_script(rxfilename: str | Path) -> dict[str, ScriptEntry]:
    """Read an scp file.

    Raises:
        DataError: a line is malformed, or a key comes twice; the line is named.
    """
    entries: dict[str, ScriptEntry] = {}
    for line, key, rest in read_pairs(rxfilename):
        if not rest:
            raise DataError("a key without a file", path=rxfilename, utt=key, line=line)
        if key in entries:
            raise DataError("comes twice", path=rxfilename, utt=key, line=line, remedy="delete one of the two lines")
        try:
            entries[key] = parse_script_entry(rest)
        except DataError as error:
            raise DataError(error.problem, path=rxfilename, utt=key, line=line, remedy=error.remedy) from None
    return entries
