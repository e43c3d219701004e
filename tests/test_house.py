"""The structure of the house: one-way rooms, no import cycles, short files, no traces of a machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoustic.cli.main import VERBS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "acoustic"
MAX_LINES = 400

# room -> rooms it may import from. What is not a folder is the base room: errors, fsio, log, workers and the like.
BASE = "base"
MAY_IMPORT = {
    BASE: set(),
    "kaldi": {BASE},
    "features": {BASE, "kaldi"},
    "data": {BASE, "kaldi", "features"},
    "nn": {BASE},
    "train": {BASE, "kaldi", "features", "data", "nn"},
    "asynchronous": {BASE, "kaldi", "features", "data", "nn", "train"},
    "decode": {BASE, "kaldi", "features", "nn"},
    "sequence": {BASE, "kaldi", "features", "data", "nn", "train", "decode"},
    "analysis": {BASE, "kaldi", "features", "data", "nn", "decode"},
    "api": {BASE, "kaldi", "features", "nn", "decode"},
    "exchange": {BASE, "kaldi", "features", "nn", "decode"},
    "doctor": {BASE, "kaldi", "features", "data", "nn", "decode"},
    "states": {BASE, "kaldi", "features", "decode"},
    "study": {BASE, "kaldi", "features", "data", "nn", "train", "asynchronous", "decode", "analysis"},
    "cli": {
        BASE,
        "kaldi",
        "features",
        "data",
        "nn",
        "train",
        "asynchronous",
        "decode",
        "sequence",
        "analysis",
        "exchange",
        "doctor",
        "states",
        "study",
    },
}
HYDRA = {"hydra", "omegaconf"}
# These name pickle's exception, which torch.load(weights_only=True) raises on a damaged file.
MAY_CATCH_PICKLE = {"acoustic.nn.bundle", "acoustic.train.checkpoint"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def room_of(module: str) -> str:
    """The room of a module of ours."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or parts[1] == "api") else BASE


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, also inside functions and through importlib with a literal name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            (name,) = node.args
            if isinstance(name, ast.Constant):
                yield str(name.value)


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_only_the_rooms_below(module: str) -> None:
    room = room_of(module)
    if module == "acoustic.__main__":  # `python -m acoustic` is the command line
        room = "cli"
    for imported in imports_of(MODULES[module]):
        if imported.split(".")[0] != "acoustic":
            continue
        assert imported in MODULES, f"{module} imports {imported}, which does not exist"
        other = room_of(imported)
        assert other in MAY_IMPORT[room] | {room}, f"{module} ({room}) imports {imported} ({other})"


@pytest.mark.parametrize("module", MODULES)
def test_rooms_keep_to_their_libraries(module: str) -> None:
    room, imported = room_of(module), {name.split(".")[0] for name in imports_of(MODULES[module])}
    if room != "cli":
        assert not imported & HYDRA, f"{module}: only cli knows hydra"
    if room == "kaldi" or room == BASE:
        assert "torch" not in imported, f"{module}: the Kaldi layer does without torch"
    if room == "nn":
        ours = {name for name in imports_of(MODULES[module]) if name.split(".")[0] == "acoustic"}
        outside = {name for name in ours if room_of(name) != "nn"}
        assert outside <= {"acoustic.errors"}, f"{module}: nn needs nothing of ours but errors, not {outside}"
    assert not imported & {"pickle", "shelve", "marshal", "dill"} or module in MAY_CATCH_PICKLE, f"{module}: no pickle"


def test_there_is_no_import_cycle() -> None:
    edges = {module: {name for name in imports_of(path) if name in MODULES} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join([*trail[trail.index(module) :], module])}"
        if module not in done:
            for other in sorted(edges[module]):
                visit(other, [*trail, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


# -- files --------------------------------------------------------------------------------------------------------


def own_files(*suffixes: str) -> list[Path]:
    """Files of ours with one of these suffixes."""
    folders = ("acoustic", "scripts", "recipes", "tests", "conf", "docs", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    found += [path for path in ROOT.iterdir() if path.is_file() and path.suffix in suffixes]
    return sorted(path for path in found if "golden" not in path.parts and "__pycache__" not in path.parts)


def test_no_file_is_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in own_files(".py", ".sh", ".pl")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long


def test_no_paths_of_a_machine() -> None:
    # Put together here, so that this file does not match itself.
    machine_path = re.compile(r"(?<![\w.$}~-])/(" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me"]) + r")/\w")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in own_files(".py", ".sh", ".pl", ".md", ".yaml", ".toml", ".conf", ".cfg")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if machine_path.search(line)
    ]
    assert not found


def test_no_marks_of_unfinished_work() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImple" + r"mented)\b")
    found = [path.name for path in own_files(".py", ".sh") if marks.search(path.read_text(encoding="utf-8"))]
    assert not found


# -- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_tells_what_it_does(verb: str) -> None:
    path = PACKAGE / "cli" / f"{VERBS[verb]}.py"
    assert path.exists(), f"no module for the verb {verb}"
    names = {
        target.id
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        for target in (node.targets if isinstance(node, ast.Assign) else [])
        if isinstance(target, ast.Name)
    }
    assert {"HELP", "EXAMPLE"} <= names


def test_the_readme_names_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if len(text.splitlines()) < 20:
        pytest.skip("the README is not written yet")
    missing = [verb for verb in VERBS if not re.search(rf"\bacoustic {verb}\b", text)]
    assert not missing
