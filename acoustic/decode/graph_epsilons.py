"""Local removal of epsilons: joins an arc with the next where one of the two is epsilon and nothing is lost.

Kaldi's fstrmepslocal (fstext/remove-eps-local-inl.h) in its default form: equivalent in the tropical semiring, keeping
states stochastic in the log semiring. It never makes the graph larger. Only states near epsilons are touched, so
Python visits those and nothing else.
"""

from __future__ import annotations

import math

import numpy as np

from acoustic.kaldi.fst import ARC, FstArrays

INFINITY = math.inf

# An arc while it is worked on: input label, output label, weight, next state (-1 once deleted).
Arc = list[float]
ILABEL, OLABEL, WEIGHT, NEXT = range(4)
DELETED = -1


def remove_epsilons_locally(fst: FstArrays) -> FstArrays:
    """Remove the epsilons that can be removed without adding arcs; the result may hold states without paths."""
    return _Remover(fst).run() if fst.num_states else fst


def log_add(a: float, b: float) -> float:
    """The cost of either of two events, -log(exp(-a) + exp(-b))."""
    if a > b:
        a, b = b, a
    return a if b == INFINITY else a - math.log1p(math.exp(a - b))


def joined(first: Arc, second: Arc) -> Arc | None:
    """One arc for two in a row, None when both have an input or both have an output."""
    if (first[ILABEL] and second[ILABEL]) or (first[OLABEL] and second[OLABEL]):
        return None
    return [
        first[ILABEL] or second[ILABEL],
        first[OLABEL] or second[OLABEL],
        first[WEIGHT] + second[WEIGHT],
        second[NEXT],
    ]


class _Remover:
    """The graph while epsilons are removed from it: arrays, and lists of arcs for the states touched."""

    def __init__(self, fst: FstArrays) -> None:
        self.fst = fst
        self.final = fst.final.astype(np.float64)
        self.opened: dict[int, list[Arc]] = {}
        # Starting counts as an arc in, ending as an arc out.
        self.num_in = np.bincount(fst.arcs["nextstate"], minlength=fst.num_states)
        self.num_in[fst.start] += 1
        self.num_out = np.diff(fst.first_arc) + np.isfinite(fst.final)

    def run(self) -> FstArrays:
        """Visit the states that have a chance, in order; arcs added on the way are visited too."""
        for state in self._candidates():
            arcs = self._arcs(state)
            position = 0
            while position < len(arcs):
                self._visit(state, arcs[position])
                position += 1
        return self._assembled()

    def _candidates(self) -> list[int]:
        """States with an epsilon input on an arc out or on an arc one step further; all others are left as they are.

        Joining needs an arc without input, and arcs made by joining lead where an opened state or its successor led.
        """
        arcs, sources = self.fst.arcs, self.fst.sources()
        near = np.zeros(self.fst.num_states, dtype=bool)
        epsilon = arcs["ilabel"] == 0
        has_epsilon = np.zeros(self.fst.num_states, dtype=bool)
        has_epsilon[sources[epsilon]] = True
        near[sources[epsilon | has_epsilon[arcs["nextstate"]]]] = True
        return np.flatnonzero(near).tolist()

    def _arcs(self, state: int) -> list[Arc]:
        """The arcs of a state, as lists from now on."""
        if state not in self.opened:
            rows = self.fst.arcs[self.fst.first_arc[state] : self.fst.first_arc[state + 1]]
            self.opened[state] = [list(row) for row in rows.tolist()]
        return self.opened[state]

    def _visit(self, state: int, arc: Arc) -> None:
        after = int(arc[NEXT])
        if after in (DELETED, state):
            return
        if self.num_in[after] == 1 and self.num_out[after] > 1:
            self._pull_back(state, arc, after)
        elif self.num_out[after] == 1:
            self._skip(state, arc, after)

    def _pull_back(self, state: int, arc: Arc, after: int) -> None:
        """`arc` is the only one into `after`, which has several out: join it with those it can be joined with."""
        removed = kept = INFINITY
        new_arcs = []
        for next_arc in self._arcs(after):
            if next_arc[NEXT] == DELETED:
                continue
            combined = joined(arc, next_arc)
            if combined is None:
                kept = log_add(kept, next_arc[WEIGHT])
                continue
            removed = log_add(removed, next_arc[WEIGHT])
            self._delete(after, next_arc)
            new_arcs.append(combined)
        final = float(self.final[after])
        if final < INFINITY:
            if arc[ILABEL] or arc[OLABEL]:
                kept = log_add(kept, final)
            else:
                removed = log_add(removed, final)
                self._add_final(state, arc[WEIGHT] + final)
                self._delete_final(after)
        if removed < INFINITY:
            if kept == INFINITY:
                self._delete(state, arc)
            else:
                self._reweight(arc, after, kept - log_add(removed, kept))
        for new_arc in new_arcs:
            self._add(state, new_arc)

    def _skip(self, state: int, arc: Arc, after: int) -> None:
        """`after` has a single way on: join `arc` with it, leaving the way to other arcs into `after`."""
        is_only = self.num_in[after] == 1
        final = float(self.final[after])
        if final < INFINITY:
            if arc[ILABEL] or arc[OLABEL]:
                return
            self._add_final(state, arc[WEIGHT] + final)
            if is_only:
                self._delete_final(after)
        else:
            next_arc = next(candidate for candidate in self._arcs(after) if candidate[NEXT] != DELETED)
            combined = joined(arc, next_arc)
            if combined is None:
                return
            if is_only:
                self._delete(after, next_arc)
            self._add(state, combined)
        self._delete(state, arc)

    def _reweight(self, arc: Arc, after: int, cost: float) -> None:
        """Move a cost from what leaves `after` to `arc`, its only way in."""
        arc[WEIGHT] += cost
        for next_arc in self._arcs(after):
            next_arc[WEIGHT] -= cost
        self.final[after] -= cost

    def _add(self, state: int, arc: Arc) -> None:
        self._arcs(state).append(arc)
        self.num_out[state] += 1
        self.num_in[int(arc[NEXT])] += 1

    def _delete(self, state: int, arc: Arc) -> None:
        self.num_out[state] -= 1
        self.num_in[int(arc[NEXT])] -= 1
        arc[NEXT] = DELETED

    def _add_final(self, state: int, cost: float) -> None:
        """Let paths end in `state`, too; of two ways to end the cheaper counts."""
        if self.final[state] == INFINITY:
            self.num_out[state] += 1
        self.final[state] = min(self.final[state], cost)

    def _delete_final(self, state: int) -> None:
        self.num_out[state] -= 1
        self.final[state] = INFINITY

    def _assembled(self) -> FstArrays:
        """Arrays again: the arcs of untouched states as they were, those of opened states as they are now."""
        live = {state: [arc for arc in arcs if arc[NEXT] != DELETED] for state, arcs in self.opened.items()}
        opened = np.zeros(self.fst.num_states, dtype=bool)
        opened[list(live)] = True
        counts = np.diff(self.fst.first_arc)
        counts[list(live)] = [len(arcs) for arcs in live.values()]
        first_arc = np.concatenate([[0], np.cumsum(counts)])
        arcs = np.empty(first_arc[-1], dtype=ARC)
        arcs[np.repeat(~opened, counts)] = self.fst.arcs[~opened[self.fst.sources()]]
        rows = [tuple(arc) for state in sorted(live) for arc in live[state]]
        arcs[np.repeat(opened, counts)] = np.array(rows, dtype=ARC)
        return FstArrays(self.fst.start, self.final.astype(np.float32), first_arc, arcs)
