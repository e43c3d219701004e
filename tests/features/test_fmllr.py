"""fMLLR transforms as Kaldi leaves them in directories, and features through LDA and fMLLR as Kaldi makes them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import ConfigError, DataError
from acoustic.features.base_frames import base_frames_of_table
from acoustic.features.fmllr import open_transforms, transform_files
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.features.kaldi_dir import frontend_from_kaldi_dir
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.log import Tally
from tests.features.feature_data import FEATS, GOLDEN

FMLLR = GOLDEN / "fmllr"


@pytest.mark.parametrize("owner", ["speaker", "utterance"])
def test_kaldis_cmvn_lda_and_fmllr(tmp_path: Path, owner: str) -> None:
    """apply-cmvn | splice-feats | transform-feats final.mat | transform-feats trans.*"""
    (tmp_path / "cmvn_opts").write_text("")
    (tmp_path / "splice_opts").write_text("--left-context=4 --right-context=4\n")
    shutil.copy(FEATS / "lda.mat", tmp_path / "final.mat")
    frontend = frontend_from_kaldi_dir(tmp_path, 13, fmllr=owner)
    expected = dict(read_table(f"ark:{FMLLR}/base_{owner}.ark", "matrix"))
    with TableWriter(f"ark:{tmp_path}/mfcc.ark", "matrix") as writer:
        for utt, feats in read_table(f"ark:{FEATS}/mfcc13.ark", "matrix"):
            if utt in expected:
                writer.write(utt, feats)
    ours = dict(
        base_frames_of_table(
            f"ark:{tmp_path}/mfcc.ark", frontend, Tally(), cmvn=f"ark:{FMLLR}/cmvn_mfcc13_spk.ark",
            utt2spk=f"ark:{GOLDEN}/wav/utt2spk", fmllr=str(FMLLR / owner),
        )
    )  # fmt: skip
    assert list(ours) == list(expected)
    for utt, base in ours.items():
        assert np.abs(base.numpy() - expected[utt]).max() < 1e-3  # of values up to a hundred


def make_transforms(directory: Path, *names: str) -> dict[str, np.ndarray]:
    """One transform in each of these files."""
    transforms = {}
    for number, name in enumerate(names):
        matrix = np.full((2, 3), number, dtype=np.float32)
        with TableWriter(f"ark:{directory / name}", "matrix") as writer:
            writer.write(f"s{number}", matrix)
        transforms[f"s{number}"] = matrix
    return transforms


@pytest.mark.parametrize(
    "names",
    [["trans.1", "trans.2", "trans.3"], ["trans.1.gz", "trans.2.gz"], ["trans.1.ark", "trans.2.ark.gz"], ["trans.ark"]],
)
def test_files_of_jobs_are_one_table(tmp_path: Path, names: list[str]) -> None:
    expected = make_transforms(tmp_path, *names)
    (tmp_path / "transcripts").write_text("not a transform\n")
    with contextlib.ExitStack() as stack:
        table = open_transforms(str(tmp_path), stack)
        for owner, matrix in expected.items():
            assert owner in table and np.array_equal(table[owner], matrix)
        assert "s9" not in table


def test_jobs_are_taken_in_numeric_order(tmp_path: Path) -> None:
    make_transforms(tmp_path, *(f"trans.{job}" for job in range(1, 12)))
    assert [path.name for path in transform_files(tmp_path)] == [f"trans.{job}" for job in range(1, 12)]


def test_a_script_is_preferred_and_read_as_asked(tmp_path: Path) -> None:
    with TableWriter(f"ark,scp:{tmp_path}/t.ark,{tmp_path}/trans.scp", "matrix") as writer:
        writer.write("a", np.eye(2, dtype=np.float32))
    with contextlib.ExitStack() as stack:
        assert np.array_equal(open_transforms(str(tmp_path), stack)["a"], np.eye(2))


def test_an_rspecifier_will_do(tmp_path: Path) -> None:
    make_transforms(tmp_path, "some.ark")
    with contextlib.ExitStack() as stack:
        assert "s0" in open_transforms(f"ark:{tmp_path}/some.ark", stack)


def test_directories_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fMLLR transforms"):
        transform_files(tmp_path)
    make_transforms(tmp_path, "trans.1", "trans.3")
    with pytest.raises(DataError, match=r"trans\.2 is missing"):
        transform_files(tmp_path)
    make_transforms(tmp_path, "trans.1", "trans.2", "trans.3")
    (tmp_path / "num_jobs").write_text("4\n")
    with pytest.raises(DataError, match=r"trans\.4 is missing of 4"):
        transform_files(tmp_path)
    (tmp_path / "num_jobs").write_text("many\n")
    with pytest.raises(DataError, match="'many'"):
        transform_files(tmp_path)


def test_an_owner_with_two_transforms(tmp_path: Path) -> None:
    make_transforms(tmp_path, "trans.1")
    shutil.copy(tmp_path / "trans.1", tmp_path / "trans.2")
    with contextlib.ExitStack() as stack, pytest.raises(DataError, match="s0 has two"):
        open_transforms(str(tmp_path), stack)


@pytest.mark.parametrize(("fmllr", "source"), [("speaker", None), ("none", "speaker")])
def test_transforms_and_front_end_must_agree(fmllr: str, source: str | None) -> None:
    frontend = Frontend(FrontendConfig(cmvn="none", fmllr=fmllr), 40)
    given = str(FMLLR / source) if source else None
    with pytest.raises(ConfigError, match=f"fmllr={fmllr}"):
        list(base_frames_of_table("ark:x", frontend, Tally(), utt2spk=f"ark:{GOLDEN}/wav/utt2spk", fmllr=given))


def test_a_speaker_without_transform_is_named(tmp_path: Path) -> None:
    shutil.copy(FMLLR / "speaker" / "trans.1", tmp_path / "trans.1")
    frontend = Frontend(FrontendConfig(cmvn="none", fmllr="speaker", global_norm=False), 40)
    feats, speakers = f"ark:{FEATS}/fbank40.ark", f"ark:{GOLDEN}/wav/utt2spk"
    with pytest.raises(DataError, match="engb_f4-004: no fMLLR transform for engb_f4"):
        list(base_frames_of_table(feats, frontend, Tally(), utt2spk=speakers, fmllr=str(tmp_path)))
