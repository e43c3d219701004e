"""Statistics of phones in context: what a decision tree is grown on (Kaldi: hmm/tree-accu.cc)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.alignments import split_to_phones
from acoustic.kaldi.event_map import PDF_CLASS
from acoustic.kaldi.transitions import TransitionModel

NOT_ASKED = -1
"""Stands in an event for the context of a context-independent phone, on which no question is allowed."""

VARIANCE_FLOOR = 0.01  # Kaldi's --var-floor

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Moments:
    """Zeroth, first and second moments of the features of one or several groups of frames.

    Attributes:
        counts: float64 [...], frames.
        sums: float64 [..., dim].
        squares: float64 [..., dim].
    """

    counts: Floats
    sums: Floats
    squares: Floats

    def __getitem__(self, rows: NDArray[np.generic] | int) -> Moments:
        """Some of the groups."""
        return Moments(self.counts[rows], self.sums[rows], self.squares[rows])

    def total(self) -> Moments:
        """All groups as one."""
        return Moments(self.counts.sum(axis=0), self.sums.sum(axis=0), self.squares.sum(axis=0))

    def by(self, group_of: NDArray[np.integer], num_groups: int) -> Moments:
        """Sums over the rows of each group; `group_of`: int [rows]."""
        member = np.zeros((num_groups, len(group_of)))
        member[group_of, np.arange(len(group_of))] = 1.0
        return self.combined(member)

    def combined(self, member: Floats) -> Moments:
        """Sums over the rows that belong to each group; `member`: 0 or 1, float64 [num_groups, rows]."""
        return Moments(member @ self.counts, member @ self.sums, member @ self.squares)

    def log_likelihood(self) -> Floats:
        """Log likelihood of each group's frames under its own Gaussian, float64 [...] (GaussClusterable::Objf).

        Variances are floored at `VARIANCE_FLOOR`; a group without frames has likelihood 0.
        """
        frames = np.maximum(self.counts, 1e-300)[..., None]
        variance = self.squares / frames - (self.sums / frames) ** 2
        floored = np.maximum(variance, VARIANCE_FLOOR)
        per_frame = -0.5 * (np.log(floored) + variance / floored + math.log(2 * math.pi)).sum(axis=-1)
        return np.where(self.counts > 0.0, self.counts * per_frame, 0.0)


@dataclass(frozen=True)
class TreeStats:
    """Moments of each phone in context and pdf class that was seen.

    Attributes:
        context_width, central_position: of the windows.
        events: int32 [num_events, context_width + 1], sorted: a window's phones (0 beyond the utterance's edges,
            `NOT_ASKED` around context-independent phones) and the pdf class.
        moments: of each event.
    """

    context_width: int
    central_position: int
    events: Ints
    moments: Moments

    def values(self, key: int) -> Ints:
        """What each event has under a key: a window's position or `PDF_CLASS`; int32 [num_events]."""
        return self.events[:, self.context_width if key == PDF_CLASS else key]

    def event(self, row: int) -> Mapping[int, int]:
        """One event as event maps understand it."""
        *window, pdf_class = self.events[row].tolist()
        return {PDF_CLASS: pdf_class, **{key: phone for key, phone in enumerate(window) if phone != NOT_ASKED}}

    def only(self, rows: NDArray[np.generic]) -> TreeStats:
        """The statistics of some events."""
        return TreeStats(self.context_width, self.central_position, self.events[rows], self.moments[rows])


