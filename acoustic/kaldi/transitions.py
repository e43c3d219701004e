"""Transition models: what each transition_id of an alignment or graph stands for (Kaldi: hmm/transition-model.cc).

A transition_state (1-based) is one distinct tuple (phone, HMM state, forward pdf_id, self-loop pdf_id); a transition_id
(1-based) is one arc out of a transition_state, numbered state by state in the order of the topology's transitions.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi import basic
from acoustic.kaldi.matrix import read_vector, write_vector
from acoustic.kaldi.stream import ByteReader, open_reader, open_writer
from acoustic.kaldi.topology import NO_PDF, Topology
from acoustic.kaldi.tree import MAX_PDF_ID, DecisionTree

IntArray = NDArray[np.int32]
Tuple = tuple[int, int, int, int]

# Follows the transition model in a final.mdl -> what the file is.
ACOUSTIC_MODELS = {"<DIMENSION>": "a GMM acoustic model", "<Nnet3>": "an nnet3 acoustic model"}


class TransitionModel:
    """A transition model as arrays.

    Attributes:
        topology: the HMM topology.
        tuples: int32 [num_transition_states, 4]: phone, HMM state, forward pdf_id, self-loop pdf_id (-1: no self-loop);
            row i is transition_state i + 1. Sorted.
        log_prob: float32 [num_transition_ids + 1], indexed by transition_id; entry 0 is unused, as in all of these:
        pdf_of, phone_of, hmm_state_of, transition_state_of: int32, indexed by transition_id.
        is_self_loop, is_final: bool, indexed by transition_id; final means that the arc ends the phone.
        first_transition_id: int32 [num_transition_states + 2], indexed by transition_state; the last entry is one past
            the last transition_id.
        self_loop_of: int32, indexed by transition_state: the transition_id of its self-loop, 0 if it has none.
    """

    def __init__(self, topology: Topology, tuples: IntArray, log_prob: NDArray[np.float32] | None = None) -> None:
        """Number the transition_ids.

        Args:
            topology: the HMM topology.
            tuples: int [N, 4] as the attribute; must be sorted and without repetition.
            log_prob: float32 [num_transition_ids + 1]; by default the topology's own probabilities.

        Raises:
            DataError: tuples that do not fit the topology, probabilities missing or not log probabilities.
        """
        self.topology = topology
        self.tuples = np.ascontiguousarray(tuples, dtype=np.int32)
        self._check_tuples()
        self._number_transitions()
        self.log_prob = self._initial_log_prob() if log_prob is None else np.asarray(log_prob, dtype=np.float32)
        self._check_log_prob()

    @classmethod
    def from_tree(cls, tree: DecisionTree, topology: Topology) -> TransitionModel:
        """The model that Kaldi's TransitionModel(ctx_dep, topo) makes, with the topology's probabilities.

        Raises:
            DataError: the tree has no pdf for some phone and pdf class of the topology.
        """
        tuples: set[Tuple] = set()
        for phone in topology.phones:
            for hmm_state, state in enumerate(topology.entry(phone)):
                if state.forward_pdf_class == NO_PDF:
                    continue
                pairs = _pdf_pairs(tree, topology, phone, hmm_state)
                if not pairs:
                    raise DataError(
                        f"the tree has no pdf for phone {phone}, pdf class {state.forward_pdf_class}",
                        remedy="use tree and topo of one lang directory",
                    )
                tuples |= {(phone, hmm_state, forward, self_loop) for forward, self_loop in pairs}
        return cls(topology, np.array(sorted(tuples), dtype=np.int32))

    @classmethod
    def read(cls, path: str | Path) -> TransitionModel:
        """Read the transition model at the head of a GMM or nnet3 `final.mdl`, or of a file holding nothing else.

        Raises:
            DataError: not such a file, or a damaged one.
        """
        with open_reader(path) as reader:
            reader.read_binary_header()
            return cls.read_from(reader)

    @classmethod
    def read_from(cls, reader: ByteReader) -> TransitionModel:
        """Read the transition model at the reader's position.

        Raises:
            DataError: as `read`.
        """
        reader.expect_token("<TransitionModel>")
        topology = Topology.read_from(reader)
        tuples = _read_tuples(reader)
        reader.expect_token("<LogProbs>")
        log_prob = read_vector(reader)
        reader.expect_token("</LogProbs>")
        reader.expect_token("</TransitionModel>")
        try:
            return cls(topology, tuples, log_prob)
        except DataError as error:
            raise reader.error(error.problem) from error

    @property
    def num_transition_states(self) -> int:
        """How many transition_states there are; they are numbered from 1."""
        return len(self.tuples)

    @property
    def num_transition_ids(self) -> int:
        """How many transition_ids there are; they are numbered from 1."""
        return len(self.transition_state_of) - 1

    @property
    def num_pdfs(self) -> int:
        """The highest pdf_id plus one."""
        return int(self.tuples[:, 2:].max()) + 1

    @property
    def num_phones(self) -> int:
        """The highest phone id (TransitionModel::NumPhones)."""
        return int(self.tuples[:, 0].max())

    def transition_state(self, phone: int, hmm_state: int, forward_pdf: int, self_loop_pdf: int) -> int:
        """The transition_state of a tuple (TupleToTransitionState).

        Raises:
            DataError: the model has no such tuple: tree and model do not belong together.
        """
        found = self._state_of_tuple.get((phone, hmm_state, forward_pdf, self_loop_pdf))
        if found is None:
            raise DataError(
                f"the transition model has no state for phone {phone}, HMM state {hmm_state}, "
                f"pdf ids {forward_pdf} and {self_loop_pdf}",
                remedy="use tree and model of one experiment",
            )
        return found

    def transition_ids(self, transition_state: int) -> range:
        """The transition_ids out of a transition_state, in the order of the topology's transitions."""
        return range(self.first_transition_id[transition_state], self.first_transition_id[transition_state + 1])

    def non_self_loop_log_prob(self, transition_state: int) -> float:
        """Log of one minus the self-loop's probability; 0 without a self-loop (GetNonSelfLoopLogProb)."""
        self_loop = int(self.self_loop_of[transition_state])
        if self_loop == 0:
            return 0.0
        leaving = np.float32(1.0) - np.exp(self.log_prob[self_loop])
        return float(np.log(leaving if leaving > 0.0 else np.float32(1e-10)))  # 1e-10: Kaldi's floor

    def log_prob_ignoring_self_loops(self, transition_id: int) -> float:
        """Log probability of an arc given that the self-loop is not taken."""
        state = int(self.transition_state_of[transition_id])
        return float(self.log_prob[transition_id]) - self.non_self_loop_log_prob(state)

    def reestimated(self, counts: NDArray[np.float64], floor: float = 0.01, min_count: float = 5.0) -> TransitionModel:
        """The maximum-likelihood probabilities for counts of transition_ids (TransitionModel::MleUpdate).

        Args:
            counts: [num_transition_ids + 1], entry 0 unused.
            floor: least probability of an arc.
            min_count: transition_states seen less often keep their probabilities.

        Raises:
            DataError: counts of another length.
        """
        if len(counts) != self.num_transition_ids + 1:
            raise DataError(
                f"{len(counts)} transition counts for {self.num_transition_ids} transition_ids",
                remedy="count over alignments of this model",
            )
        log_prob = self.log_prob.copy()
        for state in range(1, self.num_transition_states + 1):
            ids = slice(self.first_transition_id[state], self.first_transition_id[state + 1])
            total = np.sum(counts[ids], dtype=np.float64)
            if ids.stop - ids.start > 1 and total >= min_count:
                log_prob[ids] = np.log(_floored((counts[ids] / total).astype(np.float32), floor))
        return TransitionModel(self.topology, self.tuples, log_prob)

    def write(self, file: IO[bytes], binary: bool = True) -> None:
        """Write the model, without the file's binary header, as Kaldi does."""
        end_line = b"" if binary else b"\n"
        name = "Triples" if self.topology.is_hmm else "Tuples"
        columns = 3 if self.topology.is_hmm else 4
        basic.write_token(file, "<TransitionModel>")
        file.write(end_line)
        self.topology.write(file, binary)
        basic.write_token(file, f"<{name}>")
        basic.write_int32(file, len(self.tuples), binary)
        file.write(end_line)
        for row in self.tuples[:, :columns].tolist():
            for value in row:
                basic.write_int32(file, value, binary)
            file.write(end_line)
        basic.write_token(file, f"</{name}>")
        file.write(end_line)
        basic.write_token(file, "<LogProbs>")
        file.write(end_line)
        write_vector(file, self.log_prob, binary)
        basic.write_token(file, "</LogProbs>")
        file.write(end_line)
        basic.write_token(file, "</TransitionModel>")
        file.write(end_line)

    def fingerprint(self) -> str:
        """SHA-256 in hex of the structure: what each transition_id means, not how probable it is."""
        states = {
            phone: [(s.forward_pdf_class, s.self_loop_pdf_class, [d for d, _ in s.transitions]) for s in entry]
            for phone, entry in self.topology.entries.items()
        }
        structure = [states, self.tuples.tolist()]
        return hashlib.sha256(json.dumps(structure).encode()).hexdigest()

    def _check_tuples(self) -> None:
        """Refuse tuples that are not those of the topology."""
        if self.tuples.ndim != 2 or self.tuples.shape[1] != 4 or len(self.tuples) == 0:
            raise DataError("a transition model without transition states")
        if self.tuples[:, 2].min() < 0 or self.tuples[:, 3].min() < NO_PDF or self.tuples[:, 2:].max() > MAX_PDF_ID:
            raise DataError("a transition model with a pdf id out of range")
        rows: list[Tuple] = [tuple(row) for row in self.tuples.tolist()]
        if any(a >= b for a, b in pairwise(rows)):
            raise DataError("the tuples of a transition model must be sorted and distinct")
        for phone, hmm_state, _, _ in rows:
            states = self.topology.entry(phone)
            if not 0 <= hmm_state < len(states) or states[hmm_state].forward_pdf_class == NO_PDF:
                raise DataError(f"phone {phone} has no emitting HMM state {hmm_state} in the topology")
        self._state_of_tuple = {row: index for index, row in enumerate(rows, start=1)}

    def _number_transitions(self) -> None:
        """Fill the arrays indexed by transition_id and by transition_state (ComputeDerived)."""
        rows: list[tuple[int, ...]] = [(0, 0, 0, 0, False, False)]
        self.first_transition_id = np.zeros(len(self.tuples) + 2, dtype=np.int32)
        self.self_loop_of = np.zeros(len(self.tuples) + 1, dtype=np.int32)
        for state, (phone, hmm_state, forward_pdf, self_loop_pdf) in enumerate(self.tuples.tolist(), start=1):
            self.first_transition_id[state] = len(rows)
            entry = self.topology.entry(phone)
            for destination, _ in entry[hmm_state].transitions:
                loop = destination == hmm_state
                if loop:
                    self.self_loop_of[state] = len(rows)
                pdf = self_loop_pdf if loop else forward_pdf
                rows.append((pdf, phone, hmm_state, state, loop, destination == len(entry) - 1))
        self.first_transition_id[-1] = len(rows)
        columns = np.ascontiguousarray(np.array(rows, dtype=np.int32).T)
        self.pdf_of, self.phone_of, self.hmm_state_of, self.transition_state_of = columns[:4]
        self.is_self_loop, self.is_final = columns[4].astype(bool), columns[5].astype(bool)
        if np.any(self.pdf_of < 0):
            raise DataError("a self-loop without a pdf id in the transition model")

    def _initial_log_prob(self) -> NDArray[np.float32]:
        """The topology's probabilities (InitializeProbs)."""
        probability = [1.0]
        for phone, hmm_state, _, _ in self.tuples.tolist():
            probability += [p for _, p in self.topology.entry(phone)[hmm_state].transitions]
        return np.log(np.array(probability, dtype=np.float32))

    def _check_log_prob(self) -> None:
        """Refuse log probabilities that are not (Check)."""
        if self.log_prob.shape != (self.num_transition_ids + 1,):
            raise DataError(
                f"a transition model with {self.log_prob.size - 1} log probabilities for its "
                f"{self.num_transition_ids} transition_ids"
            )
        if not np.all(np.isfinite(self.log_prob[1:])) or np.any(self.log_prob[1:] > 0.0):
            raise DataError("the transition model holds a log probability that is positive or not finite")


