"""Phone and word times of alignments (Kaldi: ali-to-phones --ctm-output; lattice-align-words, nbest-to-ctm)."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numpy as np
from numpy.typing import NDArray

from acoustic.decode.graph_arrays import to_vector
from acoustic.errors import DataError
from acoustic.kaldi.alignments import split_to_phones
from acoustic.kaldi.fst import read_fst
from acoustic.kaldi.transitions import TransitionModel


@dataclass(frozen=True)
class Interval:
    """A stretch of frames with a label.

    Attributes:
        begin: its first frame.
        end: one past its last frame.
        label: id of a phone or word; 0 for no word.
    """

    begin: int
    end: int
    label: int


def phone_intervals(model: TransitionModel, utt: str, alignment: NDArray[np.int32]) -> list[Interval]:
    """The phones of an alignment, without gaps between them.

    Args:
        model: the model of the alignment.
        utt: for messages.
        alignment: int32 [num_frames] transition_ids.

    Raises:
        DataError: the alignment is of another model or does not consist of whole phones.
    """
    intervals: list[Interval] = []
    begin = 0
    for phone, segment in split_to_phones(model, utt, alignment):
        intervals.append(Interval(begin, begin + len(segment), phone))
        begin += len(segment)
    return intervals


class WordTimes:
    """Finds the words of aligned phones by the lexicon, whether or not its phones carry word positions.

    Args:
        lexicon: L.fst of the lang directory, phones to words, the word at a pronunciation's first phone.
        optional_silence: phones that may stand between words (phones/optional_silence.int).

    Raises:
        DataError: the lexicon's file is damaged.
    """

    def __init__(self, lexicon: str | Path, optional_silence: Collection[int]) -> None:
        self._lexicon = to_vector(read_fst(lexicon))
        kaldifst.arcsort(self._lexicon, sort_type="olabel")
        self._optional_silence = frozenset(optional_silence)
        self._known: dict[tuple[int, tuple[int, ...]], bool] = {}

    def intervals(self, phones: Sequence[Interval], word_ids: Sequence[int]) -> list[Interval]:
        """The words of a transcript and, with label 0, the silences between them, without gaps.

        Silence after a word belongs to it only if its pronunciation must have it.

        Args:
            phones: of the utterance.
            word_ids: its transcript.

        Raises:
            DataError: the lexicon does not make these phones of these words.
        """
        begins = self._word_at_phone(phones, word_ids)
        firsts = [*(number for number, word in enumerate(begins) if word), len(phones)]
        words = [Interval(phone.begin, phone.end, 0) for phone in phones[: firsts[0]]]
        for first, after in itertools.pairwise(firsts):
            end = self._end_of_word(begins[first], [phone.label for phone in phones[first:after]]) + first
            words.append(Interval(phones[first].begin, phones[end - 1].end, begins[first]))
            words += [Interval(phone.begin, phone.end, 0) for phone in phones[end:after]]
        return words

    def _end_of_word(self, word: int, phones: Sequence[int]) -> int:
        """How many of a word's phones and of the silences behind it are of the word: as few as it can have."""
        end = len(phones)
        while end > 1 and phones[end - 1] in self._optional_silence:
            end -= 1
        while end < len(phones) and not self._is_pronunciation(word, tuple(phones[:end])):
            end += 1
        return end

    def _is_pronunciation(self, word: int, phones: tuple[int, ...]) -> bool:
        """Whether the lexicon makes the phones of the word alone."""
        key = word, phones
        if key not in self._known:
            lg = kaldifst.compose(self._lexicon, kaldifst.make_linear_acceptor([word]))
            kaldifst.arcsort(lg, sort_type="ilabel")
            self._known[key] = kaldifst.compose(kaldifst.make_linear_acceptor(list(phones)), lg).start >= 0
        return self._known[key]

    def _word_at_phone(self, phones: Sequence[Interval], word_ids: Sequence[int]) -> list[int]:
        """The word that begins at each phone, 0 where none does."""
        lg = kaldifst.compose(self._lexicon, kaldifst.make_linear_acceptor(list(word_ids)))
        if lg.start >= 0:
            kaldifst.arcsort(lg, sort_type="ilabel")
            lg = kaldifst.compose(kaldifst.make_linear_acceptor([phone.label for phone in phones]), lg)
        if lg.start < 0:
            raise DataError(
                "the lexicon does not make the alignment's phones of the transcript's words",
                remedy="use the lang directory and the transcripts that the alignment was made with",
            )
        path = kaldifst.shortest_path(lg)
        starting, waiting, state = [], 0, path.start
        while arcs := list(kaldifst.ArcIterator(path, state)):
            (arc,) = arcs
            waiting = arc.olabel or waiting  # a word on an arc without phone begins at the next one
            if arc.ilabel:
                starting.append(waiting)
                waiting = 0
            state = arc.nextstate
        return starting
