"""prepare-lang against Kaldi's prepare_lang.sh, and its refusals."""

from __future__ import annotations

from pathlib import Path

import kaldifst
import pytest

from acoustic.cli.main import run
from acoustic.decode.lang import LangOptions, prepare_lang
from acoustic.errors import ConfigError, DataError
from tests.decode.fst_helpers import parsed, printed

GOLDEN = Path(__file__).parent.parent / "golden"
DICT = {
    "lexicon.txt": "<UNK> SPN\nbat B A T\nbats B A T S\n",
    "silence_phones.txt": "SIL\nSPN\n",
    "nonsilence_phones.txt": "A\nB\nT\nS\n",
    "optional_silence.txt": "SIL\n",
}


def make_dict(folder: Path, **changes: str | None) -> Path:
    """A small dictionary directory; `name=text` replaces name.txt, None removes it."""
    folder.mkdir(exist_ok=True)
    files = DICT | {f"{name}.txt": text for name, text in changes.items()}
    for name, text in files.items():
        if text is not None:
            (folder / name).write_bytes(text.encode())
    return folder


def unpack(path: Path, folder: Path) -> dict[str, str]:
    """Write the dictionary files of a golden bundle under `folder`; return the lang files by name."""
    lang = {}
    for section in path.read_text(encoding="utf-8").split("==== ")[1:]:
        name, text = section.split("\n", 1)
        if name.startswith("dict/"):
            (folder / "dict").mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        else:
            lang[name.removeprefix("lang/")] = text
    return lang


@pytest.mark.parametrize(
    ("bundle", "options"),
    [
        ("plain", LangOptions(position_dependent_phones=False, share_silence_phones=True, sil_prob=0.0)),
        ("probabilities", LangOptions()),
        ("silence_probabilities", LangOptions()),
    ],
)
def test_same_files_as_kaldi(bundle: str, options: LangOptions, tmp_path: Path) -> None:
    expected = unpack(GOLDEN / "lang" / f"{bundle}.txt", tmp_path)
    fsts = {name: expected.pop(f"{name}.txt") for name in ("L", "L_disambig")}
    prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang", options)
    for name, text in fsts.items():
        fst = kaldifst.StdVectorFst.read(str(tmp_path / "lang" / f"{name}.fst"))
        assert printed(fst) == parsed(text.splitlines())
        assert fst.is_olabel_sorted
    texts = {
        str(path.relative_to(tmp_path / "lang")): path.read_text(encoding="utf-8")
        for path in (tmp_path / "lang").rglob("*")
        if path.is_file() and path.suffix != ".fst"
    }
    assert texts == expected


def test_same_bytes_as_kaldi(tmp_path: Path) -> None:
    golden = GOLDEN / "graph" / "lang"
    lexicon = (golden / "lexicon.txt").read_text()
    nonsilence = sorted({phone for line in lexicon.splitlines() for phone in line.split()[1:]} - {"SIL"})
    dictionary = make_dict(
        tmp_path / "dict", lexicon=lexicon, silence_phones="SIL\n", nonsilence_phones="\n".join(nonsilence) + "\n"
    )
    run(["prepare-lang", str(dictionary), "<SIL>", str(tmp_path / "lang")])
    for name in ("phones.txt", "words.txt", "topo", "L.fst", "L_disambig.fst", "oov.int"):
        assert (tmp_path / "lang" / name).read_bytes() == (golden / name).read_bytes(), name
    for name in ("silence", "nonsilence", "optional_silence", "disambig", "context_indep"):
        assert (tmp_path / "lang" / "phones" / f"{name}.int").read_text() == (golden / f"{name}.int").read_text()