def _pdf_pairs(tree: DecisionTree, topology: Topology, phone: int, hmm_state: int) -> set[tuple[int, int]]:
    """The (forward, self-loop) pdf_ids that an HMM state can have (ComputeTuplesIsHmm, ComputeTuplesNotHmm)."""
    state = topology.entry(phone)[hmm_state]
    if topology.is_hmm:
        return {(pdf, pdf) for pdf in tree.possible_pdfs(phone, state.forward_pdf_class)}
    return tree.possible_pdf_pairs(phone, state.forward_pdf_class, state.self_loop_pdf_class, topology.phones)


def _floored(probability: NDArray[np.float32], floor: float) -> NDArray[np.float32]:
    """Normalise and floor three times over, as MleUpdate does."""
    for _ in range(3):
        probability = np.maximum(probability * np.float32(1.0 / probability.sum()), np.float32(floor))
    return probability


def _read_tuples(reader: ByteReader) -> IntArray:
    """Read `<Triples>` or `<Tuples>`; in triples the self-loop has the forward pdf_id."""
    kind = reader.read_token()
    if kind not in ("<Triples>", "<Tuples>"):
        raise reader.error(f"expected <Triples> or <Tuples>, found {kind!r}")
    columns = defaultdict(list)
    for _ in range(reader.read_count("tuples")):
        for column in range(3 if kind == "<Triples>" else 4):
            columns[column].append(reader.read_int32())
    reader.expect_token(kind.replace("<", "</"))
    if kind == "<Triples>":
        columns[3] = columns[2]
    return np.array([columns[column] for column in range(4)], dtype=np.int32).T