class StatsAccumulator:
    """Adds up tree statistics, utterance by utterance (acc-tree-stats).

    Args:
        model: of the alignments.
        context_width, central_position: of the windows, 3 and 1 for triphones.
        context_independent: phones whose context is not asked about.

    Raises:
        DataError: the central position is outside the window.
    """

    def __init__(
        self,
        model: TransitionModel,
        context_width: int = 3,
        central_position: int = 1,
        context_independent: Collection[int] = (),
    ) -> None:
        if not 0 <= central_position < context_width:
            raise DataError(f"central position {central_position} in a window of {context_width} phones")
        self._model, self._width, self._position = model, context_width, central_position
        self._context_independent = np.array(sorted(context_independent), dtype=np.int32)
        self._pdf_class_of = pdf_classes(model)
        self._rows: dict[tuple[int, ...], int] = {}
        self._moments: list[tuple[float, Floats, Floats]] = []

    def add(self, utt: str, alignment: Ints, features: NDArray[np.floating]) -> None:
        """Add an utterance.

        Args:
            utt: for messages.
            alignment: int32 [num_frames] transition_ids.
            features: [num_frames, dim].

        Raises:
            DataError: of another length or dimension, of another model, or not of whole phones.
        """
        if len(alignment) != len(features):
            raise DataError(f"{len(features)} frames of features, {len(alignment)} of alignment", utt=utt)
        if self._moments and features.shape[1] != len(self._moments[0][1]):
            raise DataError(f"features of dimension {features.shape[1]} after {len(self._moments[0][1])}", utt=utt)
        if len(alignment) == 0:
            return
        events, inverse = np.unique(self._events(utt, alignment), axis=0, return_inverse=True)
        double = features.astype(np.float64)
        member = np.zeros((len(events), len(double)))
        member[inverse.reshape(-1), np.arange(len(double))] = 1.0
        counts, sums, squares = member.sum(axis=1), member @ double, member @ double**2
        for event, *moments in zip(map(tuple, events.tolist()), counts, sums, squares, strict=True):
            row = self._rows.setdefault(event, len(self._rows))
            if row == len(self._moments):
                self._moments.append((moments[0], moments[1], moments[2]))
            else:
                old = self._moments[row]
                self._moments[row] = (old[0] + moments[0], old[1] + moments[1], old[2] + moments[2])

    def stats(self) -> TreeStats:
        """What was added.

        Raises:
            DataError: nothing was.
        """
        if not self._rows:
            raise DataError("no frames to grow a decision tree on")
        events = sorted(self._rows)
        counts, sums, squares = zip(*(self._moments[self._rows[event]] for event in events), strict=True)
        moments = Moments(np.array(counts), np.array(sums), np.array(squares))
        return TreeStats(self._width, self._position, np.array(events, dtype=np.int32), moments)

    def _events(self, utt: str, alignment: Ints) -> Ints:
        """The event of each frame, int32 [num_frames, context_width + 1]."""
        segments = split_to_phones(self._model, utt, alignment)
        windows = phone_windows([phone for phone, _ in segments], self._width, self._position)
        alone = np.isin(windows[:, self._position], self._context_independent)
        for position in range(self._width):
            if position != self._position:
                windows[alone, position] = NOT_ASKED
        frames = np.repeat(windows, [len(segment) for _, segment in segments], axis=0)
        ids = np.concatenate([segment for _, segment in segments])
        return np.column_stack([frames, self._pdf_class_of[ids]])


def phone_windows(phones: list[int], context_width: int, central_position: int) -> Ints:
    """The window around each phone, 0 beyond the edges: int32 [num_phones, context_width]."""
    padded = np.zeros(len(phones) + context_width - 1, dtype=np.int32)
    padded[central_position : central_position + len(phones)] = phones
    return np.lib.stride_tricks.sliding_window_view(padded, context_width).copy()


def pdf_classes(model: TransitionModel) -> Ints:
    """The pdf class of each transition_id, int32 [num_transition_ids + 1] (TransitionIdToPdfClass)."""
    classes = np.zeros(model.num_transition_ids + 1, dtype=np.int32)
    for transition_id in range(1, model.num_transition_ids + 1):
        state = model.topology.entry(int(model.phone_of[transition_id]))[int(model.hmm_state_of[transition_id])]
        loop = model.is_self_loop[transition_id]
        classes[transition_id] = state.self_loop_pdf_class if loop else state.forward_pdf_class
    return classes
