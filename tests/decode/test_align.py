"""Training graphs and alignments against compile-train-graphs and align-compiled-mapped."""

import re
from pathlib import Path

import kaldifst
import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.decode.align import Aligner, AlignOptions, align_utterances, transition_costs
from acoustic.decode.graph import GraphOptions, make_graph
from acoustic.decode.graph_arrays import from_kaldifst
from acoustic.decode.search import NoPathError
from acoustic.decode.train_graphs import TrainGraphCompiler, TrainGraphOptions, transcript_ids
from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays, empty_fst
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree

GOLDEN = Path(__file__).parents[1] / "golden"
LANG = GOLDEN / "graph" / "lang"
SYSTEMS = ["mono", "tri1"]


def table(path: Path, kind: str) -> dict:
    return dict(read_table(f"ark:{path}", kind))


def model_of(system: str) -> TransitionModel:
    return TransitionModel.read(GOLDEN / "model" / system / "final.mdl")


def compiler_of(system: str, options: TrainGraphOptions | None = None) -> TrainGraphCompiler:
    tree = DecisionTree.read(GOLDEN / "model" / system / "tree")
    return TrainGraphCompiler(tree, model_of(system), LANG / "L.fst", options=options)


def our_graphs(system: str) -> dict[str, FstArrays]:
    words, compiler = SymbolTable.read(LANG / "words.txt").id_of, compiler_of(system)
    text = table(GOLDEN / "wav" / "text", "tokens")
    return {utt: compiler.compile(transcript_ids(transcript, words)) for utt, transcript in text.items()}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("source", ["kaldi", "ours"])
@pytest.mark.parametrize("num_jobs", [1, 2])
def test_alignments_and_likelihoods_are_kaldis(system, source, num_jobs):
    folder = GOLDEN / "align" / system
    graphs = table(folder / "graphs.fsts", "fst") if source == "kaldi" else our_graphs(system)
    loglikes = table(GOLDEN / "decode" / system / "loglikes.ark", "matrix")
    items = [(utt, graphs[utt], matrix) for utt, matrix in loglikes.items()]
    aligned = dict(align_utterances(Aligner(model_of(system)), items, num_jobs))
    expected = {utt: list(map(int, ids)) for utt, ids in table(folder / "ali.txt", "tokens").items()}
    assert {utt: alignment.path.transition_ids.tolist() for utt, alignment in aligned.items()} == expected
    per_frame = sum(a.path.likelihood / 0.1 for a in aligned.values()) / sum(a.num_frames for a in aligned.values())
    log = (folder / "align.log").read_text()
    assert per_frame == pytest.approx(float(re.search(r"per frame is (\S+)", log)[1]), abs=1e-3)
    assert not any(alignment.retried for alignment in aligned.values())


def test_monophone_graphs_are_kaldis_arc_by_arc():
    kaldis, ours = table(GOLDEN / "align" / "mono" / "graphs.fsts", "fst"), our_graphs("mono")
    for utt, graph in kaldis.items():
        np.testing.assert_array_equal(ours[utt].arcs, graph.arcs)
        np.testing.assert_array_equal(ours[utt].final, graph.final)


def test_a_graph_compiled_with_probabilities_is_a_decoding_graph(tmp_path):
    """With mkgraph's scales, compiling a transcript equals mkgraph over a grammar of this one sentence."""
    scales = (0.9, 0.2)
    (tmp_path / "lang").mkdir()
    for name in ("L_disambig.fst", "phones.txt", "words.txt", "disambig.int"):
        (tmp_path / "lang" / name).write_bytes((LANG / name).read_bytes())
    kaldifst.make_linear_acceptor([8, 4]).write(str(tmp_path / "lang" / "G.fst"))
    decoding = make_graph(tmp_path / "lang", GOLDEN / "model" / "tri1", tmp_path / "graph", GraphOptions(*scales))
    training = compiler_of("tri1", TrainGraphOptions(*scales)).compile([8, 4])
    loglikes = table(GOLDEN / "decode" / "tri1" / "loglikes.ark", "matrix")["engb_f2-005"]
    aligner = Aligner(model_of("tri1"), AlignOptions(transition_scale=0.0, self_loop_scale=0.0))
    paths = [aligner.align(graph, loglikes).path for graph in (decoding, training)]
    assert paths[0].transition_ids.tolist() == paths[1].transition_ids.tolist()
    assert paths[0].words == paths[1].words == [8, 4]
    # mkgraph pays the lexicon's optional silences as the training graph does, but pushes weights before quantising.
    assert paths[0].likelihood == pytest.approx(paths[1].likelihood, abs=0.01)


