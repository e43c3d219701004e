"""What outputs were made with, so that nothing is decoded with a graph or model of another tree.

A table in Kaldi's format has no place for that. Beside each plain file of a table that our programs write lies
`NAME.made_with.json`: fingerprints, and the size of the file they are of. Tables without such a note are taken as they
are; a pipe has none, which is what `--for-model` of `acoustic loglikes` is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from acoustic.errors import DataError
from acoustic.fsio import read_json, remove_file, write_json
from acoustic.kaldi.sinks import is_plain_file
from acoustic.kaldi.sources import parse_rxfilename
from acoustic.kaldi.specifiers import parse_rspecifier, parse_wspecifier
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree

# What decides which pdf a column of the loglikes is.
IDENTITY = ("transition_model", "tree")
REMEDY = "use the final.mdl, tree and graph of the alignments that the network was trained on"


def fingerprints_of(model_file: str | Path) -> dict[str, str]:
    """Fingerprints of a final.mdl and of the tree beside it, if there is one.

    Raises:
        DataError: either is damaged.
    """
    found = {"transition_model": TransitionModel.read(model_file).fingerprint()}
    tree = Path(model_file).parent / "tree"
    if tree.exists():
        found["tree"] = DecisionTree.read(tree).fingerprint()
    return found


def check_same_model(one: Mapping[str, str], other: Mapping[str, str], path: str | Path, what: str) -> None:
    """Compare the fingerprints of two things as far as both are known.

    Args:
        one: of the thing at `path`.
        other: of what it is to be used with, called `what`.

    Raises:
        DataError: they are of other models or trees.
    """
    for name in IDENTITY:
        if name in one and name in other and one[name] != other[name]:
            problem = f"was made with another {name.replace('_', ' ')} than {what}"
            raise DataError(problem, path=path, remedy=REMEDY)


def note_path(path: str | Path) -> Path:
    """Where the note about a file lies."""
    return Path(f"{path}.made_with.json")


def write_notes(wspecifier: str, fingerprints: Mapping[str, str]) -> None:
    """Write down what a table was made with, beside its files; pipes, devices and gzip files get no note.

    Raises:
        DataError: a note cannot be written.
    """
    table = parse_wspecifier(wspecifier)
    for name in (table.archive, table.script if table.archive else None):
        if name is not None and is_plain_file(name):
            note = {"fingerprints": dict(fingerprints), "size": Path(name).stat().st_size}
            write_json(note_path(name), note)


def remove_notes(wspecifier: str) -> None:
    """Remove the notes about an earlier table of that name, before it is replaced.

    Raises:
        DataError: the folder cannot be written.
    """
    table = parse_wspecifier(wspecifier)
    for name in (table.archive, table.script if table.archive else None):
        if name is not None and is_plain_file(name):
            remove_file(note_path(name))


def read_note(path: str | Path) -> dict[str, str]:
    """What the file at `path` was made with; empty when there is no note, or one about another version of the file.

    Raises:
        DataError: the note is damaged.
    """
    note = note_path(path)
    if not note.exists() or not Path(path).is_file():
        return {}
    content = read_json(note)
    try:
        fingerprints, size = dict(content["fingerprints"]), int(content["size"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("is no note about what a file was made with", path=note, remedy="remove it") from error
    return fingerprints if size == Path(path).stat().st_size else {}


def note_of_table(rspecifier: str) -> dict[str, str]:
    """What a table that is to be read was made with, as `read_note`; empty for pipes."""
    name = parse_rxfilename(parse_rspecifier(rspecifier).rxfilename)
    return read_note(name.target) if name.kind == "file" and name.offset is None else {}
