"""`acoustic perturb`: the new data directory and its alignments."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.features.audio import read_audio
from acoustic.features.fbank import FbankOptions
from acoustic.kaldi.alignments import read_alignments, write_alignments
from acoustic.kaldi.datadir import DataDir, Segment

GOLDEN = Path(__file__).parent.parent / "golden"
FRAMING = FbankOptions(sample_frequency=8000.0)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Three recordings of two speakers, no segments."""
    lines = (GOLDEN / "wav" / "wav.scp").read_text().split("\n")[:3]
    wav = {line.split()[0]: str(GOLDEN / line.split()[1]) for line in lines}
    utt2spk = {utt: utt.split("-")[0] for utt in wav}
    text = {utt: ["one", "two"] for utt in wav}
    DataDir(wav=wav, utt2spk=utt2spk, text=text).write(make(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def ali_dir(tmp_path: Path, data_dir: Path) -> Path:
    """Alignments that number the frames."""
    folder = make(tmp_path / "ali")
    alignments = []
    for utt, rxfilename in DataDir.read(data_dir).wav.items():
        num_frames = FRAMING.num_frames(len(read_audio(rxfilename)[0]))
        alignments.append((utt, np.arange(1, num_frames + 1, dtype=np.int32)))
    write_alignments(folder, alignments, 2)
    for name in ("final.mdl", "tree"):
        (folder / name).write_bytes((GOLDEN / "model" / "mono" / name).read_bytes())
    return folder


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_three_speeds(tmp_path: Path, data_dir: Path, ali_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, out_ali = tmp_path / "sp", tmp_path / "ali_sp"
    alignments = [f"--ali-dir={ali_dir}", f"--out-ali-dir={out_ali}"]
    run(["perturb", "--speeds=0.9,1.0,1.1", *alignments, str(data_dir), str(out)])
    old, new = DataDir.read(data_dir), DataDir.read(out)
    expected = sorted(prefix + utt for prefix in ("", "sp0.9-", "sp1.1-") for utt in old.wav)
    assert list(new.wav) == list(new.utt2spk) == list(new.text) == expected
    assert new.utt2uniq == {prefix + utt: utt for prefix in ("", "sp0.9-", "sp1.1-") for utt in old.wav}
    stretched = dict(read_alignments(out_ali))
    assert list(stretched) == expected
    for utt, rxfilename in old.wav.items():
        assert new.wav[utt] == rxfilename and new.utt2spk[utt] == old.utt2spk[utt]
        original, rate = read_audio(rxfilename)
        np.testing.assert_array_equal(stretched[utt], np.arange(1, len(stretched[utt]) + 1))
        for speed in ("0.9", "1.1"):
            perturbed, new_rate = read_audio(new.wav[f"sp{speed}-{utt}"])
            assert new_rate == rate
            assert len(perturbed) == int(np.ceil(len(original) * 10 / (10 * float(speed))))
            assert new.utt2spk[f"sp{speed}-{utt}"] == f"sp{speed}-{old.utt2spk[utt]}"
            assert new.text[f"sp{speed}-{utt}"] == old.text[utt]
            labels = stretched[f"sp{speed}-{utt}"]
            assert len(labels) == FRAMING.num_frames(len(perturbed))
            assert abs(int(labels[-1]) - len(stretched[utt])) <= 2 and labels[0] <= 2
    copied = {"final.mdl", "tree"}
    assert {path.name for path in out_ali.iterdir()} == {"ali.1.gz", "ali.2.gz", "num_jobs", "speeds"} | copied
    assert (out_ali / "speeds").read_text() == "0.9\n1\n1.1\n"
    assert "acoustic perturb: done 3 utterances, skipped 0, wrote 9" in capfd.readouterr().err


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_audio_formats(tmp_path: Path, data_dir: Path, audio_format: str) -> None:
    out = tmp_path / "sp"
    run(["perturb", "--speeds=1.1", f"--format={audio_format}", str(data_dir), str(out)])
    info = soundfile.info(next(iter(DataDir.read(out).wav.values())))
    assert (info.format, info.subtype) == (audio_format.upper(), "PCM_16")


def test_segments_become_recordings(tmp_path: Path, data_dir: Path) -> None:
    old = DataDir.read(data_dir)
    recording = next(iter(old.wav))
    segments = {"u1": Segment(recording, 0.1, 0.6), "u2": Segment(recording, 0.6, 1.0)}
    wav = {recording: old.wav[recording]}
    DataDir(wav=wav, segments=segments, utt2spk=dict.fromkeys(segments, "s")).write(make(tmp_path / "seg"))
    run(["perturb", "--speeds=0.8,1.0", str(tmp_path / "seg"), str(tmp_path / "sp")])
    new = DataDir.read(tmp_path / "sp")
    assert not new.segments
    assert {utt: len(read_audio(name)[0]) for utt, name in new.wav.items()} == {
        "sp0.8-u1": 5000,
        "sp0.8-u2": 4000,
        "u1": 4000,
        "u2": 3200,
    }


def test_an_earlier_directory_is_replaced_only_by_a_complete_one(tmp_path: Path, data_dir: Path) -> None:
    out = make(tmp_path / "sp")
    (out / "wav.scp").write_text("x")
    make(out / "audio")
    broken = DataDir.read(data_dir)
    broken.wav[next(iter(broken.wav))] = str(tmp_path / "missing.wav")
    broken.write(tmp_path / "data")
    with pytest.raises(DataError, match=r"missing\.wav"):
        run(["perturb", str(data_dir), str(out)])
    assert {path.name for path in out.iterdir()} == {"wav.scp", "audio"} and (out / "wav.scp").read_text() == "x"


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_a_full_disk_is_said_in_a_line(tmp_path: Path, data_dir: Path, audio_format: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(DataError, match="sp: cannot be written"):
            run(["perturb", "--speeds=0.9", f"--format={audio_format}", str(data_dir), str(tmp_path / "sp")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "sp").exists()


def test_only_its_own_folders_are_replaced(tmp_path: Path, data_dir: Path, ali_dir: Path) -> None:
    """A data directory and alignments of somebody else are no output of it, its inputs least of all."""
    out, out_ali = tmp_path / "sp", tmp_path / "ali_sp"
    for _ in range(2):
        run(["perturb", f"--ali-dir={ali_dir}", f"--out-ali-dir={out_ali}", str(data_dir), str(out)])
    shutil.copytree(data_dir, tmp_path / "other")
    with pytest.raises(DataError, match="other: is a folder of another kind"):
        run(["perturb", str(data_dir), str(tmp_path / "other")])
    with pytest.raises(DataError, match="ali: is a folder of another kind"):
        run(["perturb", f"--ali-dir={ali_dir}", f"--out-ali-dir={ali_dir}", str(data_dir), str(out)])
    assert len(DataDir.read(tmp_path / "other").wav) == 3 and (ali_dir / "final.mdl").exists()


def test_alignments_that_do_not_fit(tmp_path: Path, data_dir: Path, ali_dir: Path) -> None:
    out = [f"--ali-dir={ali_dir}", f"--out-ali-dir={tmp_path / 'ali_sp'}", str(data_dir), str(tmp_path / "sp")]
    with pytest.raises(DataError, match="length_mismatch"):
        run(["perturb", "--frame-shift=20", *out])
    alignments = list(read_alignments(ali_dir))
    write_alignments(ali_dir, alignments[1:], 1)
    with pytest.raises(DataError, match=rf"no_alignment.*sp0\.9-{alignments[0][0]}"):
        run(["perturb", *out])
    assert not (tmp_path / "ali_sp").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--speeds=fast"], "--speeds"),
        (["--speeds=1.1,1.10"], "twice"),
        (["--ali-dir=x"], "--out-ali-dir"),
        (["--num-jobs=0"], "--num-jobs"),
        (["--frame-shift=0"], "frame_shift"),
    ],
)
def test_wrong_options(tmp_path: Path, data_dir: Path, options: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        run(["perturb", *options, str(data_dir), str(tmp_path / "sp")])
    with pytest.raises(ConfigError, match="choose another"):
        run(["perturb", str(data_dir), str(data_dir)])
