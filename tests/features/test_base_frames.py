"""Base frames of data directories and tables: what is joined, what is skipped and why, what is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from acoustic.errors import ConfigError, DataError
from acoustic.features.base_frames import base_frames, base_frames_of_table, global_stats, speaker_stats
from acoustic.features.cmvn import apply_cmvn, cmvn_stats
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.features.transforms import apply_transform
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter
from acoustic.log import Tally
from tests.features.feature_data import random_feats, write_feats

SPEAKERS = {"a1": "a", "a2": "a", "b1": "b"}


def feats_of_three() -> dict[str, Tensor]:
    return {utt: random_feats(10 + i, 4, seed=i) for i, utt in enumerate(SPEAKERS)}


def expected_by_speaker(feats: dict[str, Tensor]) -> dict[str, Tensor]:
    stats_a = cmvn_stats(feats["a1"]) + cmvn_stats(feats["a2"])
    stats = {"a": stats_a, "b": cmvn_stats(feats["b1"])}
    return {utt: apply_cmvn(value, stats[SPEAKERS[utt]], True) for utt, value in feats.items()}


def frontend(cmvn: str = "speaker", norm_vars: bool = True, fmllr: str = "none") -> Frontend:
    return Frontend(FrontendConfig(cmvn=cmvn, norm_vars=norm_vars, fmllr=fmllr), 4)


def assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(ours) == list(expected)
    for utt, value in expected.items():
        assert torch.allclose(ours[utt], value, atol=1e-5)


def test_speaker_statistics_are_computed_when_there_is_no_cmvn_scp(tmp_path: Path) -> None:
    feats = feats_of_three()
    data_dir, tally = write_feats(tmp_path, feats, SPEAKERS), Tally()
    assert_same(dict(base_frames(data_dir, frontend(), tally)), expected_by_speaker(feats))
    assert tally.num_done == 3 and tally.num_skipped == 0


def test_speaker_statistics_of_cmvn_scp_are_used(tmp_path: Path) -> None:
    feats = feats_of_three()
    data_dir = write_feats(tmp_path, feats, SPEAKERS)
    other = {"a": cmvn_stats(random_feats(20, 4, 7)), "b": cmvn_stats(random_feats(20, 4, 8))}
    with TableWriter(f"ark,scp:{tmp_path / 'cmvn.ark'},{tmp_path / 'cmvn.scp'}", "matrix") as writer:
        for speaker, stats in other.items():
            writer.write(speaker, stats.numpy())
    data_dir = DataDir.read(tmp_path)
    expected = {utt: apply_cmvn(value, other[SPEAKERS[utt]], True) for utt, value in feats.items()}
    assert_same(dict(base_frames(data_dir, frontend(), Tally())), expected)
    assert_same(
        dict(
            base_frames_of_table(
                f"scp:{tmp_path / 'feats.scp'}",
                frontend(),
                Tally(),
                cmvn=f"scp:{tmp_path / 'cmvn.scp'}",
                utt2spk=f"ark:{tmp_path / 'utt2spk'}",
            )
        ),
        expected,
    )
    computed = speaker_stats(data_dir, 4)
    assert_same(dict(base_frames(data_dir, frontend(), Tally(), cmvn=computed)), expected_by_speaker(feats))


def test_statistics_of_a_part_come_from_the_whole_when_given(tmp_path: Path) -> None:
    feats = feats_of_three()
    data_dir = write_feats(tmp_path, feats, SPEAKERS)
    part = dict(base_frames(data_dir.subset(["a1"]), frontend(), Tally(), cmvn=speaker_stats(data_dir, 4)))
    assert_same(part, {"a1": expected_by_speaker(feats)["a1"]})


def test_utterance_and_global_statistics(tmp_path: Path) -> None:
    feats = feats_of_three()
    data_dir = write_feats(tmp_path, feats, SPEAKERS)
    by_utterance = {utt: apply_cmvn(value, cmvn_stats(value), True) for utt, value in feats.items()}
    assert_same(dict(base_frames(data_dir, frontend("utterance"), Tally())), by_utterance)
    total = sum(cmvn_stats(value) for value in feats.values())
    assert torch.allclose(global_stats(data_dir, 4), total)
    with_global = frontend("global")
    with_global.set_global_cmvn(global_stats(data_dir, 4))
    by_all = {utt: apply_cmvn(value, total, True) for utt, value in feats.items()}
    assert_same(dict(base_frames(data_dir, with_global, Tally())), by_all)


@pytest.mark.parametrize("rspecifier", ["scp:{}/feats.scp", "ark:{}/feats.ark", "ark:cat {}/feats.ark |"])
def test_tables_by_utterance(tmp_path: Path, rspecifier: str) -> None:
    feats = feats_of_three()
    write_feats(tmp_path, feats)
    expected = {utt: apply_cmvn(value, cmvn_stats(value), True) for utt, value in feats.items()}
    assert_same(dict(base_frames_of_table(rspecifier.format(tmp_path), frontend("utterance"), Tally())), expected)


def test_unusable_utterances_are_counted_by_reason(tmp_path: Path) -> None:
    feats = feats_of_three()
    bad = random_feats(5, 4)
    bad[3, 2] = torch.nan
    faulty = {"c1": bad, "d1": random_feats(5, 3), "e1": random_feats(5, 4)}
    data_dir = write_feats(tmp_path, feats | faulty, SPEAKERS)
    data_dir.feats["e1"] = str(tmp_path / "missing.ark:12")
    with TableWriter(f"ark:{tmp_path / 'empty.ark'}", "matrix") as writer:
        writer.write("f1", np.zeros((0, 0), np.float32))
    data_dir.feats["f1"] = f"{tmp_path / 'empty.ark'}:3"
    data_dir.utt2spk["f1"] = "f1"
    tally = Tally()
    assert_same(dict(base_frames(data_dir, frontend(), tally)), expected_by_speaker(feats))
    assert tally.skipped == {"non_finite": 1, "wrong_dim": 1, "unreadable": 1, "empty": 1}
    assert tally.num_done == 3
    assert "frame 3" in tally.examples["non_finite"]
    with pytest.raises(DataError, match="missing"):
        tally.check()


def test_unreadable_entry_of_a_script_is_skipped_and_of_an_archive_is_an_error(tmp_path: Path) -> None:
    write_feats(tmp_path, feats_of_three())
    archive = tmp_path / "feats.ark"
    archive.write_bytes(archive.read_bytes()[:-10])
    tally = Tally()
    read = dict(base_frames_of_table(f"scp:{tmp_path / 'feats.scp'}", frontend("utterance"), tally))
    assert list(read) == ["a1", "a2"] and tally.skipped == {"unreadable": 1}
    with pytest.raises(DataError, match="b1"):
        list(base_frames_of_table(f"ark:{archive}", frontend("utterance"), Tally()))


def test_speaker_without_statistics_is_named(tmp_path: Path) -> None:
    data_dir = write_feats(tmp_path, feats_of_three(), SPEAKERS)
    with pytest.raises(DataError, match=r"utterance b1: no CMVN statistics for b"):
        list(base_frames(data_dir, frontend(), Tally(), cmvn={"a": cmvn_stats(random_feats(5, 4))}))


def test_utterance_without_speaker_is_named(tmp_path: Path) -> None:
    data_dir = write_feats(tmp_path, feats_of_three(), SPEAKERS)
    del data_dir.utt2spk["a2"]
    with pytest.raises(DataError, match="utterance a2: is not in utt2spk"):
        list(base_frames(data_dir, frontend(), Tally()))
    assert len(list(base_frames(data_dir, frontend("utterance"), Tally()))) == 3


def test_statistics_of_other_features_name_the_utterance(tmp_path: Path) -> None:
    data_dir = write_feats(tmp_path, feats_of_three(), SPEAKERS)
    stats = {"a": cmvn_stats(random_feats(5, 3)), "b": cmvn_stats(random_feats(5, 3))}
    with pytest.raises(DataError, match=r"utterance a1.*dimension 4"):
        list(base_frames(data_dir, frontend(), Tally(), cmvn=stats))


@pytest.mark.parametrize("by", ["speaker", "utterance"])
def test_fmllr(tmp_path: Path, by: str) -> None:
    feats = feats_of_three()
    data_dir = write_feats(tmp_path, feats, SPEAKERS)
    owner = SPEAKERS if by == "speaker" else {utt: utt for utt in SPEAKERS}
    transforms = {key: random_feats(4, 5, seed=i) for i, key in enumerate(sorted(set(owner.values())))}
    with TableWriter(f"ark:{tmp_path / 'trans.1'}", "matrix") as writer:
        for key, transform in transforms.items():
            writer.write(key, transform.numpy())
    expected = {utt: apply_transform(value, transforms[owner[utt]]) for utt, value in feats.items()}
    fmllr = f"ark:cat {tmp_path}/trans.* |"
    ours = frontend("none", norm_vars=False, fmllr=by)
    assert_same(dict(base_frames(data_dir, ours, Tally(), fmllr=fmllr)), expected)
    table = f"scp:{tmp_path / 'feats.scp'}"
    utt2spk = f"ark:{tmp_path / 'utt2spk'}"
    assert_same(dict(base_frames_of_table(table, ours, Tally(), utt2spk=utt2spk, fmllr=fmllr)), expected)
    with pytest.raises(ConfigError, match="no transforms are given"):
        list(base_frames(data_dir, ours, Tally()))
    with pytest.raises(ConfigError, match="fmllr=none"):
        list(base_frames(data_dir, frontend("none", norm_vars=False), Tally(), fmllr=fmllr))
    data_dir.feats["c1"] = data_dir.feats["a1"]
    data_dir.utt2spk["c1"] = "c"
    with pytest.raises(DataError, match=r"utterance c1: no fMLLR transform for c"):
        list(base_frames(data_dir, ours, Tally(), fmllr=fmllr))


def test_what_a_table_must_come_with(tmp_path: Path) -> None:
    write_feats(tmp_path, feats_of_three())
    with pytest.raises(ConfigError, match="--cmvn"):
        list(base_frames_of_table(f"scp:{tmp_path / 'feats.scp'}", frontend(), Tally()))
    with pytest.raises(ConfigError, match="--utt2spk"):
        list(base_frames_of_table("ark:x", frontend("none", False, "speaker"), Tally(), fmllr="ark:y"))


def test_statistics_that_a_model_has_no_use_for_are_not_looked_for(tmp_path: Path) -> None:
    feats = feats_of_three()
    write_feats(tmp_path, feats)
    cmvn = f"scp:{tmp_path / 'nowhere'}"
    found = base_frames_of_table(f"scp:{tmp_path / 'feats.scp'}", frontend("none", False), Tally(), cmvn=cmvn)
    assert_same(dict(found), feats)


def test_directory_without_features(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no feats\.scp"):
        list(base_frames(DataDir(utt2spk={"a": "a"}), frontend(), Tally()))
