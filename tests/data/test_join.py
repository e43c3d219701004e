"""Joining features and alignments: every fault counted exactly, and the threshold at which a run fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.data.build import CacheOptions, ensure_cache
from acoustic.data.cache import FramesCache, utterance_lines
from acoustic.data.join import (
    JoinOptions,
    Skip,
    Source,
    SourceReader,
    feat_dim,
    hold_out,
    label_model,
    read_labels,
    source_list,
    speaker_statistics,
)
from acoustic.errors import ConfigError, DataError
from acoustic.features.cmvn import apply_cmvn, cmvn_stats
from acoustic.kaldi.alignments import read_model, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.log import Tally
from tests.data.corpus import GOLDEN, Corpus, frontend, make_corpus, speaker_of, write_feats


def build(tmp_path: Path, *corpora: Corpus, max_skip_fraction: float = 1.0) -> FramesCache:
    """The cache of some corpora."""
    options = CacheOptions(dtype="float32", join=JoinOptions(max_skip_fraction=max_skip_fraction))
    return ensure_cache(tmp_path / "cache", [corpus.source for corpus in corpora], frontend(), options)


def skipped(tmp_path: Path) -> list[tuple[str, str]]:
    """Reason and utterance of every line of the list of skipped utterances."""
    lines = (tmp_path / "cache.skipped.tsv").read_text().splitlines()
    return sorted((reason, utt) for reason, utt, _ in (line.split("\t") for line in lines))


def write_faulty(corpus: Corpus, tmp_path: Path) -> dict[str, str]:
    """Give the first utterances of a corpus a fault each, two of every kind: utterance -> reason."""
    reasons = ["length_mismatch", "non_finite", "too_short", "wrong_dim", "no_features", "no_alignment",
               "pdf_out_of_range", "unreadable"]  # fmt: skip
    fault_of = {utt: reasons[i % len(reasons)] for i, utt in enumerate(sorted(corpus.feats)[: 2 * len(reasons)])}
    feats, alignments = dict(corpus.feats), dict(corpus.alignments)
    for utt, reason in fault_of.items():
        if reason == "length_mismatch":
            feats[utt] = feats[utt][:-6]
        elif reason == "non_finite":
            feats[utt] = feats[utt].copy()
            feats[utt][3, 1] = np.nan if utt < "s0008" else np.inf
        elif reason == "too_short":
            feats[utt] = feats[utt][:0]
        elif reason == "wrong_dim":
            feats[utt] = np.hstack([feats[utt], feats[utt]])
        elif reason == "no_alignment":
            del alignments[utt]
        elif reason == "pdf_out_of_range":
            alignments[utt] = np.where(np.arange(len(alignments[utt])) == 2, 0, alignments[utt])
    write_feats(corpus, feats, without=[utt for utt, reason in fault_of.items() if reason == "no_features"])
    scp = Path(corpus.source.data_dir) / "feats.scp"
    unreadable = [utt for utt, reason in fault_of.items() if reason == "unreadable"]
    lines = [line.split() for line in scp.read_text().splitlines()]
    scp.write_text("".join(f"{utt} {tmp_path / 'gone.ark:7' if utt in unreadable else rx}\n" for utt, rx in lines))
    write_alignments(corpus.source.ali_dir, sorted(alignments.items()), 2)
    return fault_of


def test_every_fault_is_counted_under_its_reason(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [12] * 40)
    fault_of = write_faulty(corpus, tmp_path)
    cache = build(tmp_path, corpus)
    assert skipped(tmp_path) == sorted((reason, utt) for utt, reason in fault_of.items())
    assert list(cache.ids()) == sorted(set(corpus.feats) - set(fault_of))


@pytest.mark.parametrize(("num_faulty", "passes"), [(0, True), (49, True), (50, True), (51, False), (1000, False)])
def test_up_to_five_percent_may_be_skipped(tmp_path: Path, num_faulty: int, passes: bool) -> None:
    corpus = make_corpus(tmp_path, [2] * 1000)
    feats = {utt: feats * np.nan if i < num_faulty else feats for i, (utt, feats) in enumerate(corpus.feats.items())}
    write_feats(corpus, feats)
    if passes:
        assert build(tmp_path, corpus, max_skip_fraction=0.05).meta.num_utts == 1000 - num_faulty
        return
    with pytest.raises(DataError, match="non_finite"):
        build(tmp_path, corpus, max_skip_fraction=0.05)
    assert not (tmp_path / "cache").exists()
    assert len(skipped(tmp_path)) == num_faulty


@pytest.mark.parametrize("shorter", ["feats", "alignments"])
def test_small_differences_in_length_are_cut(tmp_path: Path, shorter: str) -> None:
    corpus = make_corpus(tmp_path, [20, 20])
    if shorter == "feats":
        write_feats(corpus, {utt: feats[:15] for utt, feats in corpus.feats.items()})
    else:
        alignments = {utt: alignment[:15] for utt, alignment in corpus.alignments.items()}
        write_alignments(corpus.source.ali_dir, sorted(alignments.items()), 1)
    cache = build(tmp_path, corpus)
    assert cache.lengths.tolist() == [15, 15]
    assert np.array_equal(cache.read_frames(0)[15:], corpus.feats["s0001"][:15])
    assert np.array_equal(cache.read_pdf_ids(0)[15:], corpus.pdf_ids("s0001")[:15])


def outcome(reader: SourceReader, utt: str, pdf_ids: np.ndarray) -> str:
    """Why an utterance is skipped; its speaker if it is not."""
    try:
        return reader.read(utt, pdf_ids).speaker
    except Skip as skip:
        return f"{skip.reason}: {skip.detail}"


def test_what_is_the_matter_is_told_of_each_utterance(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [12] * 5)
    feats = {utt: matrix.astype(np.float64) for utt, matrix in corpus.feats.items()}
    feats["s0001"][7, 2], feats["s0002"][7, 2] = np.inf, 1e39  # the second is infinite in single precision alone
    write_feats(corpus, feats)
    data_dir = DataDir.read(corpus.source.data_dir)
    del data_dir.utt2spk["s0003"]
    pdf_ids = np.zeros(12, np.int32)
    with SourceReader(data_dir, frontend(), JoinOptions()) as reader:
        found = {utt: outcome(reader, utt, pdf_ids) for utt in feats}
        lengths = {n: outcome(reader, "s0000", np.zeros(n, np.int32)) for n in (0, 1, 6, 7, 17, 18)}
    with SourceReader(data_dir, frontend(), JoinOptions(length_tolerance=20, min_frames=3)) as reader:
        tolerant = {n: outcome(reader, "s0000", np.zeros(n, np.int32)) for n in (0, 2, 3, 32, 33)}
    assert found == {
        "s0000": "s000", "s0001": "non_finite: frame 7 holds NaN or infinity",
        "s0002": "non_finite: after normalisation", "s0003": "s0003", "s0004": "s000",
    }  # fmt: skip
    mismatch = "length_mismatch: 12 frames of features, {} of alignment".format
    assert lengths == {
        0: "too_short: 0 frames", 1: mismatch(1), 6: mismatch(6), 7: "s000", 17: "s000", 18: mismatch(18)
    }  # fmt: skip
    assert tolerant == {0: "too_short: 0 frames", 2: "too_short: 2 frames", 3: "s000", 32: "s000", 33: mismatch(33)}


@pytest.mark.parametrize("owner", ["speaker", "utterance"])
def test_faulty_transforms_and_statistics_are_told_by_their_owner(tmp_path: Path, owner: str) -> None:
    corpus = make_corpus(tmp_path, [12] * 50)
    owner_of = {utt: speaker_of(utt) if owner == "speaker" else utt for utt in corpus.feats}
    owners = [owner_of[f"s00{number}0"] for number in range(5)]
    transform = np.hstack([np.eye(3), np.ones((3, 1))])
    files = {owners[0]: transform, owners[1]: transform[:2], owners[2]: transform * np.nan, owners[3]: transform}
    script, front_end = f"{tmp_path}/trans.scp", frontend(fmllr=owner)
    with TableWriter(f"ark,scp:{tmp_path}/trans.ark,{script}", "matrix") as writer:
        for name, matrix in files.items():
            writer.write(name, matrix)
    lines = Path(script).read_text().splitlines()
    Path(script).write_text("\n".join(lines[:3]) + f"\n{owners[3]} {tmp_path}/gone.ark:5\n")
    data_dir, pdf_ids = DataDir.read(corpus.source.data_dir), np.zeros(12, np.int32)
    with SourceReader(data_dir, front_end, JoinOptions(), fmllr=f"scp:{script}") as reader:
        base = reader.read("s0000", pdf_ids).frames
        found = [outcome(reader, f"s00{number}0", pdf_ids) for number in range(1, 5)]
    assert np.allclose(base, corpus.feats["s0000"] + 1, atol=1e-6)
    assert [what.split(":")[0] for what in found] == ["unusable_transform"] * 2 + ["no_fmllr"] * 2
    assert "gone.ark" in found[2] and found[3] == f"no_fmllr: none for {owners[4]}"


def test_speakers_are_needed_for_their_statistics_alone(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [12] * 2)
    data_dir = DataDir.read(corpus.source.data_dir)
    del data_dir.utt2spk["s0001"]
    assert speaker_statistics(data_dir, frontend(cmvn="utterance")) is None
    data_dir.cmvn = dict.fromkeys(data_dir.utt2spk.values(), "cmvn.ark:5")
    with pytest.raises(DataError, match="utterance s0001: is not in utt2spk"):
        speaker_statistics(data_dir, frontend(cmvn="speaker"))


def test_alignments_of_other_utterances_are_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = make_corpus(tmp_path, [5] * 20)
    write_feats(corpus, {utt: feats for utt, feats in corpus.feats.items() if utt < "s0003"})
    with caplog.at_level("INFO", "acoustic"):
        assert len(list(read_labels(corpus.source, ["s0000", "s0001", "s0002"], Tally()))) == 3
    assert f"alignments of 17 utterances outside this part of {corpus.source.data_dir} not used" in caplog.text
    assert list(build(tmp_path, corpus, max_skip_fraction=0.0).ids()) == ["s0000", "s0001", "s0002"]


def test_several_sources_are_joined(tmp_path: Path) -> None:
    one, two = make_corpus(tmp_path / "1", [5, 6], "a"), make_corpus(tmp_path / "2", [7], "b", num_jobs=1)
    cache = build(tmp_path, one, two)
    assert list(cache.ids()) == ["a0000", "a0001", "b0000"]
    table = utterance_lines(cache.directory / "utts.tsv", cache.meta.utts_checksum)
    assert [speaker for _, speaker, *_ in table] == ["a000", "a000", "b000"]
    assert np.array_equal(cache.read_frames(0)[11:], two.feats["b0000"])
    with pytest.raises(DataError, match="is also in"):
        build(tmp_path, one, make_corpus(tmp_path / "3", [5, 6], "a"))


def test_alignments_of_another_tree_are_refused(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "1", [50] * 3)
    highest = read_model(corpus.source.ali_dir).num_transition_ids
    alignments = {**corpus.alignments, "s0001": np.full(50, highest + 1, np.int32)}
    write_alignments(corpus.source.ali_dir, sorted(alignments.items()), 1)
    with pytest.raises(DataError, match=f"s0001.*transition-id {highest + 1}.*another model or tree"):
        build(tmp_path, corpus)


def test_sources_of_different_models_and_trees_are_refused(tmp_path: Path) -> None:
    one, two = make_corpus(tmp_path / "1", [5, 6], "a"), make_corpus(tmp_path / "2", [7], "b", num_jobs=1)
    shutil.copy(GOLDEN / "model" / "tri1" / "final.mdl", two.source.ali_dir)
    with pytest.raises(DataError, match=r"a tree of .* pdfs beside a final\.mdl of"):
        build(tmp_path, one, two)
    shutil.copy(GOLDEN / "model" / "tri1" / "tree", two.source.ali_dir)
    with pytest.raises(DataError, match=f"{two.source.ali_dir}: aligned with another model than {one.source.ali_dir}"):
        build(tmp_path, one, two)
    shutil.copy(GOLDEN / "model" / "mono" / "final.mdl", two.source.ali_dir)
    with pytest.raises(DataError, match=r"a tree of .* pdfs beside a final\.mdl of"):
        build(tmp_path, one, two)
    (Path(two.source.ali_dir) / "tree").unlink()
    assert list(label_model([one.source, two.source]).fingerprints) == ["transition_model", "tree"]
    with pytest.raises(ConfigError, match="no data directory"):
        label_model([])


def test_speaker_statistics_are_read_or_else_computed(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [9] * 25)
    expected = []
    stats: dict[str, torch.Tensor] = {}
    for utt, feats in corpus.feats.items():
        speaker = speaker_of(utt)
        stats[speaker] = stats.get(speaker, torch.zeros(())) + cmvn_stats(torch.from_numpy(feats))
    for utt, feats in corpus.feats.items():
        expected.append(apply_cmvn(torch.from_numpy(feats), stats[speaker_of(utt)]))
    options = CacheOptions(dtype="float32")
    computed = ensure_cache(tmp_path / "1", [corpus.source], frontend(cmvn="speaker"), options)
    data_dir = corpus.source.data_dir
    with TableWriter(f"ark,scp:{data_dir}/cmvn.ark,{data_dir}/cmvn.scp", "matrix") as writer:
        for speaker in sorted(stats):
            writer.write(speaker, stats[speaker].numpy())
    read = ensure_cache(tmp_path / "2", [corpus.source], frontend(cmvn="speaker"), options)
    for cache in (computed, read):
        assert torch.allclose(torch.from_numpy(cache.read_frames(0)), torch.cat(expected), atol=1e-5)


def test_a_speaker_without_statistics_is_counted(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [9] * 25)
    data_dir = corpus.source.data_dir
    with TableWriter(f"ark,scp:{data_dir}/cmvn.ark,{data_dir}/cmvn.scp", "matrix") as writer:
        for speaker in ("s000", "s001"):
            writer.write(speaker, cmvn_stats(torch.from_numpy(corpus.feats[f"{speaker}0"])).numpy())
    options = CacheOptions(join=JoinOptions(max_skip_fraction=0.5))
    cache = ensure_cache(tmp_path / "cache", [corpus.source], frontend(cmvn="speaker"), options)
    assert cache.meta.num_utts == 20
    assert skipped(tmp_path) == [("no_cmvn", f"s{i:04d}") for i in range(20, 25)]


# -- held-out dev data --------------------------------------------------------------------------------------------


def test_dev_data_is_held_out_by_whole_speakers(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [2] * 100)
    train, dev = hold_out([corpus.source], "speaker", 0.2, seed=1)
    assert train | dev == set(corpus.feats) and not train & dev
    assert len(dev) == 20
    assert not {speaker_of(utt) for utt in train} & {speaker_of(utt) for utt in dev}
    assert (train, dev) == hold_out([corpus.source], "speaker", 0.2, seed=1)
    assert any(dev != hold_out([corpus.source], "speaker", 0.2, seed)[1] for seed in range(2, 6))
    utt2spk = Path(corpus.source.data_dir) / "utt2spk"
    utt2spk.with_name("spk2utt").unlink()
    utt2spk.write_text("".join(line for line in utt2spk.read_text().splitlines(True) if "s0042 " not in line))
    sizes = {len(hold_out([corpus.source], "speaker", 0.1, seed)[1]) for seed in range(40)}
    assert sizes <= {1, 9, 10}  # s0042 is a speaker of its own


@pytest.mark.parametrize("by", ["speaker", "utterance"])
def test_copies_of_an_utterance_are_held_out_with_it(tmp_path: Path, by: str) -> None:
    """Copies at other speeds have speakers of their own, one of whom lacks an utterance."""
    corpus = make_corpus(tmp_path, [2] * 40)
    copies = {f"sp{speed}-{utt}": utt for speed in ("0.9", "1.1") for utt in sorted(corpus.feats)}
    del copies["sp0.9-s0000"]
    (tmp_path / "copies").mkdir()
    speakers = {copy: copy[:6] + speaker_of(utt) for copy, utt in copies.items()}
    DataDir(utt2spk=speakers, utt2uniq=copies).write(tmp_path / "copies")
    sources = [Source(str(tmp_path / name), corpus.source.ali_dir) for name in ("copies", "data")]
    for some in (sources, sources[:1]):
        train, dev = hold_out(some, by, 0.25, seed=1)
        sides = [{copies.get(utt, utt) for utt in side} for side in (train, dev)]
        if by == "speaker":
            sides = [{speaker_of(utt) for utt in side} for side in sides]
            assert [len(side) for side in sides] == [3, 1]
        assert not sides[0] & sides[1]


def test_dev_data_is_held_out_by_utterance_at_least_one(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [2] * 10)
    train, dev = hold_out([corpus.source], "utterance", 0.01, seed=1)
    assert (len(train), len(dev)) == (9, 1)
    with pytest.raises(DataError, match="only one speaker"):
        hold_out([corpus.source], "speaker", 0.1, seed=1)
    with pytest.raises(ConfigError, match="not by 'speakers'"):
        hold_out([corpus.source], "speakers", 0.1, seed=1)
    # Shares are rounded to the nearest, and something is left to train on.
    sizes = [len(hold_out([corpus.source], "utterance", share, seed=1)[1]) for share in (0.14, 0.16, 0.96, 1.0)]
    assert sizes == [1, 2, 9, 9]


def test_sources_are_paired() -> None:
    assert source_list(["a", "b"], ["x"]) == [Source("a", "x"), Source("b", "x")]
    assert source_list(["a", "b"], ["x", "y"], ["t"]) == [Source("a", "x", "t"), Source("b", "y", "t")]
    assert source_list(["a", "b"], ["x"], ["t", "u"]) == [Source("a", "x", "t"), Source("b", "x", "u")]
    with pytest.raises(ConfigError, match="2 data directories but 3 alignment directories"):
        source_list(["a", "b"], ["x", "y", "z"])
    with pytest.raises(ConfigError, match="3 data directories but 2 transform directories"):
        source_list(["a", "b", "c"], ["x"], ["t", "u"])


def test_the_dimension_of_features_is_found(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [2, 2])
    write_feats(corpus, {"s0000": np.zeros((0, 0), np.float32), "s0001": corpus.feats["s0001"]})
    assert feat_dim([corpus.source]) == 3
    scp = Path(corpus.source.data_dir) / "feats.scp"
    scp.write_text(f"s0000 {tmp_path}/gone0.ark:5\ns0001 {tmp_path}/gone1.ark:5\n")
    with pytest.raises(DataError, match=r"gone0\.ark.*utterance s0000"):
        feat_dim([corpus.source])
    scp.write_text("")
    with pytest.raises(DataError, match=f"{corpus.source.data_dir}: no features in feats.scp"):
        feat_dim([corpus.source])


@pytest.mark.parametrize("system", ["mono", "tri1"])
def test_alignments_beside_the_model_that_did_not_make_them_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, system: str
) -> None:
    """mono's transition_ids are all in the range of tri1's model, so that nothing else would tell."""
    alignments = dict(read_table(f"ark:{GOLDEN / 'align' / 'mono' / 'ali.ark'}", "int_vector"))
    write_alignments(tmp_path, sorted(alignments.items()), 1)
    shutil.copy(GOLDEN / "model" / system / "final.mdl", tmp_path)
    with caplog.at_level("WARNING", "acoustic"):
        labels = dict(read_labels(Source("data", str(tmp_path)), alignments, Tally()))
    assert len(labels) == len(alignments)
    told = f"{tmp_path}: only 49 % of the steps between HMM states are possible in final.mdl; if another model made"
    assert (told in caplog.text) == (system == "tri1") == bool(caplog.text)
