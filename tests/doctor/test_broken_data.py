"""Experiments with one fault in data directory, audio or features: the doctor names that fault and no other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.doctor.experiments import FEAT_DIM, RATE, Made

Break = Callable[[Made], None]


def test_faultless_experiment_gives_no_findings(made: Made) -> None:
    assert made.report().findings == []


def test_faultless_experiment_with_segments_gives_no_findings(made: Made) -> None:
    made.use_segments()
    assert made.report().findings == []


def test_jobs_do_not_change_what_is_found(made: Made) -> None:
    truncated_wav(made)
    truncated_archive(made)
    made.write_alignments(made.alignments() | {"carl-3": np.full(5, 10**6, np.int32)})
    assert made.report(num_jobs=3).findings == made.report().findings != []


def map_lines(made: Made, name: str, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrite a file of the data directory."""
    made.write_lines(name, change(made.lines(name)))


# -- files ----------------------------------------------------------------------------------------------------------


def duplicate_utterance(made: Made) -> None:
    map_lines(made, "utt2spk", lambda lines: [*lines[:3], lines[2], *lines[3:]])


def unsorted_text(made: Made) -> None:
    map_lines(made, "text", lambda lines: [*lines[1:], lines[0]])


def malformed_utt2spk(made: Made) -> None:
    map_lines(made, "utt2spk", lambda lines: [f"{lines[0]} twice", *lines[1:]])


def wrong_spk2utt(made: Made) -> None:
    map_lines(made, "spk2utt", lambda lines: [lines[0].replace("anna-0 ", ""), *lines[1:]])


def not_in_utt2spk(made: Made) -> None:
    map_lines(made, "utt2spk", lambda lines: lines[1:])


def not_in_text(made: Made) -> None:
    map_lines(made, "text", lambda lines: lines[1:])


def half_of_text(made: Made) -> None:
    map_lines(made, "text", lambda lines: lines[::2])


def not_in_wav_scp(made: Made) -> None:
    map_lines(made, "wav.scp", lambda lines: lines[1:])


def not_in_feats_scp(made: Made) -> None:
    map_lines(made, "feats.scp", lambda lines: lines[1:])


def no_utt2spk(made: Made) -> None:
    (made.data / "utt2spk").unlink()


def no_spk2utt(made: Made) -> None:
    (made.data / "spk2utt").unlink()


def empty_text_file(made: Made) -> None:
    made.write_lines("text", [])


def empty_transcript(made: Made) -> None:
    map_lines(made, "text", lambda lines: ["anna-0", *lines[1:]])


def cut_utt2spk(made: Made) -> None:
    path = made.data / "utt2spk"
    path.write_bytes(path.read_bytes()[:-1])


def not_utf8(made: Made) -> None:
    path = made.data / "text"
    path.write_bytes(path.read_bytes().replace(b"carl-7 ", b"carl-7 \xff\xfe"))


def change_segment(made: Made, utt: str, begin: str | None, end: str, recording: str | None = None) -> None:
    """Give the experiment segments, one of them changed."""
    made.use_segments()
    fields = {line.split()[0]: line.split()[1:] for line in made.lines("segments")}
    old_recording, old_begin, _ = fields[utt]
    fields[utt] = [recording or old_recording, begin or old_begin, end]
    made.write_lines("segments", [" ".join([key, *values]) for key, values in fields.items()])


def segment_beyond_end(made: Made) -> None:
    change_segment(made, "anna-7", None, "1000")


def segment_of_unknown_recording(made: Made) -> None:
    change_segment(made, "anna-0", "0", "1", recording="dora")


def segment_backwards(made: Made) -> None:
    change_segment(made, "anna-0", "2", "1")


# -- audio ----------------------------------------------------------------------------------------------------------


def truncated_wav(made: Made) -> None:
    path = made.root / "wav" / "bert-2.wav"
    path.write_bytes(path.read_bytes()[:5000])


def no_wave_file(made: Made) -> None:
    (made.root / "wav" / "bert-2.wav").write_bytes(b"this is not audio " * 100)


def missing_wav(made: Made) -> None:
    (made.root / "wav" / "bert-2.wav").unlink()


