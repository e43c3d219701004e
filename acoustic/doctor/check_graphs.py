"""Checks of the decoding graph and the lang directory against the model and the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from acoustic.decode.graph import GRAPH_JSON, MAKE_GRAPH
from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Severity, from_error, load
from acoustic.fsio import read_json
from acoustic.kaldi.topology import Entry

REBUILD_LANG = "make lang directory and graph anew from one dictionary (acoustic prepare-lang, acoustic mkgraph)"
# What mkgraph reads of a lang directory.
LANG_FILES = ("L_disambig.fst", "G.fst")


def check_graph(experiment: Experiment) -> Iterator[Finding]:
    """A graph that cannot be read, or of another model than the given one."""
    graph, folder = experiment.graph, experiment.options.graph_dir
    if graph is None or folder is None:
        return
    where = str(folder / "HCLG.fst")
    if graph.error is not None:
        yield from_error("graph unreadable", graph.error, MAKE_GRAPH, where=where)
    elif graph.value is not None and graph.value.num_arcs == 0:
        yield Finding("graph empty", Severity.ERROR, where, "has no arcs", MAKE_GRAPH)
    else:
        for path, detail in graph_contradictions(experiment):
            yield Finding("graph of another model", Severity.ERROR, str(path), detail, MAKE_GRAPH)


def graph_contradictions(experiment: Experiment) -> Iterator[tuple[Path, str]]:
    """Where graph and model do not fit together: (file, detail)."""
    folder, graph = experiment.options.graph_dir, experiment.graph.value if experiment.graph else None
    if folder is None or graph is None:
        return
    expected_pdfs, expected_print = expected_model(experiment)
    num_pdfs = (folder / "num_pdfs").read_text(errors="replace").strip() if (folder / "num_pdfs").exists() else None
    if num_pdfs is not None and expected_pdfs is not None and num_pdfs != str(expected_pdfs):
        yield folder / "num_pdfs", f"says {num_pdfs}, the model has {expected_pdfs} pdfs"
    if experiment.transition_model is not None:
        path, model = experiment.transition_model
        highest = int(graph.arcs["ilabel"].max())
        if highest > model.num_transition_ids:
            yield folder / "HCLG.fst", f"has transition_id {highest}, {path} only {model.num_transition_ids}"
    if (folder / GRAPH_JSON).exists():
        description = load(lambda: read_json(folder / GRAPH_JSON)).value
        if not isinstance(description, dict):
            yield folder / GRAPH_JSON, "cannot be read"
        elif expected_print is not None and description.get("transition_model") != expected_print:
            yield folder / GRAPH_JSON, "the graph was made for another tree or topology"


def expected_model(experiment: Experiment) -> tuple[int | None, str | None]:
    """Number of pdfs and fingerprint that a graph must have, as far as known: the Kaldi model's, else the network's."""
    if experiment.transition_model is not None:
        _, model = experiment.transition_model
        return model.num_pdfs, model.fingerprint()
    bundle = experiment.bundle.value if experiment.bundle is not None else None
    return (None, None) if bundle is None else (bundle.classifier.num_pdfs, bundle.fingerprints.get("transition_model"))


def check_symbol_tables(experiment: Experiment) -> Iterator[Finding]:
    """Symbol tables that are unreadable or differ between graph and lang directory; words of HCLG without symbol."""
    for tables in (experiment.words, experiment.phones):
        for path, table in tables.items():
            if table.error is not None:
                yield from_error("symbol table unreadable", table.error, REBUILD_LANG, where=str(path))
        readable = [(path, table.value) for path, table in tables.items() if table.value is not None]
        for path, symbols in readable[1:]:
            if symbols.id_of != readable[0][1].id_of:
                detail = f"differs from {readable[0][0]}"
                yield Finding("graph of another lang directory", Severity.ERROR, str(path), detail, REBUILD_LANG)
    graph, folder = experiment.graph, experiment.options.graph_dir
    words = experiment.words[folder / "words.txt"].value if folder is not None else None
    if graph is not None and graph.value is not None and words is not None:
        labels = np.unique(graph.value.arcs["olabel"]).tolist()
        unknown = [label for label in labels if label != 0 and label not in words.symbol_of]
        if unknown:
            detail = f"{len(unknown)} words of HCLG.fst are not in it, such as number {unknown[0]}"
            yield Finding("graph of another words.txt", Severity.ERROR, f"{folder}/words.txt", detail, REBUILD_LANG)


def check_vocabulary(experiment: Experiment) -> Iterator[Finding]:
    """Words of the text that the graph, or the lang directory, does not know."""
    path, table = next(((path, table.value) for path, table in experiment.words.items() if table.value), (None, None))
    if table is None:
        return
    counts = Counter(word for words in experiment.data_dir.text.values() for word in words if word not in table)
    num_words = sum(map(len, experiment.data_dir.text.values()))
    for word, count in counts.most_common():
        detail = f"comes {count} times among {num_words} words of text and is not in {path}"
        remedy = "add it to the dictionary; as it is, it can never be recognised"
        yield Finding("word out of vocabulary", Severity.WARNING, word, detail, remedy)


def check_lang(experiment: Experiment) -> Iterator[Finding]:
    """A lang directory that lacks files or is of another phone set than the model."""
    folder, topology = experiment.options.lang_dir, experiment.topology
    if folder is None:
        return
    for name in ("phones.txt", "topo", *LANG_FILES):
        if not (folder / name).exists():
            severity = Severity.WARNING if name in LANG_FILES else Severity.ERROR
            yield Finding("lang file missing", severity, str(folder / name), "is needed for a graph", REBUILD_LANG)
    if topology is not None and topology.error is not None:
        yield from_error("topology unreadable", topology.error, REBUILD_LANG, where=str(folder / "topo"))
    if topology is None or topology.value is None or experiment.transition_model is None:
        return
    path, model = experiment.transition_model
    if shape_of(topology.value.entries) != shape_of(model.topology.entries):
        detail = f"has other phones or HMM states than {path}"
        yield Finding("lang directory of another model", Severity.ERROR, str(folder / "topo"), detail, REBUILD_LANG)


def shape_of(entries: dict[int, Entry]) -> dict[int, list[tuple[int, int, list[int]]]]:
    """A topology without its probabilities."""
    return {
        phone: [(s.forward_pdf_class, s.self_loop_pdf_class, [to for to, _ in s.transitions]) for s in states]
        for phone, states in entries.items()
    }
