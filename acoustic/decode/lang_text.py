"""Lines of text files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from acoustic.errors import DataError
from acoustic.kaldi.stream import ByteReader

BLOCK = 1 << 20  # bytes read at once
UNUSUAL_SPACE = re.compile(r"[^\S \t\n]")


def iter_lines(reader: ByteReader) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without white space at its ends) of every line that is not blank."""
    number, pending = 0, b""
    while not reader.at_end():
        *lines, pending = (pending + reader.read(len(reader.peek(BLOCK)))).split(b"\n")
        for line in lines:
            number += 1
            if stripped := line.strip():
                yield number, stripped
    if stripped := pending.strip():
        yield number + 1, stripped


def read_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, fields) of a UTF-8 text file whose fields stand apart by spaces and tabs.

    Raises:
        DataError: the file cannot be read, has an empty line, a carriage return or another unusual space.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from error
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8", path=path, byte=error.start) from error
    unusual = UNUSUAL_SPACE.search(text)
    if unusual:
        raise DataError(
            f"character {unusual[0]!r} is neither space, tab nor newline",
            path=path,
            line=text.count("\n", 0, unusual.start()) + 1,
            remedy="remove it (carriage returns: dos2unix)",
        )
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            raise DataError("empty line", path=path, line=number)
        yield number, fields
