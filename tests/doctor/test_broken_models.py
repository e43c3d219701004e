"""Experiments with one fault in alignments, models, graph, lang directory or transforms: the doctor names it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.doctor.scan_alignments import scan_alignments
from acoustic.features.config import FrontendConfig
from acoustic.kaldi.alignments import read_model, write_alignments
from acoustic.kaldi.steps import LEAST_LEGAL_SHARE
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel
from tests.doctor.experiments import (
    FEAT_DIM,
    GOLDEN,
    SPEAKERS,
    Made,
    make_experiment,
    make_our_graph,
    write_network,
)

Break = Callable[[Made], None]


# -- alignments -----------------------------------------------------------------------------------------------------


def no_alignment(made: Made) -> None:
    alignments = made.alignments()
    del alignments["anna-3"]
    made.write_alignments(alignments)


def few_alignments(made: Made) -> None:
    made.write_alignments({utt: ids for utt, ids in made.alignments().items() if not utt.startswith("bert")})


def short_alignment(made: Made) -> None:
    alignments = made.alignments()
    made.write_alignments(alignments | {"anna-3": alignments["anna-3"][:-6]})


def empty_alignment(made: Made) -> None:
    made.write_alignments(made.alignments() | {"anna-3": np.zeros(0, np.int32)})


def transition_id_out_of_range(made: Made) -> None:
    alignment = made.alignments()["anna-3"].copy()
    alignment[7] = read_model(made.ali).num_transition_ids + 1
    made.write_alignments(made.alignments() | {"anna-3": alignment})


def transition_id_zero(made: Made) -> None:
    alignment = made.alignments()["anna-3"].copy()
    alignment[7] = 0
    made.write_alignments(made.alignments() | {"anna-3": alignment})


def truncated_alignments(made: Made) -> None:
    path = made.ali / "ali.2.gz"
    path.write_bytes(path.read_bytes()[:-200])


def alignment_file_of_no_bytes(made: Made) -> None:
    (made.ali / "ali.2.gz").write_bytes(b"")


def alignment_job_missing(made: Made) -> None:
    (made.ali / "ali.1.gz").unlink()


def num_jobs_of_more_files(made: Made) -> None:
    (made.ali / "num_jobs").write_text("3\n")


def aligned_twice(made: Made) -> None:
    shutil.copy(made.ali / "ali.1.gz", made.ali / "ali.3.gz")
    (made.ali / "num_jobs").write_text("3\n")


# -- models ---------------------------------------------------------------------------------------------------------


def tree_of_another_model(made: Made) -> None:
    shutil.copy(GOLDEN / "model" / "tri1" / "tree", made.ali)


def truncated_tree(made: Made) -> None:
    path = made.ali / "tree"
    path.write_bytes(path.read_bytes()[:-30])


def truncated_model(made: Made) -> None:
    (made.ali / "final.mdl").write_bytes((made.ali / "final.mdl").read_bytes()[:300])


def truncated_network(made: Made) -> None:
    path = made.network / "final.pt"
    path.write_bytes(path.read_bytes()[:-500])


def network_of_other_features(made: Made) -> None:
    write_network(made, read_model(made.ali), feat_dim=FEAT_DIM + 1, fmllr="none")


def network_of_another_front_end(made: Made) -> None:
    config = FrontendConfig(cmvn="speaker", fmllr="speaker", splice_left=2, splice_right=2)
    write_network(made, read_model(made.ali), frontend_config=dataclasses.asdict(config))


def network_with_unknown_front_end(made: Made) -> None:
    write_network(made, read_model(made.ali), frontend_config={"cmvn": "sometimes"})


def network_of_another_tree(made: Made) -> None:
    write_network(made, read_model(made.ali), fingerprints={"transition_model": "0" * 64})


def network_with_wrong_priors(made: Made) -> None:
    write_network(made, read_model(made.ali), pdf_counts=torch.ones(7, dtype=torch.int64))


def network_with_unseen_pdf(made: Made) -> None:
    counts = torch.ones(read_model(made.ali).num_pdfs, dtype=torch.int64)
    counts[3] = 0
    write_network(made, read_model(made.ali), pdf_counts=counts)


def wrong_class_counts(made: Made) -> None:
    (made.ali / "ali_train_pdf.counts").write_text(" [ 1 2 3 ]\n")


# -- graph and lang -------------------------------------------------------------------------------------------------


def graph_of_another_model(made: Made) -> None:
    shutil.copy(GOLDEN / "graph" / "tri1" / "HCLG.fst", made.graph)


def num_pdfs_of_another_model(made: Made) -> None:
    shutil.copy(GOLDEN / "graph" / "tri1" / "num_pdfs", made.graph)


def our_graph_of_another_model(made: Made) -> None:
    """A graph whose num_pdfs and transition_ids would do, were it not for what graph.json says."""
    make_our_graph(made, "mono")
    path = made.graph / "graph.json"
    fingerprint = read_model(made.ali).fingerprint()
    path.write_text(path.read_text().replace(fingerprint, "0" * 64))


def truncated_graph(made: Made) -> None:
    path = made.graph / "HCLG.fst"
    path.write_bytes(path.read_bytes()[:-100])


def graph_missing(made: Made) -> None:
    (made.graph / "HCLG.fst").unlink()


def word_out_of_vocabulary(made: Made) -> None:
    made.write_lines("text", [f"{made.lines('text')[0]} antidisestablishmentarianism", *made.lines("text")[1:]])


def words_of_another_lang(made: Made) -> None:
    path = made.root / "lang" / "words.txt"
    path.write_text(path.read_text() + "more 999\n")


def word_missing_in_symbol_tables(made: Made) -> None:
    word = made.lines("text")[0].split()[1]
    for folder in (made.graph, made.root / "lang"):
        lines = (folder / "words.txt").read_text().splitlines(keepends=True)
        (folder / "words.txt").write_text("".join(line for line in lines if line.split()[0] != word))


def duplicate_word(made: Made) -> None:
    path = made.graph / "words.txt"
    path.write_text(path.read_text() + "<eps> 998\n")


def no_topology(made: Made) -> None:
    (made.root / "lang" / "topo").unlink()


def no_grammar(made: Made) -> None:
    (made.root / "lang" / "G.fst").unlink()


def topology_of_another_model(made: Made) -> None:
    path = made.root / "lang" / "topo"
    text = path.read_text()
    path.write_text(text.replace("<ForPhones>", "<ForPhones> 999", 1))


# -- transforms -----------------------------------------------------------------------------------------------------


def no_transform_of_a_speaker(made: Made) -> None:
    (made.transforms / "trans.3").unlink()


def transform_file_missing(made: Made) -> None:
    (made.transforms / "trans.2").unlink()


def transform_of_wrong_dimension(made: Made) -> None:
    made.write_transforms({speaker: np.eye(3, 4) if speaker == "bert" else np.eye(4, 5) for speaker in SPEAKERS})


def transform_with_nan(made: Made) -> None:
    made.write_transforms({s: np.full((4, 5), np.nan) if s == "bert" else np.eye(4, 5) for s in SPEAKERS})


def truncated_transforms(made: Made) -> None:
    path = made.transforms / "trans.2"
    path.write_bytes(path.read_bytes()[:-20])


def no_transforms(made: Made) -> None:
    for path in made.transforms.iterdir():
        path.unlink()


def final_mat_of_wrong_dimension(made: Made) -> None:
    (made.transforms / "final.mat").write_text(" [\n" + "  1 0 0 0 0 0 0\n" * FEAT_DIM + "]\n")


BREAKS: list[tuple[Break, str, str]] = [
    (no_alignment, "warning", "no alignment"),
    (few_alignments, "error", "no alignment"),
    (short_alignment, "error", "lengths differ"),
    (empty_alignment, "error", "alignment without frames"),
    (transition_id_out_of_range, "error", "transition_id out of range"),
    (transition_id_zero, "error", "transition_id out of range"),
    (truncated_alignments, "error", "alignment archive unreadable"),
    (alignment_file_of_no_bytes, "error", "alignment archive unreadable"),
    (alignment_job_missing, "error", "alignment files missing"),
    (num_jobs_of_more_files, "error", "alignment files missing"),
    (aligned_twice, "error", "aligned twice"),
    (tree_of_another_model, "error", "tree of another model"),
    (truncated_tree, "error", "tree unreadable"),
    (truncated_model, "error", "model unreadable"),
    (truncated_network, "error", "model unreadable"),
    (network_of_other_features, "error", "features do not fit the model"),
    (network_of_another_front_end, "error", "front end does not fit the network"),
    (network_with_unknown_front_end, "error", "model unreadable"),
    (network_of_another_tree, "error", "network of another tree"),
    (network_with_wrong_priors, "error", "priors of another length"),
    (network_with_unseen_pdf, "warning", "pdf never seen in training"),
    (wrong_class_counts, "error", "priors of another length"),
    (graph_of_another_model, "error", "graph of another model"),
    (num_pdfs_of_another_model, "error", "graph of another model"),
    (our_graph_of_another_model, "error", "graph of another model"),
    (truncated_graph, "error", "graph unreadable"),
    (graph_missing, "error", "graph unreadable"),
    (word_out_of_vocabulary, "warning", "word out of vocabulary"),
    (words_of_another_lang, "error", "graph of another lang directory"),
    (duplicate_word, "error", "symbol table unreadable"),
    (no_topology, "error", "lang file missing"),
    (no_grammar, "warning", "lang file missing"),
    (topology_of_another_model, "error", "lang directory of another model"),
    (no_transform_of_a_speaker, "error", "no fMLLR transform"),
    (transform_file_missing, "error", "transform files missing"),
    (transform_of_wrong_dimension, "error", "wrong fMLLR transform"),
    (transform_with_nan, "error", "wrong fMLLR transform"),
    (truncated_transforms, "error", "transforms unreadable"),
    (no_transforms, "error", "transform files missing"),
    (final_mat_of_wrong_dimension, "error", "transform of another dimension"),
]


@pytest.mark.parametrize(("break_it", "severity", "fault"), BREAKS, ids=[b.__name__ for b, _, _ in BREAKS])
def test_doctor_names_exactly_the_fault(made: Made, break_it: Break, severity: str, fault: str) -> None:
    break_it(made)
    assert made.faults() == {fault: severity}


def test_words_that_the_graph_has_but_not_its_table(made: Made) -> None:
    word_missing_in_symbol_tables(made)
    assert made.faults() == {"graph of another words.txt": "error", "word out of vocabulary": "warning"}


def test_alignments_of_another_tree_than_the_given_model(made: Made) -> None:
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "tri1" / name, made.root)
    faults = made.faults(model=made.root / "final.mdl", graph_dir=GOLDEN / "graph" / "tri1", lang_dir=None)
    assert faults == {"alignments of another tree": "error"}


def test_alignments_beside_the_model_of_another_tree(made: Made) -> None:
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "tri1" / name, made.ali)
    assert made.faults(model=None, graph_dir=None) == {"alignments of another model": "error"}


def test_another_model_by_which_most_steps_are_possible_is_told_too(tmp_path: Path) -> None:
    """Connected digits aligned by monophones came to 56 % with the model of triphones."""
    alignments = dict(read_table(f"ark:{GOLDEN / 'align' / 'mono' / 'ali.ark'}", "int_vector"))
    write_alignments(tmp_path, [(utt, alignments[utt]) for utt in ("engb_f2-000", "engb_f2-005", "engb_f3-007")], 1)
    scan = scan_alignments(tmp_path, TransitionModel.read(GOLDEN / "model" / "tri1" / "final.mdl"), [])
    assert 0.5 < scan.legal_share < LEAST_LEGAL_SHARE


def test_alignments_stretched_for_another_speed_are_accepted(made: Made) -> None:
    alignments = {utt: np.delete(ids, np.arange(5, len(ids), 11)) for utt, ids in made.alignments().items()}
    made.write_alignments(alignments)
    assert made.faults(length_tolerance=10**6, skip_audio=True) == {}


def test_graph_is_compared_with_the_model_above_it(made: Made) -> None:
    alone = {"ali_dir": None, "model": None, "lang_dir": None, "transform_dir": None}
    shutil.copy(GOLDEN / "model" / "mono" / "final.mdl", made.root)
    assert made.faults(**alone) == {}
    shutil.copy(GOLDEN / "model" / "tri1" / "final.mdl", made.root)
    assert made.faults(**alone) == {"graph of another model": "error"}


def test_graph_is_compared_with_the_network_where_there_is_no_kaldi_model(made: Made) -> None:
    make_our_graph(made, "mono")
    assert made.faults(ali_dir=None) == {}
    shutil.rmtree(made.graph)
    shutil.copytree(GOLDEN / "graph" / "tri1", made.graph)
    assert made.faults(ali_dir=None) == {"graph of another model": "error"}


def test_pdfs_that_no_alignment_has(tmp_path: Path) -> None:
    made = make_experiment(tmp_path / "experiment", without_pdf=20)
    findings = made.report(model=None).findings
    assert {(finding.fault, finding.severity.value) for finding in findings} == {("pdf never seen", "warning")}
    assert "pdf 20" in {finding.where for finding in findings}


def test_alignments_of_a_larger_set_are_only_noted(made: Made) -> None:
    for name in ("text", "utt2spk", "wav.scp", "feats.scp"):
        made.write_lines(name, [line for line in made.lines(name) if not line.startswith("carl")])
    made.write_lines("spk2utt", made.lines("spk2utt")[:2])
    assert made.faults() == {}
    (row,) = made.report().rows()
    assert (row.fault, row.severity.value, row.count) == ("alignment without utterance", "note", 8)


def test_lengths_within_tolerance_are_accepted(made: Made) -> None:
    short_alignment(made)
    assert made.faults(length_tolerance=6) == {}


def test_share_of_lost_utterances_decides_how_bad_missing_ones_are(made: Made) -> None:
    no_alignment(made)
    assert made.faults(max_skip_fraction=0.01) == {"no alignment": "error"}


def test_kaldi_nets_of_another_tree(made: Made) -> None:
    net = made.root / "net"
    net.mkdir()
    shutil.copy(GOLDEN / "nnet1" / "final.nnet", net)
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "mono" / name, net)
    assert made.faults(model=net) == {"network of another tree": "error"}
    (net / "final.nnet").write_bytes((net / "final.nnet").read_bytes()[:1000])
    assert made.faults(model=net) == {"network unreadable": "error"}
