"""`acoustic fbank` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from acoustic.cli.fbank import speed_line
from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.tables import read_table

GOLDEN = Path(__file__).parent.parent / "golden"
OPTIONS = ["--sample-frequency=8000", "--num-mel-bins=40", "--dither=0"]


def feats_of(rspecifier: str) -> dict[str, np.ndarray]:
    return dict(read_table(rspecifier, "matrix"))


def assert_golden(feats: dict[str, np.ndarray], name: str) -> None:
    expected = feats_of(f"ark:{GOLDEN / 'feats' / name}")
    assert list(feats) == list(expected)
    for utt, matrix in expected.items():
        assert feats[utt].shape == matrix.shape
        assert np.abs(feats[utt] - matrix).max() < 1e-3


def wav_scp(folder: Path, **extra: str) -> str:
    lines = [line.split() for line in (GOLDEN / "wav" / "wav.scp").read_text().splitlines()]
    entries = {utt: str(GOLDEN / path) for utt, path in lines} | extra
    (folder / "wav.scp").write_text("".join(f"{utt} {path}\n" for utt, path in sorted(entries.items())))
    return f"scp:{folder / 'wav.scp'}"


def test_data_directory_with_segments(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wspecifier = f"ark,scp:{tmp_path / 'f.ark'},{tmp_path / 'f.scp'}"
    run(["fbank", *OPTIONS, f"--root={GOLDEN}", str(GOLDEN / "wav"), wspecifier])
    assert_golden(feats_of(f"scp:{tmp_path / 'f.scp'}"), "fbank40_segments.ark")
    summary = capfd.readouterr().err.strip().splitlines()[-1]
    assert summary.startswith("acoustic fbank: done 2 utterances, skipped 0, 1.1 s of audio, real-time factor ")


@pytest.mark.parametrize("num_jobs", [1, 3])
def test_table_in_order_whatever_the_jobs(tmp_path: Path, num_jobs: int) -> None:
    run(["fbank", *OPTIONS, f"--num-jobs={num_jobs}", wav_scp(tmp_path), f"ark:{tmp_path / 'f.ark'}"])
    assert_golden(feats_of(f"ark:{tmp_path / 'f.ark'}"), "fbank40.ark")


def test_real_time_factor_is_of_the_audio() -> None:
    assert speed_line(60.0, 3.0) == "60.0 s of audio, real-time factor 0.05000"
    assert speed_line(0.0, 3.0) == "no audio"


def test_config_file_and_other_options(tmp_path: Path) -> None:
    (tmp_path / "fbank.conf").write_text(
        "--sample-frequency=8000  # telephone\n--num-mel-bins=40\n--window-type=hamming\n"
        "--low-freq=64\n--high-freq=-200\n--dither=0\n"
    )
    config, out = f"--config={tmp_path / 'fbank.conf'}", f"ark:{tmp_path / 'f.ark'}"
    run(["fbank", config, "--num-mel-bins=23", wav_scp(tmp_path), out])
    assert_golden(feats_of(out), "fbank23_hamming.ark")


def test_compression_and_durations(tmp_path: Path) -> None:
    out, durations = f"ark:{tmp_path / 'f.ark'}", f"ark,t:{tmp_path / 'utt2dur'}"
    run(["fbank", *OPTIONS, "--compression-method=2", f"--write-utt2dur={durations}", wav_scp(tmp_path), out])
    expected = feats_of(f"ark:{GOLDEN / 'feats' / 'fbank40_compress2.expanded.ark'}")
    for utt, matrix in feats_of(out).items():
        # Two roundings to one of 255 steps: a value at the border of a step may fall on its other side.
        assert np.abs(matrix - expected[utt]).max() < 0.1
    utt, first = next(iter(read_table(durations, "float")))
    samples, rate = soundfile.read(GOLDEN / "wav" / f"{utt}.wav")
    assert first == pytest.approx(len(samples) / rate, abs=1e-4)


def test_dither_does_not_depend_on_jobs_or_company(tmp_path: Path) -> None:
    options = ["fbank", "--sample-frequency=8000", "--num-mel-bins=40"]
    run([*options, "--num-jobs=2", wav_scp(tmp_path), f"ark:{tmp_path / 'all.ark'}"])
    together = feats_of(f"ark:{tmp_path / 'all.ark'}")
    last = list(together)[-1]
    (tmp_path / "one.scp").write_text(f"{last} {GOLDEN / 'wav' / last}.wav\n")
    run([*options, "--num-jobs=1", f"scp:{tmp_path / 'one.scp'}", f"ark:{tmp_path / 'one.ark'}"])
    np.testing.assert_allclose(feats_of(f"ark:{tmp_path / 'one.ark'}")[last], together[last], atol=1e-4)


def test_faulty_audio_is_counted_and_fails_above_the_limit(tmp_path: Path) -> None:
    out = tmp_path / "f.ark"
    with pytest.raises(DataError, match=r"unreadable \(e\.g\. x1.*none\.wav"):
        run(["fbank", *OPTIONS, wav_scp(tmp_path, x1=str(tmp_path / "none.wav")), f"ark:{out}"])
    assert not out.exists()


def test_too_short_audio_is_counted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(100, np.int16), 8000)
    with pytest.raises(DataError, match=r"too_short \(e\.g\. x1: 0\.013 s"):
        run(["fbank", *OPTIONS, wav_scp(tmp_path, x1=str(tmp_path / "short.wav")), f"ark:{tmp_path / 'f.ark'}"])
    with pytest.raises(DataError, match="none of 6 utterances"):
        run(["fbank", *OPTIONS, "--min-duration=60", wav_scp(tmp_path), f"ark:{tmp_path / 'f.ark'}"])


def test_more_utterances_may_be_left_out_where_that_is_said(tmp_path: Path) -> None:
    """As when --min-duration leaves out many: the message names max_skip_fraction."""
    soundfile.write(tmp_path / "short.wav", np.zeros(100, np.int16), 8000)
    out = f"ark:{tmp_path / 'f.ark'}"
    with pytest.raises(DataError, match=r"1 of 7 utterances skipped.*max_skip_fraction"):
        run(["fbank", *OPTIONS, wav_scp(tmp_path, x1=str(tmp_path / "short.wav")), out])
    run(["fbank", *OPTIONS, "--max-skip-fraction=0.2", wav_scp(tmp_path, x1=str(tmp_path / "short.wav")), out])
    assert_golden(feats_of(out), "fbank40.ark")


def test_wrong_rate_is_an_error_at_once(tmp_path: Path) -> None:
    out = tmp_path / "f.ark"
    with pytest.raises(DataError, match=r"utterance w: audio of 16000 Hz.*--sample-frequency"):
        run(["fbank", *OPTIONS, wav_scp(tmp_path, w=str(GOLDEN / "wav" / "wide_16k.wav")), f"ark:{out}"])
    assert not out.exists()


def test_channel(tmp_path: Path) -> None:
    samples, rate = soundfile.read(GOLDEN / "wav" / "engb_f2-000.wav", dtype="int16")
    soundfile.write(tmp_path / "both.flac", np.stack([samples // 2, samples], 1), rate)
    (tmp_path / "b.scp").write_text(f"engb_f2-000 {tmp_path / 'both.flac'}\n")
    with pytest.raises(DataError, match="2 channels"):
        run(["fbank", *OPTIONS, f"scp:{tmp_path / 'b.scp'}", f"ark:{tmp_path / 'f.ark'}"])
    run(["fbank", *OPTIONS, "--channel=1", f"scp:{tmp_path / 'b.scp'}", f"ark:{tmp_path / 'f.ark'}"])
    expected = feats_of(f"ark:{GOLDEN / 'feats' / 'fbank40.ark'}")["engb_f2-000"]
    assert np.abs(feats_of(f"ark:{tmp_path / 'f.ark'}")["engb_f2-000"] - expected).max() < 1e-3
    (tmp_path / "b.scp").rename(tmp_path / "wav.scp")
    run(["fbank", *OPTIONS, "--channel=1", str(tmp_path), f"ark:{tmp_path / 'f.ark'}"])
    assert np.abs(feats_of(f"ark:{tmp_path / 'f.ark'}")["engb_f2-000"] - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--window-type=triangle"], "window_type"),
        (["--num-mel-bins=400"], "num_mel_bins"),
        (["--num-jobs=0"], "--num-jobs"),
        (["--root=/"], "--root"),
        (["--allow-downsample=true"], "allow-downsample"),
        (["--device=abacus"], "abacus"),
        (["--device=meta"], "choose cpu or cuda"),
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        run(["fbank", *OPTIONS, *options, wav_scp(tmp_path), f"ark:{tmp_path / 'f.ark'}"])
