"""What a training run left in its exp_dir: metrics.jsonl, speed.jsonl, config.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acoustic.errors import DataError


def exp_dir_of(path: str | Path) -> Path:
    """The exp_dir of a path that may name its final.pt."""
    path = Path(path)
    return path.parent if path.suffix == ".pt" else path


def labels_of(paths: list[str]) -> list[str]:
    """A short name for each of some exp_dirs: the last parts of their paths, as many as tell them apart."""
    parts = [exp_dir_of(path).resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-count:]) for part in parts]
        if len(set(labels)) == len(set(parts)):
            break
    return labels


def read_records(path: str | Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The lines of an exp_dir's metrics.jsonl (or speed.jsonl); none if it has no such file.

    Raises:
        DataError: a line is not JSON.
    """
    file = exp_dir_of(path) / name
    if not file.is_file():
        return []
    records = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"is not JSON ({error})", path=file, line=number) from error
    return records


def evaluations(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of dev evaluations, without those of returns to an earlier checkpoint."""
    return [record for record in records if "dev_accuracy" in record]
