"""mkgraph, decode, decode-tune and score as commands: what they write, print and refuse."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.decode_tune import ACOUSTIC_SCALES, parse_floats, warn_at_edge
from acoustic.cli.main import run
from acoustic.decode.decoder import decode_utterances
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.tables import TableWriter, read_table

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = str(GOLDEN / "model" / "tri1" / "final.mdl")
GRAPH = str(GOLDEN / "graph" / "tri1" / "HCLG.fst")
LOGLIKES = f"ark:{GOLDEN / 'decode' / 'tri1' / 'loglikes.ark'}"
WORDS = str(GOLDEN / "graph" / "tri1" / "words.txt")


def test_from_graph_to_word_error_rate(tmp_path, capsys):
    run(["mkgraph", str(GOLDEN / "graph" / "lang"), str(GOLDEN / "model" / "tri1"), str(tmp_path / "graph")])
    graph = str(tmp_path / "graph" / "HCLG.fst")
    run(["decode", "--num-jobs=2", MODEL, graph, LOGLIKES, f"ark,t:{tmp_path}/int", f"ark,t:{tmp_path}/ali"])
    assert (tmp_path / "int").read_text() == (GOLDEN / "decode" / "tri1" / "words_int.txt").read_text()
    assert (tmp_path / "ali").read_text() == (GOLDEN / "decode" / "tri1" / "ali.txt").read_text()
    table = f"--word-symbol-table={tmp_path / 'graph' / 'words.txt'}"
    run(["decode", table, MODEL, graph, LOGLIKES, f"ark,t:{tmp_path}/text"])
    assert (tmp_path / "text").read_text().splitlines()[1].split() == ["engb_f2-005", "six", "four"]
    capsys.readouterr()
    run(["score", "--mode=strict", str(GOLDEN / "wav" / "text"), str(tmp_path / "text")])
    assert capsys.readouterr().out.startswith("%WER 0.00 [ 0 / 19, 0 ins, 0 del, 0 sub ]\n%SER 0.00 [ 0 / 6 ]\n")


def test_score_by_speaker_and_terse(tmp_path, capsys):
    ref, hyp = str(GOLDEN / "score" / "ref.txt"), str(GOLDEN / "score" / "hyp.txt")
    speakers = "".join(f"{line.split()[0]} {line[:3]}\n" for line in Path(ref).read_text().splitlines())
    (tmp_path / "utt2spk").write_text(speakers)
    run(["score", f"--utt2spk={tmp_path / 'utt2spk'}", ref, hyp])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == (GOLDEN / "score" / "compute_wer_present.txt").read_text().splitlines()
    assert "confidence interval" in lines[3]
    assert lines[4].split()[0] == "speaker"
    run(["score", "--terse", ref, hyp])
    assert capsys.readouterr().out == lines[0] + "\n"
    with pytest.raises(ConfigError, match="--mode"):
        run(["score", "--mode=lenient", ref, hyp])


def test_tune_then_decode(tmp_path):
    out = str(tmp_path / "tuned.json")
    text = str(GOLDEN / "wav" / "text")
    tune = ["decode-tune", "--num-jobs=1", "--acoustic-scales=0.05,0.1", "--insertion-penalties=-60,0"]
    run([*tune, MODEL, GRAPH, LOGLIKES, text, out])
    assert json.loads(Path(out).read_text())["insertion_penalty"] == 0.0
    run(["decode", f"--tuned={out}", "--insertion-penalty=-60", MODEL, GRAPH, LOGLIKES, f"ark,t:{tmp_path}/words"])
    assert (tmp_path / "words").read_text() == (GOLDEN / "decode" / "tri1" / "words_int.txt").read_text()
    with pytest.raises(ConfigError, match="--acoustic-scales"):
        run(["decode-tune", "--acoustic-scales=0.1,x", MODEL, GRAPH, LOGLIKES, text, out])


def test_a_best_scale_at_an_edge_of_the_grid_is_told(tmp_path, caplog):
    files = [MODEL, GRAPH, LOGLIKES, str(GOLDEN / "wav" / "text"), str(tmp_path / "tuned.json")]
    with caplog.at_level("WARNING", "acoustic"):
        run(["decode-tune", "--num-jobs=1", "--acoustic-scales=1e-7,1e-6,0.1", "--insertion-penalties=0", *files])
    assert "the best acoustic scale, 0.1, is the largest of those tried; look beyond it" in caplog.text
    caplog.clear()
    default = parse_floats("--acoustic-scales", ACOUSTIC_SCALES)
    for scale, further in ((0.05, "0.0241,0.0289,0.0347,0.0417,0.05,0.06"), (0.2, "0.17,0.2,0.235,0.277,0.326,0.383")):
        warn_at_edge(scale, default)
        edge = "least" if scale == 0.05 else "largest"
        told = (
            f"the best acoustic scale, {scale}, is the {edge} of those tried; look beyond it, as by --acoustic-scales="
        )
        assert caplog.messages == [told + further]
        caplog.clear()
    for scale, tried in ((0.06, (0.05, 0.06, 0.07)), (0.05, (0.05,) * 3), (0.05, (0.05, 0.06))):
        warn_at_edge(scale, tried)
    assert not caplog.text


def test_prior_scales_come_from_pdf_counts(tmp_path):
    (tmp_path / "counts").write_text(" [ " + " ".join(str(10 * pdf) for pdf in range(104)) + " ]\n")
    tune = ["decode-tune", "--num-jobs=1", "--acoustic-scales=0.1", "--insertion-penalties=0", "--prior-scales=0.9,1"]
    files = [MODEL, GRAPH, LOGLIKES, str(GOLDEN / "wav" / "text"), str(tmp_path / "tuned.json")]
    run([*tune, f"--class-frame-counts={tmp_path / 'counts'}", *files])
    trials = json.loads((tmp_path / "tuned.json").read_text())["trials"]
    assert [trial["prior_scale"] for trial in trials] == [0.9, 1.0]
    with pytest.raises(ConfigError, match="log priors"):
        run([*tune, *files])


def test_utterances_without_path_are_counted_and_too_many_fail(tmp_path):
    loglikes = dict(read_table(LOGLIKES, "matrix"))
    with TableWriter(f"ark:{tmp_path}/loglikes", "matrix") as writer:
        for utt, matrix in loglikes.items():
            writer.write(utt, matrix)
        writer.write("hopeless", np.full((5, 104), -np.inf, np.float32))
    arguments = [MODEL, GRAPH, f"ark:{tmp_path}/loglikes", f"ark,t:{tmp_path}/words"]
    with pytest.raises(DataError, match=r"no_path.*hopeless"):
        run(["decode", *arguments])
    assert not (tmp_path / "words").exists()
    run(["decode", "--max-skip-fraction=0.2", *arguments])
    assert len((tmp_path / "words").read_text().splitlines()) == 6


def test_the_summary_counts_the_frames_of_all_that_was_decoded(tmp_path, caplog):
    with caplog.at_level("INFO", "acoustic"):
        run(["decode", "--num-jobs=2", MODEL, GRAPH, LOGLIKES, f"ark,t:{tmp_path}/words"])
    log = (GOLDEN / "decode" / "tri1" / "latgen.log").read_text()
    likelihood, num_frames = re.search(r"Overall log-likelihood per frame is (\S+) over (\d+) frames", log).groups()
    summary = caplog.messages[-1]
    assert summary.startswith("done 6 utterances, skipped 0, partial 0, real-time factor ")
    assert f"(frames of 10 ms) with 2 jobs, log-likelihood per frame {likelihood} over {num_frames} frames" in summary


def test_partial_paths_are_told_and_jobs_are_as_many_as_asked_for(tmp_path, caplog, monkeypatch):
    with TableWriter(f"ark:{tmp_path}/loglikes", "matrix") as writer:
        for utt, matrix in read_table(LOGLIKES, "matrix"):
            writer.write(utt, matrix[:1] if utt == "engb_f3-002" else matrix)
    asked = []

    def decoded(decoder, utterances, num_jobs):
        asked.append(num_jobs)
        return decode_utterances(decoder, utterances, 1)

    monkeypatch.setattr("acoustic.cli.decode.decode_utterances", decoded)
    arguments = [MODEL, GRAPH, f"ark:{tmp_path}/loglikes", f"ark,t:{tmp_path}/words"]
    with caplog.at_level("WARNING", "acoustic"):
        run(["decode", "--num-jobs=7", *arguments])
        assert asked == [7]
        assert caplog.messages == ["1 utterances got a partial path: none reached a final state"]
        caplog.clear()
        run(["decode", "--allow-partial=false", "--max-skip-fraction=0.5", *arguments])
    assert "skipped engb_f3-002 (no_final_state): no path reaches a final state" in caplog.messages


def test_a_cut_archive_leaves_no_output(tmp_path):
    content = (GOLDEN / "decode" / "tri1" / "loglikes.ark").read_bytes()
    (tmp_path / "cut.ark").write_bytes(content[:-1000])
    with pytest.raises(DataError, match="engb_f5-001"):
        run(["decode", "--num-jobs=2", MODEL, GRAPH, f"ark:{tmp_path}/cut.ark", f"ark,t:{tmp_path}/words"])
    assert not (tmp_path / "words").exists()


def test_words_outside_the_symbol_table_are_an_error(tmp_path):
    """Before anything is decoded, whatever the words of these utterances are."""
    lines = Path(WORDS).read_text().splitlines(keepends=True)
    for name, table, missing in (("short", lines[:7], 11), ("gap", lines[:3] + lines[4:], 3), ("none", [], 11)):
        (tmp_path / name).write_text("".join(table))
        told = rf"{name}: has no word with the id {missing}, which .*HCLG\.fst has"
        for verb, rest in (("decode", ["ark,t:/dev/null"]), ("decode-tune", [str(GOLDEN / "wav" / "text"), "out"])):
            with pytest.raises(DataError, match=told):
                run([verb, f"--word-symbol-table={tmp_path / name}", MODEL, GRAPH, "ark:/dev/null", *rest])


def test_a_table_with_other_words_for_the_ids_of_the_graph_is_told_of(tmp_path, caplog):
    other = tmp_path / "words.txt"
    decode = ["decode", "--num-jobs=1", f"--word-symbol-table={other}", MODEL, GRAPH, LOGLIKES]
    other.write_text(Path(WORDS).read_text() + "more 1000\n")
    run([*decode, f"ark,t:{tmp_path}/text"])
    assert "not the table of the graph" not in caplog.text
    other.write_text(Path(WORDS).read_text().replace("six ", "sechs "))
    run([*(f"{part}".replace(f"={other}", f"=cat {other} |") for part in decode), f"ark,t:{tmp_path}/text"])
    assert re.search(r"not the table of the graph: 1 of .*\(id \d+: sechs, there six\)", caplog.text)


def test_bad_options_are_configuration_errors():
    with pytest.raises(ConfigError, match="--beam"):
        run(["decode", "--beam=-1", MODEL, GRAPH, LOGLIKES, "ark:/dev/null"])
    with pytest.raises(ConfigError, match="--self-loop-scale"):
        run(["mkgraph", "--self-loop-scale=nan", "lang", "model", "graph"])


def test_compile_and_align(tmp_path):
    lang, model_dir = GOLDEN / "graph" / "lang", GOLDEN / "model" / "tri1"
    compile_ = ["compile-train-graphs", "--num-jobs=2", str(model_dir / "tree"), MODEL, str(lang / "L.fst")]
    text = str(GOLDEN / "wav" / "text")
    graphs = f"ark:{tmp_path}/graphs.fsts"
    run([*compile_, f"--word-symbol-table={lang / 'words.txt'}", text, graphs])
    run(["align", "--num-jobs=2", MODEL, graphs, LOGLIKES, f"ark,t:{tmp_path}/ali", f"ark,t:{tmp_path}/scores"])
    assert (tmp_path / "ali").read_text() == (GOLDEN / "align" / "tri1" / "ali.txt").read_text()
    scores = dict(read_table(f"ark:{tmp_path}/scores", "float"))
    assert len(scores) == 6
    run(["align", "--scores-per-frame", MODEL, graphs, LOGLIKES, "ark:/dev/null", f"ark,t:{tmp_path}/per_frame"])
    per_frame = dict(read_table(f"ark:{tmp_path}/per_frame", "float"))
    for utt, ids in read_table(f"ark:{tmp_path}/ali", "tokens"):
        assert per_frame[utt] == pytest.approx(scores[utt] / 0.1 / len(ids), rel=1e-4)
    run(["align", "--num-jobs=2", MODEL, f"ark:cat {graphs[4:]} |", LOGLIKES, f"ark:| gzip -c > {tmp_path}/ali.1.gz"])
    expected = {utt: [int(token) for token in ids] for utt, ids in read_table(f"ark:{tmp_path}/ali", "tokens")}
    piped = read_table(f"ark:gunzip -c {tmp_path}/ali.1.gz |", "int_vector")
    assert {utt: ids.tolist() for utt, ids in piped} == expected
    run([*compile_, f"ark:{GOLDEN / 'decode' / 'tri1' / 'words_int.txt'}", f"ark:{tmp_path}/from_ids"])
    assert (tmp_path / "from_ids").read_bytes() == (tmp_path / "graphs.fsts").read_bytes()
    with pytest.raises(DataError, match="expected word ids"):
        run([*compile_, text, graphs])
    with pytest.raises(ConfigError, match="--oov"):
        run([*compile_, "--oov=<UNK>", f"--word-symbol-table={lang / 'words.txt'}", text, graphs])


def test_utterances_without_graph_are_counted(tmp_path):
    graphs = dict(read_table(f"ark:{GOLDEN / 'align' / 'tri1' / 'graphs.fsts'}", "fst"))
    del graphs["engb_f4-004"]
    with TableWriter(f"ark:{tmp_path}/graphs", "fst") as writer:
        for utt, graph in graphs.items():
            writer.write(utt, graph)
    arguments = [MODEL, f"ark:{tmp_path}/graphs", LOGLIKES, f"ark,t:{tmp_path}/ali"]
    with pytest.raises(DataError, match=r"no_graph.*engb_f4-004"):
        run(["align", *arguments])
    run(["align", "--max-skip-fraction=0.5", *arguments])
    assert len((tmp_path / "ali").read_text().splitlines()) == 5
