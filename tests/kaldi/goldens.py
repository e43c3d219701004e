"""Where Kaldi's answers lie, and damage done to files on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acoustic.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"


def damaged(content: bytes, num_trials: int, seed: int = 0) -> Iterator[bytes]:
    """Copies of `content` with a byte changed or the end cut off."""
    generator = random.Random(seed)
    for trial in range(num_trials):
        if trial % 3 == 0:
            yield content[: generator.randrange(len(content))]
        else:
            copy = bytearray(content)
            copy[generator.randrange(len(copy))] = generator.choice([0, 1, 4, 8, 0x20, 0x3C, 0x7F, 0x80, 0xFF])
            yield bytes(copy)


def assert_only_data_errors(content: bytes, path: Path, read: Callable[[Path], object], num_trials: int) -> None:
    """Reading damaged copies of `content` must give a value or a DataError that names the file."""
    num_refused = 0
    for copy in damaged(content, num_trials):
        path.write_bytes(copy)
        try:
            read(path)
        except DataError as error:
            num_refused += 1
            assert str(path) in str(error)
        except RecursionError as error:
            pytest.fail(f"recursion on damaged bytes: {error}")
    assert num_refused >= num_trials // 3
