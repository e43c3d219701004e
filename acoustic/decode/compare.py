"""Two alignments of the same data: which frames moved to another pdf or phone, and by how much phones' boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import kaldialign
import numpy as np
from numpy.typing import NDArray

from acoustic.decode.times import Interval, phone_intervals
from acoustic.errors import DataError
from acoustic.kaldi.alignments import to_pdfs, to_phones
from acoustic.kaldi.transitions import TransitionModel

EMPTY = -1  # stands for no phone where phone sequences are aligned


@dataclass
class PhoneChanges:
    """What became of one phone of the first alignment.

    Attributes:
        num_frames: its frames in the first alignment.
        num_moved: those of them that are another phone's in the second.
        num_phones: how often it occurs in the first alignment.
        num_unmatched: occurrences that the second alignment's phone sequence does not have.
        shifts: by how many frames its beginning moved, second minus first, where it is in both; the utterance's first
            phone is left out, since it cannot move.
    """

    num_frames: int = 0
    num_moved: int = 0
    num_phones: int = 0
    num_unmatched: int = 0
    shifts: list[int] = field(default_factory=list)

    def __iadd__(self, other: PhoneChanges) -> PhoneChanges:
        """Add up."""
        self.num_frames += other.num_frames
        self.num_moved += other.num_moved
        self.num_phones += other.num_phones
        self.num_unmatched += other.num_unmatched
        self.shifts += other.shifts
        return self

    def mean_absolute_shift(self) -> float:
        """In frames; nan without boundaries."""
        return float(np.mean(np.abs(self.shifts))) if self.shifts else float("nan")

    def share_within(self, num_frames: float) -> float:
        """The share of boundaries that moved by no more than `num_frames`; nan without boundaries."""
        return float(np.mean(np.abs(self.shifts) <= num_frames + 1e-6)) if self.shifts else float("nan")


class Comparison:
    """Adds up the differences of two alignments, utterance by utterance.

    Args:
        first, second: the models of the two. Phones must be numbered alike; pdfs are compared if the models agree
            on them.

    Attributes:
        phones: phone id of the first alignment -> its changes.
        num_frames: of all utterances compared.
        num_pdfs_moved: frames with another pdf_id, None if the models number pdfs differently.
    """

    def __init__(self, first: TransitionModel, second: TransitionModel) -> None:
        self._models = first, second
        self.phones: dict[int, PhoneChanges] = {}
        self.num_frames = 0
        self.num_pdfs_moved = 0 if first.fingerprint() == second.fingerprint() else None

    def add(self, utt: str, first: NDArray[np.int32], second: NDArray[np.int32]) -> None:
        """Compare one utterance.

        Args:
            utt: for messages.
            first, second: int32 [num_frames] transition_ids.

        Raises:
            DataError: of another length, of another model, or not of whole phones.
        """
        if len(first) != len(second):
            raise DataError(f"{len(first)} frames in one alignment, {len(second)} in the other", utt=utt)
        intervals = [phone_intervals(m, utt, ids) for m, ids in zip(self._models, (first, second), strict=True)]
        phones, others = (to_phones(m, utt, ids) for m, ids in zip(self._models, (first, second), strict=True))
        self.num_frames += len(first)
        if self.num_pdfs_moved is not None:
            pdfs, other_pdfs = (to_pdfs(m, utt, ids) for m, ids in zip(self._models, (first, second), strict=True))
            self.num_pdfs_moved += int(np.count_nonzero(pdfs != other_pdfs))
        for phone in np.unique(phones).tolist():
            mine = phones == phone
            changes = self.phones.setdefault(phone, PhoneChanges())
            changes.num_frames += int(np.count_nonzero(mine))
            changes.num_moved += int(np.count_nonzero(mine & (others != phone)))
        for interval, other in matched(*intervals):
            changes = self.phones[interval.label]
            changes.num_phones += 1
            if other is None:
                changes.num_unmatched += 1
            elif interval.begin or other.begin:
                changes.shifts.append(other.begin - interval.begin)

    def total(self) -> PhoneChanges:
        """The sum over all phones."""
        total = PhoneChanges()
        for changes in self.phones.values():
            total += changes
        return total


def phones_with_other_hmms(first: TransitionModel, second: TransitionModel) -> list[int]:
    """The phone ids that one model lacks, or whose HMMs have another number of states, in order."""
    mine, others = first.topology.entries, second.topology.entries
    return sorted(phone for phone in {*mine, *others} if len(mine.get(phone, ())) != len(others.get(phone, ())))


def matched(first: Sequence[Interval], second: Sequence[Interval]) -> list[tuple[Interval, Interval | None]]:
    """Each phone of `first` with its counterpart in `second`, by least edit distance of the phone sequences."""
    pairs = kaldialign.align([i.label for i in first], [i.label for i in second], EMPTY)
    mine, others = iter(first), iter(second)
    found: list[tuple[Interval, Interval | None]] = []
    for label, other_label in pairs:
        interval = next(mine) if label != EMPTY else None
        other = next(others) if other_label != EMPTY else None
        if interval is not None:
            found.append((interval, other if label == other_label else None))
    return found
