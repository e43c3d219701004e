"""The corpus of tests/train."""

from __future__ import annotations

import pytest

from acoustic.train import observe
from tests.train.conftest import corpus as corpus


@pytest.fixture(autouse=True)
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No learning curves, which take longer to draw than these networks to train."""
    monkeypatch.setattr(observe.CurveArtist, "draw", lambda self: None)
