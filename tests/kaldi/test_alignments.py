from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import DataError
from acoustic.kaldi import alignments as ali
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from tests.kaldi.goldens import GOLDEN

MODELS = ["mono", "tri1"]


@pytest.fixture(params=MODELS)
def ali_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An alignment directory as Kaldi lays it out, of the golden files."""
    directory = tmp_path / request.param
    directory.mkdir()
    shutil.copy(GOLDEN / "align" / request.param / "ali.1.gz", directory)
    shutil.copy(GOLDEN / "model" / request.param / "final.mdl", directory)
    (directory / "num_jobs").write_text("1\n")
    return directory


def golden_of(ali_dir: Path, name: str) -> dict[str, np.ndarray]:
    return dict(read_table(f"ark:{GOLDEN}/align/{ali_dir.name}/{name}", "int_vector"))


def test_pdfs_and_phones_are_those_of_kaldi(ali_dir: Path) -> None:
    model = ali.read_model(ali_dir)
    pdfs, phones = golden_of(ali_dir, "pdf.txt"), golden_of(ali_dir, "phones.txt")
    utts = []
    for utt, alignment in ali.read_alignments(ali_dir):
        np.testing.assert_array_equal(ali.to_pdfs(model, utt, alignment), pdfs[utt])
        np.testing.assert_array_equal(ali.to_phones(model, utt, alignment), phones[utt])
        utts.append(utt)
    assert utts == list(pdfs)


def test_pdf_posteriors_are_those_of_kaldi() -> None:
    model = TransitionModel.read(GOLDEN / "model/tri1/final.mdl")
    alignments = dict(read_table(f"ark:{GOLDEN}/align/tri1/ali.ark", "int_vector"))
    posteriors = dict(read_table(f"ark:{GOLDEN}/align/tri1/pdf_post.ark", "posterior"))
    assert list(posteriors) == list(alignments)
    for utt, frames in posteriors.items():
        expected = [[(pdf, 1.0)] for pdf in ali.to_pdfs(model, utt, alignments[utt]).tolist()]
        assert [list(frame) for frame in frames] == expected


def test_gz_ark_and_scp_hold_the_same(ali_dir: Path, tmp_path: Path) -> None:
    expected = golden_of(ali_dir, "ali.txt")
    for kind in ("ark", "scp"):
        other = tmp_path / kind
        other.mkdir()
        with TableWriter(f"ark,scp:{other}/ali.ark,{other}/ali.scp", "int_vector") as writer:
            for utt, alignment in expected.items():
                writer.write(utt, alignment)
        if kind == "scp":
            (other / "ali.ark").rename(other / "data.ark")
            scp = (other / "ali.scp").read_text().replace("ali.ark", "data.ark")
            (other / "ali.scp").write_text(scp)
        read = dict(ali.read_alignments(other))
        assert list(read) == list(expected)
        for utt, alignment in ali.read_alignments(ali_dir):
            np.testing.assert_array_equal(alignment, expected[utt])
            np.testing.assert_array_equal(read[utt], alignment)


def test_written_alignments_are_those_of_kaldi_and_read_back(ali_dir: Path, tmp_path: Path) -> None:
    items = list(ali.read_alignments(ali_dir))
    ali.write_alignments(tmp_path / "one", items)
    golden = gzip.decompress((ali_dir / "ali.1.gz").read_bytes())
    assert gzip.decompress((tmp_path / "one" / "ali.1.gz").read_bytes()) == golden
    ali.write_alignments(tmp_path / "many", items, num_jobs=4)
    assert (tmp_path / "many" / "num_jobs").read_text() == "4\n"
    again = list(ali.read_alignments(tmp_path / "many"))
    assert [utt for utt, _ in again] == [utt for utt, _ in items]
    for (_, first), (_, second) in zip(items, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_fewer_jobs_leave_no_stale_files(ali_dir: Path, tmp_path: Path) -> None:
    items = list(ali.read_alignments(ali_dir))
    ali.write_alignments(tmp_path / "out", items, num_jobs=3)
    ali.write_alignments(tmp_path / "out", items, num_jobs=2)
    assert len(list(ali.read_alignments(tmp_path / "out"))) == len(items)


def test_ten_jobs_are_read_in_numeric_order(tmp_path: Path) -> None:
    items = [(f"utt{number:02}", np.array([number + 1], dtype=np.int32)) for number in range(11)]
    ali.write_alignments(tmp_path, items, num_jobs=11)
    assert [utt for utt, _ in ali.read_alignments(tmp_path)] == [utt for utt, _ in items]


def test_missing_job(tmp_path: Path) -> None:
    items = [(f"utt{number}", np.array([1], dtype=np.int32)) for number in range(3)]
    ali.write_alignments(tmp_path, items, num_jobs=3)
    (tmp_path / "ali.3.gz").unlink()
    with pytest.raises(DataError, match=r"ali\.3\.gz is missing"):
        list(ali.read_alignments(tmp_path))
    (tmp_path / "ali.1.gz").unlink()
    (tmp_path / "num_jobs").unlink()
    with pytest.raises(DataError, match=r"ali\.1\.gz is missing"):
        list(ali.read_alignments(tmp_path))


def test_more_files_than_jobs(tmp_path: Path) -> None:
    ali.write_alignments(tmp_path, [("a", np.array([1])), ("b", np.array([1]))], num_jobs=2)
    (tmp_path / "num_jobs").write_text("1\n")
    with pytest.raises(DataError, match="2 files, but there are 1 jobs"):
        list(ali.read_alignments(tmp_path))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no alignments"):
        list(ali.read_alignments(tmp_path))


def test_utterance_aligned_twice(tmp_path: Path) -> None:
    ali.write_alignments(tmp_path, [("a", np.array([1])), ("a", np.array([1]))], num_jobs=2)
    with pytest.raises(DataError, match="utterance a: aligned twice"):
        list(ali.read_alignments(tmp_path))


def test_truncated_archive(ali_dir: Path) -> None:
    content = (ali_dir / "ali.1.gz").read_bytes()
    (ali_dir / "ali.1.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"ali\.1\.gz"):
        list(ali.read_alignments(ali_dir))


@pytest.mark.parametrize("wrong", [0, -1, 547])
def test_alignments_of_another_model(wrong: int) -> None:
    model = TransitionModel.read(GOLDEN / "model/mono/final.mdl")
    alignment = np.array([1, 2, wrong], dtype=np.int32)
    with pytest.raises(DataError, match=r"utterance spk1-a: .*alignments of another model"):
        ali.to_pdfs(model, "spk1-a", alignment)
    with pytest.raises(DataError, match="another model"):
        ali.split_to_phones(model, "spk1-a", alignment)


def test_counts_of_pdfs_and_transitions(ali_dir: Path) -> None:
    model = ali.read_model(ali_dir)
    pdfs = np.concatenate(list(golden_of(ali_dir, "pdf.txt").values()))
    counts = ali.count_pdfs(model, ali.read_alignments(ali_dir))
    np.testing.assert_array_equal(counts, np.bincount(pdfs, minlength=model.num_pdfs))
    transitions = ali.count_transitions(model, ali.read_alignments(ali_dir))
    assert transitions.sum() == len(pdfs)
    np.testing.assert_array_equal(np.bincount(model.pdf_of, transitions, model.num_pdfs), counts)


def test_split_to_phones_of_golden_alignments(ali_dir: Path) -> None:
    model = ali.read_model(ali_dir)
    phones = golden_of(ali_dir, "phones.txt")
    for utt, alignment in ali.read_alignments(ali_dir):
        assert ali.is_reordered(model, alignment)
        segments = ali.split_to_phones(model, utt, alignment)
        np.testing.assert_array_equal(np.concatenate([ids for _, ids in segments]), alignment)
        np.testing.assert_array_equal(
            np.repeat([p for p, _ in segments], [len(ids) for _, ids in segments]), phones[utt]
        )
        for _, ids in segments:
            assert np.count_nonzero(model.is_final[ids]) == 1
            assert model.hmm_state_of[ids[0]] == 0


def monophone() -> TransitionModel:
    topology = Topology.read(GOLDEN / "graph/lang/topo")
    return TransitionModel.from_tree(DecisionTree.monophone(topology), topology)


def phone_path(model: TransitionModel, phone: int, num_loops: list[int], reordered: bool) -> list[int]:
    """transition_ids of a three-state phone that takes its self-loops so many times."""
    path = []
    for hmm_state, count in enumerate(num_loops):
        ids = np.flatnonzero((model.phone_of == phone) & (model.hmm_state_of == hmm_state))
        loop = next(i for i in ids if model.is_self_loop[i])
        leave = next(i for i in ids if not model.is_self_loop[i])
        path += [leave] + count * [loop] if reordered else count * [loop] + [leave]
    return [int(i) for i in path]


@pytest.mark.parametrize("reordered", [True, False])
def test_split_to_phones_knows_both_orders(reordered: bool) -> None:
    model = monophone()
    parts = [phone_path(model, 6, [0, 2, 3], reordered), phone_path(model, 6, [1, 0, 0], reordered)]
    parts.append(phone_path(model, 81, [0, 0, 4], reordered))
    alignment = np.concatenate(parts).astype(np.int32)
    assert ali.is_reordered(model, alignment) == reordered
    segments = ali.split_to_phones(model, "utt", alignment)
    assert [(phone, ids.tolist()) for phone, ids in segments] == [(6, parts[0]), (6, parts[1]), (81, parts[2])]
    assert ali.split_to_phones(model, "utt", alignment, reordered)[2][1].tolist() == parts[2]


def test_self_loops_are_put_behind_the_arcs_that_leave_their_states() -> None:
    model = monophone()
    phones = [(6, [0, 2, 3]), (6, [1, 0, 0]), (81, [0, 0, 4])]
    before, behind = (
        np.concatenate([phone_path(model, phone, loops, order) for phone, loops in phones]).astype(np.int32)
        for order in (False, True)
    )
    np.testing.assert_array_equal(ali.reorder(model, before), behind)
    assert len(ali.reorder(model, np.zeros(0, dtype=np.int32))) == 0


def test_split_to_phones_without_frames() -> None:
    assert ali.split_to_phones(monophone(), "utt", np.zeros(0, dtype=np.int32)) == []


@pytest.mark.parametrize("cut", [slice(2, None), slice(None, -4), slice(3, None)])
def test_alignment_that_is_cut_inside_a_phone(cut: slice) -> None:
    model = monophone()
    path = phone_path(model, 6, [1, 1, 1], True) + phone_path(model, 7, [1, 1, 1], True)
    with pytest.raises(DataError, match=r"utterance u1: .*whole phones"):
        ali.split_to_phones(model, "u1", np.array(path[cut], dtype=np.int32))