def fault_of_tree(tree: DecisionTree, model: TransitionModel) -> str | None:
    """What shows that a tree is not the one a model was made from; None when it may be."""
    if tree.num_pdfs != model.num_pdfs:
        return f"a tree of {tree.num_pdfs} pdfs beside a final.mdl of {model.num_pdfs}"
    try:
        expected = TransitionModel.from_tree(tree, model.topology)
    except DataError as error:
        return error.problem
    return None if np.array_equal(expected.tuples, model.tuples) else "gives other HMM states than final.mdl has"


def read_head(path: str | Path) -> tuple[TransitionModel, str | None]:
    """Read the transition model of a final.mdl, and tell what follows it.

    Returns:
        The model, and "a GMM acoustic model", "an nnet3 acoustic model", or None where nothing known follows.

    Raises:
        DataError: as `TransitionModel.read`.
    """
    with open_reader(path) as reader:
        reader.read_binary_header()
        model = TransitionModel.read_from(reader)
        follower = reader.peek_token() if reader.peek(1) else ""
        reader.abort()
    return model, ACOUSTIC_MODELS.get(follower)


def write_model(path: str | Path, model: TransitionModel, binary: bool = True) -> None:
    """Write a `final.mdl` with the transition model alone, which is all that the decoders `*-mapped` of Kaldi read."""
    with open_writer(path) as file:
        if binary:
            basic.write_binary_header(file)
        model.write(file, binary)
