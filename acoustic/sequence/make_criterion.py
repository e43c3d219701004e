"""The criterion that a configuration asks for, with the lattices and alignments that it needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from acoustic import log
from acoustic.data.cache import FramesCache
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.alignments import read_alignments, read_model, split_to_phones, to_pdfs
from acoustic.kaldi.tree import DecisionTree
from acoustic.log import Tally
from acoustic.sequence.config import SequenceConfig
from acoustic.sequence.criteria import Criterion, UnusableError
from acoustic.sequence.denominator import denominator_hmm, make_denominator_graph
from acoustic.sequence.lattice_criteria import LatticeCriterion, LatticeCriterionConfig
from acoustic.sequence.lattice_free import LatticeFreeConfig, LatticeFreeCriterion
from acoustic.sequence.numerator import GraphNumerators, read_train_graphs
from acoustic.sequence.prepared import PreparedLattice, read_lattices

logger = log.get_logger(__name__)


def make_criterion(config: SequenceConfig, train: FramesCache, dev: FramesCache, device: torch.device) -> Criterion:
    """The criterion for a run.

    Args:
        config: of the run.
        train, dev: the utterances.
        device: where the run computes.

    Raises:
        ConfigError: silence phones that the model does not have.
        DataError: lattices or alignments are missing or damaged.
    """
    if isinstance(config.criterion, LatticeCriterionConfig):
        return lattice_criterion(config, config.criterion, {*train.ids(), *dev.ids()})
    ali_dirs = list(dict.fromkeys([*config.train.ali_dir, *config.dev.ali_dir]))
    graph_dirs = [*config.train.graph_dir, *config.dev.graph_dir]
    return make_lattice_free(config.criterion, ali_dirs, set(train.ids()), set(dev.ids()), device, graph_dirs)


def lattice_criterion(config: SequenceConfig, criterion: LatticeCriterionConfig, utts: set[str]) -> LatticeCriterion:
    """A criterion over the lattices of `utts`."""
    model = read_model(Path(config.train.ali_dir[0]))
    phones = model.topology.phones
    if unknown := sorted(set(criterion.silence_phones).difference(phones)):
        raise ConfigError(
            f"criterion.silence_phones: final.mdl in {config.train.ali_dir[0]} has no phone "
            f"{', '.join(map(str, unknown))} (it has {phones[0]} to {phones[-1]}); "
            "give those of phones/silence.csl in the lang directory"
        )
    if criterion.name in ("mpe", "smbr") and not criterion.silence_phones:
        logger.warning("no criterion.silence_phones are given: silence counts as any other phone")
    ali_dirs = dict.fromkeys([*config.train.ali_dir, *config.dev.ali_dir])
    alignments = {utt: ali for ali_dir in ali_dirs for utt, ali in read_alignments(ali_dir) if utt in utts}
    lattices: dict[str, PreparedLattice | UnusableError] = {}
    for utt, lattice in log.progress(read_lattices([*config.train.lat_dir, *config.dev.lat_dir]), "lattices"):
        if utt not in utts:
            continue
        try:
            lattices[utt] = PreparedLattice.of(lattice)
        except DataError as error:
            lattices[utt] = UnusableError("bad lattice", error.problem)
    usable = [lattice for lattice in lattices.values() if isinstance(lattice, PreparedLattice)]
    num_frames = sum(lattice.num_frames for lattice in usable)
    num_arcs = sum(int((lattice.transition_id > 0).sum()) for lattice in usable)
    logger.info("%d lattices, %.1f arcs per frame", len(usable), num_arcs / max(1, num_frames))
    return LatticeCriterion(criterion, model, alignments, lattices)


def make_lattice_free(
    config: LatticeFreeConfig,
    ali_dirs: Sequence[str],
    train: Collection[str],
    dev: Collection[str],
    device: torch.device,
    graph_dirs: Sequence[str] = (),
) -> LatticeFreeCriterion:
    """A criterion over the denominator graph that is made of the phones of the training utterances.

    Args:
        config: which, and its options.
        ali_dirs: alignment directories; tree and model are those of the first.
        train, dev: the utterances whose alignments are needed; the phone n-gram is estimated on the first, and on both
            for numerators of training graphs.
        device: where the run computes.
        graph_dirs: directories of training graphs, for numerators of these.

    Raises:
        DataError: alignments, tree, model or training graphs are missing or damaged.
    """
    model, tree = read_model(ali_dirs[0]), DecisionTree.read(Path(ali_dirs[0]) / "tree")
    alignments: dict[str, torch.Tensor] = {}
    phone_sequences: list[list[int]] = []
    cut = Tally("alignments cut into phones")
    for utt, alignment in ((utt, ali) for ali_dir in ali_dirs for utt, ali in read_alignments(ali_dir)):
        if utt not in train and utt not in dev:
            continue
        alignments[utt] = torch.from_numpy(to_pdfs(model, utt, alignment)).long()
        if utt in train or config.numerator == "graph":  # whose numerators must lie in the denominator
            try:
                phone_sequences.append([phone for phone, _ in split_to_phones(model, utt, alignment)])
                cut.done()
            except DataError:  # copies at other speeds may lack the frames at which phones end
                cut.skip("not whole phones", utt)
    logger.info("%s", cut.summary())
    graph = make_denominator_graph(phone_sequences, tree, model, config.phone_ngram)
    numerators = None
    if config.numerator == "graph":
        train_graphs = read_train_graphs(graph_dirs, {*train, *dev})
        numerators = GraphNumerators(graph, model, train_graphs, config.frame_subsampling)
    denominator = denominator_hmm(graph, model)
    return LatticeFreeCriterion(config, denominator, model.num_pdfs, alignments, numerators, device=device)
