"""Checks of the audio: everything readable, of one rate, as long as it says, and as long as its frames say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Severity

SECONDS_TOLERANCE = 0.1  # between utt2dur and the audio


def check_audio(experiment: Experiment) -> Iterator[Finding]:
    """Recordings that cannot be read, segments that cannot be cut."""
    if experiment.audio is not None:
        yield from experiment.audio.findings


def check_rates(experiment: Experiment) -> Iterator[Finding]:
    """Recordings of another rate than the model's features or, when that is not known, than most."""
    audio = experiment.audio
    if audio is None or not audio.rates:
        return
    rate, whose = expected_rate(experiment), "the model's features are of"
    if rate is None:
        rate, whose = Counter(audio.rates.values()).most_common(1)[0][0], "most are of"
    for recording, found in audio.rates.items():
        if found != rate:
            detail = f"{found} Hz, {whose} {rate:g} Hz"
            remedy = "resample it, or leave it out (--fix)"
            drops = audio.utterances[recording]
            yield Finding("audio of another rate", Severity.ERROR, recording, detail, remedy, drops, cleanable=True)


def expected_rate(experiment: Experiment) -> float | None:
    """The rate in Hz that a trained network's features are computed at, if it knows."""
    bundle = experiment.bundle.value if experiment.bundle is not None else None
    options = bundle.fbank_options if bundle is not None else None
    rate = (options or {}).get("sample_frequency")
    return float(rate) if rate is not None else None


def check_durations(experiment: Experiment) -> Iterator[Finding]:
    """Durations in utt2dur that the audio has not."""
    if experiment.audio is None:
        return
    for utt, seconds in experiment.audio.seconds.items():
        said = experiment.data_dir.utt2dur.get(utt, seconds)
        if abs(said - seconds) > SECONDS_TOLERANCE:
            detail = f"{seconds:.2f} s of audio, utt2dur says {said:.2f} s"
            yield Finding("wrong utt2dur", Severity.WARNING, utt, detail, "delete utt2dur or make it again")


def check_frames_of_audio(experiment: Experiment) -> Iterator[Finding]:
    """Features (without any, alignments) whose length does not fit the audio, going by what a frame usually takes."""
    audio, frames = experiment.audio, experiment.feats or experiment.alignments
    if audio is None or frames is None:
        return
    what = "features" if experiment.feats else "alignment"
    both = [utt for utt in audio.seconds if utt in frames.num_frames]
    if not both:
        return
    frames_per_second = float(np.median([frames.num_frames[utt] / audio.seconds[utt] for utt in both]))
    tolerance = experiment.options.length_tolerance
    for utt in both:
        expected = audio.seconds[utt] * frames_per_second
        # The last window of an utterance may be missing, and a median over short utterances is a little off.
        if abs(frames.num_frames[utt] - expected) > tolerance + 0.05 * expected:
            detail = f"{frames.num_frames[utt]} frames of {what} for {audio.seconds[utt]:.2f} s of audio"
            remedy = f"make the {what} again from this audio"
            yield Finding(f"{what} of other audio", Severity.WARNING, utt, detail, remedy)
