"""All audio of a data directory, decoded once: how long, at which rate, and what cannot be read or cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from acoustic.doctor.findings import Finding, Severity, from_error
from acoustic.doctor.packs import scan_in_packs
from acoustic.errors import DataError
from acoustic.features.audio import cut_segment, read_audio, reason_of
from acoustic.kaldi.datadir import DataDir, Segment

PACK_RECORDINGS = 8

# reason of an UnusableAudioError -> fault and severity. Segments a little too short are left out, as Kaldi does.
FAULTS = {
    "unreadable": ("audio unreadable", Severity.ERROR),
    "empty": ("audio without samples", Severity.ERROR),
    "non_finite": ("audio with NaN or infinite samples", Severity.ERROR),
    "segment_outside": ("segment outside its recording", Severity.ERROR),
    "too_short": ("segment too short", Severity.SKIP),
}
REMEDY = "mend the audio or its line in wav.scp, or leave it out (--fix); if features are there, --skip-audio"


@dataclass(frozen=True)
class Recording:
    """A recording with the utterances that are cut out of it; segment None where the utterance is all of it."""

    name: str
    rxfilename: str
    utterances: tuple[tuple[str, Segment | None], ...]


@dataclass
class AudioScan:
    """Facts about audio.

    Attributes:
        seconds: duration of each usable utterance.
        rates: Hz of each readable recording.
        utterances: the utterances of each recording.
        findings: what could not be read or cut.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    rates: dict[str, int] = field(default_factory=dict)
    utterances: dict[str, tuple[str, ...]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def recordings_of(data_dir: DataDir) -> list[Recording]:
    """The recordings in use, in the order of wav.scp."""
    if not data_dir.segments:
        return [Recording(name, rxfilename, ((name, None),)) for name, rxfilename in data_dir.wav.items()]
    segments: dict[str, list[tuple[str, Segment | None]]] = {}
    for utt, segment in data_dir.segments.items():
        segments.setdefault(segment.recording, []).append((utt, segment))
    return [
        Recording(name, rxfilename, tuple(segments[name]))
        for name, rxfilename in data_dir.wav.items()
        if name in segments
    ]


def scan_audio(data_dir: DataDir, channel: int | None = None, num_jobs: int = 1) -> AudioScan:
    """Decode every recording in use and cut its segments.

    Args:
        data_dir: with wav.scp and maybe segments.
        channel: which channel of recordings with several.
        num_jobs: processes.
    """
    total = AudioScan()
    work = partial(scan_recordings, channel=channel)
    for part in scan_in_packs(work, recordings_of(data_dir), PACK_RECORDINGS, num_jobs, "audio"):
        total.seconds |= part.seconds
        total.rates |= part.rates
        total.utterances |= part.utterances
        total.findings += part.findings
    return total


def scan_recordings(recordings: Sequence[Recording], channel: int | None = None) -> AudioScan:
    """Decode some recordings."""
    scan = AudioScan()
    for recording in recordings:
        scan.utterances[recording.name] = tuple(utt for utt, _ in recording.utterances)
        try:
            samples, rate = read_audio(recording.rxfilename, channel)
        except DataError as error:
            scan.findings.append(_finding(error, recording.name, scan.utterances[recording.name]))
            continue
        scan.rates[recording.name] = rate
        for utt, segment in recording.utterances:
            try:
                scan.seconds[utt] = len(cut_segment(samples, rate, segment) if segment else samples) / rate
            except DataError as error:
                scan.findings.append(_finding(error, utt, (utt,)))
    return scan


def _finding(error: DataError, where: str, drops: tuple[str, ...]) -> Finding:
    fault, severity = FAULTS[reason_of(error)]
    finding = from_error(fault, error, REMEDY, where=where, drops=drops)
    return Finding(fault, severity, where, finding.detail, finding.remedy, drops, cleanable=True)
