"""Files of different lang directories or models, whose ids mean other phones or words: told before anything is made."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import kaldifst
import pytest

from acoustic.cli.main import run
from acoustic.decode.graph import make_graph
from acoustic.decode.graph_arrays import from_kaldifst
from acoustic.decode.lang_match import check_lexicon, check_same_phones, looks_like_grammar
from acoustic.errors import DataError
from acoustic.kaldi.fst import read_fst
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.transitions import TransitionModel

GOLDEN = Path(__file__).parents[1] / "golden"
LANG = GOLDEN / "graph" / "lang"
MONO = GOLDEN / "model" / "mono"
PHONES = TransitionModel.read(MONO / "final.mdl").topology.phones
WORDS = SymbolTable.read(LANG / "words.txt")


def compile_graphs(out: Path, lexicon: Path, *options: str, text: str = str(GOLDEN / "wav" / "text")) -> None:
    """Training graphs of the golden transcripts."""
    inputs = [str(MONO / "tree"), str(MONO / "final.mdl"), str(lexicon), text]
    table = [] if any("word-symbol" in option for option in options) else [f"--word-symbol-table={LANG / 'words.txt'}"]
    run(["compile-train-graphs", "--num-jobs=1", *table, *options, *inputs, f"ark:{out}/graphs"])


@pytest.fixture
def lang(tmp_path: Path) -> Path:
    """A lang directory to be changed."""
    shutil.copytree(LANG, tmp_path / "lang")
    return tmp_path / "lang"


def with_names(path: Path, change: dict[str, str]) -> None:
    """Give symbols of a table other names."""
    symbols = SymbolTable.read(path).id_of
    SymbolTable({change.get(symbol, symbol): number for symbol, number in symbols.items()}).write(path)


def test_a_grammar_given_as_lexicon_is_refused(tmp_path: Path) -> None:
    """Its word ids are all ids of phones, so that graphs came out of it."""
    with pytest.raises(DataError, match=r"G\.fst.*same ids on both sides.*L\.fst"):
        compile_graphs(tmp_path, LANG / "G.fst")
    assert not (tmp_path / "graphs").exists()
    shutil.copy(LANG / "G.fst", tmp_path)
    with pytest.raises(DataError, match="same ids on both sides"):
        compile_graphs(tmp_path, tmp_path / "G.fst")


def test_only_grammars_look_like_grammars() -> None:
    assert looks_like_grammar(read_fst(LANG / "G.fst"))
    for name in ("L.fst", "L_disambig.fst"):
        assert not looks_like_grammar(read_fst(LANG / name))
        check_lexicon(LANG / name, read_fst(LANG / name), PHONES, range(82, 84), WORDS)
    backoff = "0 0 7 7\n0 1 9 0\n1 1 8 8\n0 0\n1 0\n"
    assert looks_like_grammar(from_kaldifst(kaldifst.compile(backoff)))
    first_phone_has_the_words_id = "0 1 7 7\n1 0 3 0\n1 0 4 0\n0 0\n"
    assert not looks_like_grammar(from_kaldifst(kaldifst.compile(first_phone_has_the_words_id)))
    assert not looks_like_grammar(from_kaldifst(kaldifst.compile("0 0 0 0\n0\n")))


def test_a_lexicon_whose_words_are_phones_is_one(tmp_path: Path) -> None:
    lexicon = from_kaldifst(kaldifst.compile("0 0 6 6\n0 0 7 7\n0 0 1 0\n0 0\n"))
    with pytest.raises(DataError, match="same ids"):
        check_lexicon(tmp_path / "L.fst", lexicon, PHONES)
    (tmp_path / "phones.txt").write_text("<eps> 0\nSIL 1\na 6\nb 7\n")
    (tmp_path / "words.txt").write_text("<eps> 0\na 6\nb 7\n")
    check_lexicon(tmp_path / "L.fst", lexicon, PHONES)
    (tmp_path / "words.txt").write_text("<eps> 0\na 6\nc 7\n")
    with pytest.raises(DataError, match="same ids"):
        check_lexicon(tmp_path / "L.fst", lexicon, PHONES)


def test_symbols_that_are_no_phones_of_the_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"input symbol \d+ \(#\d\).*--read-disambig-syms"):
        compile_graphs(tmp_path, LANG / "L_disambig.fst")
    compile_graphs(tmp_path, LANG / "L_disambig.fst", f"--read-disambig-syms={LANG / 'disambig.int'}")
    lexicon = from_kaldifst(kaldifst.compile("0 1 6 2\n1 0 97 0\n0 0\n"))
    with pytest.raises(DataError, match=r"input symbol 97, which is no phone of the model.*the model was made with"):
        check_lexicon(tmp_path / "L.fst", lexicon, PHONES)


def test_words_of_another_table_are_refused(tmp_path: Path, lang: Path) -> None:
    table = f"--word-symbol-table={lang / 'words.txt'}"
    compile_graphs(tmp_path, LANG / "L.fst", table)
    with_names(lang / "words.txt", {"one": "eins"})
    with pytest.raises(DataError, match=r"L\.fst: word 6 is one in .*words\.txt, eins in --word-symbol-table"):
        compile_graphs(tmp_path, LANG / "L.fst", table)
    lines = (LANG / "words.txt").read_text().splitlines()
    (lang / "words.txt").write_text("".join(line + "\n" for line in lines if not line.startswith("one")))
    with pytest.raises(DataError, match="has the word 6, which --word-symbol-table lacks"):
        compile_graphs(tmp_path, LANG / "L.fst", table)


def test_a_text_of_other_words_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    oov = "<SIL>"
    with caplog.at_level(logging.INFO, "acoustic"):
        compile_graphs(tmp_path, LANG / "L.fst", f"--oov={oov}")
        assert "unknown" not in caplog.text
        (tmp_path / "text").write_text("u1 one two three\nu2 un deux\nu3 un one\n")
        compile_graphs(tmp_path, LANG / "L.fst", f"--oov={oov}", text=str(tmp_path / "text"))
        assert f"3 of 7 words are unknown and taken as {oov} (most often un)" in caplog.text
        assert "one language" not in caplog.text
        (tmp_path / "text").write_text("u1 un deux one\n")
        compile_graphs(tmp_path, LANG / "L.fst", f"--oov={oov}", text=str(tmp_path / "text"))
    assert "2 of 3 words are unknown and taken as <SIL>: are transcripts" in caplog.text


def test_phones_of_another_numbering_are_refused(tmp_path: Path, lang: Path) -> None:
    """The ids are all phones of the model, but others than the lexicon means."""
    shutil.copytree(MONO, tmp_path / "model")
    shutil.copy(lang / "phones.txt", tmp_path / "model")
    with_names(tmp_path / "model" / "phones.txt", {"#0": "#00"})
    check_same_phones(lang, tmp_path / "model", tmp_path)
    with_names(tmp_path / "model" / "phones.txt", {"AH_I": "AY_I", "AY_I": "AH_I"})
    told = r"phones.txt: A[HY]_I is \d+ here, \d+ in .*phones.txt"
    with pytest.raises(DataError, match=told):
        make_graph(lang, tmp_path / "model", tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
    inputs = [str(tmp_path / "model" / name) for name in ("tree", "final.mdl")]
    inputs += [str(lang / "L.fst"), str(GOLDEN / "wav" / "text"), f"ark:{tmp_path}/graphs"]
    with pytest.raises(DataError, match=told):
        run(["build-tree", str(lang), str(tmp_path / "model"), "ark:/dev/null", str(tmp_path / "tree")])
    with pytest.raises(DataError, match=told):
        run(["compile-train-graphs", f"--word-symbol-table={lang / 'words.txt'}", *inputs])
