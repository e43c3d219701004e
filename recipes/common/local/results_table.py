#!/usr/bin/env python3
"""Print what was measured beside what was published: dev cross-entropy, frame accuracy, word error rates."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, str]


def published_rows(path: Path, experiment: str) -> tuple[list[str], list[Row]]:
    """Columns, and the rows of a tab-separated file that belong to an experiment or, with `*`, to all.

    The first column is the experiment, the second says what the row is about; lines with # are comments.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    reader = csv.DictReader(lines, delimiter="\t", restval="")
    rows = [row for row in reader if row["experiment"] in (experiment, "*")]
    return list(reader.fieldnames or [])[1:], rows


def frame_metrics(path: Path) -> Row:
    """Dev cross-entropy [nats] and frame accuracy [%] of the weights that were kept."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    accepted = [record for record in records if record.get("accepted") and record.get("dev_loss") is not None]
    if not accepted:
        return {}
    best = min(accepted, key=lambda record: record["dev_loss"])
    return {"dev CE": f"{best['dev_loss']:.2f}", "dev acc": f"{100 * best['dev_accuracy']:.1f}"}


def measured_row(label: str, parts: Path, metrics: Row) -> Row:
    """A row of this run, from lines `part WER`."""
    wers = dict(line.split() for line in parts.read_text(encoding="utf-8").splitlines())
    return {"system": label, **metrics, **wers}


def format_table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Aligned columns, the first to the left; `-` where there is no number."""
    cells = [list(columns), *([row.get(name) or "-" for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.jsonl of the training")
    parser.add_argument("--measured", nargs=2, action="append", default=[], metavar=("LABEL", "FILE"))
    parser.add_argument("published", type=Path)
    args = parser.parse_args()
    columns, rows = published_rows(args.published, args.experiment)
    metrics = frame_metrics(args.metrics)
    rows += [measured_row(label, Path(parts), metrics) for label, parts in args.measured]
    columns += [name for row in rows for name in row if name not in columns and name != "experiment"]
    print(format_table(list(dict.fromkeys(columns)), rows))


if __name__ == "__main__":
    main()
