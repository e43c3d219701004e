"""`acoustic paste-feats` writes what paste-feats writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.tables import TableWriter, read_table

FEATS = Path(__file__).parent.parent / "golden" / "feats"
STREAMS = [f"ark:{FEATS / name}" for name in ("mfcc13.ark", "fbank40.ark", "deltas2.ark")]


def write_feats(path: Path, **feats: np.ndarray) -> str:
    with TableWriter(f"ark:{path}", "matrix") as writer:
        for utt, matrix in feats.items():
            writer.write(utt, matrix.astype(np.float32))
    return f"ark:{path}"


def test_streams_stand_side_by_side(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(["paste-feats", *STREAMS, f"ark,scp:{tmp_path}/p.ark,{tmp_path}/p.scp"])
    streams = [dict(read_table(stream, "matrix")) for stream in STREAMS]
    pasted = dict(read_table(f"scp:{tmp_path}/p.scp", "matrix"))
    assert list(pasted) == list(streams[0])
    for utt, matrix in pasted.items():
        assert np.array_equal(matrix, np.hstack([stream[utt] for stream in streams]))
    assert "done 6 utterances, skipped 0" in capfd.readouterr().err


@pytest.mark.kaldi
@pytest.mark.skipif(shutil.which("paste-feats") is None, reason="Kaldi's paste-feats is not on PATH")
def test_archive_equals_kaldis(tmp_path: Path) -> None:
    run(["paste-feats", *STREAMS, f"ark:{tmp_path}/ours.ark"])
    subprocess.run(["paste-feats", *STREAMS, f"ark:{tmp_path}/kaldi.ark"], check=True, capture_output=True)
    assert (tmp_path / "ours.ark").read_bytes() == (tmp_path / "kaldi.ark").read_bytes()


def test_lengths_may_differ_within_the_tolerance(tmp_path: Path) -> None:
    one = write_feats(tmp_path / "1.ark", a=np.ones((5, 2)), b=np.ones((9, 2)))
    other = write_feats(tmp_path / "2.ark", a=np.zeros((7, 3)), b=np.zeros((9, 3)))
    run(["paste-feats", "--length-tolerance=2", one, other, f"ark:{tmp_path}/p.ark"])
    assert {utt: m.shape for utt, m in read_table(f"ark:{tmp_path}/p.ark", "matrix")} == {"a": (5, 5), "b": (9, 5)}
    with pytest.raises(DataError, match=r"length_mismatch \(e\.g\. a: streams of 5, 7 frames"):
        run(["paste-feats", "--length-tolerance=1", one, other, f"ark:{tmp_path}/q.ark"])
    with pytest.raises(ConfigError, match="--length-tolerance=-1: must not be negative"):
        run(["paste-feats", "--length-tolerance=-1", one, other, f"ark:{tmp_path}/q.ark"])
    assert not (tmp_path / "q.ark").exists()


def test_missing_and_empty_utterances_are_counted(tmp_path: Path) -> None:
    one = write_feats(tmp_path / "1.ark", a=np.ones((5, 2)), b=np.ones((5, 2)), c=np.zeros((0, 0)))
    other = write_feats(tmp_path / "2.ark", a=np.ones((5, 2)), c=np.zeros((0, 0)))
    with pytest.raises(DataError, match=r"length_mismatch \(e\.g\. c.*missing \(e\.g\. b: not in ark:"):
        run(["paste-feats", one, other, f"ark:{tmp_path}/p.ark"])


def test_one_stream_is_nothing_to_paste(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        run(["paste-feats", STREAMS[0], f"ark:{tmp_path}/p.ark"])
