"""`acoustic cmvn` writes what compute-cmvn-stats wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.tables import TableWriter, read_table

GOLDEN = Path(__file__).parent.parent / "golden"
FEATS = f"ark:{GOLDEN / 'feats' / 'fbank40.ark'}"
SPK2UTT = f"--spk2utt=ark:{GOLDEN / 'wav' / 'spk2utt'}"


@pytest.mark.parametrize(("name", "options"), [("cmvn_utt.ark", []), ("cmvn_spk.ark", [SPK2UTT])])
def test_tables_equal_kaldis(tmp_path: Path, name: str, options: list[str]) -> None:
    run(["cmvn", *options, FEATS, f"ark,scp:{tmp_path / 'c.ark'},{tmp_path / 'c.scp'}"])
    expected = dict(read_table(f"ark:{GOLDEN / 'feats' / name}", "matrix"))
    ours = dict(read_table(f"scp:{tmp_path / 'c.scp'}", "matrix"))
    assert list(ours) == list(expected)
    for key, stats in expected.items():
        assert ours[key].dtype == stats.dtype == np.float64
        np.testing.assert_allclose(ours[key], stats, rtol=1e-12)


def test_global_statistics_are_one_matrix(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(["cmvn", FEATS, str(tmp_path / "global.mat")])
    ours, expected = (tmp_path / "global.mat").read_bytes(), (GOLDEN / "feats" / "cmvn_global.mat").read_bytes()
    assert ours[:15] == expected[:15]
    np.testing.assert_allclose(np.frombuffer(ours[15:], "<f4"), np.frombuffer(expected[15:], "<f4"), rtol=1e-6)
    assert "acoustic cmvn: done 6 utterances, skipped 0" in capfd.readouterr().err


def write_feats(path: Path, **feats: np.ndarray) -> str:
    with TableWriter(f"ark:{path}", "matrix") as writer:
        for utt, matrix in feats.items():
            writer.write(utt, matrix.astype(np.float32))
    return f"ark:{path}"


def test_unusable_features_are_counted(tmp_path: Path) -> None:
    good, bad = np.ones((5, 3)), np.full((5, 3), np.nan)
    feats = write_feats(tmp_path / "f.ark", a=good, b=bad, c=np.zeros((0, 0)))
    with pytest.raises(DataError, match=r"empty \(e\.g\. c.*non_finite \(e\.g\. b"):
        run(["cmvn", feats, f"ark:{tmp_path / 'c.ark'}"])
    assert not (tmp_path / "c.ark").exists()


def test_speakers_that_do_not_fit(tmp_path: Path) -> None:
    feats = write_feats(tmp_path / "f.ark", a=np.ones((5, 3)), b=np.ones((5, 3)), c=np.ones((5, 2)))
    spk2utt = tmp_path / "spk2utt"
    spk2utt.write_text("s a b missing\n")
    with pytest.raises(DataError, match=r"no_features \(e\.g\. missing"):
        run(["cmvn", f"--spk2utt=ark:{spk2utt}", feats, f"ark:{tmp_path / 'c.ark'}"])
    spk2utt.write_text("s a b\nt b\n")
    with pytest.raises(DataError, match=r"utterance b: is of two speakers, s and t"):
        run(["cmvn", f"--spk2utt=ark:{spk2utt}", feats, f"ark:{tmp_path / 'c.ark'}"])
    spk2utt.write_text("s a b c\n")
    with pytest.raises(DataError, match=r"utterance c: 2 values in a frame, 3 in those before"):
        run(["cmvn", f"--spk2utt=ark:{spk2utt}", feats, f"ark:{tmp_path / 'c.ark'}"])


def test_speakers_and_one_matrix_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--spk2utt"):
        run(["cmvn", SPK2UTT, FEATS, str(tmp_path / "global.mat")])
