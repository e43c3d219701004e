"""Joining features and alignments: every fault counted exactly, and the threshold at which a run fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.data.build import CacheOptions, ensure_cache
from acoustic.data.cache import FramesCache, utterance_lines
from acoustic.data.join import JoinOptions, Source, feat_dim, hold_out, read_labels, source_list
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


def test_alignments_of_other_utterances_are_no_fault(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [5] * 20)
    write_feats(corpus, {utt: feats for utt, feats in corpus.feats.items() if utt < "s0003"})
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
    with pytest.raises(DataError, match="aligned with another model"):
        build(tmp_path, one, two)


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


def test_sources_are_paired() -> None:
    assert source_list(["a", "b"], ["x"]) == [Source("a", "x"), Source("b", "x")]
    with pytest.raises(ConfigError, match="2 data directories but 3"):
        source_list(["a", "b"], ["x", "y", "z"])


def test_the_dimension_of_features_is_found(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [2, 2])
    write_feats(corpus, {"s0000": np.zeros((0, 0), np.float32), "s0001": corpus.feats["s0001"]})
    assert feat_dim([corpus.source]) == 3


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
