"""Runs side by side: which settings differ, how training went, how word errors compare, how fast and how large."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acoustic.analysis.records import evaluations, exp_dir_of, labels_of, read_records
from acoustic.decode.wer import Scores, groups_by_speaker, read_transcripts, score
from acoustic.decode.wer_bootstrap import Comparison, compare, confidence_interval
from acoustic.errors import DataError
from acoustic.nn.bundle import Bundle, load_bundle

MAX_CURVE_POINTS = 12
ABSENT = "-"
# Where and how fast a run computes is no setting of its result.
IGNORED_KEYS = ("exp_dir", "data.cache_dir", "data.num_jobs")


@dataclass(frozen=True)
class Run:
    """What a run left.

    Attributes:
        label: what to call it.
        config: nested settings; empty if there is no config.yaml.
        records: lines of metrics.jsonl.
        speeds: lines of speed.jsonl.
        bundle: final.pt; None if training has not ended.
        num_bytes: size of final.pt.
        scores: word errors, where hypotheses are given.
    """

    label: str
    config: dict[str, Any]
    records: list[dict[str, Any]]
    speeds: list[dict[str, Any]]
    bundle: Bundle | None
    num_bytes: int
    scores: Scores | None = None


@dataclass(frozen=True)
class Grid:
    """A table: a title, the head of each column, rows of text; the first column names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]


def read_runs(
    paths: Sequence[str], configs: Sequence[dict[str, Any]], hyps: Sequence[str | None], ref: str | None
) -> list[Run]:
    """Read what some runs left.

    Args:
        paths: exp_dirs.
        configs: the settings of each.
        hyps: transcripts by each run's network, None where there are none.
        ref: reference transcripts, None if there are no hypotheses.

    Raises:
        DataError: a run left nothing, or a file is damaged.
        CheckpointError: final.pt is damaged.
    """
    reference = read_transcripts(ref) if ref else {}
    runs = []
    for label, path, config, hyp in zip(labels_of(list(paths)), paths, configs, hyps, strict=True):
        folder = exp_dir_of(path)
        final = folder / "final.pt"
        run = Run(
            label=label,
            config=config,
            records=read_records(folder),
            speeds=read_records(folder, "speed.jsonl"),
            bundle=load_bundle(final) if final.is_file() else None,
            num_bytes=final.stat().st_size if final.is_file() else 0,
            scores=score(reference, read_transcripts(hyp), "all") if hyp else None,
        )
        if not run.records and run.bundle is None:
            raise DataError("is no training run: neither metrics.jsonl nor final.pt", path=folder)
        runs.append(run)
    return runs


def comparison(runs: Sequence[Run], utt2spk: Mapping[str, str] | None = None) -> list[Grid]:
    """All tables.

    Args:
        runs: at least one.
        utt2spk: speakers of the scored utterances; whole speakers are then drawn in the bootstrap.
    """
    grids = [settings(runs), results(runs), curves(runs)]
    if any(run.scores for run in runs):
        grids.append(word_errors(runs, utt2spk))
    return [grid for grid in grids if grid.rows]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            flat |= flatten(value, name)
        else:
            flat[name] = value
    return flat


def settings(runs: Sequence[Run]) -> Grid:
    """The settings in which the runs differ."""
    flat = [flatten(run.config) for run in runs]
    keys = dict.fromkeys(itertools.chain.from_iterable(flat))
    rows = []
    for key in keys:
        values = [_said(values.get(key, ABSENT)) for values in flat]
        if len(set(values)) > 1 and key not in IGNORED_KEYS:
            rows.append([key, *values])
    return Grid("Settings that differ", ["setting", *(run.label for run in runs)], rows)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "null" if value is None else str(value)


