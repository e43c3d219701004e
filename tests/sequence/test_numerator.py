"""Numerators of training graphs: against the same recursions over a whole HMM, and on Kaldi's graphs and alignments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.errors import DataError
from acoustic.kaldi.alignments import read_alignments, split_to_phones
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.sequence.criteria import UnusableError
from acoustic.sequence.denominator import denominator_hmm, graph_from_anywhere, make_denominator_graph
from acoustic.sequence.forward_backward import ForwardBackward
from acoustic.sequence.hmm import hmm_from_fst
from acoustic.sequence.lattice_free import LatticeFreeConfig, LatticeFreeCriterion
from acoustic.sequence.make_criterion import make_lattice_free
from acoustic.sequence.numerator import GraphNumerators, log_sums, paths_near, read_train_graphs
from tests.sequence.test_lattice_free import ergodic_hmm, utterances

GOLDEN = Path(__file__).parents[1] / "golden"
NUM_PDFS = 4


@pytest.mark.parametrize("seed", range(3))
def test_paths_near_are_the_paths_that_a_mask_leaves(seed: int) -> None:
    hmm, lengths = ergodic_hmm(12, NUM_PDFS, seed), torch.tensor([6, 4])
    torch.manual_seed(seed)
    emissions = torch.randn(6, 2, NUM_PDFS, dtype=torch.float64)
    possible = torch.stack([*utterances([6, 6], hmm, seed).values()], dim=1)
    allowed = torch.stack([possible, torch.randint(0, NUM_PDFS, (6, 2))], dim=2)
    mask = torch.zeros(6, 2, NUM_PDFS, dtype=torch.bool).scatter_(2, allowed, value=True)
    expected = ForwardBackward(hmm, NUM_PDFS, 0.0, dtype=torch.float64)(
        emissions.masked_fill(~mask, -torch.inf), lengths
    )
    assert expected.log_likelihood.isfinite().all()
    lattices = [paths_near(hmm, allowed[:length, utt].numpy()) for utt, length in enumerate(lengths.tolist())]
    found = log_sums(lattices, emissions, lengths)
    torch.testing.assert_close(found.log_likelihood, expected.log_likelihood, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.pdf_posteriors, expected.pdf_posteriors, rtol=0, atol=1e-6)


def test_an_utterance_without_an_allowed_path_is_unusable() -> None:
    hmm = ergodic_hmm(6, 4)
    impossible = np.setdiff1d(np.arange(5), hmm.pdf_of[1:])[:1]
    with pytest.raises(UnusableError, match="near the alignment"):
        paths_near(hmm, np.repeat(impossible, 4)[:, None])


class System:
    """Kaldi's model, alignments and training graphs of a few utterances, and our denominator of them."""

    def __init__(self, name: str) -> None:
        self.folder = GOLDEN / "align" / name
        self.tree = DecisionTree.read(GOLDEN / "model" / name / "tree")
        self.model = TransitionModel.read(GOLDEN / "model" / name / "final.mdl")
        self.ids = dict(read_alignments(self.folder))
        self.alignments = {utt: torch.from_numpy(self.model.pdf_of[ids]).long() for utt, ids in self.ids.items()}
        self.graphs = dict(read_table(f"ark:{self.folder}/graphs.fsts", "fst"))
        phones = [[phone for phone, _ in split_to_phones(self.model, utt, ids)] for utt, ids in self.ids.items()]
        self.denominator = make_denominator_graph(phones, self.tree, self.model)

    def criterion(self, numerator: str, tolerance: int, factor: int = 1) -> LatticeFreeCriterion:
        """LF-MMI without leaks, in float64."""
        config = LatticeFreeConfig(
            acoustic_scale=1.0,
            numerator=numerator,
            tolerance=tolerance,
            frame_subsampling=factor,
            leaky_coefficient=0.0,
        )
        numerators = GraphNumerators(self.denominator, self.model, self.graphs, factor)
        return LatticeFreeCriterion(
            config, denominator_hmm(self.denominator, self.model), self.model.num_pdfs, self.alignments,
            numerators if numerator == "graph" else None, dtype=torch.float64,
        )  # fmt: skip


@pytest.fixture(scope="module", params=["mono", "tri1"])
def system(request: pytest.FixtureRequest) -> System:
    return System(request.param)


