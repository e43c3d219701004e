"""The lexicon as a transducer from phones to words: disambiguation symbols, optional silence, pronunciation costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import kaldifst

from acoustic.decode.lang_dict import Pronunciation, SilenceModel
from acoustic.decode.lang_fst import Arc, build_fst

EPSILON = 0


def add_disambiguation(lexicon: Sequence[Pronunciation]) -> tuple[list[Pronunciation], int]:
    """Append #1, #2, ... to pronunciations that are not unique or are a prefix of another (add_lex_disambig.pl).

    With them the lexicon's inverse is sequential: without, composing it with a grammar could not be determinized.

    Returns:
        The lexicon with the symbols at the ends of the phones, and the highest number used (0: none).
    """
    count = Counter(entry.phones for entry in lexicon)
    prefixes = {entry.phones[:length] for entry in lexicon for length in range(1, len(entry.phones))}
    last_used: Counter[tuple[str, ...]] = Counter()
    marked = []
    for entry in lexicon:
        phones = entry.phones
        if count[phones] > 1 or phones in prefixes:
            last_used[phones] += 1
            phones = (*phones, f"#{last_used[phones]}")
        marked.append(replace(entry, phones=phones))
    return marked, max(last_used.values(), default=0)


def lexicon_fst(
    lexicon: Sequence[Pronunciation],
    phone_ids: Mapping[str, int],
    word_ids: Mapping[str, int],
    silence_phone: str,
    silence_prob: float,
    silence_disambig: str | None = None,
) -> kaldifst.StdVectorFst:
    """Phones -> words, any number of them, with optional silence (make_lexicon_fst.py), sorted by output label.

    Args:
        silence_prob: probability of `silence_phone` before the first word and after each; 0 means never.
        silence_disambig: symbol that follows the optional silence, in the lexicon used for decoding.
    """
    if silence_prob == 0.0:
        words_enter, states_after, initial, num_states = 0, {0: 0.0}, [], 1
    else:
        silence_cost, no_silence_cost = -math.log(silence_prob), -math.log(1.0 - silence_prob)
        # State 0 starts, words leave 1 and come back to it or to 2, from where a silence leads to 1.
        words_enter, states_after = 1, {1: no_silence_cost, 2: silence_cost}
        initial = [(0, state, EPSILON, EPSILON, cost) for state, cost in states_after.items()]
        if silence_disambig is None:
            initial.append((2, 1, phone_ids[silence_phone], EPSILON, 0.0))
            num_states = 3
        else:
            initial.append((2, 3, phone_ids[silence_phone], EPSILON, 0.0))
            initial.append((3, 1, phone_ids[silence_disambig], EPSILON, 0.0))
            num_states = 4
    arcs: list[Arc] = initial
    for entry in lexicon:
        source, word, cost = words_enter, word_ids[entry.word], -math.log(entry.prob)
        for phone in entry.phones[:-1]:
            arcs.append((source, num_states, phone_ids[phone], word, cost))
            source, word, cost = num_states, EPSILON, 0.0
            num_states += 1
        last_phone = phone_ids[entry.phones[-1]]
        arcs += [(source, state, last_phone, word, after + cost) for state, after in states_after.items()]
    fst = build_fst(num_states, 0, arcs, {words_enter: 0.0})
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst


def silence_lexicon_fst(
    lexicon: Sequence[Pronunciation],
    model: SilenceModel,
    phone_ids: Mapping[str, int],
    word_ids: Mapping[str, int],
    silence_phone: str,
    silence_disambig: str | None = None,
) -> kaldifst.StdVectorFst:
    """Like `lexicon_fst`, with silence probabilities of each word (make_lexicon_fst_silprob.py).

    The disambiguation symbol stands where the silence does not.
    """
    after_word, after_silence = 1, 2
    silence = phone_ids[silence_phone]
    no_silence = EPSILON if silence_disambig is None else phone_ids[silence_disambig]
    arcs: list[Arc] = [
        (0, after_word, no_silence, EPSILON, -math.log(1.0 - model.prob_initial)),
        (0, after_silence, silence, EPSILON, -math.log(model.prob_initial)),
    ]
    num_states = 3
    for entry in lexicon:
        around = entry.silence
        if around is None:
            raise ValueError(f"pronunciation of {entry.word} without silence probabilities")
        cost, first_phone, word = -math.log(entry.prob), phone_ids[entry.phones[0]], word_ids[entry.word]
        cost_after_word = cost - math.log(around.correction_after_word)
        cost_after_silence = cost - math.log(around.correction_after_silence)
        arcs.append((after_word, num_states, first_phone, word, cost_after_word))
        arcs.append((after_silence, num_states, first_phone, word, cost_after_silence))
        for phone in entry.phones[1:]:
            arcs.append((num_states, num_states + 1, phone_ids[phone], EPSILON, 0.0))
            num_states += 1
        arcs.append((num_states, after_word, no_silence, EPSILON, -math.log(1.0 - around.prob_after)))
        arcs.append((num_states, after_silence, silence, EPSILON, -math.log(around.prob_after)))
        num_states += 1
    final_costs = {
        after_silence: -math.log(model.correction_final_silence),
        after_word: -math.log(model.correction_final_word),
    }
    fst = build_fst(num_states, 0, arcs, final_costs)
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst
