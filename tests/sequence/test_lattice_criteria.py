"""MMI, boosted MMI, MPE and sMBR: what Kaldi computed, finite differences, enumeration of paths."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.sequence.criteria import UnusableError
from acoustic.sequence.lattice_batch import LatticeBatch, Scales
from acoustic.sequence.lattice_criteria import LatticeCriterion, LatticeCriterionConfig, boosted
from acoustic.sequence.prepared import PreparedLattice
from tests.kaldi.goldens import GOLDEN
from tests.sequence.lattices import expected_accuracy, forward_backward, paths, random_lattice

FOLDER = GOLDEN / "sequence"
MODEL = TransitionModel.read(GOLDEN / "model/tri1/transition_model.txt")
ALIGNMENTS = dict(read_table(f"ark:{FOLDER / 'ali.txt'}", "int_vector"))
LOGLIKES = dict(read_table(f"ark:{FOLDER / 'loglikes.ark'}", "matrix"))
LATTICES = {
    name: {utt: PreparedLattice.of(lattice) for utt, lattice in read_table(f"ark:{FOLDER / name}.ark", "lattice")}
    for name in ("den", "raw")
}
SILENCE = [1, 2, 3, 4, 5]
OPTIONS: dict[str, dict[str, Any]] = {
    "mmi": {"name": "mmi"},
    "mmi_all": {"name": "mmi", "drop_frames": False},
    "mpe": {"name": "mpe", "one_silence_class": False},
    "mpe_one": {"name": "mpe", "one_silence_class": True},
    "smbr": {"name": "smbr", "one_silence_class": False},
    "smbr_one": {"name": "smbr", "one_silence_class": True},
    "old": {"name": "smbr", "one_silence_class": False, "old_acoustic_scale": 0.7, "lm_scale": 0.6},
}


def criterion(lattices: str, **options: Any) -> LatticeCriterion:
    config = LatticeCriterionConfig(acoustic_scale=0.1, silence_phones=SILENCE, **options)
    return LatticeCriterion(config, MODEL, ALIGNMENTS, LATTICES[lattices])


def dense(posterior: list[list[tuple[int, float]]], num_columns: int) -> np.ndarray:
    matrix = np.zeros((len(posterior), num_columns))
    for frame, entries in enumerate(posterior):
        for column, value in entries:
            matrix[frame, column] += value
    return matrix


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("lattices", LATTICES)
def test_values_and_derivatives_are_those_of_kaldis_programs(lattices: str, name: str) -> None:
    derivatives = dict(read_table(f"ark:{FOLDER / 'derivatives.txt'}", "posterior"))
    values = json.loads((FOLDER / "values.json").read_text())
    score = criterion(lattices, **OPTIONS[name])
    supervisions = [score.prepare(utt, len(ALIGNMENTS[utt])) for utt in LOGLIKES]
    loglikes = torch.tensor(np.concatenate(list(LOGLIKES.values())), requires_grad=True)
    objective = score(loglikes, supervisions)
    expected = sum(values[f"{lattices} {utt} {name}"] for utt in LOGLIKES)
    assert objective.value.item() == pytest.approx(expected, abs=2e-3)  # Kaldi reported six digits of the mean
    assert objective.num_frames == len(loglikes)
    (-score.loss_scale * objective.value).backward()
    assert loglikes.grad is not None
    kaldi = np.concatenate([dense(derivatives[f"{lattices}-{utt}-{name}"], MODEL.num_pdfs) for utt in LOGLIKES])
    np.testing.assert_allclose(loglikes.grad.numpy(), kaldi, atol=1e-5)
    assert np.abs(kaldi).max() > 1e-3


def test_dropped_frames_are_counted_and_have_no_gradient() -> None:
    score = criterion("den", name="mmi")
    loglikes = torch.tensor(LOGLIKES["engb_f3-007"], requires_grad=True)
    objective = score(loglikes, [score.prepare("engb_f3-007", len(loglikes))])
    objective.value.backward()
    assert objective.statistics["dropped_frames"] == 10 and loglikes.grad is not None
    assert (loglikes.grad.abs().sum(1) == 0).sum() >= 10


def own_costs(lattice: PreparedLattice) -> tuple[LatticeBatch, torch.Tensor]:
    """A batch of one lattice and its scores by its own acoustic costs."""
    batch = LatticeBatch([lattice], np.arange(MODEL.num_transition_ids + 1), Scales(0.1, 1.0, 1.0))
    return batch, batch.scores(torch.zeros(lattice.num_frames, MODEL.num_transition_ids + 1))


def posteriors_by_transition_id(lattice: PreparedLattice) -> np.ndarray:
    batch, scores = own_costs(lattice)
    posteriors = batch.posteriors(scores, batch.forward(scores), batch.backward_pass(scores))
    return batch.by_pdf(posteriors, MODEL.num_transition_ids + 1).numpy()


def test_posteriors_are_those_of_lattice_to_post() -> None:
    for utt, posterior in read_table(f"ark:{FOLDER / 'post_raw.txt'}", "posterior"):
        expected = dense(posterior, MODEL.num_transition_ids + 1)
        np.testing.assert_allclose(posteriors_by_transition_id(LATTICES["raw"][utt]), expected, atol=1e-5)


def test_boosted_posteriors_are_those_of_lattice_boost_ali() -> None:
    score = criterion("den", name="bmmi", boost=0.5, max_silence_error=0.3)
    for utt, posterior in read_table(f"ark:{FOLDER / 'post_boosted.txt'}", "posterior"):
        lattice = score.prepare(utt, len(ALIGNMENTS[utt])).lattice
        expected = dense(posterior, MODEL.num_transition_ids + 1)
        np.testing.assert_allclose(posteriors_by_transition_id(lattice), expected, atol=1e-5)
        assert not np.allclose(posteriors_by_transition_id(LATTICES["den"][utt]), expected, atol=1e-3)


def test_mpe_posteriors_are_those_of_lattice_to_mpe_post() -> None:
    score = criterion("raw", name="mpe", one_silence_class=True)
    for utt, posterior in read_table(f"ark:{FOLDER / 'mpe_raw.txt'}", "posterior"):
        supervision = score.prepare(utt, len(ALIGNMENTS[utt]))
        batch, scores = own_costs(supervision.lattice)
        arc_scores = np.empty(supervision.lattice.num_arcs)
        arc_scores[batch.order] = scores
        _, arc_posteriors = expected_accuracy(supervision.lattice, arc_scores, supervision.accuracy)
        by_id = np.zeros((supervision.lattice.num_frames, MODEL.num_transition_ids + 1))
        taking = supervision.lattice.transition_id > 0
        np.add.at(
            by_id,
            (supervision.lattice.frame[taking], supervision.lattice.transition_id[taking]),
            arc_posteriors[taking],
        )
        np.testing.assert_allclose(by_id, dense(posterior, MODEL.num_transition_ids + 1), atol=1e-5)


NAMES = ["mmi", "bmmi", "mpe", "smbr"]


def random_case(name: str, seed: int) -> tuple[LatticeCriterion, list[Any], torch.Tensor]:
    """A criterion over three random lattices, and float64 loglikes of their frames."""
    generator = np.random.default_rng(seed)
    lattices: dict[str, PreparedLattice | UnusableError] = {}
    alignments = {}
    for utt, num_frames in (("a", 3), ("b", 1), ("c", 2)):
        lattices[utt] = PreparedLattice.of(random_lattice(generator, num_frames, 12))
        alignments[utt] = generator.integers(1, 13, num_frames).astype(np.int32)
    config = LatticeCriterionConfig(name=name, acoustic_scale=0.7, lm_scale=0.8, silence_phones=[1], drop_frames=False)
    score = LatticeCriterion(config, MODEL, alignments, lattices)
    supervisions = [score.prepare(utt, len(alignments[utt])) for utt in lattices]
    return score, supervisions, torch.tensor(generator.normal(size=(6, MODEL.num_pdfs)))


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_equal_finite_differences(name: str) -> None:
    score, supervisions, loglikes = random_case(name, 1)
    used = sorted({int(pdf) for s in supervisions for pdf in MODEL.pdf_of[s.lattice.transition_id] if pdf >= 0})

    def value(columns: torch.Tensor) -> torch.Tensor:
        full = loglikes.clone()
        full[:, used] = columns
        return score(full, supervisions).value

    assert torch.autograd.gradcheck(value, loglikes[:, used].clone().requires_grad_(), eps=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_those_of_all_paths(name: str) -> None:
    score, supervisions, loglikes = random_case(name, 2)
    expected, row = 0.0, 0
    for supervision in supervisions:
        lattice = supervision.lattice
        own = loglikes[row : row + lattice.num_frames].numpy()
        row += lattice.num_frames
        acoustic = own[np.minimum(lattice.frame, len(own) - 1), MODEL.pdf_of[lattice.transition_id]]
        scores = 0.7 * np.where(lattice.transition_id > 0, acoustic, 0.0) - 0.8 * lattice.graph_cost.astype(float)
        weights, accuracies = zip(
            *((np.exp(scores[path].sum()), supervision.accuracy[path].sum()) for path in paths(lattice)), strict=True
        )
        if name in ("mpe", "smbr"):
            expected += np.dot(weights, accuracies) / sum(weights)
        else:
            expected += 0.7 * own[np.arange(len(own)), supervision.pdfs].sum() - np.log(sum(weights))
            assert np.log(sum(weights)) == pytest.approx(forward_backward(lattice, scores)[0][-1])
    assert score(loglikes, supervisions).value.item() == pytest.approx(expected, rel=1e-9)


def test_boosting_lowers_the_cost_of_wrong_arcs_only() -> None:
    lattice = LATTICES["raw"]["engb_f3-002"]
    score = criterion("raw", name="bmmi", boost=0.5, max_silence_error=0.25)
    errors = score.phone_errors(lattice, ALIGNMENTS["engb_f3-002"])
    assert set(errors.tolist()) == {0.0, 0.25, 1.0}
    cheaper = lattice.graph_cost - boosted(lattice, errors, 0.5).graph_cost
    np.testing.assert_allclose(cheaper, 0.5 * errors, atol=1e-5)
    assert not errors[lattice.transition_id == 0].any()


def test_utterances_that_cannot_be_used_are_named() -> None:
    score, utt = criterion("den"), "engb_f3-002"
    for use, reason in (
        (partial(score.prepare, "nobody", 3), "no lattice"),
        (partial(score.prepare, utt, 3), "lengths differ"),
        (partial(LatticeCriterion(score.config, MODEL, {}, score.lattices).prepare, utt, 46), "no alignment"),
        (partial(LatticeCriterion(score.config, MODEL, {}, {utt: UnusableError("bad")}).prepare, utt, 46), "bad"),
    ):
        with pytest.raises(UnusableError, match=reason):
            use()


@pytest.mark.parametrize(
    "options",
    [{"name": "mce"}, {"acoustic_scale": 0.0}, {"max_silence_error": 2.0}, {"boost": -1.0}, {"lm_scale": -1.0}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"criterion\."):
        LatticeCriterionConfig(**options)