def results(runs: Sequence[Run]) -> Grid:
    """Dev results, size and speed of each run."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        for name, value in _results(run).items():
            rows.setdefault(name, []).append(value)
    return Grid("Results", ["", *(run.label for run in runs)], [[name, *values] for name, values in rows.items()])


def _results(run: Run) -> dict[str, str]:
    evaluated = [record for record in evaluations(run.records) if record["dev_loss"] is not None]
    best = min(evaluated, key=lambda record: record["dev_loss"], default=None)
    seconds = sum(record["seconds"] for record in run.speeds)
    steps = sum(record["seconds"] * record["steps_per_second"] for record in run.speeds)
    batch = run.config.get("data", {}).get("batch_size")
    network = run.bundle.classifier if run.bundle else None
    return {
        "state": "finished" if run.bundle else "not finished",
        "best dev cross-entropy": f"{best['dev_loss']:.4f}" if best else ABSENT,
        "dev accuracy there [%]": f"{100 * best['dev_accuracy']:.2f}" if best else ABSENT,
        "at epoch": f"{best['epoch']:.4g}" if best else ABSENT,
        "epochs": f"{evaluated[-1]['epoch']:.4g}" if evaluated else ABSENT,
        "training time [min]": f"{seconds / 60:.1f}" if seconds else ABSENT,
        "training frames/s": f"{steps * batch / seconds:,.0f}" if seconds and batch else ABSENT,
        "parameters": f"{network.num_parameters:,}" if network else ABSENT,
        "final.pt [MB]": f"{run.num_bytes / 1e6:.1f}" if run.num_bytes else ABSENT,
    }


def curves(runs: Sequence[Run]) -> Grid:
    """Dev cross-entropy (and accuracy) over the epochs; of long runs evenly chosen ones."""
    by_epoch = [{record["epoch"]: record for record in evaluations(run.records)} for run in runs]
    epochs = sorted(set(itertools.chain.from_iterable(by_epoch)))
    if len(epochs) > MAX_CURVE_POINTS:
        step = (len(epochs) - 1) / (MAX_CURVE_POINTS - 1)
        epochs = [epochs[round(number * step)] for number in range(MAX_CURVE_POINTS)]
    rows = [[f"{epoch:.4g}", *(_point(records.get(epoch)) for records in by_epoch)] for epoch in epochs]
    return Grid("Dev cross-entropy (accuracy in %) by epoch", ["epoch", *(run.label for run in runs)], rows)


def _point(record: dict[str, Any] | None) -> str:
    if record is None:
        return ABSENT
    loss = "inf" if record["dev_loss"] is None else f"{record['dev_loss']:.4f}"
    return f"{loss} ({100 * record['dev_accuracy']:.2f})" + ("" if record.get("accepted", True) else " rejected")


def word_errors(runs: Sequence[Run], utt2spk: Mapping[str, str] | None) -> Grid:
    """Word error rates with their intervals, and each run against the first under the paired bootstrap."""
    first = next(run for run in runs if run.scores)
    rows = []
    for run in runs:
        if run.scores is None:
            continue
        groups = list(groups_by_speaker(run.scores, utt2spk).values()) if utt2spk else None
        interval = confidence_interval(run.scores, groups)
        row = [run.label, f"{run.scores.wer:.2f}", f"{interval.low:.2f} - {interval.high:.2f}"]
        if run is first or first.scores is None:
            rows.append([*row, ABSENT, ABSENT, ABSENT])
        else:
            rows.append([*row, *_against(compare(first.scores, run.scores, groups))])
    unit = "speakers" if utt2spk else "utterances"
    return Grid(
        f"Word error rate (bootstrap over {unit})",
        ["run", "%WER", "95 % interval", f"against {first.label}", "95 % interval", "better in"],
        rows,
    )


def _against(found: Comparison) -> list[str]:
    """Difference, its interval, and how often it is an improvement; a star where the interval leaves out zero."""
    star = " *" if found.low > 0 or found.high < 0 else ""
    return [
        f"{found.difference:+.2f}{star}",
        f"{found.low:+.2f} to {found.high:+.2f}",
        f"{100 * found.probability_of_improvement:.1f} %",
    ]


# -- how it is written ----------------------------------------------------------------------------------------------


def as_text(grids: Sequence[Grid]) -> str:
    """For a terminal: columns padded, numbers to the right."""
    return "\n".join(_text_of(grid) for grid in grids)


def _text_of(grid: Grid) -> str:
    columns = list(zip(grid.header, *grid.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in [grid.header, *grid.rows]
    ]
    return "\n".join([grid.title, lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:], ""])


def as_markdown(grids: Sequence[Grid]) -> str:
    """Markdown tables."""
    return "\n".join(_markdown_of(grid) for grid in grids)


def _markdown_of(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join(["---", *("---:" for _ in grid.header[1:])]) + "|"
    return "\n".join([f"### {grid.title}", "", line(grid.header), rule, *map(line, grid.rows), ""])
