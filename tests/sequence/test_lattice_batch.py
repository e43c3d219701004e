"""Forward-backward over batches of lattices against enumeration of paths and arc-by-arc passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acoustic.errors import DataError
from acoustic.kaldi.lattices import ARC, Lattice, empty_lattice
from acoustic.sequence.lattice_batch import LatticeBatch, Scales
from acoustic.sequence.prepared import PreparedLattice
from tests.sequence.lattices import expected_accuracy, forward_backward, paths, random_lattice

PDF_OF = np.array([-1, 0, 1, 2, 1, 3])  # of transition_ids 1 to 5
NUM_PDFS = 4
SCALES = Scales(acoustic_scale=0.3, lm_scale=0.7, old_acoustic_scale=0.5)


def some(seed: int, lengths: tuple[int, ...] = (2, 4, 1)) -> tuple[list[PreparedLattice], torch.Tensor]:
    generator = np.random.default_rng(seed)
    lattices = [PreparedLattice.of(random_lattice(generator, length, 5)) for length in lengths]
    return lattices, torch.tensor(generator.normal(size=(sum(lengths), NUM_PDFS)))


def arc_scores(lattice: PreparedLattice, loglikes: np.ndarray) -> np.ndarray:
    acoustic = loglikes[np.minimum(lattice.frame, len(loglikes) - 1), PDF_OF[lattice.transition_id]]
    acoustic = np.where(lattice.transition_id > 0, acoustic, 0.0)
    costs = SCALES.lm_scale * lattice.graph_cost.astype(float)
    return SCALES.acoustic_scale * (acoustic - SCALES.old_acoustic_scale * lattice.acoustic_cost) - costs


def split(values: torch.Tensor, batch: LatticeBatch, lattices: list[PreparedLattice]) -> list[np.ndarray]:
    """Values of the batch's arcs, in the order of each lattice's own."""
    own = torch.empty_like(values)
    own[batch.order] = values
    return [part.numpy() for part in own.split([lattice.num_arcs for lattice in lattices])]


@pytest.mark.parametrize("seed", range(3))
def test_scores_totals_and_posteriors_equal_those_of_all_paths(seed: int) -> None:
    lattices, loglikes = some(seed)
    batch = LatticeBatch(lattices, PDF_OF, SCALES)
    scores = batch.scores(loglikes)
    alpha, beta = batch.forward(scores), batch.backward_pass(scores)
    torch.testing.assert_close(beta[batch.start], alpha[batch.last])
    per_utt = loglikes.split([lattice.num_frames for lattice in lattices])
    posteriors = split(batch.posteriors(scores, alpha, beta), batch, lattices)
    of_batch = split(scores, batch, lattices)
    for lattice, utt_loglikes, total, posterior, batch_scores in zip(
        lattices, per_utt, batch.totals(alpha).tolist(), posteriors, of_batch, strict=True
    ):
        expected_scores = arc_scores(lattice, utt_loglikes.numpy())
        np.testing.assert_allclose(batch_scores, expected_scores, atol=1e-12)
        weights = np.zeros(lattice.num_arcs)
        for path in paths(lattice):
            assert sum(lattice.transition_id[path] > 0) == lattice.num_frames
            weights[path] += np.exp(expected_scores[path].sum())
        np.testing.assert_allclose(total, np.log(weights[lattice.source == 0].sum()), atol=1e-10)
        np.testing.assert_allclose(posterior, weights / np.exp(total), atol=1e-10)


def test_passes_equal_those_that_go_arc_by_arc() -> None:
    lattices, loglikes = some(7, (30, 12))
    batch = LatticeBatch(lattices, PDF_OF, SCALES)
    values = torch.tensor(np.random.default_rng(1).random(len(batch.source)))
    scores = batch.scores(loglikes)
    alpha, beta = batch.forward(scores), batch.backward_pass(scores)
    before, behind = batch.mean_forward(scores, alpha, values), batch.mean_backward(scores, beta, values)
    for lattice, own_scores, own_values, total, mean, last_mean in zip(
        lattices, split(scores, batch, lattices), split(values, batch, lattices),
        batch.totals(alpha).tolist(), before[batch.last].tolist(), behind[batch.start].tolist(), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(total, forward_backward(lattice, own_scores)[0][-1], rtol=1e-10)
        expected = expected_accuracy(lattice, own_scores, own_values)[0]
        np.testing.assert_allclose([mean, last_mean], expected, rtol=1e-10)


def test_float32_is_close_and_lattices_do_not_see_each_other() -> None:
    lattices, loglikes = some(3)
    double = LatticeBatch(lattices, PDF_OF, SCALES)
    single = LatticeBatch(lattices, PDF_OF, SCALES, dtype=torch.float32)
    totals = double.totals(double.forward(double.scores(loglikes)))
    torch.testing.assert_close(single.totals(single.forward(single.scores(loglikes))), totals.float())
    for index, utt_loglikes in enumerate(loglikes.split([lattice.num_frames for lattice in lattices])):
        alone = LatticeBatch(lattices[index : index + 1], PDF_OF, SCALES)
        assert alone.totals(alone.forward(alone.scores(utt_loglikes)))[0] == totals[index]


def test_extreme_scores_stay_finite() -> None:
    lattices, loglikes = some(0)
    batch = LatticeBatch(lattices, PDF_OF, SCALES)
    loglikes[1, 2] = -1.8e19  # a disabled pdf
    scores = batch.scores(1000 * loglikes)
    alpha, beta = batch.forward(scores), batch.backward_pass(scores)
    posteriors = batch.posteriors(scores, alpha, beta)
    assert posteriors.isfinite().all() and batch.totals(alpha).isfinite().all()
    assert batch.by_pdf(posteriors, NUM_PDFS).sum(1).allclose(torch.ones(batch.num_frames, dtype=torch.float64))


def test_states_that_lead_nowhere_are_left_out() -> None:
    final = np.full((4, 2), np.inf, np.float32)
    final[2] = 0.0
    arcs = np.array([(1, 0, 0, 0, 1), (2, 0, 0, 0, 3), (1, 0, 0, 0, 2)], ARC)
    prepared = PreparedLattice.of(Lattice(0, final, np.array([0, 2, 3, 3, 3]), arcs, None))
    assert prepared.num_states == 4 and prepared.transition_id.tolist() == [1, 1, 0] and prepared.num_frames == 2


def test_lattices_without_a_path_are_refused() -> None:
    nowhere = Lattice(0, np.full((1, 2), np.inf, np.float32), np.array([0, 0]), np.zeros(0, ARC), None)
    for lattice in (nowhere, empty_lattice()):
        with pytest.raises(DataError, match="without a path"):
            PreparedLattice.of(lattice)
