"""Reading audio: wave and flac, from files, pipes and data directories, on the scale of 16-bit samples.

Kaldi's features are defined on int16 values: whatever a file holds, samples come out as float32 in [-32768, 32767].
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.features.riff import PIECE_BYTES, check_is_wave, read_wave
from acoustic.kaldi.datadir import DataDir, Segment
from acoustic.kaldi.specifiers import parse_rspecifier, read_script
from acoustic.kaldi.stream import ByteReader, open_reader
from acoustic.log import Tally

FloatArray = NDArray[np.float32]

# extract-segments' defaults, in seconds.
MIN_SEGMENT_SECONDS = 0.1
MAX_OVERSHOOT_SECONDS = 0.5
# Values decoded at a time.
BLOCK_VALUES = 1 << 20


class UnusableAudioError(DataError):
    """Audio of one utterance that cannot be used; `reason` is what a Tally counts it under."""

    def __init__(self, reason: str, problem: str, *, path: str | None = None, remedy: str | None = None) -> None:
        super().__init__(problem, path=path, remedy=remedy)
        self.reason = reason


def read_audio(rxfilename: str, channel: int | None = None) -> tuple[FloatArray, int]:
    """Read a wave or flac file (or another format libsndfile knows) from a path, a pipe `cmd |` or `-`.

    Args:
        rxfilename: Kaldi's name of the source.
        channel: which channel, from 0; needed when there are several.

    Returns:
        Samples on int16 scale, float32 [num_samples] with num_samples >= 1, and the rate in Hz.

    Raises:
        UnusableAudioError: there are no samples, or NaN or infinite ones.
        DataError: unreadable or cut short (formats other than wave and flac may not tell the latter), a failing
            command, several channels and none chosen.
    """
    with open_reader(rxfilename) as reader:
        return read_audio_from(reader, channel)


def read_audio_from(reader: ByteReader, channel: int | None = None, in_archive: bool = False) -> tuple[FloatArray, int]:
    """`read_audio` from an open reader. A wave file is consumed up to its end, other formats take all that is left.

    Raises:
        DataError: as `read_audio`; also what would take the rest of an archive (`in_archive`) with it.
    """
    if check_is_wave(reader):
        samples, rate = read_wave(reader, in_archive)
    elif in_archive:
        raise reader.error("is no RIFF wave file, and archives of audio hold nothing else", "use a wav.scp")
    else:
        samples, rate = _read_with_soundfile(reader)
    chosen = _choose_channel(samples, channel, reader.name)
    if chosen.size == 0:
        raise UnusableAudioError("empty", "holds no samples", path=reader.name, remedy="leave it out of the data")
    if not np.isfinite(chosen).all():
        raise UnusableAudioError(
            "non_finite", "holds NaN or infinite samples", path=reader.name, remedy="make it again"
        )
    return chosen, rate


def _read_with_soundfile(reader: ByteReader) -> tuple[FloatArray, int]:
    """Samples [num_channels, num_samples] of anything libsndfile reads, mainly flac."""
    pieces = []
    while piece := reader.peek(PIECE_BYTES):
        pieces.append(reader.read(len(piece)))
    try:
        with soundfile.SoundFile(io.BytesIO(b"".join(pieces))) as file:
            samples = _all_samples(file)
            num_announced, rate = file.frames, file.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = getattr(error, "error_string", error)
        raise reader.ends_early(f"is no whole audio file of a known format ({reason})") from error
    if len(samples) < num_announced:
        raise reader.ends_early(f"{num_announced} samples announced, {len(samples)} there")
    return samples.T * np.float32(2.0**15), rate


def _all_samples(file: soundfile.SoundFile) -> FloatArray:
    """Samples [num_samples, num_channels] up to the end, a few at a time: memory must not follow what a header says."""
    blocks = [np.zeros((0, file.channels), np.float32)]
    while len(block := file.read(max(1, BLOCK_VALUES // file.channels), dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks)


def _choose_channel(samples: FloatArray, channel: int | None, name: str) -> FloatArray:
    """One channel of samples [num_channels, num_samples]."""
    num_channels = len(samples)
    if channel is not None and channel < 0:  # Kaldi's --channel=-1 expects a single one
        channel = None
    if channel is None and num_channels > 1:
        raise DataError(
            f"has {num_channels} channels", path=name, remedy="choose one with --channel, or split the file"
        )
    if channel is not None and channel >= num_channels:
        raise DataError(f"has {num_channels} channels, number {channel} (from 0) was asked for", path=name)
    return samples[channel or 0]


def cut_segment(samples: FloatArray, rate: int, segment: Segment) -> FloatArray:
    """The samples of a segment of a recording, by the rules and rounding of Kaldi's extract-segments.

    An end that overshoots the recording's by up to half a second is taken for it.

    Raises:
        UnusableAudioError: the segment lies outside the recording or is shorter than a tenth of a second.
    """
    # Kaldi holds the duration in a float, and rounds by adding a half.
    duration = float(np.float32(len(samples)) / np.float32(rate))
    where = f"segment {segment.begin:g} .. {segment.end:g} s of a recording of {duration:g} s"
    if segment.begin > duration or segment.end > duration + MAX_OVERSHOOT_SECONDS:
        raise UnusableAudioError("segment_outside", f"{where} lies outside of it", remedy="mend the segments file")
    end = min(segment.end, duration)
    if end - segment.begin < MIN_SEGMENT_SECONDS:
        raise UnusableAudioError("too_short", f"{where} is shorter than {MIN_SEGMENT_SECONDS:g} s")
    return samples[int(segment.begin * rate + 0.5) : min(int(end * rate + 0.5), len(samples))]


class Recording:
    """One audio file, decoded when first wanted and kept, so that its segments share one decoding (also in threads).

    Args:
        name: its key.
        rxfilename: where it is read from.
        channel: which channel, where there are several.
    """

    def __init__(self, name: str, rxfilename: str, channel: int | None = None) -> None:
        self.name, self.rxfilename, self.channel = name, rxfilename, channel
        self._lock = threading.Lock()
        self._result: tuple[FloatArray, int] | DataError | None = None

    @classmethod
    def from_reader(cls, name: str, reader: ByteReader, channel: int | None = None) -> Self:
        """A recording that lies inside a stream; read now, its samples' faults (not the stream's) kept for `read`."""
        recording = cls(name, reader.name, channel)
        try:
            recording._result = read_audio_from(reader, channel, in_archive=True)
        except UnusableAudioError as error:
            recording._result = error
        return recording

    def read(self) -> tuple[FloatArray, int]:
        """Samples and rate, as `read_audio` gives them.

        Raises:
            DataError: what reading it the first time raised.
        """
        with self._lock:
            if self._result is None:
                try:
                    self._result = read_audio(self.rxfilename, self.channel)
                except DataError as error:
                    self._result = error
        if isinstance(self._result, DataError):
            raise self._result
        return self._result


@dataclass(frozen=True)
class Utterance:
    """One utterance: a recording, or a segment of one."""

    utt: str
    recording: Recording
    segment: Segment | None = None

    def read(self) -> tuple[FloatArray, int]:
        """Samples [num_samples] on int16 scale, and rate in Hz.

        Raises:
            DataError: there are none or they cannot be used; `reason_of` it is what a Tally counts.
        """
        samples, rate = self.recording.read()
        return (cut_segment(samples, rate, self.segment) if self.segment else samples), rate


def utterances_of_dir(data_dir: DataDir, channel: int | None = None) -> Iterator[Utterance]:
    """The utterances of a data directory in its order: segments, or recordings when it has no segments.

    Raises:
        DataError: a segment of a recording that wav.scp lacks.
    """
    recording = Recording("", "")
    for utt, segment in (dict(data_dir.segments) or dict.fromkeys(data_dir.wav)).items():
        name = segment.recording if segment else utt
        if name not in data_dir.wav:
            raise DataError(f"recording {name} is not in wav.scp", utt=utt, remedy="mend segments or wav.scp")
        if name != recording.name:
            recording = Recording(name, data_dir.wav[name], channel)
        yield Utterance(utt, recording, segment)


def utterances_of_table(rspecifier: str, channel: int | None = None) -> Iterator[Utterance]:
    """The utterances of a table of audio: `scp:wav.scp`, or an archive of wave files such as extract-segments writes.

    Raises:
        ConfigError: `rspecifier` is none.
        DataError: the table cannot be read, or its command failed.
    """
    table = parse_rspecifier(rspecifier)
    if table.is_script:
        for utt, entry in read_script(table.rxfilename).items():
            yield Utterance(utt, Recording(utt, entry.rxfilename, channel))
        return
    with open_reader(table.rxfilename) as reader:
        while utt := reader.peek_token():
            reader.read(len(utt.encode()))
            if reader.read(1) != b" ":
                raise reader.error(f"expected a blank behind the key {utt!r}", "this is no archive of audio")
            yield Utterance(utt, Recording.from_reader(utt, reader, channel))


def iter_audio(
    data_dir: DataDir, tally: Tally | None = None, channel: int | None = None
) -> Iterator[tuple[str, FloatArray, int]]:
    """Every utterance's id, samples [num_samples] on int16 scale and rate, in the data directory's order.

    Args:
        data_dir: with wav.scp and maybe segments.
        tally: where utterances with unusable audio are counted by reason; without it the first one raises.
        channel: which channel of recordings with several.

    Raises:
        DataError: unusable audio when there is no tally, or a segment of an unknown recording.
    """
    for utterance in utterances_of_dir(data_dir, channel):
        try:
            samples, rate = utterance.read()
        except DataError as error:
            if tally is None:
                raise naming(utterance.utt, error) from error
            tally.skip(reason_of(error), utterance.utt, str(error))
            continue
        yield utterance.utt, samples, rate


def reason_of(error: DataError) -> str:
    """What a Tally counts an utterance under whose audio gave `error`."""
    return error.reason if isinstance(error, UnusableAudioError) else "unreadable"


def naming(utt: str, error: DataError) -> DataError:
    """The same error, naming the utterance."""
    return DataError(error.problem, path=error.path, utt=utt, byte=error.byte, remedy=error.remedy)


def check_rate(rate: int, expected: float, utt: str, rxfilename: str | None = None) -> None:
    """Check that audio has the rate features are configured for.

    Raises:
        DataError: naming the utterance, its file and both rates.
    """
    if rate != expected:
        raise DataError(
            f"audio of {rate} Hz, but the features are configured for {expected:g} Hz",
            path=rxfilename,
            utt=utt,
            remedy="resample the audio, or set --sample-frequency and mel frequencies to match",
        )
