"""How sure a word error rate is: the bootstrap of Bisani and Ney (ICASSP 2004).

Utterances, or whole speakers when utterances of one speaker err alike, are drawn with replacement; the spread of the
WER over many such draws is that of the WER over test sets of this size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.wer import Scores
from acoustic.errors import ConfigError, DataError

DRAWS_AT_ONCE = 1 << 22  # bounds the memory of drawn indices to 32 MB


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a word error rate.

    Attributes:
        low, high: its ends, in per cent.
        std_error: standard deviation of the WER over the draws, in per cent.
        confidence: probability that the interval covers, such as 0.95.
        num_groups: how many utterances or speakers were drawn from.
        num_samples: how many draws were made.
    """

    low: float
    high: float
    std_error: float
    confidence: float
    num_groups: int
    num_samples: int


@dataclass(frozen=True)
class Comparison:
    """Two systems on one test set.

    Attributes:
        difference: WER of the second minus WER of the first, in per cent absolute.
        low, high: confidence interval of the difference.
        probability_of_improvement: share of draws in which the second has the lower WER (Bisani and Ney, equation 8).
    """

    difference: float
    low: float
    high: float
    probability_of_improvement: float


def confidence_interval(
    scores: Scores,
    groups: Sequence[Sequence[int]] | None = None,
    num_samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The bootstrap percentile interval of the WER.

    Args:
        scores: errors of each utterance.
        groups: positions in `scores` that are drawn together (one group for each speaker); by default each utterance
            is drawn by itself.
        num_samples: how many test sets to draw.
        seed: of the draws; the same seed gives the same interval.
        confidence: the probability to cover, between 0 and 1.

    Raises:
        ConfigError: `num_samples` is not positive, or `confidence` not between 0 and 1.
    """
    errors, words = _sums(scores, groups)
    wers = _resampled_rates(np.stack([errors]), words, num_samples, seed)[0]
    low, high = _percentiles(wers, confidence)
    return Interval(low, high, float(np.std(wers)), confidence, len(words), num_samples)


def compare(
    first: Scores,
    second: Scores,
    groups: Sequence[Sequence[int]] | None = None,
    num_samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Comparison:
    """The paired bootstrap: both systems are scored on the same draws, so that hard utterances count for both.

    Args:
        first, second: scores of the two systems over the same utterances.
        groups, num_samples, seed, confidence: as in `confidence_interval`.

    Raises:
        ConfigError: `num_samples` is not positive, or `confidence` not between 0 and 1.
        DataError: the utterances or their references differ.
    """
    if first.utts != second.utts or not np.array_equal(first.num_words, second.num_words):
        raise DataError("the two systems were not scored on the same utterances", remedy="score both on one reference")
    first_errors, words = _sums(first, groups)
    second_errors, _ = _sums(second, groups)
    wers = _resampled_rates(np.stack([first_errors, second_errors]), words, num_samples, seed)
    differences = wers[1] - wers[0]
    low, high = _percentiles(differences, confidence)
    return Comparison(second.wer - first.wer, low, high, float(np.mean(differences < 0.0)))


def _sums(scores: Scores, groups: Sequence[Sequence[int]] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Errors and words of each group."""
    errors, words = scores.num_errors, scores.num_words
    if groups is None:
        return errors, words
    return (
        np.array([errors[list(group)].sum() for group in groups]),
        np.array([words[list(group)].sum() for group in groups]),
    )


def _resampled_rates(
    errors: NDArray[np.int64], words: NDArray[np.int64], num_samples: int, seed: int
) -> NDArray[np.float64]:
    """Error rates in per cent, [num_systems, num_samples], of draws shared by the systems.

    Args:
        errors: [num_systems, num_groups].
        words: [num_groups].
    """
    if num_samples < 1:
        raise ConfigError(f"{num_samples} bootstrap samples: at least 1 is needed")
    rng = np.random.default_rng(seed)
    num_groups = len(words)
    at_once = max(1, DRAWS_AT_ONCE // num_groups)
    rates = []
    for begin in range(0, num_samples, at_once):
        drawn = rng.integers(num_groups, size=(min(at_once, num_samples - begin), num_groups))
        # A draw of nothing but empty references has no error rate; it counts as 0 words of errors over 1.
        num_words = np.maximum(words[drawn].sum(axis=1), 1)
        rates.append(100.0 * errors[:, drawn].sum(axis=2) / num_words)
    return np.concatenate(rates, axis=1)


def _percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"an interval of confidence {confidence}: a probability between 0 and 1 is needed")
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)
