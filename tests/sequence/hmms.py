"""Small HMMs to run recursions over."""

from __future__ import annotations

import numpy as np

from acoustic.sequence.hmm import Hmm

NUM_PDFS = 3


def random_hmm(seed: int, num_states: int = 4) -> Hmm:
    """An HMM with weights that are nobody's probabilities; its START is never entered."""
    rng = np.random.default_rng(seed)
    sources, targets = np.nonzero(rng.random((num_states, num_states)) < 0.8)
    sources, targets = sources[targets > 0], targets[targets > 0]
    return Hmm(
        rng.integers(0, NUM_PDFS, num_states),
        sources,
        targets,
        rng.random(len(sources)),
        rng.random(num_states),
        rng.random(num_states),
    )


def ergodic_hmm(num_states: int, num_pdfs: int, seed: int = 0) -> Hmm:
    """An HMM with self-loops in which everything is reached from everywhere."""
    rng = np.random.default_rng(seed)
    chain = np.arange(1, num_states)
    following = np.roll(chain, -1)
    jumps = rng.integers(1, num_states, num_states - 1)
    sources, targets = np.concatenate([chain, chain, chain]), np.concatenate([chain, following, jumps])
    probs = np.repeat([0.6, 0.3, 0.1], num_states - 1)
    initial = np.full(num_states, 1 / num_states)
    return Hmm(rng.integers(0, num_pdfs, num_states), sources, targets, probs, initial, np.ones(num_states))


def many_of_one_pdf(num_states: int, num_pdfs: int) -> Hmm:
    """An ergodic HMM of which half the states emit pdf_id 0."""
    hmm = ergodic_hmm(num_states, num_pdfs)
    hmm.pdf_of[: num_states // 2] = 0
    return hmm


def hmm_with_a_state_never_reached() -> Hmm:
    """An HMM whose states emit pdf_id 0, but for one that leads to itself and to state 1, which emits pdf_id 1."""
    hmm, never = ergodic_hmm(6, 1), 6
    return Hmm(
        np.append(hmm.pdf_of, 1),
        np.append(hmm.sources, [never, never]),
        np.append(hmm.targets, [never, 1]),
        np.append(hmm.probs, [0.5, 0.5]),
        np.append(hmm.initial, 0.0),
        np.ones(never + 1),
    )
