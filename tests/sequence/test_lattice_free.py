"""LF-MMI and LF-sMBR: values by enumeration of paths, gradients by finite differences, bounds, long utterances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from acoustic.sequence.criteria import UnusableError
from acoustic.sequence.forward_backward import ForwardBackward
from acoustic.sequence.hmm import Hmm, subsampled
from acoustic.sequence.lattice_free import LatticeFreeConfig, LatticeFreeCriterion
from tests.sequence.hmms import NUM_PDFS, ergodic_hmm, hmm_with_a_state_never_reached, random_hmm

LENGTHS = torch.tensor([5, 5, 3])


def enumerate_paths(hmm: Hmm, leaky: float, emissions: Tensor, accuracies: Tensor) -> tuple[float, float]:
    """Log of all paths' weight and their expected accuracy, path by path; emissions [T, num_pdfs], logs."""
    matrix = np.zeros((hmm.num_states, hmm.num_states))
    np.add.at(matrix, (hmm.sources, hmm.targets), hmm.probs)
    matrix = (np.eye(hmm.num_states) + leaky * np.outer(np.ones(hmm.num_states), hmm.initial)) @ matrix
    total = gained = 0.0
    for path in itertools.product(range(hmm.num_states), repeat=len(emissions) + 1):
        weight, accuracy = hmm.initial[path[0]] * hmm.final[path[-1]], 0.0
        for frame, (before, after) in enumerate(itertools.pairwise(path)):
            weight *= matrix[before, after] * math.exp(emissions[frame, hmm.pdf_of[after]])
            accuracy += float(accuracies[frame, hmm.pdf_of[after]])
        total, gained = total + weight, gained + weight * accuracy
    return math.log(total), gained / total


@pytest.mark.parametrize("leaky", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_recursions_equal_an_enumeration_of_all_paths(leaky: float, seed: int) -> None:
    hmm = random_hmm(seed)
    torch.manual_seed(seed)
    emissions = 2 * torch.randn(5, 3, NUM_PDFS, dtype=torch.float64)
    accuracies = torch.rand(5, 3, NUM_PDFS, dtype=torch.float64)
    recursions = ForwardBackward(hmm, NUM_PDFS, leaky, dtype=torch.float64)
    found, accuracy = recursions(emissions, LENGTHS), recursions.expected_accuracy(emissions, LENGTHS, accuracies)
    torch.testing.assert_close(recursions.log_likelihood(emissions, LENGTHS), found.log_likelihood)
    for utt, length in enumerate(LENGTHS.tolist()):
        log_weight, expected = enumerate_paths(hmm, leaky, emissions[:length, utt], accuracies[:length, utt])
        assert found.log_likelihood[utt].item() == pytest.approx(log_weight, abs=1e-10)
        assert accuracy.value[utt].item() == pytest.approx(expected, abs=1e-10)
    assert torch.count_nonzero(found.pdf_posteriors[3:, 2]) == 0


def utterances(lengths: list[int], hmm: Hmm, seed: int = 0) -> dict[str, Tensor]:
    """Alignments that the HMM can make."""
    rng = np.random.default_rng(seed)
    found = {}
    for number, length in enumerate(lengths):
        state, pdfs = 1, []
        for _ in range(length):
            state = int(rng.choice(hmm.targets[hmm.sources == state]))
            pdfs.append(int(hmm.pdf_of[state]))
        found[f"u{number}"] = torch.tensor(pdfs)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"name": "lfmmi"},
        {"name": "lfmmi", "boost": 0.3, "tolerance": 1, "output_l2": 0.01},
        {"name": "lfmmi", "frame_subsampling": 3, "tolerance": 2, "leaky_coefficient": 0.1},
        {"name": "lfsmbr"},
        {"name": "lfsmbr", "frame_subsampling": 2, "output_l2": 0.1},
    ],
    ids=str,
)
def test_gradients_equal_finite_differences(options: dict[str, object]) -> None:
    hmm = ergodic_hmm(6, 4)
    config = LatticeFreeConfig(**options)  # type: ignore[arg-type]
    alignments = utterances([4, 9, 6], hmm)
    criterion = LatticeFreeCriterion(config, hmm, 4, alignments, dtype=torch.float64)
    supervisions = [criterion.prepare(utt, len(pdfs)) for utt, pdfs in alignments.items()]
    num_frames = sum(len(supervision.pdfs) for supervision in supervisions)
    torch.manual_seed(1)
    loglikes = (3 * torch.randn(num_frames, 4, dtype=torch.float64)).requires_grad_()
    torch.autograd.gradcheck(lambda x: criterion(x, supervisions).value, loglikes, eps=1e-5, atol=1e-7)


