"""Growing decision trees of context-dependent states (Kaldi: tree/build-tree.cc)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.event_map import PDF_CLASS, EventMap, Leaf, Split, Table, answer
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.tree import DecisionTree, root_map
from acoustic.states.merge_leaves import merge_leaves
from acoustic.states.questions import PhoneSet
from acoustic.states.tree_stats import Moments, TreeStats

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Root:
    """A root of the tree: phones that share it (a line of phones/roots.int).

    Attributes:
        phones: sorted.
        shared: all pdf classes begin in one leaf; else each has its own.
        split: whether it is grown at all.
    """

    phones: tuple[int, ...]
    shared: bool
    split: bool


@dataclass(frozen=True)
class TreeOptions:
    """How far a tree is grown; names and defaults as in Kaldi's build-tree, but for num_leaves, there 0.

    Attributes:
        num_leaves: no more splits than make so many leaves; leaves are merged after that.
        thresh: least gain of a split, in log likelihood.
        cluster_thresh: leaves of one root are merged where that costs less; 0: none; negative: as the last split gave.
    """

    num_leaves: int = 2000
    thresh: float = 300.0
    cluster_thresh: float = -1.0


@dataclass(frozen=True)
class Question:
    """A question on an event: whether its value under `key` is one of `yes`."""

    key: int
    yes: PhoneSet


@dataclass(frozen=True)
class GrownTree:
    """A tree and how it came about.

    Attributes:
        tree: the tree.
        num_roots: leaves before any split.
        gains: log likelihood that each split gained, in order.
        num_merged: leaves lost by merging.
        num_frames: in the statistics.
    """

    tree: DecisionTree
    num_roots: int
    gains: list[float]
    num_merged: int
    num_frames: float


def read_roots(path: str | Path) -> list[Root]:
    """Read `phones/roots.int`.

    Raises:
        DataError: the file is missing, or a line is not `shared|not-shared split|not-split PHONE ...`.
    """
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from error
    roots = []
    for number, line in enumerate(lines, start=1):
        shared, split, phones = (*line.split(maxsplit=2), "", "", "")[:3]
        ids = phones.split()
        if shared not in ("shared", "not-shared") or split not in ("split", "not-split") or not ids:
            raise DataError(
                f"expected shared|not-shared split|not-split PHONES, found {line!r}", path=path, line=number
            )
        if not all(phone.isdigit() for phone in ids):
            raise DataError(f"expected phone ids, found {phones!r}", path=path, line=number)
        roots.append(Root(tuple(sorted(int(phone) for phone in ids)), shared == "shared", split == "split"))
    return roots


def build_tree(
    stats: TreeStats,
    roots: Sequence[Root],
    questions: Sequence[PhoneSet],
    topology: Topology,
    options: TreeOptions | None = None,
) -> GrownTree:
    """Grow a tree: split the leaf that gains most until none gains enough, then merge leaves (BuildTree).

    Args:
        stats: of phones in context.
        roots: cover all phones of the topology.
        questions: on each phone of the window.
        topology: how many pdf classes phones have.
        options: how far.

    Raises:
        DataError: roots and topology do not have the same phones, or statistics are of other phones.
    """
    options = options or TreeOptions()
    stub = _stub(stats, roots, topology)
    splitting = {phone: root.split for root in roots for phone in root.phones}
    centres = stats.values(stats.central_position).tolist()
    if not set(centres) <= set(splitting):
        raise DataError("the alignments have phones that roots.int lacks", remedy="use one lang directory for both")
    leaf_of = _leaves_of(stats, stub)
    num_roots = 1 + max(leaf.answer for leaf in _leaves(stub))
    splitter = _Splitter(stats, _all_questions(stats, questions, topology), num_roots)
    may_split = np.array([splitting[phone] for phone in centres])
    for root in range(num_roots):
        splitter.add_leaf(root, np.flatnonzero((leaf_of == root) & may_split))
    gains = splitter.grow(options)
    grown = _replaced(stub, splitter.grown)
    threshold = options.cluster_thresh if options.cluster_thresh >= 0.0 else min(gains, default=0.0)
    merged = merge_leaves(stats.moments, leaf_of, _leaves_of(stats, grown), threshold)
    kept = {merged.get(leaf.answer, leaf.answer) for leaf in _leaves(grown)}
    new_id = {old: new for new, old in enumerate(sorted(kept))}
    final = _replaced(grown, {leaf: Leaf(new_id[merged.get(leaf, leaf)]) for leaf in range(splitter.num_leaves)})
    tree = DecisionTree(stats.context_width, stats.central_position, final)
    return GrownTree(tree, num_roots, gains, splitter.num_leaves - len(kept), float(stats.moments.counts.sum()))


class _Splitter:
    """Splits leaves, always the one whose best question gains most (SplitDecisionTree)."""

    def __init__(self, stats: TreeStats, questions: Sequence[Question], num_leaves: int) -> None:
        self._stats, self._questions = stats, questions
        self._answers = np.array(
            [np.isin(stats.values(question.key), question.yes) for question in questions], dtype=np.float64
        ).reshape(len(questions), len(stats.events))
        self._best: dict[int, tuple[float, int, Rows]] = {}
        self._splits: list[tuple[int, int, Question]] = []
        self.num_leaves = num_leaves

    def add_leaf(self, leaf: int, rows: Rows) -> None:
        """Look for the best question on a leaf with these events."""
        gain, question = best_question(self._stats.moments[rows], self._answers[:, rows], self._allowed(rows))
        self._best[leaf] = (gain, question, rows)

    def grow(self, options: TreeOptions) -> list[float]:
        """Split as far as the options say; gives the gains."""
        gains = []
        while self.num_leaves < options.num_leaves:
            leaf = max(self._best, key=lambda leaf: self._best[leaf][0])
            gain, question, rows = self._best[leaf]
            if not gain > max(options.thresh, 0.0):
                break
            yes = self._answers[question, rows] > 0.0
            gains.append(gain)
            self._splits.append((leaf, self.num_leaves, self._questions[question]))
            self.add_leaf(leaf, rows[yes])  # as in Kaldi: yes keeps the number, no gets a new one
            self.add_leaf(self.num_leaves, rows[~yes])
            self.num_leaves += 1
        return gains

    @property
    def grown(self) -> Mapping[int, EventMap]:
        """What each leaf of the stub has become."""
        maps: dict[int, EventMap] = {leaf: Leaf(leaf) for leaf in range(self.num_leaves)}
        for yes, no, question in reversed(self._splits):
            maps[yes] = Split(question.key, frozenset(question.yes), maps[yes], maps.pop(no))
        return maps

    def _allowed(self, rows: Rows) -> NDArray[np.bool_]:
        """Questions whose key all events have."""
        keys = {question.key for question in self._questions}
        defined = {key: bool(np.all(self._stats.values(key)[rows] >= 0)) for key in keys}
        return np.array([defined[question.key] for question in self._questions], dtype=bool)


def best_question(
    moments: Moments, answers: NDArray[np.float64], allowed: NDArray[np.bool_] | None = None
) -> tuple[float, int]:
    """The question that gains most log likelihood by one Gaussian more, and how much (FindBestSplitForKey).

    Args:
        moments: of a leaf's events.
        answers: 1 for yes, 0 for no, float64 [num_questions, num_events].
        allowed: which questions may be asked, bool [num_questions]; by default all.

    Returns:
        (gain, question); gain 0 where nothing can be gained.
    """
    if len(moments.counts) < 2 or not len(answers):
        return 0.0, 0
    yes, no = moments.combined(answers), moments.combined(1.0 - answers)
    gains = yes.log_likelihood() + no.log_likelihood() - moments.total().log_likelihood()
    gains[(yes.counts == 0.0) | (no.counts == 0.0)] = 0.0
    if allowed is not None:
        gains[~allowed] = 0.0
    best = int(np.argmax(gains))
    return float(gains[best]), best


def _all_questions(stats: TreeStats, questions: Sequence[PhoneSet], topology: Topology) -> list[Question]:
    """Questions on the state (pdf class at most k), then on each phone of the window (compile-questions)."""
    num_classes = max(topology.num_pdf_classes(phone) for phone in topology.phones)
    on_state = [Question(PDF_CLASS, tuple(range(last + 1))) for last in range(num_classes - 1)]
    distinct = sorted(set(questions))
    return on_state + [Question(key, phones) for key in range(stats.context_width) for phones in distinct]


def _stub(stats: TreeStats, roots: Sequence[Root], topology: Topology) -> EventMap:
    """The tree before any split: a leaf for each root, or for each of its pdf classes."""
    phones = [phone for root in roots for phone in root.phones]
    if sorted(phones) != topology.phones:
        raise DataError("roots.int and topo do not have the same phones", remedy="use one lang directory")
    lengths = [1 if root.shared else max(topology.num_pdf_classes(phone) for phone in root.phones) for root in roots]
    sets = [list(root.phones) for root in roots]
    return root_map(sets, lengths, [root.shared for root in roots], count(), stats.central_position)


def _leaves_of(stats: TreeStats, to_leaf: EventMap) -> Rows:
    """The leaf of each event, int [num_events].

    Raises:
        DataError: an event has none.
    """
    leaves = [answer(to_leaf, stats.event(row)) for row in range(len(stats.events))]
    if None in leaves:
        raise DataError("the alignments have pdf classes that topo lacks", remedy="use one lang directory for both")
    return np.array(leaves, dtype=np.intp)


def _leaves(node: EventMap | None) -> list[Leaf]:
    """The leaves below a node, left to right."""
    if node is None:
        return []
    if isinstance(node, Leaf):
        return [node]
    children = (node.yes, node.no) if isinstance(node, Split) else node.children
    return [leaf for child in children for leaf in _leaves(child)]


def _replaced(node: EventMap, new: Mapping[int, EventMap]) -> EventMap:
    """The map with each leaf replaced."""
    if isinstance(node, Leaf):
        return new[node.answer]
    if isinstance(node, Split):
        return Split(node.key, node.yes_set, _replaced(node.yes, new), _replaced(node.no, new))
    return Table(node.key, tuple(None if child is None else _replaced(child, new) for child in node.children))
