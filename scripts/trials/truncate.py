"""Twelve archives truncated at every byte: every cut is refused.

    python scripts/trials/truncate.py [--quick]

A cut exactly between two entries leaves an archive that looks complete; such a one must be refused through its scp.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus import GOLDEN
from harness import Outcome, Settings, main, silence

from acoustic.errors import DataError
from acoustic.kaldi.tables import TableWriter, read_table

NUM_ENTRIES = 3
Read = Callable[[Path], list[Any]]


def run(settings: Settings) -> Outcome:
    silence()
    sizes: dict[str, int] = {}
    num_by_script = 0
    accepted: list[str] = []
    for name, make in ARCHIVES.items():
        path, read, read_script = make(settings.folder, name, settings.quick)
        whole = path.read_bytes()
        if not read(path):
            raise SystemExit(f"{name}: the whole archive gives nothing")
        sizes[name] = len(whole)
        for num_bytes in range(len(whole) - 1, -1, -1):
            os.truncate(path, num_bytes)
            if refuses(read, path):
                continue
            num_by_script += 1
            if read_script is None or not refuses(read_script, path):
                accepted.append(f"{name} cut to {num_bytes} of {len(whole)} bytes")
    for line in accepted:
        print(f"accepted: {line}")
    total = sum(sizes.values())
    return Outcome(
        not accepted,
        f"{total - len(accepted)} of {total} cuts of {len(sizes)} archives refused, {num_by_script} of them between "
        "entries and so through the scp",
    )


def refuses(read: Read, path: Path) -> bool:
    """Whether reading raises our error; any other exception ends the trial."""
    try:
        read(path)
    except DataError as error:
        if str(path.name).split(".")[0] not in str(error):
            raise SystemExit(f"the error does not name the file: {error}") from error
        return True
    return False


# -- the archives -------------------------------------------------------------------------------------------------


def table(kind: str, values: Callable[[bool], list[Any]], options: str = "", method: int | None = None) -> Any:
    """An archive of a kind of values with its scp."""

    def make(folder: Path, name: str, quick: bool) -> tuple[Path, Read, Read]:
        path, script = folder / f"{name}.ark", folder / f"{name}.scp"
        with TableWriter(f"ark{options},scp:{path},{script}", kind, method) as writer:
            for number, value in enumerate(values(quick)):
                writer.write(f"utterance{number}", value)

        def read(rspecifier: str) -> Read:
            return lambda _: list(read_table(rspecifier, kind))

        return path, read(f"ark:{path}"), read(f"scp:{script}")

    return make


def packed_alignments(folder: Path, name: str, quick: bool) -> tuple[Path, Read, None]:
    """A gzip archive, which can tell itself that it was cut."""
    path = folder / f"{name}.gz"
    with TableWriter(f"ark:{path}", "int_vector") as writer:
        for number, value in enumerate(int_vectors(quick)):
            writer.write(f"utterance{number}", value)
    return path, lambda path: list(read_table(f"ark:{path}", "int_vector")), None


def matrices(quick: bool) -> list[np.ndarray]:
    """Features of Kaldi's, few of them for the small size."""
    values = [matrix for _, matrix in read_table(f"ark:{GOLDEN / 'feats' / 'fbank40.ark'}", "matrix")]
    return [matrix[:2, :3] if quick else matrix[:60] for matrix in values[:NUM_ENTRIES]]


def vectors(quick: bool) -> list[np.ndarray]:
    return [matrix[0] for matrix in matrices(quick)]


def int_vectors(quick: bool) -> list[np.ndarray]:
    values = [ali for _, ali in read_table(f"ark:{GOLDEN / 'align' / 'tri1' / 'ali.ark'}", "int_vector")]
    return [ali[: 5 if quick else None] for ali in values[:NUM_ENTRIES]]


def posteriors(quick: bool) -> list[Any]:
    values = [post for _, post in read_table(f"ark:{GOLDEN / 'align' / 'tri1' / 'pdf_post.ark'}", "posterior")]
    return [post[: 3 if quick else None] for post in values[:NUM_ENTRIES]]


def words(quick: bool) -> list[list[str]]:
    return [["seven", "four"], ["oh"], ["two", "nine", "six"]] * (1 if quick else 50)


ARCHIVES: dict[str, Any] = {
    "matrix": table("matrix", matrices),
    "matrix_text": table("matrix", matrices, ",t"),
    "matrix_double": table("matrix", lambda quick: [matrix.astype(np.float64) for matrix in matrices(quick)]),
    "compressed1": table("matrix", matrices, method=1),
    "compressed3": table("matrix", matrices, method=3),
    "compressed5": table("matrix", matrices, method=5),
    "vector": table("vector", vectors),
    "alignments": table("int_vector", int_vectors),
    "alignments_text": table("int_vector", int_vectors, ",t"),
    "posteriors": table("posterior", posteriors),
    "words": table("tokens", words, ",t"),
    "alignments_gz": packed_alignments,
}

if __name__ == "__main__":
    main(__doc__ or "", run)
