"""Word error rates of single speakers, and the aligned listing of errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import kaldialign

from acoustic.decode.wer import Scores, groups_by_speaker
from acoustic.decode.wer_bootstrap import confidence_interval

GAP = ""  # stands for no word in an alignment


@dataclass(frozen=True)
class SpeakerWer:
    """Word error rate of a speaker in per cent, with its 95 % interval over draws of the speaker's utterances."""

    speaker: str
    num_words: int
    num_errors: int
    wer: float
    low: float
    high: float


def speaker_wers(scores: Scores, utt2spk: Mapping[str, str]) -> list[SpeakerWer]:
    """The word error rate of every speaker with words; a set without speakers is one speaker, called `all`."""
    groups = groups_by_speaker(scores, utt2spk) if utt2spk else {"all": list(range(len(scores.utts)))}
    rows = []
    for speaker, index in sorted(groups.items()):
        part = scores.select(index)
        words = int(part.num_words.sum())
        if words:
            interval = confidence_interval(part)
            rows.append(SpeakerWer(speaker, words, int(part.num_errors.sum()), part.wer, interval.low, interval.high))
    return rows


def aligned_words(ref: Sequence[str], hyp: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of reference and hypothesis words; GAP where one side has none."""
    return [(str(one), str(other)) for one, other in kaldialign.align(list(ref), list(hyp), GAP)]


def commonest_errors(pairs: Iterable[tuple[str, str]], count: int) -> list[tuple[str, str, int]]:
    """The commonest pairs that differ: reference word, hypothesis word, how often."""
    errors = Counter(pair for pair in pairs if pair[0] != pair[1])
    return [(*pair, number) for pair, number in errors.most_common(count)]
