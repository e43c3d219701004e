"""Word error rates against compute-wer's own output, and the bootstrap."""

from pathlib import Path

import numpy as np
import pytest

from acoustic.decode import wer_bootstrap
from acoustic.decode.wer import Scores, groups_by_speaker, percent, read_transcripts, score, speaker_table
from acoustic.decode.wer_bootstrap import compare, confidence_interval
from acoustic.errors import ConfigError, DataError

GOLDEN = Path(__file__).parents[1] / "golden" / "score"


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    return read_transcripts(str(GOLDEN / "ref.txt")), read_transcripts(f"ark:{GOLDEN / 'hyp.txt'}")


@pytest.mark.parametrize("mode", ["present", "all"])
def test_prints_what_compute_wer_prints(golden, mode):
    scores = score(*golden, mode)
    expected = (GOLDEN / f"compute_wer_{mode}.txt").read_text().splitlines()
    assert [scores.wer_line(), scores.ser_line(), scores.count_line()] == expected


def kaldi_edit_distance(ref: list[str], hyp: list[str]) -> tuple[int, int, int]:
    """Insertions, deletions, substitutions by the recursion of util/edit-distance-inl.h, ties as there."""
    row = [(i, 0, i, 0) for i in range(len(ref) + 1)]
    for h in hyp:
        current = [(row[0][0] + 1, row[0][1] + 1, row[0][2], row[0][3])]
        for j, r in enumerate(ref, start=1):
            insertion, deletion, diagonal = row[j][0] + 1, current[j - 1][0] + 1, row[j - 1][0] + (h != r)
            if diagonal < insertion and diagonal < deletion:
                _, i, d, s = row[j - 1]
                current.append((diagonal, i, d, s + (h != r)))
            elif deletion < insertion:
                _, i, d, s = current[j - 1]
                current.append((deletion, i, d + 1, s))
            else:
                _, i, d, s = row[j]
                current.append((insertion, i + 1, d, s))
        row = current
    return row[-1][1:]


def test_ties_are_broken_as_kaldi_breaks_them():
    rng = np.random.default_rng(0)
    ref = {f"u{n}": rng.choice(list("abc"), rng.integers(0, 9)).tolist() for n in range(500)}
    hyp = {utt: rng.choice(list("abc"), rng.integers(0, 9)).tolist() for utt in ref}
    scores = score(ref, hyp)
    counts = np.stack([scores.num_ins, scores.num_del, scores.num_sub], axis=1)
    assert counts.tolist() == [list(kaldi_edit_distance(ref[utt], hyp[utt])) for utt in ref]


def test_absent_hypotheses_by_mode():
    ref, hyp = {"a": ["x", "y"], "b": ["x"]}, {"a": ["x", "y"], "c": ["z"]}
    assert score(ref, hyp, "present").wer_line() == "%WER 0.00 [ 0 / 2, 0 ins, 0 del, 0 sub ] [PARTIAL]"
    everything = score(ref, hyp, "all")
    assert everything.wer_line() == "%WER 33.33 [ 1 / 3, 0 ins, 1 del, 0 sub ] [PARTIAL]"
    assert everything.count_line() == "Scored 2 sentences, 1 not present in hyp."
    with pytest.raises(DataError, match="utterance b"):
        score(ref, hyp, "strict")
    with pytest.raises(ConfigError):
        score(ref, hyp, "some")


def test_nothing_to_score_is_an_error():
    with pytest.raises(DataError, match="none of the 1"):
        score({"a": ["x"]}, {"b": ["x"]})
    with pytest.raises(DataError, match="no words"):
        score({"a": []}, {"a": ["x"]})


def test_an_utterance_twice_is_an_error(tmp_path):
    (tmp_path / "text").write_text("a x\na y\n")
    with pytest.raises(DataError, match="a"):
        read_transcripts(str(tmp_path / "text"))


def test_transcripts_are_a_file_or_an_rspecifier(tmp_path):
    for name in ("text", "scp of 9:30h"):
        (tmp_path / name).write_text("a x y\nb\n")
    for source in ("text", "scp of 9:30h"):
        assert read_transcripts(str(tmp_path / source)) == {"a": ["x", "y"], "b": []}
    for options in ("ark:", "ark,t:", "ark,s,cs:"):
        assert read_transcripts(f"{options}{tmp_path / 'text'}") == {"a": ["x", "y"], "b": []}


def test_percent_is_rounded_in_single_precision():
    assert percent(1, 3) == float(np.float32(100.0 / 3.0))


def scores_of(errors: list[int], words: list[int]) -> Scores:
    zeros = np.zeros(len(errors), dtype=np.int64)
    return Scores(
        [f"u{i}" for i in range(len(errors))], np.array(words), zeros, zeros, np.array(errors), np.array(errors) > 0
    )


def test_interval_has_the_binomial_width():
    # One word an utterance, a tenth of them wrong: the WER over draws is binomial.
    scores = scores_of([1] * 100 + [0] * 900, [1] * 1000)
    interval = confidence_interval(scores, num_samples=4000, seed=1)
    assert interval.std_error == pytest.approx(100 * np.sqrt(0.1 * 0.9 / 1000), rel=0.1)
    assert interval.low == pytest.approx(10 - 1.96 * interval.std_error, abs=0.2)
    assert interval.high == pytest.approx(10 + 1.96 * interval.std_error, abs=0.2)
    assert interval == confidence_interval(scores, num_samples=4000, seed=1)


