# ruff: noqa: RUF001 (IPA letters that resemble others)
"""From phoneme events to phones with true times: one inventory for all accents, closures and liquids put right."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from corpus.espeak import PhonemeEvent

SILENCE = "SIL"

# Phone of the lexicon -> espeak-ng's IPA names, over all accents in voices.ACCENTS.
IPA_NAMES = {
    **{"P": "p", "B": "b", "T": "t ʔ", "D": "d", "DX": "ɾ", "K": "k", "G": "ɡ", "CH": "tʃ", "JH": "dʒ"},
    **{"F": "f", "V": "v", "TH": "θ t̪", "DH": "ð", "S": "s", "Z": "z", "SH": "ʃ", "ZH": "ʒ", "HH": "h"},
    **{"M": "m", "N": "n n̩", "NG": "ŋ", "L": "l", "EL": "əl", "R": "ɹ r", "W": "w ʍ", "Y": "j"},
    **{"IY": "iː i", "IH": "ɪ ᵻ e", "EH": "ɛ", "AE": "æ a", "AA": "ɑː aː a: aa ɑə", "OH": "ɒ", "AO": "ɔː ɔ ɔə oə o"},
    **{"UH": "ʊ ʉ", "UW": "uː ʉː", "AH": "ʌ", "AX": "ə ɐ ɜ", "AXR": "ɚ əɹ", "ER": "ɜː ʌɹ"},
    **{"EY": "eɪ eː", "AY": "aɪ", "AYX": "aɪə", "OW": "oʊ oː əʊ", "AW": "aʊ æʊ ʌʉ"},
    **{"IA": "iə ɪɹ", "AAR": "ɑːɹ", "AOR": "ɔːɹ", "UA": "ʊə ʊɹ ʉɹ"},
}
PHONE_OF = {ipa: phone for phone, names in IPA_NAMES.items() for ipa in names.split()}
GLIDE = "ʲ"
"""A transitional sound that belongs to the phone before it."""

STOPS = {"P", "B", "T", "D", "K", "G", "CH", "JH"}
LIQUIDS = {"L", "R"}
# fmt: off
VOWELS = {
    "IY", "IH", "EH", "AE", "AA", "OH", "AO", "UH", "UW", "AH", "AX", "AXR", "ER",
    "EY", "AY", "AYX", "OW", "AW", "IA", "UA",
}
# fmt: on

QUIET = 0.02
"""Amplitude below which a sample counts as silent, relative to the loudest."""
SHORTEST_S = 0.02
"""What a phone keeps when its neighbour takes a part of it."""
SHORT_LIQUID_S = 0.035
LIQUID_SHARE = 0.4


@dataclass
class Phone:
    """A phone as spoken.

    Attributes:
        label: of the inventory, or SILENCE.
        begin, end: seconds.
        word: index of its word in the utterance, -1 for silence.
    """

    label: str
    begin: float
    end: float
    word: int


def phones_of_events(
    events: list[PhonemeEvent], words: list[str], samples: NDArray[np.int16], sample_rate: int
) -> list[Phone]:
    """The phones of a phrase, one after another from 0 to the end of its audio.

    Args:
        events: of the synthesis of the words joined by single blanks.
        words: the phrase.
        samples: int16 [num_samples].
        sample_rate: of the samples.

    Raises:
        DataError: espeak-ng made a sound that is not in the inventory.
    """
    position, word_at = 1, {}
    for index, word in enumerate(words):
        word_at[position] = index
        position += len(word) + 1
    duration = len(samples) / sample_rate
    phones: list[Phone] = []
    for event in events:
        begin = event.sample / sample_rate
        if event.ipa in ("", GLIDE):
            continue  # a pause at the phrase's end, dealt with below, or a transition that prolongs the phone before
        if event.ipa not in PHONE_OF or event.text_position not in word_at:
            raise DataError(
                f"espeak-ng said {event.ipa!r} at character {event.text_position} of {' '.join(words)!r}; "
                "this phoneme is not in the inventory, or no word begins there",
                remedy="add the phoneme to IPA_NAMES in corpus/phones.py, or change the word",
            )
        phones.append(Phone(PHONE_OF[event.ipa], begin, duration, word_at[event.text_position]))
    for phone, following in pairwise(phones):
        phone.end = following.begin
    phones[-1].end = _end_of_speech(events, sample_rate, duration)
    _give_closures_to_stops(phones, samples, sample_rate)
    _lengthen_liquids(phones)
    return _with_outer_silence(phones, duration)


def _end_of_speech(events: list[PhonemeEvent], sample_rate: int, duration: float) -> float:
    """Where the nameless events that end the phrase begin."""
    end = duration
    for event in reversed(events):
        if event.ipa:
            break
        end = event.sample / sample_rate
    return end


def _give_closures_to_stops(phones: list[Phone], samples: NDArray[np.int16], sample_rate: int) -> None:
    """Move the beginning of each stop back to where its closure begins.

    espeak-ng reports a stop at its burst; the silence before it would count as part of the phone before.
    """
    threshold = QUIET * float(np.abs(samples.astype(np.float64)).max())
    for previous, stop in zip([None, *phones[:-1]], phones, strict=True):
        if stop.label not in STOPS:
            continue
        earliest = 0.0 if previous is None else previous.begin + min(SHORTEST_S, (stop.begin - previous.begin) / 2)
        first, last = int(earliest * sample_rate), int(stop.begin * sample_rate)
        loud = np.flatnonzero(np.abs(samples[first:last].astype(np.float64)) > threshold)
        begin = first + (int(loud[-1]) + 1 if len(loud) else 0)
        stop.begin = min(stop.begin, begin / sample_rate)
        if previous is not None:
            previous.end = stop.begin


def _lengthen_liquids(phones: list[Phone]) -> None:
    """Give a liquid that closes a syllable its part of the vowel.

    espeak-ng builds it into the vowel's last formant frames and reports it only as the tongue lets go, if at all.
    """
    for vowel, liquid in pairwise(phones):
        if liquid.label in LIQUIDS and vowel.label in VOWELS and liquid.end - liquid.begin < SHORT_LIQUID_S:
            liquid.begin = liquid.end - LIQUID_SHARE * (liquid.end - vowel.begin)
            vowel.end = liquid.begin


def _with_outer_silence(phones: list[Phone], duration: float) -> list[Phone]:
    """Add silence before the first and behind the last phone where there is room for it."""
    before = [Phone(SILENCE, 0.0, phones[0].begin, -1)] if phones[0].begin > 0.0 else []
    after = [Phone(SILENCE, phones[-1].end, duration, -1)] if phones[-1].end < duration else []
    return [*before, *phones, *after]