def test_boost_and_penalty_by_enumeration() -> None:
    """The boost is taken off the denominator's right frames, so that wrong paths weigh more; the penalty is a loss."""
    hmm = ergodic_hmm(6, 4)
    alignments = utterances([4], hmm)
    torch.manual_seed(2)
    loglikes, none = 3 * torch.randn(4, 4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)

    def value(**options: float) -> float:
        config = LatticeFreeConfig(acoustic_scale=0.5, **options)  # type: ignore[arg-type]
        criterion = LatticeFreeCriterion(config, hmm, 4, alignments, dtype=torch.float64)
        return criterion(loglikes, [criterion.prepare("u0", 4)]).value.item()

    right = torch.nn.functional.one_hot(alignments["u0"], 4).double()
    plain, _ = enumerate_paths(hmm, 1e-5, 0.5 * loglikes, none)
    boosted, _ = enumerate_paths(hmm, 1e-5, 0.5 * loglikes - 0.3 * right, none)
    assert plain - 1.2 < boosted < plain  # 1.2: if no path had a wrong frame
    assert value(boost=0.3) - value() == pytest.approx(plain - boosted, abs=1e-9)
    # In the loss the objective counts 1 / acoustic_scale times.
    penalty = -0.5 * 0.1 * float(loglikes.square().sum()) * 0.5
    assert value(output_l2=0.1) - value() == pytest.approx(penalty, abs=1e-9)