def test_drawing_speakers_widens_the_interval_when_speakers_differ():
    scores = scores_of([5] * 50 + [0] * 50, [10] * 100)
    speakers = [list(range(start, start + 25)) for start in range(0, 100, 25)]
    by_utterance, by_speaker = confidence_interval(scores), confidence_interval(scores, speakers)
    assert by_speaker.num_groups == 4
    assert by_speaker.std_error > 3 * by_utterance.std_error


def test_compare_sees_a_small_but_consistent_improvement():
    first = scores_of([2, 3, 1, 2] * 25, [10] * 100)
    second = scores_of([1, 3, 1, 2] * 25, [10] * 100)
    comparison = compare(first, second)
    assert comparison.difference == pytest.approx(-2.5)
    assert comparison.high < 0.0 < confidence_interval(first).high
    assert comparison.probability_of_improvement == 1.0
    assert compare(second, first).probability_of_improvement == 0.0
    with pytest.raises(DataError, match="same utterances"):
        compare(first, scores_of([1], [10]))


@pytest.mark.parametrize("draws_at_once", [1, 7, 1 << 22])
def test_intervals_are_percentiles_of_the_rates_of_the_draws(monkeypatch, draws_at_once):
    """By hand, for groups of one, two and three utterances; however many draws are made at once."""
    monkeypatch.setattr(wer_bootstrap, "DRAWS_AT_ONCE", draws_at_once)
    first, second = scores_of([1, 4, 0, 2, 3, 1], [5, 9, 4, 6, 8, 7]), scores_of([2, 1, 0, 1, 3, 4], [5, 9, 4, 6, 8, 7])
    groups = [[0, 3], [1, 4, 5], [2]]
    errors, words = np.array([[3, 8, 0], [3, 8, 0]]), np.array([11, 24, 4])
    drawn = np.random.default_rng(5).integers(3, size=(50, 3))
    rates = 100.0 * errors[:, drawn].sum(2) / words[drawn].sum(1)
    interval = confidence_interval(first, groups, num_samples=50, seed=5, confidence=0.8)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(rates[0], [10.0, 90.0])))
    assert interval.std_error == pytest.approx(np.sqrt(np.mean((rates[0] - rates[0].mean()) ** 2)))
    assert (interval.confidence, interval.num_groups, interval.num_samples) == (0.8, 3, 50)
    assert interval != confidence_interval(first, groups, num_samples=50, seed=6, confidence=0.8)
    # By speakers the two systems are the same; by utterances they are not. What is equal is no improvement.
    same, other = (compare(first, second, by, num_samples=50, seed=5, confidence=0.8) for by in (groups, None))
    assert (same.low, same.high, same.probability_of_improvement) == (0.0, 0.0, 0.0)
    drawn = np.random.default_rng(5).integers(6, size=(50, 6))
    by_utterance = np.stack([first.num_errors, second.num_errors])[:, drawn].sum(2) / first.num_words[drawn].sum(1)
    differences = 100.0 * (by_utterance[1] - by_utterance[0])
    assert (other.low, other.high) == pytest.approx(tuple(np.percentile(differences, [10.0, 90.0])))
    assert other.probability_of_improvement == np.mean(differences < 0.0)


def test_draws_without_words_have_rates():
    interval = confidence_interval(scores_of([2, 0], [0, 1]), num_samples=200)
    assert (interval.low, interval.high) == (0.0, 400.0)


def test_what_cannot_be_drawn_or_compared_is_refused():
    scores, other_words = scores_of([1, 0], [3, 4]), scores_of([1, 0], [4, 3])
    other_utts = Scores(["u1", "u0"], *(getattr(scores, name) for name in
                                        ("num_words", "num_ins", "num_del", "num_sub", "is_wrong")))  # fmt: skip
    for other in (other_words, other_utts):
        with pytest.raises(DataError, match="same utterances"):
            compare(scores, other)
    with pytest.raises(ConfigError, match="0 bootstrap samples"):
        confidence_interval(scores, num_samples=0)
    for confidence in (0.0, 1.0, 95.0, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            confidence_interval(scores, confidence=confidence)
        with pytest.raises(ConfigError, match="between 0 and 1"):
            compare(scores, scores, confidence=confidence)


def test_speaker_table_adds_up(golden):
    scores = score(*golden)
    groups = groups_by_speaker(scores, {utt: utt.split("-")[0] for utt in scores.utts})
    rows = [line.split() for line in speaker_table(scores, groups)[1:]]
    assert [row[0] for row in rows] == sorted(groups)
    assert sum(int(row[2]) for row in rows) == 1000
    assert [sum(int(row[column]) for row in rows) for column in (3, 4, 5)] == [38, 0, 50]
    with pytest.raises(DataError, match="no speaker"):
        groups_by_speaker(scores, {})


def test_speakers_are_sorted_and_may_have_said_nothing():
    scores = score({"u1": ["x"], "u2": [], "u3": ["x", "y"]}, {"u1": ["x"], "u2": ["x"], "u3": ["y"]})
    groups = groups_by_speaker(scores, {"u1": "zoe", "u2": "a-silent-speaker", "u3": "bob"})
    rows = [line.split() for line in speaker_table(scores, groups)]
    assert rows[1:] == [
        ["a-silent-speaker", "1", "0", "1", "0", "0", "-", "100.00"],
        ["bob", "1", "2", "0", "1", "0", "50.00", "100.00"],
        ["zoe", "1", "1", "0", "0", "0", "0.00", "0.00"],
    ]
    assert len({len(line) for line in speaker_table(scores, groups)}) == 1