def wav_without_samples(made: Made) -> None:
    made.write_wav("bert-2", np.zeros(0))


def wav_with_nan(made: Made) -> None:
    samples = np.zeros(made.lengths["bert-2"] * 80, dtype=np.float32)
    samples[100] = np.nan
    made.write_wav("bert-2", samples, subtype="FLOAT")


def wav_of_wrong_rate(made: Made) -> None:
    made.write_wav("bert-2", np.zeros(made.lengths["bert-2"] * 160), rate=2 * RATE)


def stereo_wav(made: Made) -> None:
    made.write_wav("bert-2", np.zeros((made.lengths["bert-2"] * 80, 2)))


def failing_audio_command(made: Made) -> None:
    map_lines(made, "wav.scp", lambda lines: ["anna-0 false |", *lines[1:]])


def wav_of_another_utterance(made: Made) -> None:
    made.write_wav("bert-2", np.zeros(made.lengths["bert-2"] * 40))


def wrong_utt2dur(made: Made) -> None:
    made.write_lines("utt2dur", ["anna-0 99"])


# -- features -------------------------------------------------------------------------------------------------------


def change_feats(made: Made, utt: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the features of an utterance."""
    feats = made.feats()
    made.write_feats(feats | {utt: change(feats[utt])})


def nan_features(made: Made) -> None:
    change_feats(made, "carl-1", lambda feats: np.where(np.arange(len(feats))[:, None] == 17, np.nan, feats))


def features_of_wrong_dimension(made: Made) -> None:
    change_feats(made, "carl-1", lambda feats: feats[:, :-1])


def features_without_frames(made: Made) -> None:
    change_feats(made, "carl-1", lambda feats: feats[:0])


def truncated_archive(made: Made) -> None:
    path = made.root / "feats.ark"
    path.write_bytes(path.read_bytes()[:-100])


def failing_features_command(made: Made) -> None:
    map_lines(made, "feats.scp", lambda lines: ["anna-0 cat /does/not/exist.ark |", *lines[1:]])


def malformed_range(made: Made) -> None:
    map_lines(made, "feats.scp", lambda lines: [f"{lines[0]}[0:1", *lines[1:]][:1] + lines[1:])


def range_outside(made: Made) -> None:
    map_lines(made, "feats.scp", lambda lines: [f"{lines[0]}[0:99999]", *lines[1:]])


def constant_coefficient(made: Made) -> None:
    made.write_feats({utt: feats * [1, 1, 0, 1] for utt, feats in made.feats().items()})


def features_of_wrong_length(made: Made) -> None:
    change_feats(made, "carl-1", lambda feats: feats[:-6])


def wrong_utt2num_frames(made: Made) -> None:
    made.write_lines("utt2num_frames", ["anna-0 1"])


# -- statistics -----------------------------------------------------------------------------------------------------


def change_stats(made: Made, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the statistics of a speaker."""
    stats = made.stats()
    made.write_cmvn(stats | {"bert": change(stats["bert"])})


def no_stats_of_a_speaker(made: Made) -> None:
    made.write_cmvn({speaker: stats for speaker, stats in made.stats().items() if speaker != "bert"})


def stats_of_wrong_dimension(made: Made) -> None:
    change_stats(made, lambda stats: stats[:, 1:])


def stats_without_frames(made: Made) -> None:
    change_stats(made, np.zeros_like)


def stats_with_negative_variance(made: Made) -> None:
    change_stats(made, lambda stats: stats * [[1], [-1]])


def truncated_stats(made: Made) -> None:
    path = made.root / "cmvn.ark"
    path.write_bytes(path.read_bytes()[:-10])


BREAKS: list[tuple[Break, str, str]] = [
    (duplicate_utterance, "error", "id comes twice"),
    (unsorted_text, "error", "file not sorted"),
    (malformed_utt2spk, "error", "malformed line"),
    (wrong_spk2utt, "error", "spk2utt is not utt2spk turned round"),
    (not_in_utt2spk, "error", "utterance not in utt2spk"),
    (not_in_text, "warning", "no text"),
    (half_of_text, "error", "no text"),
    (not_in_wav_scp, "warning", "no audio"),
    (not_in_feats_scp, "warning", "no features"),
    (no_utt2spk, "error", "file missing"),
    (no_spk2utt, "warning", "file missing"),
    (empty_text_file, "error", "file empty"),
    (empty_transcript, "warning", "empty text"),
    (cut_utt2spk, "error", "file unreadable"),
    (not_utf8, "error", "file unreadable"),
    (segment_beyond_end, "error", "segment outside its recording"),
    (segment_of_unknown_recording, "error", "segment of an unknown recording"),
    (segment_backwards, "error", "malformed line"),
    (truncated_wav, "error", "audio unreadable"),
    (no_wave_file, "error", "audio unreadable"),
    (missing_wav, "error", "audio unreadable"),
    (wav_without_samples, "error", "audio without samples"),
    (wav_with_nan, "error", "audio with NaN or infinite samples"),
    (wav_of_wrong_rate, "error", "audio of another rate"),
    (stereo_wav, "error", "audio unreadable"),
    (failing_audio_command, "error", "audio unreadable"),
    (wav_of_another_utterance, "warning", "features of other audio"),
    (wrong_utt2dur, "warning", "wrong utt2dur"),
    (nan_features, "error", "features with NaN or infinity"),
    (features_of_wrong_dimension, "error", "features of another dimension"),
    (features_without_frames, "error", "features without frames"),
    (truncated_archive, "error", "features unreadable"),
    (failing_features_command, "error", "features unreadable"),
    (malformed_range, "error", "features unreadable"),
    (range_outside, "error", "features unreadable"),
    (constant_coefficient, "warning", "constant coefficient"),
    (features_of_wrong_length, "error", "lengths differ"),
    (wrong_utt2num_frames, "warning", "wrong utt2num_frames"),
    (no_stats_of_a_speaker, "error", "no CMVN statistics"),
    (stats_of_wrong_dimension, "error", "wrong CMVN statistics"),
    (stats_without_frames, "error", "wrong CMVN statistics"),
    (stats_with_negative_variance, "error", "wrong CMVN statistics"),
    (truncated_stats, "error", "CMVN statistics unreadable"),
]


@pytest.mark.parametrize(("break_it", "severity", "fault"), BREAKS, ids=[b.__name__ for b, _, _ in BREAKS])
def test_doctor_names_exactly_the_fault(made: Made, break_it: Break, severity: str, fault: str) -> None:
    break_it(made)
    assert made.faults() == {fault: severity}


@pytest.mark.parametrize(
    ("break_it", "utt", "mentions"),
    [
        (duplicate_utterance, "anna-2", ["utt2spk", "line 4"]),
        (truncated_wav, "bert-2", ["bert-2.wav", "bytes"]),
        (wav_of_wrong_rate, "bert-2", ["16000 Hz", "8000 Hz"]),
        (failing_audio_command, "anna-0", ["exit status 1"]),
        (nan_features, "carl-1", ["frame 17"]),
        (truncated_archive, "carl-7", ["feats.ark"]),
        (failing_features_command, "anna-0", ["exit status 1"]),
        (features_of_wrong_dimension, "carl-1", [f"{FEAT_DIM - 1} values", f"{FEAT_DIM} in most"]),
        (no_stats_of_a_speaker, "bert", ["cmvn.scp"]),
    ],
)
def test_table_tells_where_and_what(made: Made, break_it: Break, utt: str, mentions: list[str]) -> None:
    break_it(made)
    (row,) = made.report().rows()
    for text in (utt, *mentions):
        assert text in row.example
    assert row.count == 1 and row.remedy


def test_audio_is_left_alone_on_demand(made: Made) -> None:
    truncated_wav(made)
    assert made.faults(skip_audio=True) == {}


def test_channel_of_stereo_audio_can_be_chosen(made: Made) -> None:
    stereo_wav(made)
    assert made.faults(channel=0) == {}


def test_damaged_utterances_in_the_same_archive_are_all_counted(made: Made) -> None:
    path = made.root / "feats.ark"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (row,) = made.report().rows()
    assert row.fault == "features unreadable" and 8 <= row.count <= 16
