"""N-gram estimation from text: interpolated Witten-Bell, written as a backoff model.

Witten and Bell (1991), method C, in the recursive form of Chen and Goodman (1998), section 2.5: after a history h
seen c(h) times with t(h) different words,

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)),

where h' is h without its first word, and below the unigrams stands the uniform distribution over the vocabulary.
A word never seen after h gets t(h) / (c(h) + t(h)) times p(w | h'), which is the backoff weight of the ARPA format.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from acoustic.decode.lang_dict import FORBIDDEN_WORDS
from acoustic.decode.lang_text import iter_lines
from acoustic.errors import DataError
from acoustic.kaldi.stream import open_reader

NGram = tuple[str, ...]
Estimates = dict[NGram, tuple[float, float | None]]

BEGIN, END = "<s>", "</s>"
LOG_ZERO = -99.0  # how ARPA files write the logarithm of zero: no word sequence continues with <s>


def read_sentences(text: str, has_utterance_ids: bool = False) -> Iterator[list[str]]:
    """Yield the words of each line of a UTF-8 text (an rxfilename); blank lines are no sentences.

    Args:
        has_utterance_ids: the first field of a line is an utterance id, as in a data directory's `text`.

    Raises:
        DataError: the text cannot be read, or holds a word that a language model cannot have.
    """
    with open_reader(text) as reader:
        for number, line in iter_lines(reader):
            try:
                words = [word.decode("utf-8") for word in line.split()][int(has_utterance_ids) :]
            except UnicodeDecodeError as error:
                raise DataError("is not UTF-8", path=text, line=number) from error
            forbidden = [word for word in words if word in FORBIDDEN_WORDS]
            if forbidden:
                raise DataError(f"{forbidden[0]} cannot be a word of the text", path=text, line=number)
            if words:
                yield words


def witten_bell(sentences: Iterable[Sequence[str]], order: int, vocabulary: Iterable[str] = ()) -> list[Estimates]:
    """Estimate an n-gram model.

    Args:
        sentences: words of each sentence, without <s> and </s>.
        order: longest n-gram, 1 or more.
        vocabulary: words that get a probability though the text may lack them.

    Returns:
        For order 1, 2, ...: n-gram -> (log10 probability, log10 backoff weight or None), as `write_arpa` takes them.

    Raises:
        DataError: there is no sentence.
    """
    counts = count_ngrams(sentences, order)
    if not counts[0]:
        raise DataError("the text holds no sentence")
    for word in vocabulary:
        counts[0].setdefault((word,), 0)
    probs: list[dict[NGram, float]] = [{(): 1.0 / len(counts[0])}]
    backoffs: list[dict[NGram, float]] = []
    for ngrams in counts:
        total, types = Counter[NGram](), Counter[NGram]()
        for ngram, count in ngrams.items():
            total[ngram[:-1]] += count
            types[ngram[:-1]] += count > 0
        lower = probs[-1]
        # The uniform distribution below the unigrams is one number.
        shorter = {ngram: lower[ngram[1:] if len(ngram) > 1 else ()] for ngram in ngrams}
        probs.append(
            {
                ngram: (count + types[ngram[:-1]] * shorter[ngram]) / (total[ngram[:-1]] + types[ngram[:-1]])
                for ngram, count in ngrams.items()
            }
        )
        backoffs.append({history: types[history] / (total[history] + types[history]) for history in total})
    backoffs.append({})
    model = [
        {ngram: (math.log10(prob), log10_or_none(backoffs[length].get(ngram))) for ngram, prob in probs[length].items()}
        for length in range(1, order + 1)
    ]
    model[0][(BEGIN,)] = (LOG_ZERO, log10_or_none(backoffs[1].get((BEGIN,))))
    return model


def count_ngrams(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[NGram]]:
    """Count the n-grams of order 1, 2, ...; sentences begin with <s>, which is never predicted, and end with </s>."""
    counts = [Counter[NGram]() for _ in range(order)]
    for sentence in sentences:
        words = (BEGIN, *sentence, END)
        for end in range(1, len(words)):
            for length in range(1, min(order, end + 1) + 1):
                counts[length - 1][words[end + 1 - length : end + 1]] += 1
    return counts


def log10_or_none(value: float | None) -> float | None:
    """log10 of a number, None of None."""
    return None if value is None else math.log10(value)
