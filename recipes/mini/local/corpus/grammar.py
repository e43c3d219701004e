"""What is said: a bigram grammar over word classes, sampled from and written exactly as an ARPA model."""

from __future__ import annotations

import math

import numpy as np

WORDS = {
    "verb": "call find send open close play stop read show book move check start bring turn",
    "polite": "please",
    "pronoun": "me him her them us",
    "determiner": "the my your this every no a",
    "adjective": "big small red green blue black white cold warm new old quiet early late long short",
    "noun": "table room door window light letter message number ticket train flight taxi hotel doctor teacher garden "
    "kitchen dinner music paper picture water meeting river house office story",
    "preposition": "to for from with near before after at on in about",
    "day": "monday tuesday wednesday thursday friday saturday sunday",
    "number": "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty",
    "place": "london paris berlin madrid boston dublin vienna",
    "name": "anna peter maria david susan thomas robin",
    "adverb": "now again",
    "conjunction": "and",
}

# class -> classes that may follow, with weights; "" ends the sentence.
SUCCESSORS = {
    "<s>": {"verb": 6, "polite": 2, "name": 1, "determiner": 1, "number": 1},
    "verb": {"determiner": 5, "pronoun": 2, "name": 2, "number": 2, "preposition": 1},
    "polite": {"verb": 5, "": 1},
    "pronoun": {"determiner": 3, "preposition": 2, "number": 1, "adverb": 1, "": 1},
    "determiner": {"noun": 5, "adjective": 4, "number": 1},
    "adjective": {"noun": 6, "adjective": 1},
    "noun": {"preposition": 4, "adverb": 1, "conjunction": 1, "verb": 0.5, "": 2},
    "preposition": {"determiner": 4, "place": 2, "name": 2, "day": 2, "number": 2, "pronoun": 1},
    "day": {"preposition": 2, "adverb": 1, "conjunction": 1, "": 2},
    "number": {"noun": 2, "number": 2, "day": 0.5, "conjunction": 0.5, "": 1.5},
    "place": {"preposition": 2, "adverb": 1, "conjunction": 1, "": 2},
    "name": {"preposition": 2, "adverb": 1, "conjunction": 1, "verb": 1, "": 2},
    "adverb": {"verb": 1, "preposition": 1, "conjunction": 1, "": 2},
    "conjunction": {"verb": 2, "determiner": 2, "name": 1, "number": 1, "place": 1},
}

BACKOFF_MASS = 0.05
"""Share of each word's successors that may be any word."""

MIN_WORDS, MAX_WORDS = 3, 10

Ngrams = dict[tuple[str, ...], tuple[float, float | None]]


class BigramGrammar:
    """Bigram probabilities with back-off to unigrams, summing to one after every history.

    Attributes:
        words: the vocabulary, sorted.
    """

    def __init__(self) -> None:
        """Compute the probabilities from the classes."""
        members = {name: _zipf(text.split()) for name, text in WORDS.items()}
        self.words = sorted(word for text in WORDS.values() for word in text.split())
        class_of = {word: name for name, words in members.items() for word in words} | {"<s>": "<s>"}
        # Unigram: each class and the sentence end weigh as much as they have words, within a class as after a bigram.
        total = len(self.words) + len(members)
        self._unigrams = {"</s>": len(members) / total}
        for words in members.values():
            self._unigrams |= {word: prob * len(words) / total for word, prob in words.items()}
        self._bigrams = {history: _successors(SUCCESSORS[name], members) for history, name in sorted(class_of.items())}
        self._backoffs = {
            history: BACKOFF_MASS / (1.0 - sum(self._unigrams[word] for word in successors))
            for history, successors in self._bigrams.items()
        }
        self._outcomes = [*self.words, "</s>"]

    def probability(self, word: str, history: str) -> float:
        """P(word | history); `<s>` and `</s>` are the sentence's edges."""
        listed = self._bigrams[history].get(word)
        return self._backoffs[history] * self._unigrams[word] if listed is None else listed

    def sample(self, rng: np.random.Generator) -> list[str]:
        """A sentence of MIN_WORDS to MAX_WORDS words; shorter and longer ones are thrown away."""
        while True:
            sentence = ["<s>"]
            while sentence[-1] != "</s>" and len(sentence) <= MAX_WORDS + 1:
                probabilities = [self.probability(word, sentence[-1]) for word in self._outcomes]
                sentence.append(self._outcomes[int(rng.choice(len(probabilities), p=probabilities))])
            words = sentence[1:-1]
            if sentence[-1] == "</s>" and MIN_WORDS <= len(words) <= MAX_WORDS:
                return words

    def arpa(self) -> list[Ngrams]:
        """The model for `acoustic.decode.lang_arpa.write_arpa`: unigrams, bigrams."""
        unigrams: Ngrams = {("<s>",): (-99.0, math.log10(self._backoffs["<s>"]))}
        for word, prob in self._unigrams.items():
            backoff = None if word == "</s>" else math.log10(self._backoffs[word])
            unigrams[(word,)] = (math.log10(prob), backoff)
        bigrams: Ngrams = {
            (history, word): (math.log10(prob), None)
            for history, successors in self._bigrams.items()
            for word, prob in successors.items()
        }
        return [unigrams, bigrams]


def _zipf(words: list[str]) -> dict[str, float]:
    """Probabilities falling with the square root of the rank."""
    weights = [1.0 / math.sqrt(rank) for rank in range(1, len(words) + 1)]
    return {word: weight / sum(weights) for word, weight in zip(words, weights, strict=True)}


def _successors(classes: dict[str, float], members: dict[str, dict[str, float]]) -> dict[str, float]:
    """The listed successors of a word: those of its class's successor classes."""
    share = (1.0 - BACKOFF_MASS) / sum(classes.values())
    listed = {}
    for name, weight in classes.items():
        for word, prob in members[name].items() if name else (("</s>", 1.0),):
            listed[word] = share * weight * prob
    return listed
