"""All alignments of a directory, read once: their lengths, how often each pdf is seen, and what cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.doctor.findings import Finding, Severity, from_error
from acoustic.doctor.packs import scan_in_packs
from acoustic.errors import DataError
from acoustic.kaldi.alignments import alignment_rspecifiers, to_pdfs
from acoustic.kaldi.steps import Steps
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel

IntArray = NDArray[np.int32]

REMEDY = "align again, or leave the utterances out (--fix)"


@dataclass
class AlignmentsScan:
    """Facts about alignments.

    Attributes:
        num_frames: of each alignment that is usable in itself, also of utterances outside the data directory.
        complete: whether every archive could be read to its end.
        has_foreign_ids: whether some transition_ids are none of the model's.
        pdf_counts: int64 [num_pdfs], frames of each pdf over the utterances asked for; empty without a model.
        pdf_counts_outside: the same over all other utterances.
        num_steps: pairs of neighbouring HMM arcs that were looked at.
        num_legal_steps: those that the topology allows.
        findings: what could not be used.
    """

    num_frames: dict[str, int] = field(default_factory=dict)
    complete: bool = True
    has_foreign_ids: bool = False
    pdf_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    pdf_counts_outside: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    num_steps: int = 0
    num_legal_steps: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def legal_share(self) -> float:
        """Share of the steps that the topology allows; 1 when there are none."""
        return self.num_legal_steps / self.num_steps if self.num_steps else 1.0


def scan_alignments(
    ali_dir: Path, model: TransitionModel | None, utterances: Collection[str], num_jobs: int = 1
) -> AlignmentsScan:
    """Read every alignment of a directory.

    Args:
        ali_dir: alignment directory.
        model: its transition model; without one, transition_ids are not checked.
        utterances: those of the data directory.
        num_jobs: processes.
    """
    num_pdfs = model.num_pdfs if model else 0
    total = AlignmentsScan(pdf_counts=np.zeros(num_pdfs, np.int64), pdf_counts_outside=np.zeros(num_pdfs, np.int64))
    try:
        rspecifiers = alignment_rspecifiers(ali_dir)
    except DataError as error:
        total.complete = False
        total.findings.append(from_error("alignment files missing", error, "align again"))
        return total
    work = partial(scan_archives, model=model, utterances=frozenset(utterances))
    for part in scan_in_packs(work, rspecifiers, 1, num_jobs, "alignments"):
        _merge(total, part)
    return total


def _merge(total: AlignmentsScan, part: AlignmentsScan) -> None:
    """Add the facts of further archives."""
    for utt in sorted(total.num_frames.keys() & part.num_frames.keys()):
        detail = "is in two of the archives"
        total.findings.append(Finding("aligned twice", Severity.ERROR, utt, detail, "remove one of the two alignments"))
    total.num_frames |= part.num_frames
    total.complete &= part.complete
    total.has_foreign_ids |= part.has_foreign_ids
    total.pdf_counts += part.pdf_counts
    total.pdf_counts_outside += part.pdf_counts_outside
    total.num_steps += part.num_steps
    total.num_legal_steps += part.num_legal_steps
    total.findings += part.findings


def scan_archives(
    rspecifiers: Sequence[str], model: TransitionModel | None, utterances: frozenset[str]
) -> AlignmentsScan:
    """Read the alignments of some archives."""
    scanner = _Scanner(model, utterances)
    for rspecifier in rspecifiers:
        scanner.read(rspecifier)
    return scanner.scan


class _Scanner:
    """Collects facts about alignments, one after another."""

    def __init__(self, model: TransitionModel | None, utterances: frozenset[str]) -> None:
        counts = np.zeros(model.num_pdfs if model else 0, np.int64)
        self.scan = AlignmentsScan(pdf_counts=counts, pdf_counts_outside=counts.copy())
        self._model = model
        self._utterances = utterances
        self._steps = Steps(model) if model and Steps.apply_to(model) else None

    def read(self, rspecifier: str) -> None:
        """Take an archive in."""
        num_read = 0
        try:
            for utt, alignment in read_table(rspecifier, "int_vector"):
                num_read += 1
                self._add(utt, alignment)
        except DataError as error:
            self.scan.complete = False
            self.scan.findings.append(from_error("alignment archive unreadable", error, "align again"))
            return
        if num_read == 0:
            self.scan.complete = False
            place = rspecifier.partition(":")[2]
            self.scan.findings.append(
                Finding("alignment archive empty", Severity.ERROR, place, "holds no alignments", "align again")
            )

    def _add(self, utt: str, alignment: IntArray) -> None:
        inside = utt in self._utterances
        if len(alignment) == 0:
            drops = (utt,) if inside else ()
            self.scan.findings.append(
                Finding("alignment without frames", Severity.ERROR, utt, "no frames", REMEDY, drops, cleanable=inside)
            )
            return
        self.scan.num_frames[utt] = len(alignment)
        if self._model is None:
            return
        try:
            pdf_ids = to_pdfs(self._model, utt, alignment)
        except DataError as error:
            self.scan.has_foreign_ids = True
            # Not cleanable: transition_ids that the model lacks say that the two do not belong together.
            self.scan.findings.append(from_error("transition_id out of range", error, "align again", where=utt))
            return
        counts = self.scan.pdf_counts if inside else self.scan.pdf_counts_outside
        counts += np.bincount(pdf_ids, minlength=self._model.num_pdfs)
        if self._steps is not None:
            legal = self._steps.legal(alignment)
            self.scan.num_steps += len(legal)
            self.scan.num_legal_steps += int(legal.sum())
