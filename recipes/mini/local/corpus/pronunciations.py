"""The lexicon: how words were pronounced in train; and every utterance's phones made to agree with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby, pairwise

from corpus.phones import Phone
from corpus.speech import Utterance

MIN_SHARE = 0.04
"""A pronunciation must make up this much of a word's tokens to stand in the lexicon."""
MAX_DISTANCE = 0.5
"""Edits per phone of the lexicon beyond which a token is not taken for the word it should be."""

Pronunciation = tuple[str, ...]
Lexicon = dict[str, list[Pronunciation]]


def word_tokens(utterance: Utterance) -> list[tuple[str, list[Phone]]]:
    """Each word of an utterance with the phones it was spoken with."""
    spoken = [phone for phone in utterance.phones if phone.word >= 0]
    return [(utterance.words[index], list(phones)) for index, phones in groupby(spoken, key=lambda phone: phone.word)]


def collect_lexicon(utterances: Iterable[Utterance]) -> Lexicon:
    """The pronunciations of each word, most frequent first, rare ones left out."""
    counts: defaultdict[str, Counter[Pronunciation]] = defaultdict(Counter)
    for utterance in utterances:
        for word, phones in word_tokens(utterance):
            counts[word][tuple(phone.label for phone in phones)] += 1
    lexicon: Lexicon = {}
    for word, of_word in sorted(counts.items()):
        ranked = sorted(of_word.items(), key=lambda item: (-item[1], item[0]))
        least = MIN_SHARE * of_word.total()
        lexicon[word] = [pronunciation for pronunciation, count in ranked if count >= least]
    return lexicon


def agree_with_lexicon(utterance: Utterance, lexicon: Lexicon) -> Utterance | None:
    """The utterance with each word's phones relabelled as the nearest pronunciation; None if a word is too far off."""
    phones: list[Phone] = []
    for index, group in groupby(utterance.phones, key=lambda phone: phone.word):
        spoken = list(group)
        if index < 0:
            phones += spoken
            continue
        relabelled = _relabel(spoken, lexicon.get(utterance.words[index], []))
        if relabelled is None:
            return None
        phones += relabelled
    return replace(utterance, phones=phones)


def _relabel(spoken: list[Phone], pronunciations: list[Pronunciation]) -> list[Phone] | None:
    """The phones of the pronunciation nearest to `spoken`, with times; None if there is none near enough."""
    labels = [phone.label for phone in spoken]
    alignments = [(align(labels, pronunciation), pronunciation) for pronunciation in pronunciations]
    if not alignments:
        return None
    (distance, matches), nearest = min(alignments, key=lambda item: item[0][0])
    if distance > MAX_DISTANCE * len(nearest):
        return None
    return _timed(spoken, nearest, matches)


def align(spoken: list[str], pronunciation: Pronunciation) -> tuple[int, list[int | None]]:
    """Edit distance, and for each phone of the pronunciation the index of the spoken phone it stands for, if any."""
    num_spoken, num_phones = len(spoken), len(pronunciation)
    cost = [[i + j for j in range(num_phones + 1)] for i in range(num_spoken + 1)]
    for i in range(1, num_spoken + 1):
        for j in range(1, num_phones + 1):
            substitution = cost[i - 1][j - 1] + (spoken[i - 1] != pronunciation[j - 1])
            cost[i][j] = min(substitution, cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    matches: list[int | None] = [None] * num_phones
    i, j = num_spoken, num_phones
    while i > 0 and j > 0:
        if cost[i][j] == cost[i - 1][j - 1] + (spoken[i - 1] != pronunciation[j - 1]):
            i, j = i - 1, j - 1
            matches[j] = i
        elif cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return cost[num_spoken][num_phones], matches


def _timed(spoken: list[Phone], pronunciation: Pronunciation, matches: list[int | None]) -> list[Phone]:
    """Give the pronunciation's phones their times.

    A matched phone begins where the spoken one does (the first where the word does), and so lasts over spoken phones
    that the lexicon lacks. Phones that were not spoken share evenly the time of the matched one before them, at the
    word's beginning that of the one behind them.
    """
    known = [(0, spoken[0].begin)]
    # Neither unmatched phones (None) nor one matched to the first spoken phone (0), whose time is the word's beginning.
    known += [(index, spoken[match].begin) for index, match in enumerate(matches) if match and index > 0]
    known.append((len(matches), spoken[-1].end))
    times: list[float] = []
    for (index, begin), (following, end) in pairwise(known):
        times += [begin + (end - begin) * step / (following - index) for step in range(following - index)]
    times.append(spoken[-1].end)
    return [
        Phone(label, begin, end, spoken[0].word)
        for label, (begin, end) in zip(pronunciation, pairwise(times), strict=True)
    ]
