"""Every golden file is read; what Kaldi wrote in a format we write too is written back as it was.

`GOLDEN_FILES` names the files one by one, with what is asked of each: binary files come back byte for byte, text equal
in value. A file that is not named fails the test, and so does a name without file.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from acoustic.decode.graph import make_graph, read_ids
from acoustic.decode.lang_arpa import ArpaReader, write_arpa
from acoustic.decode.lang_dict import read_lexicon
from acoustic.decode.wer import read_transcripts, score
from acoustic.features.audio import iter_audio, read_audio
from acoustic.kaldi.alignments import read_alignments_of, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.fst import read_fst, write_const, write_fst
from acoustic.kaldi.matrix import read_matrix_file, read_vector_file, write_matrix_file, write_vector_file
from acoustic.kaldi.nnet1 import Nnet1, write_class_counts
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.nnet3_config import parse_node
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.kaldi.tree import DecisionTree
from tests.kaldi.goldens import GOLDEN

Check = Callable[[Path, Path], None]  # (golden file, where to write)


# -- one function for each format ---------------------------------------------------------------------------------


def same_bytes(golden: Path, written: Path) -> None:
    assert written.read_bytes() == golden.read_bytes()


def copy_table(kind: str, source: Path, wspecifier: str) -> None:
    with TableWriter(wspecifier, kind) as writer:
        for key, value in read_table(f"ark:{source}", kind):
            writer.write(key, value)


def table(kind: str, golden: Path, out: Path) -> None:
    """A binary archive, written back byte for byte."""
    copy_table(kind, golden, f"ark:{out}")
    same_bytes(golden, out)


def text_table(kind: str, golden: Path, out: Path) -> None:
    """An archive in text: written as text it is read back with equal values, which in binary are the same bytes."""
    as_text, as_binary = out.with_suffix(".text"), out.with_suffix(".binary")
    copy_table(kind, golden, f"ark,t:{as_text}")
    copy_table(kind, golden, f"ark:{as_binary}")
    copy_table(kind, as_text, f"ark:{out}")
    same_bytes(as_binary, out)
    assert out.stat().st_size > 0


def empty_table(golden: Path, out: Path) -> None:
    """The golden two_lda.ark has no entries, an oversight of those who made it."""
    table("matrix", golden, out)
    assert not list(read_table(f"ark:{golden}", "matrix"))


def compressed(method: int, golden: Path, out: Path) -> None:
    """Compressing what Kaldi compressed gives its bytes; expanding gives what Kaldi expanded."""
    with TableWriter(f"ark:{out}", "matrix", compression_method=method) as writer:
        for key, value in read_table(f"ark:{golden.with_name('fbank40.ark')}", "matrix"):
            writer.write(key, value)
    same_bytes(golden, out)
    expanded = dict(read_table(f"ark:{golden.with_suffix('.expanded.ark')}", "matrix"))
    for key, value in read_table(f"ark:{golden}", "matrix"):
        np.testing.assert_array_equal(value, expanded[key])


def gzipped_alignments(golden: Path, out: Path) -> None:
    """ali.1.gz: the packed bytes are Kaldi's (gzip's header has the time of packing)."""
    write_alignments(out, read_alignments_of(f"ark:{golden}"))
    assert gzip.decompress((out / "ali.1.gz").read_bytes()) == gzip.decompress(golden.read_bytes())


def matrix(golden: Path, out: Path) -> None:
    write_matrix_file(out, read_matrix_file(golden))
    same_bytes(golden, out)


def text_vector(golden: Path, out: Path) -> None:
    values = read_vector_file(golden)
    write_vector_file(out, values, binary=False)
    np.testing.assert_array_equal(read_vector_file(out), values)


def counts(golden: Path, out: Path) -> None:
    write_class_counts(out, read_vector_file(golden))
    same_bytes(golden, out)


def fst(golden: Path, out: Path) -> None:
    """Const (HCLG.fst) and vector (L.fst, G.fst), each as its own type again."""
    content, file = read_fst(golden), io.BytesIO()
    write_const(file, content) if golden.name == "HCLG.fst" else write_fst(file, content, binary=True)
    assert file.getvalue() == golden.read_bytes()


def made_with_graph(golden: Path, out: Path) -> None:
    """The small files beside a graph, as mkgraph writes them."""
    make_graph(GOLDEN / "graph/lang", GOLDEN / "model" / golden.parent.name, out)
    assert (out / golden.name).read_text().split() == golden.read_text().split()


def ids(golden: Path, out: Path) -> None:
    assert read_ids(golden) == sorted(map(int, golden.read_text().split()))


def symbols(golden: Path, out: Path) -> None:
    SymbolTable.read(golden).write(out)
    same_bytes(golden, out)


def lexicon(golden: Path, out: Path) -> None:
    lines = [line.split() for line in golden.read_text().splitlines()]
    phones = {phone for _, *pronunciation in lines for phone in pronunciation}
    entries = read_lexicon(golden, phones, num_numbers=0)
    assert [[entry.word, *entry.phones] for entry in entries] == lines


def arpa(golden: Path, out: Path) -> None:
    def read(path: Path) -> dict[tuple[str, ...], tuple[float, float | None]]:
        with open_reader(path) as reader:
            ngrams = list(ArpaReader(reader).ngrams())
        return {tuple(w.decode() for w in ngram.words): (ngram.log_prob, ngram.log_backoff or None) for ngram in ngrams}

    ngrams = read(golden)
    orders = range(1, 1 + max(map(len, ngrams)))
    write_arpa(out, [{words: value for words, value in ngrams.items() if len(words) == order} for order in orders])
    assert read(out) == ngrams


def topology(golden: Path, out: Path) -> None:
    content, file = Topology.read(golden), io.BytesIO()
    content.write(file, binary=False)
    out.write_bytes(file.getvalue())
    assert Topology.read(out) == content


def tree(golden: Path, out: Path) -> None:
    DecisionTree.read(golden).write(out, binary=golden.suffix != ".txt")
    same_bytes(golden, out)


def gmm(golden: Path, out: Path) -> None:
    """Of a GMM the transition model at its head is read and written."""
    write_model(out, TransitionModel.read(golden))
    assert golden.read_bytes().startswith(out.read_bytes())


def transition_model(golden: Path, out: Path) -> None:
    write_model(out, TransitionModel.read(golden), binary=False)
    same_bytes(golden, out)


def shown_transitions(golden: Path, out: Path) -> None:
    """What show-transitions prints, of the model beside it."""
    model = TransitionModel.read(golden.with_name("final.mdl"))
    shown = re.findall(r"Transition-id = (\d+) p = (\S+)", golden.read_text())
    assert [int(transition_id) for transition_id, _ in shown] == list(range(1, model.num_transition_ids + 1))
    np.testing.assert_allclose(np.exp(model.log_prob[1:]), [float(p) for _, p in shown], rtol=1e-5)


def nnet1(golden: Path, out: Path) -> None:
    Nnet1.read(golden).write(out, binary=golden.suffix != ".txt")
    same_bytes(golden, out)


def nnet1_proto(golden: Path, out: Path) -> None:
    """The plan of a net, which nnet-initialize reads: the net made after it has these components."""
    planned = re.findall(r"^<(\w+)> <InputDim> (\d+) <OutputDim> (\d+)", golden.read_text(), re.MULTILINE)
    net = Nnet1.read(golden.with_name("final.nnet" if golden.name == "proto" else "splice.nnet"))
    made = [(type(c).__name__, str(c.input_dim), str(c.output_dim)) for c in net.components]
    assert made == planned


def nnet3_raw(golden: Path, out: Path) -> None:
    Nnet3.read(golden).write(out, binary=golden.suffix != ".txt")
    same_bytes(golden, out)


def nnet3_model(golden: Path, out: Path) -> None:
    Nnet3Model.read(golden).write(out)
    same_bytes(golden, out)


def nnet3_config(golden: Path, out: Path) -> None:
    """The plan of a net, which nnet3-init reads: its nodes are those of the net."""
    lines = [line for line in golden.read_text().splitlines() if not line.startswith("component name=")]
    nodes = Nnet3.read(golden.with_name("final.raw")).nodes
    assert sorted(map(str, map(parse_node, lines))) == sorted(map(str, nodes))


def wave(golden: Path, out: Path) -> None:
    samples, sample_frequency = read_audio(str(golden))
    data = np.frombuffer(golden.read_bytes()[44:], dtype="<i2")
    np.testing.assert_array_equal(samples, data)
    assert sample_frequency == (16000 if "16k" in golden.name else 8000)


def data_file(golden: Path, out: Path) -> None:
    """A file of a data directory; the audio it names is found."""
    data = DataDir.read(golden.parent, GOLDEN)
    data.write(out)
    again = DataDir.read(out)
    assert again == data and (out / golden.name).exists()
    assert len(list(iter_audio(data))) == len(data.segments)


def transcripts(golden: Path, out: Path) -> None:
    assert read_transcripts(str(golden)) == {utt: words for utt, *words in map(str.split, golden.open())}


def computed_wer(golden: Path, out: Path) -> None:
    ref, hyp = (read_transcripts(str(golden.with_name(name))) for name in ("ref.txt", "hyp.txt"))
    scores = score(ref, hyp, golden.stem.removeprefix("compute_wer_"))
    assert [scores.wer_line(), scores.ser_line(), scores.count_line()] == golden.read_text().splitlines()


def aligned_text(golden: Path, out: Path) -> None:
    """What align-text printed holds the scored words, and as many differing pairs as we count errors."""
    ref, hyp = (read_transcripts(str(golden.with_name(name))) for name in ("ref.txt", "hyp.txt"))
    scores = score(ref, hyp)
    errors = dict(zip(scores.utts, scores.num_errors.tolist(), strict=True))
    for utt, words in read_transcripts(str(golden)).items():
        pairs = [pair.split() for pair in " ".join(words).split(" ; ") if pair]
        assert [r for r, _ in pairs if r != "***"] == ref[utt]
        assert [h for _, h in pairs if h != "***"] == hyp[utt]
        assert sum(r != h for r, h in pairs) == errors[utt]


def log(golden: Path, out: Path) -> None:
    """A program's log; it is no data, and tells of as many frames as the alignments beside it have."""
    frames = sum(len(alignment) for _, alignment in read_table(f"ark:{golden.with_name('ali.txt')}", "int_vector"))
    assert f"over {frames} frames" in golden.read_text()


