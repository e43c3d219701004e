"""Fixtures of the Kaldi layer's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kaldi.table_values import write


@pytest.fixture
def table(tmp_path: Path) -> dict[str, np.ndarray]:
    """x.ark and x.scp of three matrices whose keys are in C order."""
    entries = {f"utt{i}": np.arange(20, dtype=np.float32).reshape(10, 2) + 100 * i for i in range(3)}
    write(f"ark,scp:{tmp_path / 'x.ark'},{tmp_path / 'x.scp'}", "matrix", entries)
    return entries
