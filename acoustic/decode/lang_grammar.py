"""G.fst from an ARPA model: a state for each history, an arc for each n-gram, backoff arcs reading #0.

The construction of Kaldi's arpa2fst --disambig-symbol=#0 (lm/arpa-lm-compiler.cc): `<s>` is where the grammar starts,
`</s>` a final cost, and a history from which only backing off is possible is bypassed.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from pathlib import Path

import kaldifst
import numpy as np
from numpy.typing import NDArray

from acoustic.decode.lang_arpa import ArpaReader, NGram
from acoustic.decode.lang_fst import build_fst
from acoustic.errors import DataError
from acoustic.kaldi.stream import open_reader
from acoustic.log import Tally

History = tuple[int, ...]
EPSILON = 0
NO_HISTORY = 0  # the state of the empty history


def arpa_to_fst(
    arpa: str | Path, word_ids: Mapping[str, int], disambig_symbol: str = "#0"
) -> tuple[kaldifst.StdVectorFst, Tally]:
    """Compile an ARPA model into a grammar, an acceptor of words but for `disambig_symbol` on backoff arcs' input.

    Args:
        arpa: an rxfilename; `.gz` and pipes are read too.
        word_ids: the system's words. N-grams with other words are left out.

    Returns:
        The grammar, arcs sorted by input label, and the count of n-grams used and of those left out by reason.

    Raises:
        DataError: the ARPA file is ill-formed, holds <eps> or `disambig_symbol` as a word, an n-gram twice, or no
            sentence can be made of what is left; or `word_ids` lacks `disambig_symbol`.
    """
    if disambig_symbol not in word_ids:
        raise DataError(f"the words lack the disambiguation symbol {disambig_symbol}", path=arpa)
    with open_reader(str(arpa)) as source:
        reader = ArpaReader(source)
        builder = GrammarBuilder(reader, word_ids, disambig_symbol)
        for ngram in reader.ngrams():
            builder.add(ngram)
    return builder.finish(arpa), builder.tally


class GrammarBuilder:
    """Takes in n-grams, lower orders first, and makes the grammar of them."""

    def __init__(self, reader: ArpaReader, word_ids: Mapping[str, int], disambig_symbol: str) -> None:
        self.tally = Tally("n-grams")
        self._reader = reader
        self._order = len(reader.counts)
        # <s> and </s> label no arc, so tables that lack them will do.
        unused = max(word_ids.values()) + 1
        self._word_ids = {b"<s>": unused, b"</s>": unused + 1}
        self._word_ids.update({word.encode(): number for word, number in word_ids.items()})
        self._begin, self._end = self._word_ids[b"<s>"], self._word_ids[b"</s>"]
        self._disambig = word_ids[disambig_symbol]
        self._states: dict[History, int] = {(): NO_HISTORY}
        self._start: int | None = None
        self._final_log_prob: dict[int, float] = {}
        # Of every state, where backing off leads and its log10 weight.
        self._backoff_state, self._log_backoff = array("i", [-1]), array("d", [0.0])
        # Of every arc with a word; logarithms to base 10.
        self._source, self._target, self._label = array("i"), array("i"), array("i")
        self._log_prob, self._line = array("d"), array("q")

    def add(self, ngram: NGram) -> None:
        """Take in one n-gram, or count it as left out."""
        words = tuple([self._word_ids.get(word, -1) for word in ngram.words])
        reason = self._reason_to_skip(words)
        if reason:
            self.tally.skip(reason, f"line {ngram.line}", b" ".join(ngram.words).decode(errors="replace"))
            return
        self.tally.done()
        source, word = self._states[words[:-1]], words[-1]
        if word == self._end:
            if source in self._final_log_prob:
                raise self._reader.error("this n-gram has appeared before")
            self._final_log_prob[source] = ngram.log_prob
            return
        # After an n-gram of the highest order nothing tells its history from the history one word shorter.
        history = words[1:] if len(words) == self._order else words
        target = self._state_of(history, ngram.log_backoff)
        if word == self._begin:
            self._start = target
            return
        self._source.append(source)
        self._target.append(target)
        self._label.append(word)
        self._log_prob.append(ngram.log_prob)
        self._line.append(ngram.line)

    def _reason_to_skip(self, words: History) -> str | None:
        if -1 in words:
            return "word not in the symbol table"
        if EPSILON in words or self._disambig in words:
            raise self._reader.error("epsilon or the disambiguation symbol cannot be a word of the model")
        if self._begin in words[1:] or self._end in words[:-1]:
            return "<s> or </s> out of place"
        if words[:-1] not in self._states:
            return "history is no n-gram of the model"
        return None

    def _state_of(self, history: History, log_backoff: float) -> int:
        """The state of a history, made when new: it backs off to the longest shorter history there is."""
        state = self._states.get(history)
        if state is None:
            state = len(self._backoff_state)
            self._states[history] = state
            shorter = history[1:]
            while shorter not in self._states:
                shorter = shorter[1:]
            self._backoff_state.append(self._states[shorter])
            self._log_backoff.append(log_backoff)
        return state

    def finish(self, arpa: str | Path) -> kaldifst.StdVectorFst:
        """The grammar of all n-grams taken in."""
        if self._start is None:
            raise DataError("has no unigram <s>", path=arpa)
        self._check_unique(arpa)
        num_states = len(self._backoff_state)
        num_words = np.bincount(np.asarray(self._source), minlength=num_states)
        only_backoff = num_words == 0
        only_backoff[[NO_HISTORY, *self._final_log_prob]] = False
        backoff_cost = costs(self._log_backoff)
        backoff_state = np.asarray(self._backoff_state)

        def bypass(
            target: NDArray[np.int32], cost: NDArray[np.float32]
        ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
            """Lead arcs past the states that can only back off."""
            while np.any(passing := only_backoff[target]):
                cost = np.where(passing, cost + backoff_cost[target], cost)
                target = np.where(passing, backoff_state[target], target)
            return target, cost

        targets, arc_costs = bypass(np.asarray(self._target), costs(self._log_prob))
        source, label = np.asarray(self._source), np.asarray(self._label)
        backing_off = np.flatnonzero((backoff_state >= 0) & (~only_backoff | (np.arange(num_states) == self._start)))
        backoff_targets, backoff_costs = bypass(backoff_state[backing_off], backoff_cost[backing_off])
        backoff_labels = np.where(only_backoff[backing_off], EPSILON, self._disambig)
        no_output = np.zeros_like(backoff_labels)
        arcs = [
            *zip(*(column.tolist() for column in (source, targets, label, label, arc_costs)), strict=True),
            *zip(
                *(c.tolist() for c in (backing_off, backoff_targets, backoff_labels, no_output, backoff_costs)),
                strict=True,
            ),
        ]
        final_costs = dict(zip(self._final_log_prob, costs(self._final_log_prob.values()).tolist(), strict=True))
        fst = build_fst(num_states, self._start, arcs, final_costs)
        kaldifst.connect(fst)
        if fst.num_states == 0 or not self._label:
            raise DataError(
                "no sentence can be made of its n-grams", path=arpa, remedy="is this the ARPA of these words?"
            )
        kaldifst.arcsort(fst, sort_type="ilabel")
        return fst

    def _check_unique(self, arpa: str | Path) -> None:
        """DataError at the first line that gives an n-gram a second time."""
        keys = np.asarray(self._source).astype(np.int64) << 32 | np.asarray(self._label)
        first = np.unique(keys, return_index=True)[1]
        if len(first) < len(keys):
            again = np.setdiff1d(np.arange(len(keys)), first)[0]
            raise DataError("this n-gram has appeared before", path=arpa, line=self._line[int(again)])


def costs(log_probs: object) -> NDArray[np.float32]:
    """Costs (minus natural logarithm) of log10 probabilities, rounded as Kaldi rounds them: to float at every step."""
    log10 = np.fromiter(log_probs, np.float32)  # type: ignore[call-overload]
    return -(log10.astype(np.float64) * math.log(10)).astype(np.float32)
