"""The scripts of recipes are imported as they are run: from their own folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recipes.experiments import make_corpus, make_stand_in

RECIPES = Path(__file__).parents[2] / "recipes"
sys.path[:0] = [str(RECIPES / "mini" / "local"), str(RECIPES / "common" / "local")]


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute or two of synthetic speech with alignments and a graph."""
    folder = tmp_path_factory.mktemp("corpus") / "mini"
    make_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def laid_out(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Stand-ins by recipe, each made once. They must not be changed."""
    made: dict[str, Path] = {}

    def stand_in(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "s5"
            make_stand_in(small_corpus, name, made[name])
        return made[name]

    return stand_in


@pytest.fixture
def stand_in(laid_out: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copies of stand-ins, to be changed; audio and features stay where they are."""

    def copy(name: str) -> Path:
        ignored = shutil.ignore_patterns("audio", "mfcc")
        return shutil.copytree(laid_out(name), tmp_path / "s5", ignore=ignored)

    return copy
