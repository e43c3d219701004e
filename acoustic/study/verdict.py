"""Whether a measured quantity is where a paper says: intervals over folds, paired tests, the bootstrap of words."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acoustic.decode.wer import Scores
from acoustic.decode.wer_bootstrap import Comparison, compare
from acoustic.study.extra import stats

CONFIDENCE = 0.95


class Verdict(enum.Enum):
    """What can be said of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNKNOWN = "cannot be told here"


@dataclass(frozen=True)
class Judgement:
    """A quantity over folds and seeds.

    Attributes:
        mean: over folds.
        low, high: Student's interval of the mean over folds; infinite with a single fold.
        p_value: of the paired t-test over folds that the mean is 0 (or `centre`); nan with a single fold.
        p_wilcoxon: of Wilcoxon's signed-rank test over folds and seeds together.
        num_inside, num_values: how many of the single values, folds x seeds, are where the claim says.
        verdict: from the interval alone.
    """

    mean: float
    low: float
    high: float
    p_value: float
    p_wilcoxon: float
    num_inside: int
    num_values: int
    verdict: Verdict


def judge(values: NDArray[np.float64], bounds: tuple[float, float], centre: float = 0.0) -> Judgement:
    """Compare a quantity with the range that a claim puts it in.

    Seeds of one fold share its speakers and are no independent samples: they are averaged, and the interval is over
    folds. The claim holds when the whole interval lies in the range, it does not when the interval lies outside, and
    between the two it cannot be told.

    Args:
        values: [num_folds, num_seeds], for a comparison the paired differences.
        bounds: the range, either end may be infinite.
        centre: where there would be no effect; nan for a quantity that is no comparison, which has no p.
    """
    folds = values.mean(axis=1)
    mean, num_folds = float(folds.mean()), len(folds)
    low, high, p_value = -math.inf, math.inf, math.nan
    if num_folds > 1:
        error = float(folds.std(ddof=1)) / math.sqrt(num_folds)
        reach = float(stats().t.ppf(0.5 + CONFIDENCE / 2, num_folds - 1)) * error
        low, high = mean - reach, mean + reach
        if error:
            p_value = float(2 * stats().t.sf(abs(mean - centre) / error, num_folds - 1))
        elif not math.isnan(centre):
            p_value = float(mean == centre)
    inside = (values > bounds[0]) & (values < bounds[1])
    if low > bounds[0] and high < bounds[1]:
        verdict = Verdict.HOLDS
    elif high <= bounds[0] or low >= bounds[1]:
        verdict = Verdict.FAILS
    else:
        verdict = Verdict.UNKNOWN
    return Judgement(mean, low, high, p_value, wilcoxon(values - centre), int(inside.sum()), values.size, verdict)


def wilcoxon(differences: NDArray[np.float64]) -> float:
    """p of Wilcoxon's signed-rank test that the differences lie around 0; nan when there are none but zeros."""
    flat = differences.ravel()
    can_tell = len(flat) > 1 and np.isfinite(flat).all() and flat.any()
    return float(stats().wilcoxon(flat).pvalue) if can_tell else math.nan


def compare_words(first: Sequence[Scores], second: Sequence[Scores]) -> Comparison:
    """Paired bootstrap of the word errors of two settings: second minus first.

    Args:
        first, second: the scores of each fold and seed, in the same order. An utterance is drawn with all its seeds.
    """
    one, other = pooled(first), pooled(second)
    groups: dict[str, list[int]] = {}
    for position, utt in enumerate(one.utts):
        groups.setdefault(utt, []).append(position)
    return compare(one, other, list(groups.values()))


def pooled(scores: Sequence[Scores]) -> Scores:
    """The scores of several trainings as those of one."""
    return Scores(
        utts=[utt for item in scores for utt in item.utts],
        num_words=np.concatenate([item.num_words for item in scores]),
        num_ins=np.concatenate([item.num_ins for item in scores]),
        num_del=np.concatenate([item.num_del for item in scores]),
        num_sub=np.concatenate([item.num_sub for item in scores]),
        is_wrong=np.concatenate([item.is_wrong for item in scores]),
    )