def ctm(golden: Path, out: Path) -> None:
    """Times by ali-to-phones --ctm-output and nbest-to-ctm: of the utterances that were aligned, in their order."""
    utts = list(read_table(f"ark:{golden.with_name('ali.ark')}", "int_vector"))
    assert list(dict.fromkeys(line.split()[0] for line in golden.read_text().splitlines())) == [utt for utt, _ in utts]


def prose(golden: Path, out: Path) -> None:  # or (====) many files in one, which test_lang.py takes apart
    assert golden.read_text().startswith(("# ", "==== "))


# -- the golden files ---------------------------------------------------------------------------------------------


def files(folder: str, checks: dict[str, Check]) -> dict[str, Check]:
    """`checks` of names separated by blanks, by the path of each."""
    return {f"{folder}/{name}": check for names, check in checks.items() for name in names.split()}


matrices = partial(table, "matrix")
int_vectors = partial(table, "int_vector")
text_int_vectors = partial(text_table, "int_vector")

ALIGN: dict[str, Check] = {
    "ali.ark": int_vectors,
    "ali.1.gz": gzipped_alignments,
    "ali.txt pdf.txt phones.txt": text_int_vectors,
    "graphs.fsts": partial(table, "fst"),
    "align.log": log,
    "phones.ctm words_and_silence.ctm": ctm,
}
DECODE: dict[str, Check] = {
    "ali.txt words_int.txt": text_int_vectors,
    "loglikes.ark": matrices,
    "lat.ark": partial(table, "compact_lattice"),
    "lat.txt": partial(text_table, "compact_lattice"),
    "latgen.log": log,
}
GRAPH: dict[str, Check] = {
    "HCLG.fst": fst,
    "words.txt": symbols,
    "disambig_tid.int num_pdfs": made_with_graph,
}
MODEL: dict[str, Check] = {
    "final.mdl": gmm,
    "final.occs": text_vector,
    "transition_model.txt": transition_model,
    "show_transitions.txt": shown_transitions,
    "tree tree.txt": tree,
}
COMPRESSED: dict[str, Check] = {
    **{f"fbank40_compress{method}.ark": partial(compressed, method) for method in range(1, 8)},
    **{f"fbank40_compress{method}.expanded.ark": matrices for method in range(1, 8)},
}
GOLDEN_FILES: dict[str, Check] = {
    "README.md": prose,
    **files("align/mono", ALIGN),
    **files("align/tri1", {**ALIGN, "pdf_post.ark": partial(table, "posterior")}),
    **files("decode/mono", DECODE),
    **files("decode/tri1", DECODE),
    **files("feats", COMPRESSED),
    **files(
        "feats",
        {
            "cmvn_global.mat lda.mat": matrix,
            "cmvn_spk.ark cmvn_utt.ark": matrices,
            "deltas2.ark fbank23_hamming.ark fbank40.ark fbank40_energy_htk.ark fbank40_nosnip.ark": matrices,
            "fbank40_segments.ark fbank80_16k.ark mfcc13.ark two.ark two_splice3_2.ark": matrices,
            "two_cmvn_sliding50.ark two_cmvn_spk_vars.ark two_cmvn_utt_means.ark": matrices,
            "two_lda.ark": empty_table,
            "fbank40_first.txt": partial(text_table, "matrix"),
        },
    ),
    **files(
        "fmllr",
        {
            "base_speaker.ark base_utterance.ark cmvn_mfcc13_spk.ark": matrices,
            "speaker/trans.1 speaker/trans.2 utterance/trans.1": matrices,
            "speaker/num_jobs": ids,
        },
    ),
    **files(
        "graph/lang",
        {
            "G.fst L.fst L_disambig.fst": fst,
            "words.txt phones.txt": symbols,
            "topo": topology,
            "lexicon.txt": lexicon,
            "lm.arpa": arpa,
            "disambig.int nonsilence.int oov.int optional_silence.int silence.int context_indep.int": ids,
        },
    ),
    **files("graph/mono", GRAPH),
    **files("graph/tri1", GRAPH),
    **files("lang", {"README.md plain.txt probabilities.txt silence_probabilities.txt": prose}),
    **files("model/mono", MODEL),
    **files("model/tri1", MODEL),
    **files(
        "nnet1",
        {
            "feature_transform final.nnet splice.nnet feature_transform.txt final.nnet.txt": nnet1,
            "proto splice.proto": nnet1_proto,
            "pdf.counts": counts,
            "two_loglikes.ark two_posteriors.ark": matrices,
        },
    ),
    **files(
        "nnet3",
        {
            "final.raw final.raw.txt": nnet3_raw,
            "final.mdl": nnet3_model,
            "net.config": nnet3_config,
            "priors.vec": text_vector,
            "two_output.ark": matrices,
            "two_lat.ark": partial(table, "compact_lattice"),
            "two_words_int.txt": text_int_vectors,
        },
    ),
    **files(
        "score",
        {
            "ref.txt hyp.txt": transcripts,
            "compute_wer_all.txt compute_wer_present.txt": computed_wer,
            "align_text.txt": aligned_text,
        },
    ),
    **files(
        "wav",
        {
            "engb_f2-000.wav engb_f2-005.wav engb_f3-002.wav engb_f3-007.wav": wave,
            "engb_f4-004.wav engb_f5-001.wav wide_16k.wav": wave,
            "segments spk2utt text utt2spk wav.scp": data_file,
        },
    ),
}


def test_no_golden_file_is_left_out() -> None:
    folders = {GOLDEN / name.split("/")[0] for name in GOLDEN_FILES}
    found = {path.relative_to(GOLDEN).as_posix() for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert found | {"README.md"} == set(GOLDEN_FILES)


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_file(name: str, tmp_path: Path) -> None:
    GOLDEN_FILES[name](GOLDEN / name, tmp_path / "written")