def test_equal_scales_give_the_plain_probabilities():
    model = model_of("tri1")
    np.testing.assert_array_equal(transition_costs(model, 0.5, 0.5)[1:], -model.log_prob[1:] * np.float32(0.5))
    nearly = transition_costs(model, 0.5, 0.5 + 1e-6)
    np.testing.assert_allclose(nearly[1:], -model.log_prob[1:] * 0.5, atol=1e-4)


def test_a_narrow_beam_is_retried_and_then_given_up():
    graph = our_graphs("mono")["engb_f2-000"]
    loglikes = table(GOLDEN / "decode" / "mono" / "loglikes.ark", "matrix")["engb_f2-000"]
    hurried = loglikes[:70]  # the words must go faster than the sounds, which takes unlikely paths
    aligner = Aligner(model_of("mono"), AlignOptions(beam=2.0, retry_beam=1000.0))
    alignment = aligner.align(graph, hurried)
    assert alignment.retried
    wide = Aligner(model_of("mono"), AlignOptions(beam=1000.0, retry_beam=0.0)).align(graph, hurried)
    assert alignment.path.transition_ids.tolist() == wide.path.transition_ids.tolist()
    with pytest.raises(NoPathError):
        Aligner(model_of("mono"), AlignOptions(beam=2.0, retry_beam=0.0)).align(graph, hurried)


def test_too_few_frames_for_the_words_is_no_path():
    graph = our_graphs("mono")["engb_f2-000"]
    with pytest.raises(NoPathError):
        Aligner(model_of("mono")).align(graph, np.zeros((5, 62), np.float32))


def test_graphs_of_another_model_are_refused():
    graph = our_graphs("tri1")["engb_f2-000"]
    with pytest.raises(DataError, match="another model"):
        Aligner(model_of("mono")).align(graph, np.zeros((50, 62), np.float32))


def test_an_utterance_whose_graph_has_no_phones_does_not_end_the_others():
    """An empty transcript in a lexicon without silence: one final state."""
    silent = kaldifst.make_linear_acceptor([])
    no_phones = [empty_fst(), from_kaldifst(silent)]
    graph, loglikes = our_graphs("mono")["engb_f2-000"], np.zeros((110, 62), np.float32)
    items = [*((f"empty{n}", nothing, loglikes) for n, nothing in enumerate(no_phones)), ("utt", graph, loglikes)]
    aligned = dict(align_utterances(Aligner(model_of("mono"), AlignOptions(beam=1000.0, retry_beam=0.0)), items))
    assert [isinstance(aligned[utt], NoPathError) for utt, _, _ in items] == [True, True, False]


def test_unknown_words():
    words = {"one": 6, "<UNK>": 1}
    assert transcript_ids(["one", "two"], words, oov_id=1) == [6, 1]
    with pytest.raises(DataError, match="two"):
        transcript_ids(["one", "two"], words)
    with pytest.raises(DataError, match="no path"):
        compiler_of("mono").compile([6, 14])


@pytest.mark.parametrize("options", [{"beam": 0.0}, {"retry_beam": 5.0}, {"acoustic_scale": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="--"):
        AlignOptions(**options)


def test_graphs_of_another_model_are_told_of(tmp_path, caplog):
    """Their paths are found all the same: all that shows is that they are none through this model's HMMs."""
    mono = GOLDEN / "align" / "mono"
    for system in SYSTEMS:
        loglikes = f"ark:{tmp_path / system}"
        with TableWriter(loglikes, "matrix") as writer:
            for utt, ids in table(mono / "ali.ark", "int_vector").items():
                writer.write(utt, np.zeros((len(ids), model_of(system).num_pdfs), np.float32))
        model = str(GOLDEN / "model" / system / "final.mdl")
        options = ["--num-jobs=1", "--retry-beam=200"]
        run(["align", *options, model, f"ark:{mono / 'graphs.fsts'}", loglikes, f"ark:{tmp_path / 'ali'}"])
        told = "if another model made the graphs, compile them with this one" in caplog.text
        assert told == (system == "tri1")
