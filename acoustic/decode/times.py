"""Phone and word times of alignments (Kaldi: ali-to-phones --ctm-output; lattice-align-words, nbest-to-ctm)."""

from __future__ import annotations

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

    def intervals(self, phones: Sequence[Interval], word_ids: Sequence[int]) -> list[Interval]:
        """The words of a transcript and, with label 0, the silences between them, without gaps.

        Silence after a word belongs to it only if its pronunciation must have it.

        Args:
            phones: of the utterance.
            word_ids: its transcript.

        Raises:
            DataError: the lexicon does not make these phones of these words.
        """
        words: list[Interval] = []
        for phone, word in zip(phones, self._word_at_phone(phones, word_ids), strict=True):
            silence = word == 0 and phone.label in self._optional_silence
            if word or silence or not words or words[-1].label == 0:
                words.append(Interval(phone.begin, phone.end, word))
            else:
                words[-1] = Interval(words[-1].begin, phone.end, words[-1].label)
        return words

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
