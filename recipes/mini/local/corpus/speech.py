"""A speaker's utterances: sentences spoken phrase by phrase with pauses between, and what was spoken when."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from corpus.channel import SAMPLE_RATE, Signal, active_rms, to_telephone_rate, transmit
from corpus.espeak import Synthesizer
from corpus.grammar import BigramGrammar
from corpus.phones import SILENCE, Phone, phones_of_events
from corpus.voices import BABBLE_VOICES, Speaker

PAUSE_PROBABILITY = 0.15
"""Of a pause behind a word within a sentence."""
PAUSE_S = (0.08, 0.30)
EDGE_SILENCE_S = (0.15, 0.35)
RATE_JITTER = 0.08
BABBLE_SENTENCES = 8


@dataclass(frozen=True)
class Utterance:
    """What was said in one recording.

    Attributes:
        name: utterance id.
        words: the text.
        phones: from 0 to `duration`, silence included.
        duration: seconds.
    """

    name: str
    words: list[str]
    phones: list[Phone]
    duration: float


@dataclass(frozen=True)
class Job:
    """The work of one process: the utterances of one speaker.

    Attributes:
        speaker: who.
        num_utterances: how many.
        wav_dir: folder for `<utterance>.wav`.
        babble: float64 [num_samples] at 8 kHz, talk for the background.
    """

    speaker: Speaker
    num_utterances: int
    wav_dir: Path
    babble: Signal


def speak_all(jobs: list[Job], num_processes: int) -> Iterator[list[Utterance]]:
    """Carry out the jobs, each in a process of its own: the library's state must not depend on what it said before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["corpus.speech"])
    with context.Pool(num_processes, maxtasksperchild=1) as pool:
        yield from pool.imap(speak, jobs, chunksize=1)


def speak(job: Job) -> list[Utterance]:
    """Synthesise a speaker's utterances and write their recordings.

    Raises:
        DataError: espeak-ng fails, or says something unexpected.
    """
    synthesizer, grammar = Synthesizer(), BigramGrammar()
    speaker = job.speaker
    synthesizer.set_voice(speaker.voice, speaker.pitch, speaker.pitch_range)
    rng = np.random.default_rng([*speaker.seed, 1])
    utterances = []
    for number in range(job.num_utterances):
        words = grammar.sample(rng)
        samples, phones = say_sentence(synthesizer, words, speaker.rate, rng)
        speech = to_telephone_rate(samples, synthesizer.sample_rate)
        name = f"{speaker.name}-{number + 1:04d}"
        sound = transmit(speech, job.babble, rng)
        soundfile.write(job.wav_dir / f"{name}.wav", sound, SAMPLE_RATE, subtype="PCM_16")
        utterances.append(Utterance(name, words, phones, len(sound) / SAMPLE_RATE))
    return utterances


def say_sentence(
    synthesizer: Synthesizer, words: list[str], rate: int, rng: np.random.Generator
) -> tuple[NDArray[np.int16], list[Phone]]:
    """Speak a sentence with silence at its edges and some pauses within: int16 [num_samples] and its phones."""
    sample_rate = synthesizer.sample_rate
    rate = round(rate * rng.uniform(1.0 - RATE_JITTER, 1.0 + RATE_JITTER))
    ends = [end for end in range(1, len(words)) if rng.random() < PAUSE_PROBABILITY] + [len(words)]
    pieces = [_silence(rng.uniform(*EDGE_SILENCE_S), sample_rate)]
    for begin, end in pairwise([0, *ends]):
        for phrase in _say_phrase(synthesizer, words[begin:end], begin, rate):
            pieces += [phrase, _silence(rng.uniform(*PAUSE_S), sample_rate)]
    pieces[-1] = _silence(rng.uniform(*EDGE_SILENCE_S), sample_rate)
    phones: list[Phone] = []
    offset = 0.0
    for samples, phones_of_piece in pieces:
        _append(phones, [replace(p, begin=p.begin + offset, end=p.end + offset) for p in phones_of_piece])
        offset += len(samples) / sample_rate
    return np.concatenate([samples for samples, _ in pieces]), phones


Piece = tuple[NDArray[np.int16], list[Phone]]


def _say_phrase(synthesizer: Synthesizer, words: list[str], first: int, rate: int) -> list[Piece]:
    """Speak words without a pause; `first` is the index of the first one in its sentence.

    espeak-ng runs some pairs of words together ("for the") and reports the sounds of both for the first one; such a
    phrase is spoken in two parts.
    """
    samples, events = synthesizer.say(" ".join(words), rate)
    phones = phones_of_events(events, words, samples, synthesizer.sample_rate)
    missing = sorted(set(range(len(words))) - {phone.word for phone in phones})
    if missing:
        cut = missing[0]
        before = _say_phrase(synthesizer, words[:cut], first, rate)
        return before + _say_phrase(synthesizer, words[cut:], first + cut, rate)
    return [(samples, [replace(p, word=p.word + first) if p.word >= 0 else p for p in phones])]


def _silence(seconds: float, sample_rate: int) -> Piece:
    """Digital silence."""
    num_samples = round(seconds * sample_rate)
    return np.zeros(num_samples, dtype=np.int16), [Phone(SILENCE, 0.0, num_samples / sample_rate, -1)]


def _append(phones: list[Phone], more: list[Phone]) -> None:
    """Append phones; silence behind silence becomes one."""
    if phones and more and phones[-1].label == more[0].label == SILENCE:
        phones[-1] = replace(phones[-1], end=more[0].end)
        more = more[1:]
    phones += more


def make_babble(seed: int) -> Signal:
    """Several voices talking at once: float64 [num_samples] at 8 kHz. Loads the library into this process."""
    synthesizer, grammar = Synthesizer(), BigramGrammar()
    voices = []
    for number, voice in enumerate(BABBLE_VOICES):
        rng = np.random.default_rng([seed, number, 2])
        synthesizer.set_voice(voice, pitch=50, pitch_range=50)
        sentences = " ".join(" ".join(grammar.sample(rng)) for _ in range(BABBLE_SENTENCES))
        samples, _ = synthesizer.say(sentences, rate=170)
        speech = to_telephone_rate(samples, synthesizer.sample_rate)
        voices.append(speech / active_rms(speech))
    length = min(map(len, voices))
    return np.sum([voice[:length] for voice in voices], axis=0)
