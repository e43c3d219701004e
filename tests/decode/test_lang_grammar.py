"""ARPA models as grammars: Kaldi's answer, the backoff definition, damaged files."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import kaldifst
import pytest

from acoustic.cli.main import run
from acoustic.decode.lang_arpa import write_arpa
from acoustic.decode.lang_grammar import arpa_to_fst
from acoustic.decode.lang_ngram import Estimates, witten_bell
from acoustic.errors import DataError
from tests.decode.fst_helpers import printed, states_of

GOLDEN = Path(__file__).parent.parent / "golden" / "graph" / "lang"
WORDS = {"<eps>": 0, "a": 1, "b": 2, "c": 3, "d": 4, "#0": 5, "<s>": 6, "</s>": 7}
BIGRAM = """\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-99 <s> -0.3
-1.0 </s>
-0.5 a -0.2
-0.6 b

\\2-grams:
-0.1 <s> a
-0.4 a b
-0.7 a </s>

\\end\\
"""


def test_same_bytes_as_kaldi(tmp_path: Path) -> None:
    run(["arpa2fst", str(GOLDEN / "lm.arpa"), str(GOLDEN), str(tmp_path / "G.fst")])
    assert (tmp_path / "G.fst").read_bytes() == (GOLDEN / "G.fst").read_bytes()


def compiled(text: str, folder: Path, words: dict[str, int] = WORDS) -> kaldifst.StdVectorFst:
    path = folder / "lm.arpa"
    path.write_text(text)
    return arpa_to_fst(path, words)[0]


def test_bigram_by_hand(tmp_path: Path) -> None:
    # The history b can only back off, at no cost, and is bypassed.
    arcs, finals = printed(compiled(BIGRAM, tmp_path))
    ln10 = math.log(10)
    assert sorted(cost for *_, cost in arcs) == sorted(round(x * ln10, 5) for x in (0.1, 0.4, 0.5, 0.6, 0.3, 0.2))
    assert sorted(finals.values()) == [round(0.7 * ln10, 5), round(1.0 * ln10, 5)]
    assert len({source for source, *_ in arcs}) == 3
    assert {(i, o) for _, _, i, o, _ in arcs} == {(1, 1), (2, 2), (5, 0)}


def random_model(seed: int) -> list[Estimates]:
    """A trigram model with n-grams taken out: trigrams may lack the bigram they end in, never that they begin with."""
    generator = random.Random(seed)
    sentences = [generator.choices("abcd", (4, 3, 2, 1), k=generator.randrange(1, 7)) for _ in range(25)]
    unigrams, bigrams, trigrams = witten_bell(sentences, 3)
    bigrams = {ngram: value for ngram, value in bigrams.items() if generator.random() < 0.6}
    trigrams = {ngram: value for ngram, value in trigrams.items() if ngram[:2] in bigrams and ngram[-1] > "a"}
    return [unigrams, bigrams, trigrams]


def backoff_log_prob(model: list[Estimates], history: tuple[str, ...], word: str) -> float:
    """log10 p(word | history) by the definition of a backoff model."""
    ngram = (*history, word)
    if ngram in model[len(history)]:
        return model[len(history)][ngram][0]
    backoff = model[len(history) - 1].get(history, (0.0, None))[1] or 0.0
    return backoff + backoff_log_prob(model, history[1:], word)


def grammar_log_prob(fst: kaldifst.StdVectorFst, sentence: list[str]) -> float:
    """log10 probability of a sentence, backing off only where no arc has the word."""
    arcs = {
        state: {arc.ilabel: (arc.nextstate, float(arc.weight.value)) for arc in kaldifst.ArcIterator(fst, state)}
        for state in states_of(fst)
    }
    state, cost = fst.start, 0.0
    for word in [*(WORDS[word] for word in sentence), None]:
        while word not in arcs[state] and (word is not None or math.isinf(float(fst.final(state).value))):
            state, backoff_cost = arcs[state].get(WORDS["#0"]) or arcs[state][0]
            cost += backoff_cost
        if word is not None:
            state, word_cost = arcs[state][word]
            cost += word_cost
    return -(cost + float(fst.final(state).value)) / math.log(10)


@pytest.mark.parametrize("seed", range(8))
def test_sentence_probabilities_are_the_models(seed: int, tmp_path: Path) -> None:
    model = random_model(seed)
    write_arpa(tmp_path / "lm.arpa", model)
    fst, tally = arpa_to_fst(tmp_path / "lm.arpa", WORDS)
    assert (tally.num_done, tally.num_skipped) == (sum(map(len, model)), 0)
    assert fst.is_ilabel_sorted
    for state in states_of(fst):
        labels = [arc.ilabel for arc in kaldifst.ArcIterator(fst, state)]
        assert len(labels) == len(set(labels))
        assert labels != [WORDS["#0"]] or not math.isinf(float(fst.final(state).value))
    generator = random.Random(seed + 100)
    for _ in range(50):
        sentence = generator.choices("abcd", k=generator.randrange(1, 8))
        words = ["<s>", *sentence, "</s>"]
        expected = sum(backoff_log_prob(model, tuple(words[max(0, i - 2) : i]), words[i]) for i in range(1, len(words)))
        assert grammar_log_prob(fst, sentence) == pytest.approx(expected, abs=1e-4)


def test_words_outside_the_table_are_counted(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(BIGRAM)
    _, tally = arpa_to_fst(tmp_path / "lm.arpa", {word: number for word, number in WORDS.items() if word != "b"})
    assert tally.num_done == 5
    assert dict(tally.skipped) == {"word not in the symbol table": 2}


def test_a_table_of_other_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sentence can be made"):
        compiled(BIGRAM, tmp_path, {"<eps>": 0, "x": 1, "#0": 2, "<s>": 3, "</s>": 4})


def test_lost_histories_and_misplaced_ends_are_counted(tmp_path: Path) -> None:
    text = BIGRAM.replace("ngram 2=3", "ngram 2=6").replace("\n\\end", "-1 d a\n-1 </s> a\n-1 a <s>\n\n\\end")
    (tmp_path / "lm.arpa").write_text(text)
    _, tally = arpa_to_fst(tmp_path / "lm.arpa", WORDS)
    assert dict(tally.skipped) == {"history is no n-gram of the model": 1, "<s> or </s> out of place": 2}


def test_gzip_pipe_and_carriage_returns(tmp_path: Path) -> None:
    expected = printed(compiled(BIGRAM, tmp_path))
    with gzip.open(tmp_path / "lm.arpa.gz", "wt") as file:
        file.write(BIGRAM.replace("\n", "\r\n"))
    assert printed(arpa_to_fst(tmp_path / "lm.arpa.gz", WORDS)[0]) == expected
    assert printed(arpa_to_fst(f"cat {tmp_path}/lm.arpa |", WORDS)[0]) == expected
    (tmp_path / "cut.arpa.gz").write_bytes((tmp_path / "lm.arpa.gz").read_bytes()[:-12])
    with pytest.raises(DataError, match=r"cut\.arpa\.gz"):
        arpa_to_fst(tmp_path / "cut.arpa.gz", WORDS)


def test_grammar_without_sentence_symbols_in_the_table(tmp_path: Path) -> None:
    words = {word: number for word, number in WORDS.items() if word not in ("<s>", "</s>")}
    assert printed(compiled(BIGRAM, tmp_path, words)) == printed(compiled(BIGRAM, tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\\data\\", "", ["no \\data\\ section"]),
        ("ngram 1=4", "ngram 3=4", ["orders [2, 3]"]),
        ("ngram 1=4", "ngram 1=3", ["line 9", "more 1-grams than the 3"]),
        ("\\2-grams:", "\\3-grams:", ["line 11", "expected \\2-grams:"]),
        ("-0.5 a -0.2", "-0.5 a -0.2 x", ["line 8", "1 words"]),
        ("-0.5 a -0.2", "-0.5 a x", ["line 8", "'x'"]),
        ("-0.5 a -0.2", "nan a -0.2", ["line 8", "'nan'"]),
        ("-0.4 a b", "-0.4 a b -0.1", ["line 13", "2 words"]),
        ("-0.4 a b", "-0.4 a #0", ["line 13", "disambiguation"]),
        ("-0.4 a b", "-0.1 <s> a", ["line 13", "appeared before"]),
        ("-0.1 <s> a", "-0.1 a </s>", ["line 14", "appeared before"]),
        ("-99 <s> -0.3", "", ["no unigram <s>"]),
        ("\\end\\", "", ["expected \\end\\", "cut short"]),
        (" </s>", " c", ["no sentence can be made"]),
    ],
)
def test_malformed_arpa_is_refused(old: str, new: str, words: list[str], tmp_path: Path) -> None:
    assert old in BIGRAM
    with pytest.raises(DataError) as caught:
        compiled(BIGRAM.replace(old, new), tmp_path)
    assert str(tmp_path / "lm.arpa") in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_truncated_arpa_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    for length in range(0, len(BIGRAM) - 2, 3):
        with pytest.raises(DataError):
            compiled(BIGRAM[:length], tmp_path)
