"""What holds for all tests."""

import logging

import pytest


@pytest.fixture(autouse=True)
def log_lines_reach_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ran before in this process may have taken them for itself (log.set_up)."""
    logger = logging.getLogger("acoustic")
    monkeypatch.setattr(logger, "propagate", True)
    logger.setLevel(logging.NOTSET)