def test_large_silence_topology_has_perl_numbers(tmp_path: Path) -> None:
    make_dict(tmp_path / "dict")
    prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang", LangOptions(num_sil_states=4, num_nonsil_states=1))
    topo = (tmp_path / "lang" / "topo").read_text()
    assert "<State> 0 <PdfClass> 0 <Transition> 0 0.333333333333333 <Transition> 1 0.333333333333333" in topo


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lexicon": "bat B A Q\n"}, ["lexicon.txt", "line 1", "phone Q"]),
        ({"lexicon": "bat B A T\nbat B A T\n"}, ["line 2", "repeated"]),
        ({"lexicon": "bat\n"}, ["bat", "no pronunciation"]),
        ({"lexicon": "<s> A\n"}, ["<s>"]),
        ({"lexicon": "a A\n\nb B\n"}, ["line 2", "empty line"]),
        ({"lexicon": "a A\r\nb B\r\n"}, ["line 1", r"\r", "dos2unix"]),
        ({"lexicon": "a A\nb\u00a0c B\n"}, ["line 2", r"\xa0"]),
        ({"lexicon": ""}, ["lexicon.txt", "empty"]),
        ({"lexicon": None}, ["neither lexicon.txt nor lexiconp.txt"]),
        ({"lexiconp": "<UNK> 1.0 SPN\nbat 1.5 B A T\nbats 1 B A T S\n"}, ["lexiconp.txt", "line 2", "above 1"]),
        ({"lexiconp": "<UNK> 1.0 SPN\nbat x B A T\nbats 1 B A T S\n"}, ["line 2", "'x'"]),
        ({"lexiconp": "<UNK> 1.0 SPN\nbat 0 B A T\nbats 1 B A T S\n"}, ["line 2", "above zero"]),
        ({"lexiconp": "<UNK> 1.0 SPN\nbat 1 B A T\n"}, ["lexicon.txt", "line 3", "differs from lexiconp.txt"]),
        ({"nonsilence_phones": "A\nA\n"}, ["line 2", "phone A", "twice"]),
        ({"nonsilence_phones": "A_B\n"}, ["phone A_B"]),
        ({"nonsilence_phones": "SIL A\n"}, ["SIL", "both"]),
        ({"nonsilence_phones": "A B\nT\nS\n"}, ["A and B", "extra_questions.txt"]),
        ({"silence_phones": None}, ["silence_phones.txt", "cannot be read"]),
        ({"optional_silence": "A\n"}, ["optional_silence.txt", "phone A"]),
        ({"optional_silence": "SIL SPN\n"}, ["exactly one"]),
        ({"extra_questions": "A X\n"}, ["extra_questions.txt", "line 1", "phone X"]),
        ({"nonterminals": "#nonterm:x\n"}, ["nonterminals"]),
        ({"lexicon": "bat B A T\n"}, ["<UNK>"]),
    ],
)
def test_faulty_dictionary_is_refused(changes: dict[str, str | None], words: list[str], tmp_path: Path) -> None:
    make_dict(tmp_path / "dict", **changes)
    with pytest.raises(DataError) as caught:
        prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang")
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "lang").exists()


@pytest.mark.parametrize(
    ("changed", "word"), [("", None), ("A middle\n", "middle"), ("Q begin\n", "phone Q"), ("A end\n", "phone A")]
)
def test_word_boundaries_of_other_phones_are_refused(changed: str, word: str | None, tmp_path: Path) -> None:
    """Ids that are no numbers, or missing, would only be noticed when lattices are aligned to words."""
    boundaries = "SIL nonword\nSPN nonword\nA internal\nB begin\nT end\nS singleton\n"
    make_dict(tmp_path / "dict", word_boundary=boundaries + changed)
    options = LangOptions(position_dependent_phones=False)
    if word is None:
        prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang", options)
        assert (tmp_path / "lang" / "phones" / "word_boundary.int").read_text().startswith("1 nonword\n2 nonword\n")
        return
    with pytest.raises(DataError, match=rf"word_boundary\.txt: .*{word}"):
        prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang", options)


def test_silence_probabilities_need_silprob(tmp_path: Path) -> None:
    lexicon = "<UNK> 1 .5 1 1 SPN\nbat 1 .5 1 1 B A T\nbats 1 .5 1 1 B A T S\n"
    make_dict(tmp_path / "dict", lexiconp_silprob=lexicon)
    with pytest.raises(DataError, match=r"silprob\.txt.*cannot be read"):
        prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang")
    make_dict(tmp_path / "dict", silprob="<s> 0.5\n</s>_s 1\n")
    with pytest.raises(DataError, match="lacks </s>_n"):
        prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang")


def test_only_a_lang_directory_is_replaced(tmp_path: Path) -> None:
    make_dict(tmp_path / "dict")
    keep = tmp_path / "data" / "precious"
    keep.parent.mkdir()
    keep.write_text("x")
    with pytest.raises(DataError, match="not a lang directory"):
        prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "data")
    (keep.parent / "phones.txt").write_text("<eps> 0\n")  # as in a model directory of Kaldi's
    with pytest.raises(DataError, match="not a lang directory"):
        prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "data")
    assert keep.read_text() == "x"
    with pytest.raises(DataError, match=r"word <unk> .* add `<unk> PHONE` to lexicon"):
        prepare_lang(tmp_path / "dict", "<unk>", tmp_path / "lang")
    prepare_lang(tmp_path / "dict", "<UNK>", tmp_path / "lang")
    (tmp_path / "lang" / "G.fst").write_text("of the words of before")
    prepare_lang(tmp_path / "dict", "bat", tmp_path / "lang")
    assert (tmp_path / "lang" / "oov.txt").read_text() == "bat\n"
    assert not (tmp_path / "lang" / "G.fst").exists()


@pytest.mark.parametrize("option", ["--sil-prob=1.0", "--num-sil-states=2", "--num-nonsil-states=0"])
def test_impossible_options_are_refused(option: str, tmp_path: Path) -> None:
    make_dict(tmp_path / "dict")
    with pytest.raises(ConfigError, match=option.split("=")[0]):
        run(["prepare-lang", option, str(tmp_path / "dict"), "<UNK>", str(tmp_path / "lang")])
