"""The n-gram estimator: its formula, and that probabilities sum to one."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest

from acoustic.cli.main import run
from acoustic.decode.lang_arpa import ArpaReader
from acoustic.decode.lang_ngram import Estimates, read_sentences, witten_bell
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.stream import open_reader


def test_bigram_by_hand() -> None:
    unigrams, bigrams = witten_bell([["a", "b"], ["a"]], order=2)
    # Five tokens a b </s> a </s>, three types, uniform 1/3 below.
    prob = {word: (count + 3 / 3) / (5 + 3) for word, count in {"a": 2, "b": 1, "</s>": 2}.items()}
    assert {word: 10**log_prob for (word,), (log_prob, _) in unigrams.items() if word != "<s>"} == pytest.approx(prob)
    assert unigrams[("<s>",)][0] == -99
    # After a: b once, </s> once: two types of two tokens.
    assert 10 ** bigrams[("a", "b")][0] == pytest.approx((1 + 2 * prob["b"]) / (2 + 2))
    assert 10 ** unigrams[("a",)][1] == pytest.approx(2 / 4)
    # After <s>: a twice.
    assert 10 ** bigrams[("<s>", "a")][0] == pytest.approx((2 + 1 * prob["a"]) / (2 + 1))
    assert unigrams[("</s>",)][1] is None
    assert all(backoff is None for _, backoff in bigrams.values())


def prob_of(model: list[Estimates], history: tuple[str, ...], word: str) -> float:
    """p(word | history) of the backoff model."""
    if (*history, word) in model[len(history)]:
        return 10 ** model[len(history)][(*history, word)][0]
    backoff = model[len(history) - 1].get(history, (0.0, 0.0))[1]
    return 10 ** (backoff or 0.0) * prob_of(model, history[1:], word)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_after_every_history(order: int) -> None:
    generator = random.Random(order)
    sentences = [generator.choices("abcde", k=generator.randrange(1, 9)) for _ in range(40)]
    model = witten_bell(sentences, order, vocabulary=["e", "f", "g"])
    predicted = ["a", "b", "c", "d", "e", "f", "g", "</s>"]
    for length in range(order):
        for history in itertools.product("<abg", repeat=length):
            words = tuple("<s>" if symbol == "<" else symbol for symbol in history)
            if "<s>" not in words[1:]:
                assert math.fsum(prob_of(model, words, word) for word in predicted) == pytest.approx(1.0, abs=1e-9)


def test_verb_writes_what_it_estimated(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("utt1 a b\nutt2 a\nutt3\n")
    (tmp_path / "words.txt").write_text("<eps> 0\na 1\nb 2\nc 3\n#0 4\n<s> 5\n</s> 6\n")
    paths = [str(tmp_path / "text"), str(tmp_path / "lm.arpa")]
    run(["ngram", "--order=2", "--utterance-ids", f"--words={tmp_path}", *paths])
    model = witten_bell([["a", "b"], ["a"]], 2, ["a", "b", "c"])
    with open_reader(paths[1]) as source:
        reader = ArpaReader(source)
        assert reader.counts == [5, 4]
        for ngram in reader.ngrams():
            log_prob, log_backoff = model[len(ngram.words) - 1][tuple(word.decode() for word in ngram.words)]
            assert ngram.log_prob == pytest.approx(log_prob, abs=1e-6)
            assert ngram.log_backoff == pytest.approx(log_backoff or 0.0, abs=1e-6)


def test_a_flag_does_not_swallow_the_file_after_it(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("utt1 a b\nutt2 a\n")
    paths = [str(tmp_path / "text"), str(tmp_path / "lm.arpa")]
    for flag in (["--utterance-ids"], ["--utterance-ids", "true"], ["--utterance-ids=true"]):
        run(["ngram", "--order=1", *flag, *paths])
        assert "ngram 1=4" in (tmp_path / "lm.arpa").read_text()
    run(["ngram", "--order=1", "--utterance-ids", "false", *paths])
    assert "ngram 1=6" in (tmp_path / "lm.arpa").read_text()


def test_text_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"a b\n\n<s> a </s>\n")
    with pytest.raises(DataError, match="line 3: <s>"):
        witten_bell(read_sentences(str(text)), 2)
    text.write_bytes(b"a b\na \xff\n")
    with pytest.raises(DataError, match="line 2: is not UTF-8"):
        witten_bell(read_sentences(str(text)), 2)
    text.write_bytes(b"\n")
    with pytest.raises(DataError, match="no sentence"):
        run(["ngram", str(text), str(tmp_path / "lm.arpa")])
    with pytest.raises(ConfigError, match="--order=0"):
        run(["ngram", "--order=0", str(text), str(tmp_path / "lm.arpa")])
