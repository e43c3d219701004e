"""One experiment without fault, made once; every test gets a copy of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor.experiments import Made, copy_experiment, make_experiment


@pytest.fixture(scope="session")
def faultless(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_experiment(tmp_path_factory.mktemp("doctor") / "experiment")


@pytest.fixture
def made(faultless: Made, tmp_path: Path) -> Made:
    return copy_experiment(faultless, tmp_path / "experiment")
