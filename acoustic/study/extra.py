"""Libraries that only studies need: the extra `study`."""

from __future__ import annotations

import importlib
from typing import Any

from acoustic.errors import ConfigError


def needed(name: str) -> Any:
    """Import a module of the extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"this needs {name.split('.')[0]}: pip install 'acoustic[study]'") from error


def stats() -> Any:
    """scipy.stats."""
    return needed("scipy.stats")


def optuna() -> Any:
    """optuna, without its own log."""
    module = needed("optuna")
    module.logging.set_verbosity(module.logging.ERROR)
    return module
