"""Checks of transition models, trees and the trained network: whether all are of one system."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Severity, from_error, load
from acoustic.kaldi.matrix import read_vector_file
from acoustic.kaldi.net_dir import COUNTS, fault_of_outputs, has_net, read_net
from acoustic.kaldi.transitions import TransitionModel, fault_of_tree
from acoustic.nn.bundle import Bundle

ONE_SYSTEM = "take tree, final.mdl, alignments, graph and network of one system"


def check_models_readable(experiment: Experiment) -> Iterator[Finding]:
    """Models and trees that cannot be read."""
    ali_dir = experiment.options.ali_dir
    for loaded, path in (
        (experiment.ali_model, ali_dir / "final.mdl" if ali_dir is not None else None),
        (experiment.given_model, experiment.model_path),
        (experiment.bundle, experiment.model_path),
        (experiment.frontend, experiment.model_path),
    ):
        if loaded is not None and loaded.error is not None:
            yield from_error("model unreadable", loaded.error, "copy it again", where=str(path))
    for path, tree in experiment.trees.items():
        if tree.error is not None:
            yield from_error("tree unreadable", tree.error, "copy it again", where=str(path))


def check_trees(experiment: Experiment) -> Iterator[Finding]:
    """Trees that are not those of the models beside them."""
    for path, model in experiment.transition_models.items():
        tree_path = path.with_name("tree")
        tree = experiment.trees[tree_path].value if tree_path in experiment.trees else None
        fault = fault_of_tree(tree, model) if tree is not None else None
        if fault:
            yield Finding("tree of another model", Severity.ERROR, str(tree_path), fault, ONE_SYSTEM)


def check_one_system(experiment: Experiment) -> Iterator[Finding]:
    """Alignments and given model of different trees."""
    if experiment.transition_model is None:
        return
    path, reference = experiment.transition_model
    for other_path, other in experiment.transition_models.items():
        if other.fingerprint() != reference.fingerprint():
            pdfs = f"{other.num_pdfs} pdfs and {other.num_transition_ids} transition_ids there"
            detail = f"{pdfs}, {reference.num_pdfs} and {reference.num_transition_ids} in {path}"
            yield Finding("alignments of another tree", Severity.ERROR, str(other_path), detail, ONE_SYSTEM)


def check_network(experiment: Experiment) -> Iterator[Finding]:
    """A trained network that contradicts itself, or was trained on alignments of another tree."""
    bundle = experiment.bundle.value if experiment.bundle is not None else None
    if bundle is None:
        return
    where = str(experiment.model_path)
    for fault, detail in faults_of_network(experiment, bundle):
        yield Finding(fault, Severity.ERROR, where, detail, "train again, or copy final.pt again")
    reference = experiment.transition_model
    if reference is not None:
        path, model = reference
        fault_detail = fault_of_targets(bundle, model, path)
        if fault_detail:
            yield Finding("network of another tree", Severity.ERROR, where, fault_detail, ONE_SYSTEM)
    num_unseen = int((bundle.pdf_counts == 0).sum())
    if num_unseen and len(bundle.pdf_counts) == bundle.classifier.num_pdfs:
        detail = f"{num_unseen} of {len(bundle.pdf_counts)} pdfs had no frame in training and are disabled in decoding"
        yield Finding("pdf never seen in training", Severity.WARNING, where, detail, "train on more data")


def faults_of_network(experiment: Experiment, bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Where network, front end and priors do not fit together: (fault, detail)."""
    if len(bundle.pdf_counts) != bundle.classifier.num_pdfs:
        detail = f"{len(bundle.pdf_counts)} priors for {bundle.classifier.num_pdfs} outputs"
        yield "priors of another length", detail
    frontend = experiment.frontend.value if experiment.frontend is not None else None
    if frontend is not None and frontend.input_dim != bundle.classifier.input_dim:
        detail = f"the front end gives {frontend.input_dim} values, the network takes {bundle.classifier.input_dim}"
        yield "front end does not fit the network", detail


def fault_of_targets(bundle: Bundle, model: TransitionModel, path: Path) -> str | None:
    """What shows that a network's outputs are not a model's pdfs; None when they may be."""
    if bundle.classifier.num_pdfs != model.num_pdfs:
        return f"{bundle.classifier.num_pdfs} outputs, {model.num_pdfs} pdfs in {path}"
    if bundle.fingerprints.get("transition_model", model.fingerprint()) != model.fingerprint():
        return f"was trained on alignments of another tree than that of {path}"
    return None


def check_kaldi_net(experiment: Experiment) -> Iterator[Finding]:
    """A net of nnet1 or nnet3 in the given directory that cannot be read, or whose outputs are not the model's pdfs."""
    path = experiment.model_path
    if path is None or experiment.given_model is None or experiment.given_model.value is None:
        return
    folder = path.parent
    if not has_net(folder):
        return
    net = load(partial(read_net, folder))
    if net.error is not None:
        yield from_error("network unreadable", net.error, "export it again", where=str(folder))
    elif net.value is not None:
        fault = fault_of_outputs(net.value, experiment.given_model.value)
        if fault is not None:
            yield Finding("network of another tree", Severity.ERROR, str(folder), fault, ONE_SYSTEM)


def check_class_counts(experiment: Experiment) -> Iterator[Finding]:
    """Kaldi's class counts (`ali_train_pdf.counts`), the priors of nnet1 systems, of another length than the model."""
    if experiment.transition_model is None:
        return
    _, model = experiment.transition_model
    folders = {path.parent for path in (*experiment.transition_models, experiment.model_path) if path is not None}
    for path in (folder / COUNTS for folder in sorted(folders)):
        if not path.exists():
            continue
        counts = load(partial(read_vector_file, path))
        if counts.error is not None:
            yield from_error("priors unreadable", counts.error, "count again (analyze-counts)", where=str(path))
        elif counts.value is not None and len(counts.value) != model.num_pdfs:
            detail = f"{len(counts.value)} counts, the model has {model.num_pdfs} pdfs"
            yield Finding("priors of another length", Severity.ERROR, str(path), detail, ONE_SYSTEM)
