"""The phone n-gram behind a denominator graph: estimated from alignments, without smoothing (chain-est-phone-lm)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import kaldifst

from acoustic.decode.lang_fst import Arc, build_fst
from acoustic.errors import DataError

BOUNDARY = 0  # what stands before the first phone and is predicted after the last; no phone has this id
History = tuple[int, ...]


@dataclass(frozen=True)
class PhoneNgramOptions:
    """Options of the estimation, as chain-est-phone-lm names them."""

    ngram_order: int = field(default=4, metadata={"help": "phones in the longest n-gram"})
    no_prune_ngram_order: int = field(
        default=3, metadata={"help": "histories of n-grams up to this order are all kept"}
    )
    num_extra_lm_states: int = field(default=1000, metadata={"help": "how many longer histories are kept"})

    def __post_init__(self) -> None:
        """ValueError on orders that make no model."""
        if not 2 <= self.no_prune_ngram_order <= self.ngram_order:
            raise ValueError("--no-prune-ngram-order must lie between 2 and --ngram-order")
        if self.num_extra_lm_states < 0:
            raise ValueError(f"--num-extra-lm-states={self.num_extra_lm_states}: must not be negative")


class PhoneNgram:
    """Relative frequencies of phones after histories.

    There is no backing off: what was never seen after a history cannot follow it, which keeps the graph small; it is
    for training only. A history that is not kept is represented by its longest kept ending, whose counts are those of
    all histories that it represents.

    Attributes:
        counts: for each kept history, how often each phone (or BOUNDARY, the end) followed.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], options: PhoneNgramOptions | None = None) -> None:
        """Estimate from the phones of utterances.

        Raises:
            DataError: no phones at all, or one with an id that is none.
        """
        options = options or PhoneNgramOptions()
        distinct = Counter(tuple(sequence) for sequence in sequences)
        if not any(distinct):
            raise DataError("no phones to estimate the denominator's phone n-gram from", remedy="check the alignments")
        if min(map(min, filter(None, distinct))) <= BOUNDARY:
            raise DataError("phone ids must be positive", remedy="use alignments and model of one experiment")
        self.counts: dict[History, Counter[int]] = {}
        self._kept = _choose_histories(_count(distinct, options.ngram_order), options)
        for sequence, times in distinct.items():
            history: History = (BOUNDARY,)
            for phone in (*sequence, BOUNDARY):
                self.counts.setdefault(history, Counter())[phone] += times
                history = self.next_history(history, phone)

    def next_history(self, history: History, phone: int) -> History:
        """The kept history after `phone` has followed `history`."""
        longer = (*history, phone)
        return next(longer[i:] for i in range(len(longer)) if longer[i:] in self._kept or i == len(longer) - 1)

    def log_prob(self, sequence: Sequence[int]) -> float:
        """Natural log probability of the phones of a whole utterance; minus infinity if they cannot follow."""
        history: History = (BOUNDARY,)
        total = 0.0
        for phone in (*sequence, BOUNDARY):
            counts = self.counts.get(history, Counter())
            if not counts[phone]:
                return -math.inf
            total += math.log(counts[phone] / counts.total())
            history = self.next_history(history, phone)
        return total

    def acceptor(self) -> kaldifst.StdVectorFst:
        """The model as a transducer from phones to nothing; costs are negated natural logs."""
        number = {history: state for state, history in enumerate(self.counts)}
        arcs: list[Arc] = []
        final: dict[int, float] = {}
        for history, counts in self.counts.items():
            total = counts.total()
            for phone, count in sorted(counts.items()):
                cost = math.log(total / count)
                if phone == BOUNDARY:
                    final[number[history]] = cost
                else:
                    arcs.append((number[history], number[self.next_history(history, phone)], phone, 0, cost))
        return build_fst(len(number), number[(BOUNDARY,)], arcs, final)


def _count(sequences: Counter[History], order: int) -> dict[History, Counter[int]]:
    """What followed each full history, of `order` - 1 symbols or reaching back to the utterance's beginning."""
    counts: dict[History, Counter[int]] = defaultdict(Counter)
    for sequence, times in sequences.items():
        padded = (BOUNDARY, *sequence, BOUNDARY)
        for end in range(1, len(padded)):
            counts[padded[max(0, end - order + 1) : end]][padded[end]] += times
    return counts


def _choose_histories(counts: dict[History, Counter[int]], options: PhoneNgramOptions) -> set[History]:
    """The histories worth a state: all short ones, and of the longer those that raise the likelihood most.

    What a longer history gains is the likelihood of what follows it under its own frequencies rather than those of its
    ending. Kaldi removes histories one by one and looks at what each removal costs then; here all are compared once.
    """
    shortest = options.no_prune_ngram_order - 1
    kept: set[History] = set()
    pooled: dict[History, Counter[int]] = defaultdict(Counter)
    for history, following in counts.items():
        for length in range(1, len(history) + 1):
            ending = history[len(history) - length :]
            if length <= shortest:
                kept.add(ending)
            pooled[ending].update(following)
    gains = [
        (_log_likelihood(following) - _cross_log_likelihood(following, pooled[history[1:]]), history)
        for history, following in pooled.items()
        if len(history) > shortest
    ]
    best = sorted(gains, key=lambda gain: (-gain[0], gain[1]))[: options.num_extra_lm_states]
    return kept | {history for gain, history in best if gain > 0.0}


def _log_likelihood(counts: Counter[int]) -> float:
    return _cross_log_likelihood(counts, counts)


def _cross_log_likelihood(counts: Counter[int], model: Counter[int]) -> float:
    """Log likelihood of `counts` under the relative frequencies of `model`."""
    total = model.total()
    return sum(count * math.log(model[phone] / total) for phone, count in counts.items())