@pytest.mark.parametrize("tolerance", [0, 1])
@pytest.mark.parametrize("factor", [1, 3])
def test_the_objective_of_mmi_is_a_log_probability(tolerance: int, factor: int) -> None:
    hmm = ergodic_hmm(20, 8)
    config = LatticeFreeConfig(acoustic_scale=1.0, tolerance=tolerance, frame_subsampling=factor)
    alignments = utterances([30] * 8, hmm)
    criterion = LatticeFreeCriterion(config, hmm, 8, alignments)
    for scale in (0.0, 1.0, 30.0):
        for number, utt in enumerate(alignments):
            torch.manual_seed(number)
            supervision = criterion.prepare(utt, 30)
            found = criterion(scale * torch.randn(30 // factor, 8), [supervision])
            assert found.value.item() <= 1e-4
            assert found.statistics["utterances_without_path"] == 0.0
    perfect = 100.0 * torch.nn.functional.one_hot(supervision.pdfs, 8)
    assert -80.0 < criterion(perfect, [supervision]).value.item() <= 0.0  # what the transitions leave open


def test_the_tolerance_lets_the_numerator_leave_the_alignment_s_times() -> None:
    hmm = ergodic_hmm(20, 8)
    alignments = utterances([40], hmm)
    torch.manual_seed(0)
    loglikes = torch.randn(40, 8)
    values = []
    for tolerance in (0, 1, 40):
        criterion = LatticeFreeCriterion(LatticeFreeConfig(tolerance=tolerance), hmm, 8, alignments)
        values.append(criterion(loglikes, [criterion.prepare("u0", 40)]).value.item())
    assert values[0] < values[1] < values[2] <= 1e-4


def test_utterances_do_not_see_each_other() -> None:
    hmm = ergodic_hmm(20, 8)
    alignments = utterances([10, 25, 17], hmm)
    for name in ("lfmmi", "lfsmbr"):
        criterion = LatticeFreeCriterion(LatticeFreeConfig(name=name), hmm, 8, alignments, dtype=torch.float64)
        supervisions = [criterion.prepare(utt, len(pdfs)) for utt, pdfs in alignments.items()]
        torch.manual_seed(0)
        loglikes = torch.randn(52, 8, dtype=torch.float64, requires_grad=True)
        together = criterion(loglikes, supervisions)
        (gradient,) = torch.autograd.grad(together.value, loglikes)
        parts = loglikes.detach().split([10, 25, 17])
        alone = [criterion(part, [supervision]).value for part, supervision in zip(parts, supervisions, strict=True)]
        assert together.value.item() == pytest.approx(sum(alone).item(), abs=1e-9)
        last = parts[2].clone().requires_grad_()
        (gradient_alone,) = torch.autograd.grad(criterion(last, supervisions[2:]).value, last)
        torch.testing.assert_close(gradient[35:], gradient_alone)


@pytest.mark.parametrize("leaky", [1e-5, 0.0])
def test_1500_frames_in_float32_are_as_good_as_in_float64(leaky: float) -> None:
    hmm, lengths = ergodic_hmm(50, 20), torch.tensor([1500, 700])
    torch.manual_seed(0)
    emissions = (3 * torch.randn(1500, 2, 20)).clamp(-10, 10)
    emissions[700:, 1] = torch.nan  # what stands there is nobody's
    exact = ForwardBackward(hmm, 20, leaky, dtype=torch.float64)(emissions.double(), lengths)
    found = ForwardBackward(hmm, 20, leaky)(emissions, lengths)
    torch.testing.assert_close(found.log_likelihood, exact.log_likelihood, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(found.pdf_posteriors.double(), exact.pdf_posteriors, rtol=0, atol=2e-4)
    torch.testing.assert_close(found.pdf_posteriors.sum(2)[:700], torch.ones(700, 2), rtol=0, atol=1e-4)


def test_accuracies_of_1500_frames_leave_float32_its_digits() -> None:
    """Nearly all frames are right: the gradient is what little the paths differ by."""
    hmm, lengths = ergodic_hmm(50, 20), torch.tensor([1500])
    right = torch.nn.functional.one_hot(utterances([1500], hmm)["u0"], 20).float().unsqueeze(1)
    torch.manual_seed(0)
    emissions = torch.randn(1500, 1, 20) + 12 * right
    exact = ForwardBackward(hmm, 20, dtype=torch.float64).expected_accuracy(emissions.double(), lengths, right.double())
    found = ForwardBackward(hmm, 20).expected_accuracy(emissions, lengths, right)
    torch.testing.assert_close(found.value, exact.value, rtol=0, atol=1e-4)
    largest = exact.gradient.abs().max().item()
    assert largest < 0.01
    torch.testing.assert_close(found.gradient.double(), exact.gradient, rtol=0, atol=1e-3 * largest)


def test_states_that_are_never_reached_do_no_harm() -> None:
    """Backward probabilities of such a state grow without bound where its pdf_id is the best one."""
    emissions = torch.tensor([-60.0, 0.0]).repeat(40, 1, 1)
    found = ForwardBackward(hmm_with_a_state_never_reached(), 2)(emissions, torch.tensor([40]))
    torch.testing.assert_close(found.pdf_posteriors[:, 0], torch.tensor([1.0, 0.0]).repeat(40, 1))


def test_confident_and_wrong_networks_give_finite_numbers() -> None:
    hmm = ergodic_hmm(50, 20)
    alignments = utterances([1500], hmm)
    for name in ("lfmmi", "lfsmbr"):
        criterion = LatticeFreeCriterion(LatticeFreeConfig(name=name, acoustic_scale=1.0), hmm, 20, alignments)
        torch.manual_seed(0)
        loglikes = (1000 * torch.randn(1500, 20)).requires_grad_()
        found = criterion(loglikes, [criterion.prepare("u0", 1500)])
        found.value.backward()
        assert math.isfinite(found.value.item())
        assert loglikes.grad is not None and loglikes.grad.isfinite().all()
        assert loglikes.grad.abs().max() <= (1.01 if name == "lfmmi" else 1500)


def test_a_numerator_outside_the_denominator_is_left_out() -> None:
    hmm = Hmm(*(np.array(column) for column in ([0, 0, 1], [0, 1], [1, 1], [1.0, 1.0], [1.0, 0.0, 0.0], [1.0] * 3)))
    criterion = LatticeFreeCriterion(LatticeFreeConfig(), hmm, 2, {"u0": torch.tensor([0, 1, 0])})
    loglikes = torch.zeros(3, 2, requires_grad=True)
    found = criterion(loglikes, [criterion.prepare("u0", 3)])
    found.value.backward()
    assert found.value.item() == 0.0 and found.statistics == {"utterances_without_path": 1.0}
    assert loglikes.grad is not None and torch.count_nonzero(loglikes.grad) == 0


def test_alignments_missing_or_of_another_length_are_unusable() -> None:
    hmm = ergodic_hmm(6, 4)
    criterion = LatticeFreeCriterion(LatticeFreeConfig(frame_subsampling=3), hmm, 4, utterances([9], hmm))
    assert len(criterion.prepare("u0", 9).pdfs) == len(criterion.prepare("u0", 8).pdfs) == 3
    with pytest.raises(UnusableError, match="length_mismatch"):
        criterion.prepare("u0", 12)
    with pytest.raises(UnusableError, match="no_alignment"):
        criterion.prepare("u1", 9)


def test_alignments_at_the_subsampled_rate_are_taken_as_they_are() -> None:
    hmm = ergodic_hmm(6, 4)
    alignments = utterances([10], hmm)
    config = LatticeFreeConfig(frame_subsampling=3)
    criterion = LatticeFreeCriterion(config, hmm, 4, alignments, alignment_subsampling=3)
    supervision = criterion.prepare("u0", 29)
    torch.testing.assert_close(supervision.pdfs, alignments["u0"])
    full = LatticeFreeCriterion(LatticeFreeConfig(), hmm, 4, alignments)
    loglikes = torch.randn(10, 4)
    assert criterion(loglikes, [supervision]).value == full(loglikes, [full.prepare("u0", 10)]).value


def test_a_subsampled_hmm_goes_as_many_steps_at_once() -> None:
    hmm = random_hmm(3)
    every = subsampled(hmm, 3).transition_matrix(torch.float64).to_dense()
    torch.testing.assert_close(every, torch.linalg.matrix_power(hmm.transition_matrix(torch.float64).to_dense(), 3))


@pytest.mark.parametrize(
    "options", [{"name": "mmi"}, {"acoustic_scale": 0.0}, {"boost": -1.0}, {"frame_subsampling": 0}], ids=str
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="criterion"):
        LatticeFreeConfig(**options)  # type: ignore[arg-type]
