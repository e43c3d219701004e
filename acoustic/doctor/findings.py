"""Findings of the doctor, and their table."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from acoustic.errors import AcousticError, DataError

T = TypeVar("T")


class Severity(enum.Enum):
    """How bad a finding is."""

    ERROR = "error"
    """Something will fail or be wrong."""
    SKIP = "skip"
    """An utterance will be left out: an error when too many are, otherwise a warning."""
    WARNING = "warning"
    """Something may be wrong."""
    NOTE = "note"
    """Worth knowing, and usual."""


@dataclass(frozen=True)
class Finding:
    """One fault at one place.

    Attributes:
        fault: what kind it is, in a few words; findings of one fault share a row of the table.
        severity: how bad it is.
        where: utterance, recording, speaker or file.
        detail: what exactly is wrong there.
        remedy: what to do about it.
        drops: utterances that cannot be used because of it; a cleaned copy leaves them out.
        cleanable: whether a cleaned copy of the data directory is free of it.
    """

    fault: str
    severity: Severity
    where: str
    detail: str
    remedy: str
    drops: tuple[str, ...] = ()
    cleanable: bool = False


def from_error(
    fault: str, error: AcousticError, remedy: str, *, where: str | None = None, drops: tuple[str, ...] = ()
) -> Finding:
    """The finding that reading something gave an error.

    Args:
        fault: its kind.
        error: what was raised; names the place unless `where` does.
        remedy: what to do, where the error itself does not say.
        where: the utterance or file.
        drops: as of the finding.
    """
    if not isinstance(error, DataError):
        return Finding(fault, Severity.ERROR, where or "", str(error), remedy, drops, bool(drops))
    place = [str(error.path)] if error.path is not None else []
    place += [f"line {error.line}"] if error.line is not None else []
    place += [error.utt] if error.utt is not None and error.utt != where else []
    place += [f"byte {error.byte}"] if error.byte is not None else []
    if where is None:
        return Finding(
            fault, Severity.ERROR, ", ".join(place), error.problem, error.remedy or remedy, drops, bool(drops)
        )
    detail = f"{', '.join(place)}: {error.problem}" if place else error.problem
    return Finding(fault, Severity.ERROR, where, detail, error.remedy or remedy, drops, bool(drops))


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Something that was read, or why it could not be."""

    value: T | None = None
    error: AcousticError | None = None


def load(read: Callable[[], T]) -> Loaded[T]:
    """Call `read`, keeping an error of ours instead of raising it."""
    try:
        return Loaded(value=read())
    except AcousticError as error:
        return Loaded(error=error)


@dataclass(frozen=True)
class Row:
    """A row of the table: all findings of one fault."""

    severity: Severity
    fault: str
    count: int
    example: str
    remedy: str


@dataclass
class Report:
    """All findings about an experiment.

    Attributes:
        num_utterances: how many utterances the data directory has.
        max_skip_fraction: share of them that may be lost.
        findings: what was found, in the order of the checks.
    """

    num_utterances: int
    max_skip_fraction: float
    findings: list[Finding] = field(default_factory=list)

    @property
    def lost(self) -> dict[str, Finding]:
        """The utterances that cannot be used, each with the first reason."""
        lost: dict[str, Finding] = {}
        for finding in self.findings:
            for utt in finding.drops:
                lost.setdefault(utt, finding)
        return lost

    @property
    def loses_too_many(self) -> bool:
        """Whether more utterances are lost than may be."""
        return len(self.lost) > self.max_skip_fraction * self.num_utterances

    def severity(self, finding: Finding) -> Severity:
        """How bad a finding is in view of all others."""
        if finding.severity is not Severity.SKIP:
            return finding.severity
        return Severity.ERROR if self.loses_too_many else Severity.WARNING

    def count(self, severity: Severity) -> int:
        """How many faults (rows of the table) are this bad."""
        return sum(row.severity is severity for row in self.rows())

    def rows(self) -> list[Row]:
        """The table: one row for each fault, the worst first."""
        groups: dict[tuple[Severity, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((self.severity(finding), finding.fault), []).append(finding)
        order = list(Severity)
        return [
            Row(severity, fault, len(group), _example(group[0]), group[0].remedy)
            for (severity, fault), group in sorted(groups.items(), key=lambda item: order.index(item[0][0]))
        ]

    def table(self) -> str:
        """The rows as text, each with its remedy on a line below; empty when nothing was found."""
        rows = self.rows()
        if not rows:
            return ""
        cells = [("severity", "count", "fault", "example / remedy")]
        cells += [(row.severity.value, str(row.count), row.fault, row.example) for row in rows]
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        remedies = ["", *(row.remedy for row in rows)]
        indent = " " * (sum(widths) + 6)
        lines = []
        for (severity, count, fault, example), remedy in zip(cells, remedies, strict=True):
            lines.append(f"{severity:{widths[0]}}  {count:>{widths[1]}}  {fault:{widths[2]}}  {example}")
            lines += [f"{indent}-> {remedy}"] if remedy else []
        return "\n".join(lines)


def _example(finding: Finding) -> str:
    return f"{finding.where}: {finding.detail}" if finding.where else finding.detail


def left_after_cleaning(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that a cleaned copy of the data directory would still give."""
    return [finding for finding in findings if not finding.cleanable]