def test_a_graph_from_anywhere_is_the_denominator(system: System) -> None:
    hmm = denominator_hmm(system.denominator, system.model)
    graph = hmm_from_fst(graph_from_anywhere(system.denominator, system.model), system.model.pdf_of)
    graph = replace(graph, final=np.minimum(graph.final, 1.0))  # epsilons lead from one end to another
    torch.manual_seed(0)
    emissions, lengths = torch.randn(40, 1, system.model.num_pdfs, dtype=torch.float64), torch.tensor([40])
    recursions = (ForwardBackward(each, system.model.num_pdfs, 0.0, dtype=torch.float64) for each in (hmm, graph))
    first, second = (each.log_likelihood(emissions, lengths).item() for each in recursions)
    assert first == pytest.approx(second, abs=1e-3)


def test_a_numerator_lies_between_the_alignment_and_the_denominator(system: System) -> None:
    utts = list(system.alignments)[:3]
    torch.manual_seed(0)
    loglikes = [torch.randn(len(system.alignments[utt]), system.model.num_pdfs).double() for utt in utts]

    def values(numerator: str, tolerance: int) -> np.ndarray:
        criterion = system.criterion(numerator, tolerance)
        return np.array(
            [criterion(x, [criterion.prepare(utt, len(x))]).value.item() for utt, x in zip(utts, loglikes, strict=True)]
        )

    strict, near, far, anywhere = (values("graph", tolerance) for tolerance in (0, 3, 20, 10_000))
    # The alignment itself is a path; other phones' paths through the same pdf_ids are not the transcript's.
    assert np.all(strict <= values("alignment", 0) + 1e-3)
    assert np.all(strict < near) and np.all(near < far) and np.all(far <= anywhere + 1e-3)
    assert np.all(near <= values("alignment", 3) + 1e-3)
    assert np.all(anywhere <= 1e-3)


@pytest.mark.parametrize("factor", [1, 3])
def test_gradients_of_graph_numerators_equal_finite_differences(factor: int) -> None:
    system = System("mono")
    criterion = system.criterion("graph", 3, factor)
    utts = sorted(system.alignments, key=lambda utt: len(system.alignments[utt]))[:2]
    supervisions = [criterion.prepare(utt, len(system.alignments[utt])) for utt in utts]
    num_frames = sum(len(supervision.pdfs) for supervision in supervisions)
    torch.manual_seed(0)
    loglikes = torch.randn(num_frames, system.model.num_pdfs, dtype=torch.float64, requires_grad=True)
    found = criterion(loglikes, supervisions)
    (gradient,) = torch.autograd.grad(found.value, loglikes)
    assert found.num_frames == num_frames and found.statistics == {"utterances_without_path": 0.0}
    direction = torch.randn_like(loglikes)
    step = 1e-4
    ahead, behind = (criterion(loglikes.detach() + sign * step * direction, supervisions).value for sign in (1, -1))
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_another_transcript_is_nowhere_near() -> None:
    system = System("tri1")
    first, second = list(system.graphs)[:2]
    system.graphs[first] = system.graphs[second]
    criterion = system.criterion("graph", 2)
    with pytest.raises(UnusableError, match="near the alignment"):
        criterion.prepare(first, len(system.alignments[first]))
    del system.graphs[second]
    with pytest.raises(UnusableError, match="no training graph"):
        criterion.prepare(second, len(system.alignments[second]))


def test_graphs_are_read_from_folders(tmp_path: Path) -> None:
    system = System("mono")
    (tmp_path / "fsts.ark").write_bytes((system.folder / "graphs.fsts").read_bytes())
    (tmp_path / "tree").write_bytes((GOLDEN / "model/mono/tree").read_bytes())
    (tmp_path / "final.mdl").write_bytes((GOLDEN / "model/mono/final.mdl").read_bytes())
    (tmp_path / "num_jobs").write_text("1")
    (tmp_path / "ali.1.gz").write_bytes((system.folder / "ali.1.gz").read_bytes())
    train, dev = list(system.alignments)[:-1], list(system.alignments)[-1:]
    config = LatticeFreeConfig(numerator="graph", tolerance=2)
    criterion = make_lattice_free(config, [str(tmp_path)], train, dev, torch.device("cpu"), [str(tmp_path)])
    for utt, pdfs in system.alignments.items():
        assert criterion.prepare(utt, len(pdfs)).lattice is not None
    with pytest.raises(DataError, match="no training graph of any"):
        read_train_graphs([tmp_path], {"nobody"})
    with pytest.raises(DataError, match="no training graphs here"):
        read_train_graphs([tmp_path / "empty"], set(train))
