"""Reading audio: formats, faults, segments."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from acoustic.errors import ConfigError, DataError
from acoustic.features.audio import (
    UnusableAudioError,
    check_rate,
    cut_segment,
    iter_audio,
    read_audio,
    utterances_of_dir,
    utterances_of_table,
)
from acoustic.kaldi.datadir import DataDir, Segment
from acoustic.log import Tally
from tests.features.feature_data import GOLDEN

WAV = GOLDEN / "wav" / "engb_f2-000.wav"


def pcm(num_samples: int = 1000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, num_samples).astype(np.int16)


def wave_head(data_bytes: int, riff_bytes: int | None = None, rate: int = 8000) -> bytes:
    riff = 36 + data_bytes if riff_bytes is None else riff_bytes
    return (
        struct.pack("<4sI4s4sIHHIIHH", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
        + struct.pack("<4sI", b"data", data_bytes)
    )  # fmt: skip


def write_wave(path: Path, samples: np.ndarray, rate: int = 8000) -> str:
    path.write_bytes(wave_head(2 * len(samples), rate=rate) + samples.astype("<i2").tobytes())
    return str(path)


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 256.0), ("PCM_16", 0.0), ("PCM_24", 0.0), ("PCM_32", 0.0), ("FLOAT", 0.0), ("DOUBLE", 0.0)],
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_every_wave_encoding_gives_the_same_scale(
    tmp_path: Path, subtype: str, tolerance: float, container: str
) -> None:
    samples = pcm()
    path = tmp_path / "a.wav"
    soundfile.write(path, samples.astype(np.float64) / 32768, 16000, subtype=subtype, format=container)
    read, rate = read_audio(str(path))
    assert rate == 16000 and read.dtype == np.float32 and read.shape == samples.shape
    assert np.abs(read - samples).max() <= tolerance


def test_bytes_of_eight_bits_are_the_upper_ones_of_sixteen(tmp_path: Path) -> None:
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 39, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    (tmp_path / "a.wav").write_bytes(head + struct.pack("<4sI", b"data", 3) + bytes([128, 0, 255]))
    assert read_audio(str(tmp_path / "a.wav"))[0].tolist() == [0.0, -32768.0, 32512.0]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac(tmp_path: Path, subtype: str) -> None:
    samples = pcm()
    soundfile.write(tmp_path / "a.flac", samples, 8000, subtype=subtype)
    read, rate = read_audio(str(tmp_path / "a.flac"))
    assert rate == 8000
    np.testing.assert_array_equal(read, samples)


def test_golden_wave_is_what_libsndfile_reads() -> None:
    read, rate = read_audio(str(WAV))
    expected, expected_rate = soundfile.read(WAV, dtype="int16")
    assert rate == expected_rate
    np.testing.assert_array_equal(read, expected)


def test_pipes_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = read_audio(str(WAV))
    np.testing.assert_array_equal(read_audio(f"cat {WAV} |")[0], expected)
    soundfile.write(tmp_path / "a.flac", expected.astype(np.int16), 8000)
    np.testing.assert_array_equal(read_audio(f"cat {tmp_path / 'a.flac'} |")[0], expected)


@pytest.mark.parametrize(
    ("data_bytes", "riff_bytes"), [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF000, 0x7FFFF024), (0, 0), (10, 0)]
)
def test_streamed_header_reads_to_the_end(tmp_path: Path, data_bytes: int, riff_bytes: int) -> None:
    samples = pcm()
    (tmp_path / "a.wav").write_bytes(wave_head(data_bytes, riff_bytes) + samples.tobytes())
    np.testing.assert_array_equal(read_audio(f"cat {tmp_path / 'a.wav'} |")[0], samples)


def test_chunks_around_the_samples_are_skipped(tmp_path: Path) -> None:
    samples = pcm(10)
    plain = wave_head(20) + samples.tobytes()
    junk = struct.pack("<4sI", b"LIST", 5) + b"abcde\0"
    (tmp_path / "a.wav").write_bytes(plain[:12] + junk + plain[12:36] + junk + plain[36:] + junk)
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.wav"))[0], samples)


@pytest.mark.parametrize("keep", [10, 30, 43, 44, 45, 100])
def test_truncated_wave_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes((wave_head(2000) + pcm().tobytes())[:keep])
    with pytest.raises(DataError, match=r"a\.wav"):
        read_audio(str(path))
    with pytest.raises(DataError):
        read_audio(f"cat {path} |")


def test_a_riff_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\4\0\0\0AVI " + bytes(50))
    with pytest.raises(DataError, match=r"is no RIFF wave file \(b'AVI ' stands where WAVE should"):
        read_audio(str(tmp_path / "a.wav"))


def test_truncated_flac_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", pcm(20_000), 8000)
    content = (tmp_path / "a.flac").read_bytes()
    for keep in (3, 20, 60, len(content) // 2, len(content) - 1000):
        (tmp_path / "b.flac").write_bytes(content[:keep])
        with pytest.raises(DataError, match=r"b\.flac"):
            read_audio(str(tmp_path / "b.flac"))


def test_a_command_that_fails_is_refused() -> None:
    with pytest.raises(DataError, match="status 3"):
        read_audio(f"cat {WAV}; exit 3 |")


def test_channels(tmp_path: Path) -> None:
    both = np.stack([pcm(seed=1), pcm(seed=2)], 1)
    for name in ("a.wav", "a.flac"):
        path = str(tmp_path / name)
        soundfile.write(path, both, 8000)
        for unsaid in (None, -1):
            with pytest.raises(DataError, match=r"2 channels.*--channel"):
                read_audio(path, unsaid)
        for channel in (0, 1):
            np.testing.assert_array_equal(read_audio(path, channel)[0], both[:, channel])
        with pytest.raises(DataError, match="number 2"):
            read_audio(path, 2)


def test_nan_samples_are_refused(tmp_path: Path) -> None:
    samples = np.zeros(100, np.float32)
    samples[50] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(UnusableAudioError, match="NaN") as caught:
        read_audio(str(tmp_path / "a.wav"))
    assert caught.value.reason == "non_finite"


def test_empty_audio_has_its_own_reason(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wave_head(0, 36))
    with pytest.raises(UnusableAudioError) as caught:
        read_audio(str(tmp_path / "a.wav"))
    assert caught.value.reason == "empty"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world, this is text", b"RIFX" + bytes(40), b"RIFF\0\0\0\0AVI " + bytes(40), b"RIFF\4\0\0\0WAVE"],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.wav"):
        read_audio(str(tmp_path / "a.wav"))


@pytest.mark.parametrize(("kind", "bits"), [(7, 8), (1, 12), (3, 16), (85, 16)])
def test_unknown_encodings_are_named(tmp_path: Path, kind: int, bits: int) -> None:
    head = bytearray(wave_head(20))
    struct.pack_into("<H", head, 20, kind)
    struct.pack_into("<H", head, 34, bits)
    (tmp_path / "a.wav").write_bytes(bytes(head) + bytes(20))
    with pytest.raises(DataError, match=f"format {kind} with {bits} bits"):
        read_audio(str(tmp_path / "a.wav"))


def test_damaged_headers_never_escape_as_other_errors(tmp_path: Path) -> None:
    content = wave_head(2000) + pcm().tobytes()
    path = tmp_path / "a.wav"
    for byte in range(44):
        for value in (0, 1, 0x7F, 0xFF):
            path.write_bytes(content[:byte] + bytes([value]) + content[byte + 1 :])
            try:
                read_audio(str(path))
            except DataError as error:
                assert str(path) in str(error)


# ---- segments --------------------------------------------------------------------------------------------------------


def test_segment_ends_are_rounded_as_kaldi_does() -> None:
    samples = np.arange(8000, dtype=np.float32)
    cut = cut_segment(samples, 8000, Segment("r", 0.10003125, 0.5))
    assert cut[0] == 800 and len(cut) == 3200  # 800.25 + 0.5 rounds down
    cut = cut_segment(samples, 8000, Segment("r", 0.1000625, 0.50006875))
    assert cut[0] == 801 and cut[-1] == 4000  # 800.5 and 4000.55 round up


def test_a_small_overshoot_ends_with_the_recording() -> None:
    samples = np.arange(8000, dtype=np.float32)
    assert len(cut_segment(samples, 8000, Segment("r", 0.5, 1.4))) == 4000


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (Segment("r", 0.5, 1.6), "segment_outside"),
        (Segment("r", 1.1, 1.3), "segment_outside"),
        (Segment("r", 0.5, 0.55), "too_short"),
        (Segment("r", 0.95, 1.3), "too_short"),
    ],
)
def test_segments_that_do_not_fit(segment: Segment, reason: str) -> None:
    with pytest.raises(UnusableAudioError) as caught:
        cut_segment(np.zeros(8000, np.float32), 8000, segment)
    assert caught.value.reason == reason


def test_iter_audio_counts_by_reason_and_goes_on(tmp_path: Path) -> None:
    wav = {
        "a": write_wave(tmp_path / "a.wav", pcm()),
        "b": str(tmp_path / "missing.wav"),
        "c": "exit 1 |",
        "d": write_wave(tmp_path / "d.wav", pcm(0)),
        "e": write_wave(tmp_path / "e.wav", pcm()),
    }
    tally = Tally()
    assert [utt for utt, _, _ in iter_audio(DataDir(wav=wav), tally)] == ["a", "e"]
    assert tally.skipped == {"unreadable": 2, "empty": 1}
    with pytest.raises(DataError, match="utterance b"):
        list(iter_audio(DataDir(wav=wav)))


def test_segments_of_one_recording_share_its_decoding(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wav = {"r": f"echo x >> {log}; cat {WAV} |"}
    segments = {f"u{i}": Segment("r", 0.1 * i, 0.1 * i + 0.2) for i in range(5)}
    assert len(list(iter_audio(DataDir(wav=wav, segments=segments)))) == 5
    assert log.read_text() == "x\n"


def test_segment_of_an_unknown_recording() -> None:
    with pytest.raises(DataError, match="recording r"):
        list(utterances_of_dir(DataDir(wav={"q": "x"}, segments={"u": Segment("r", 0.0, 1.0)})))


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_archive_of_waves(tmp_path: Path) -> None:
    first, second = pcm(100, 1), pcm(300, 2)
    archive = tmp_path / "wav.ark"
    parts = [b"%s %s" % (key, wave_head(2 * len(x)) + x.tobytes()) for key, x in ((b"a", first), (b"b", second))]
    archive.write_bytes(b"".join(parts))
    for rspecifier in (f"ark:{archive}", f"ark:cat {archive} |"):
        read = {u.utt: u.read()[0] for u in utterances_of_table(rspecifier)}
        np.testing.assert_array_equal(read["a"], first)
        np.testing.assert_array_equal(read["b"], second)
    archive.write_bytes(b"e " + wave_head(0) + b"".join(parts))
    empty, *others = utterances_of_table(f"ark:{archive}")
    with pytest.raises(UnusableAudioError, match="no samples"):
        empty.read()
    assert [len(utterance.read()[0]) for utterance in others] == [100, 300]
    archive.write_bytes(b"".join(parts)[:-10])
    with pytest.raises(DataError, match=r"wav\.ark"):
        list(utterances_of_table(f"ark:{archive}"))


@pytest.mark.parametrize(("data_bytes", "riff_bytes"), [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (2000, 0), (0, 2036)])
def test_a_wave_of_unknown_length_would_swallow_those_behind_it(
    tmp_path: Path, data_bytes: int, riff_bytes: int
) -> None:
    streamed = wave_head(data_bytes, riff_bytes) + pcm().tobytes()
    (tmp_path / "wav.ark").write_bytes(b"a " + streamed + b"b " + wave_head(2000) + pcm().tobytes())
    with pytest.raises(DataError, match=r"wav\.ark, byte 2: a wave file of unknown length in an archive"):
        list(utterances_of_table(f"ark:{tmp_path}/wav.ark"))


def test_an_archive_of_another_format_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm(), 8000, format="FLAC")
    (tmp_path / "wav.ark").write_bytes((b"a " + buffer.getvalue()) * 2)
    with pytest.raises(DataError, match=r"wav\.ark, byte 2: is no RIFF wave file.*use a wav\.scp"):
        list(utterances_of_table(f"ark:{tmp_path}/wav.ark"))


def test_script_of_waves(tmp_path: Path) -> None:
    script = tmp_path / "wav.scp"
    script.write_text(f"a {WAV}\nb cat {WAV} |\n")
    a, b = (utterance.read()[0] for utterance in utterances_of_table(f"scp:{script}"))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(ConfigError):
        list(utterances_of_table(str(script)))


def test_wrong_rate_names_the_utterance() -> None:
    with pytest.raises(DataError, match=r"utterance u1: audio of 16000 Hz.*8000 Hz"):
        check_rate(16000, 8000.0, "u1")


def test_soundfile_formats_other_than_flac(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm(), 8000, format="AIFF", subtype="PCM_16")
    (tmp_path / "a.aiff").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.aiff"))[0], pcm())
