"""The mini corpus: its grammar, voices, channel, phone times and alignments."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import time
from pathlib import Path

import make_alignments
import numpy as np
import pytest
import soundfile
from corpus import channel, pronunciations, voices
from corpus.espeak import PhonemeEvent
from corpus.grammar import MAX_WORDS, MIN_WORDS, BigramGrammar
from corpus.phones import SILENCE, Phone, phones_of_events
from corpus.speech import Job, Utterance, speak_all

from acoustic.decode.lang import LangOptions, prepare_lang
from acoustic.decode.lang_arpa import ArpaReader, write_arpa
from acoustic.errors import DataError
from acoustic.kaldi.alignments import read_alignments, read_model, split_to_phones
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree

LOCAL = Path(make_alignments.__file__).parent


# --- grammar and voices


def test_grammar_is_a_distribution_after_every_history():
    grammar = BigramGrammar()
    for history in ["<s>", *grammar.words]:
        total = sum(grammar.probability(word, history) for word in [*grammar.words, "</s>"])
        assert total == pytest.approx(1.0, abs=1e-12)


def test_grammar_has_a_vocabulary_and_sentence_lengths_as_promised():
    grammar = BigramGrammar()
    rng = np.random.default_rng(0)
    sentences = [grammar.sample(rng) for _ in range(200)]
    assert len(set(grammar.words)) == len(grammar.words) >= 100
    assert {len(s) for s in sentences} <= set(range(MIN_WORDS, MAX_WORDS + 1))
    assert len({tuple(s) for s in sentences}) > 150


def test_arpa_model_is_the_grammar(tmp_path):
    grammar = BigramGrammar()
    write_arpa(tmp_path / "lm.arpa", grammar.arpa())
    with open_reader(tmp_path / "lm.arpa") as reader:
        entries = {tuple(w.decode() for w in entry.words): entry for entry in ArpaReader(reader).ngrams()}
    for history, word in itertools.product(["<s>", "the", "monday", "and"], [*grammar.words, "</s>"]):
        if (history, word) in entries:
            log_prob = entries[history, word].log_prob
        else:
            log_prob = entries[(history,)].log_backoff + entries[(word,)].log_prob
        assert 10**log_prob == pytest.approx(grammar.probability(word, history), rel=1e-5)


def test_voices_are_many_and_disjoint():
    speakers = voices.make_speakers(seed=1)
    variants = {name: {s.voice.split("+")[1] for s in speakers if s.set_name == name} for name in voices.VARIANTS}
    assert len(variants["train"]) >= 40 and len(variants["dev"]) >= 6 and len(variants["test"]) >= 8
    for one, other in itertools.combinations(variants.values(), 2):
        assert not one & other
    assert not set().union(*variants.values()) & {voice.split("+")[1] for voice in voices.BABBLE_VOICES}
    assert [s.name for s in speakers] == sorted({s.name for s in speakers})


# --- channel


def test_resampling_keeps_times_and_amplitudes():
    seconds = np.arange(22050) / 22050
    envelope = np.exp(-(((seconds - 0.6) / 0.02) ** 2))
    tone = (10000 * envelope * np.cos(2 * np.pi * 1000 * (seconds - 0.6))).astype(np.int16)
    resampled = channel.to_telephone_rate(tone, 22050)
    assert len(resampled) == 8000
    assert np.argmax(resampled) == round(0.6 * 8000)
    assert resampled.max() == pytest.approx(10000, rel=0.01)


def test_channel_passes_the_telephone_band_only():
    rng = np.random.default_rng(0)
    sound = channel.transmit(1000 * rng.standard_normal(16000), rng.standard_normal(9000), rng)
    power = np.abs(np.fft.rfft(sound.astype(float))) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / 8000)
    outside = (frequencies < 200) | (frequencies > 3500)
    assert power[outside].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize("kind", channel.NOISES)
def test_noise_has_the_asked_ratio(kind, monkeypatch):
    monkeypatch.setattr(channel, "NOISES", (kind,))
    monkeypatch.setattr(channel, "SNRS_DB", (10.0,))
    rng = np.random.default_rng(3)
    babble = rng.standard_normal(40000)
    speech = channel.band_pass(rng.standard_normal(48000))
    speech[8000:40000] = 0.0  # the ratio is about the speech, not its pauses
    sound = channel.transmit(speech, babble, rng).astype(float)
    talking, quiet = np.mean(sound[1000:7000] ** 2), np.mean(sound[9000:39000] ** 2)
    assert 10 * np.log10(talking / quiet - 1) == pytest.approx(10.0, abs=1.0)


# --- phones


def test_a_stop_takes_its_closure_from_the_phone_before():
    samples = np.full(10000, 1000, dtype=np.int16)
    samples[4000:5000] = 3  # the closure of the stop whose burst is at 5000
    events = [
        PhonemeEvent("i", 1, 0),
        PhonemeEvent("t", 1, 5000),
        PhonemeEvent("s", 1, 6000),
        PhonemeEvent("", 1, 9000),
    ]
    phones = phones_of_events(events, ["its"], samples, 10000)
    assert [(p.label, p.begin, p.end) for p in phones] == [
        ("IY", 0.0, 0.4),
        ("T", 0.4, 0.6),
        ("S", 0.6, 0.9),
        (SILENCE, 0.9, 1.0),
    ]
    assert [p.word for p in phones] == [0, 0, 0, -1]


def test_a_liquid_reported_too_late_gets_its_part_of_the_vowel():
    samples = np.full(10000, 1000, dtype=np.int16)
    events = [PhonemeEvent("k", 1, 0), PhonemeEvent("ɔː", 1, 1000), PhonemeEvent("l", 1, 9900)]
    _, vowel, liquid = phones_of_events(events, ["call"], samples, 10000)
    assert vowel.end == liquid.begin == pytest.approx(1.0 - 0.4 * 0.9)


def test_an_unknown_sound_is_an_error():
    with pytest.raises(DataError, match="xx"):
        phones_of_events([PhonemeEvent("xx", 1, 0)], ["odd"], np.ones(100, dtype=np.int16), 10000)


# --- agreement with the lexicon


def utterance(word: str, labels: str, name: str = "s01-0001") -> Utterance:
    """One word with phones of a tenth of a second each, between silences."""
    spoken = [Phone(label, 0.1 * i, 0.1 * (i + 1), 0) for i, label in enumerate(labels.split(), 1)]
    end = spoken[-1].end
    phones = [Phone(SILENCE, 0.0, 0.1, -1), *spoken, Phone(SILENCE, end, end + 0.1, -1)]
    return Utterance(name, [word], phones, end + 0.1)


def labels_and_times(result: Utterance) -> list[tuple[str, float, float]]:
    return [(phone.label, round(phone.begin, 3), round(phone.end, 3)) for phone in result.phones if phone.word >= 0]


def test_lexicon_keeps_common_pronunciations_most_frequent_first():
    spoken = [utterance("water", "W AO T AX")] * 60 + [utterance("water", "W AO DX AXR")] * 39
    lexicon = pronunciations.collect_lexicon([*spoken, utterance("water", "W AO T")])
    assert lexicon == {"water": [("W", "AO", "T", "AX"), ("W", "AO", "DX", "AXR")]}


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("W AO T AX", [("W", 0.1, 0.2), ("AO", 0.2, 0.3), ("T", 0.3, 0.4), ("AX", 0.4, 0.5)]),
        ("W OH T AX", [("W", 0.1, 0.2), ("AO", 0.2, 0.3), ("T", 0.3, 0.4), ("AX", 0.4, 0.5)]),  # another vowel
        ("W AO T AX R", [("W", 0.1, 0.2), ("AO", 0.2, 0.3), ("T", 0.3, 0.4), ("AX", 0.4, 0.6)]),  # R is not in it
        ("W AO T", [("W", 0.1, 0.2), ("AO", 0.2, 0.3), ("T", 0.3, 0.35), ("AX", 0.35, 0.4)]),  # AX was not spoken
        ("AO T AX", [("W", 0.1, 0.15), ("AO", 0.15, 0.2), ("T", 0.2, 0.3), ("AX", 0.3, 0.4)]),  # W was not spoken
    ],
)
def test_phones_are_made_to_agree_with_the_lexicon(spoken, expected):
    lexicon = {"water": [("W", "AO", "T", "AX")]}
    result = pronunciations.agree_with_lexicon(utterance("water", spoken), lexicon)
    assert result is not None
    assert labels_and_times(result) == expected
    assert all(one.end == other.begin for one, other in itertools.pairwise(result.phones))


def test_a_word_said_quite_differently_is_refused():
    lexicon = {"water": [("W", "AO", "T", "AX")]}
    assert pronunciations.agree_with_lexicon(utterance("water", "M IY"), lexicon) is None
    assert pronunciations.agree_with_lexicon(utterance("unheard", "M IY"), lexicon) is None


# --- alignments


def test_isotonic_regression_against_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(0, 5, size=4).astype(float)
        found = make_alignments.isotonic(values)
        grid = [g for g in itertools.product(np.arange(0, 4.01, 0.25), repeat=4) if list(g) == sorted(g)]
        best = min(((np.array(g) - values) ** 2).sum() for g in grid)
        assert np.all(np.diff(found) >= 0)
        assert ((found - values) ** 2).sum() <= best + 1e-9


def test_frames_belong_to_the_phone_at_their_centre():
    times = [("a", 0.0, 0.1), ("b", 0.1, 0.2), ("c", 0.2, 0.3)]
    # Centres at 12.5, 22.5, ... ms: 102.5 ms is frame 9, 202.5 ms is frame 19.
    assert make_alignments.frame_boundaries(times, 28, 3).tolist() == [0, 9, 19, 28]


def test_short_phones_get_their_frames_from_both_neighbours():
    times = [("a", 0.0, 0.1), ("b", 0.1, 0.1), ("c", 0.1, 0.2)]
    boundaries = make_alignments.frame_boundaries(times, 18, 3)
    assert np.diff(boundaries).min() >= 3
    assert boundaries.tolist() in ([0, 7, 10, 18], [0, 8, 11, 18])


@pytest.mark.parametrize("seed", range(20))
def test_boundaries_leave_every_phone_enough_frames(seed):
    rng = np.random.default_rng(seed)
    num_phones = int(rng.integers(1, 30))
    edges = np.concatenate([[0.0], np.sort(rng.uniform(0, 1.0, num_phones - 1)), [1.0]])
    times = [("x", begin, end) for begin, end in itertools.pairwise(edges)]
    boundaries = make_alignments.frame_boundaries(times, 98, 3)
    assert boundaries[0] == 0 and boundaries[-1] == 98 and len(boundaries) == num_phones + 1
    assert np.diff(boundaries).min() >= 3
    assert make_alignments.frame_boundaries(times, 3 * num_phones - 1, 3) is None


# --- the whole, small


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("mini") / "corpus"
    sizes = ["--train-utterances=3", "--dev-utterances=1", "--test-utterances=1"]
    command = [sys.executable, str(LOCAL / "make_corpus.py"), *sizes, "--num-jobs=2", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return out


def read_lines(path: Path) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in path.read_text().splitlines()}


def test_corpus_is_8_khz_and_its_phone_times_cover_it(small_corpus):
    for set_name in ("train", "dev", "test"):
        wavs = read_lines(small_corpus / set_name / "wav.scp")
        assert list(wavs) == sorted(read_lines(small_corpus / set_name / "text")) and wavs
        for utt, times in make_alignments.read_ctm(small_corpus / set_name / "phones.ctm"):
            info = soundfile.info(wavs[utt][0])
            assert info.samplerate == 8000
            assert times[0][1] == 0.0 and times[-1][2] == pytest.approx(info.duration, abs=0.001)
            assert all(one[2] == pytest.approx(other[1], abs=2e-4) for one, other in itertools.pairwise(times))


def test_phone_sequences_are_pronunciations_of_the_text(small_corpus):
    lexicon: dict[str, set[tuple[str, ...]]] = {}
    for line in (small_corpus / "dict" / "lexicon.txt").read_text().splitlines():
        word, *phones = line.split()
        lexicon.setdefault(word, set()).add(tuple(phones))
    text = read_lines(small_corpus / "dev" / "text")
    for utt, times in make_alignments.read_ctm(small_corpus / "dev" / "phones.ctm"):
        spoken = tuple(phone for phone, _, _ in times if phone != SILENCE)
        rests = {spoken}
        for word in text[utt]:
            rests = {rest[len(p) :] for rest in rests for p in lexicon[word] if rest[: len(p)] == p}
        assert () in rests, utt


def test_alignments_are_those_of_a_kaldi_monophone_system(small_corpus, tmp_path):
    prepare_lang(
        small_corpus / "dict",
        "<unk>",
        tmp_path / "lang",
        LangOptions(position_dependent_phones=False, num_sil_states=3),
    )
    ali_dir = tmp_path / "mono_ali"
    command = [sys.executable, str(LOCAL / "make_alignments.py"), str(tmp_path / "lang"), str(tmp_path / "mono")]
    subprocess.run([*command, str(ali_dir), str(small_corpus / "train")], check=True, capture_output=True, timeout=120)
    model = read_model(ali_dir)
    assert DecisionTree.read(ali_dir / "tree").num_pdfs == model.num_pdfs
    assert TransitionModel.read(tmp_path / "mono" / "final.mdl").fingerprint() == model.fingerprint()
    symbols = SymbolTable.read(tmp_path / "lang" / "phones.txt").symbol_of
    wavs = read_lines(small_corpus / "train" / "wav.scp")
    times = dict(make_alignments.read_ctm(small_corpus / "train" / "phones.ctm"))
    errors = []
    for utt, alignment in read_alignments(ali_dir):
        assert len(alignment) == make_alignments.num_frames(wavs[utt][0])
        segments = split_to_phones(model, utt, alignment)
        assert [symbols[phone] for phone, _ in segments] == [phone for phone, _, _ in times[utt]]
        begins = np.cumsum([0] + [len(ids) for _, ids in segments[:-1]])
        errors += [
            frame * 0.01 + 0.0075 - begin for frame, (_, begin, _) in zip(begins[1:], times[utt][1:], strict=True)
        ]
    assert np.mean(np.abs(errors)) < 0.005  # half a frame shift, but for phones shorter than three frames


def test_speech_depends_neither_on_the_number_of_processes_nor_on_the_time_of_day(tmp_path):
    digests = []
    for num_processes in (1, 2):
        time.sleep(1.0 - time.time() % 1.0)  # espeak-ng seeds its noise with the seconds of the clock
        wav_dir = tmp_path / str(num_processes)
        wav_dir.mkdir()
        speakers = [s for s in voices.make_speakers(seed=5) if s.name in ("s01", "s02", "s08")]  # s08 breathes
        jobs = [Job(speaker, 2, wav_dir, np.random.default_rng(0).standard_normal(8000)) for speaker in speakers]
        utterances = [u for of_speaker in speak_all(jobs, num_processes) for u in of_speaker]
        audio = b"".join((wav_dir / f"{u.name}.wav").read_bytes() for u in utterances)
        digests.append((hashlib.sha256(audio).hexdigest(), utterances))
    assert digests[0] == digests[1]
