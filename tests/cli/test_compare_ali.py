"""Two alignments of the same data compared."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.decode.compare import Comparison, PhoneChanges, matched
from acoustic.decode.times import Interval
from acoustic.errors import DataError
from acoustic.kaldi.alignments import read_alignments, split_to_phones, to_phones, write_alignments
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.kaldi.tree import DecisionTree

GOLDEN = Path(__file__).parents[1] / "golden"
LANG = GOLDEN / "graph" / "lang"


def make_ali_dir(folder: Path, system: str) -> Path:
    write_alignments(folder, list(read_table(f"ark:{GOLDEN / 'align' / system / 'ali.ark'}", "int_vector")), 1)
    shutil.copy(GOLDEN / "model" / system / "final.mdl", folder)
    return folder


@pytest.fixture
def tri1(tmp_path):
    return make_ali_dir(tmp_path / "tri1", "tri1")


def test_an_alignment_does_not_differ_from_itself(tri1, capsys):
    run(["compare-ali", f"--lang-dir={LANG}", str(tri1), str(tri1)])
    lines = capsys.readouterr().out.splitlines()
    assert "0.00 % of frames moved to another pdf" in lines[0] and lines[1].startswith("0.00 % of frames")
    assert "mean absolute shift 0.00 ms, 100.00 % within 20 ms; 0 of 65 phones without counterpart" in lines[2]
    assert {"S_B", "SIL"} <= {line.split()[0] for line in lines[5:]}


def test_alignments_of_two_models_compare_by_phone(tmp_path, tri1, capsys):
    mono = make_ali_dir(tmp_path / "mono", "mono")
    run(["compare-ali", str(mono), str(tri1)])
    lines = capsys.readouterr().out.splitlines()
    assert "pdfs are not comparable" in lines[0]
    phones = {}
    for folder in (mono, tri1):
        model = TransitionModel.read(folder / "final.mdl")
        phones[folder] = np.concatenate([to_phones(model, utt, ids) for utt, ids in read_alignments(folder)])
    share = 100.0 * np.mean(phones[mono] != phones[tri1])
    assert lines[1] == f"{share:.2f} % of frames moved to another phone"


def test_a_longer_phone_moves_one_boundary_and_its_frames():
    model = TransitionModel.read(GOLDEN / "model" / "tri1" / "final.mdl")
    utt, ids = next(iter(read_table(f"ark:{GOLDEN / 'align' / 'tri1' / 'ali.ark'}", "int_vector")))
    segments = [segment for _, segment in split_to_phones(model, utt, ids)]
    loops = [np.flatnonzero(model.is_self_loop[segment]) for segment in segments]
    at = next(i for i in range(1, len(segments) - 1) if len(loops[i]) >= 3 and len(loops[i + 1]) >= 3)
    longer, shorter = segments[at], segments[at + 1]
    loop = longer[loops[at][-1]]
    longer = np.insert(longer, loops[at][-1], [loop] * 3)
    shorter = np.delete(shorter, loops[at + 1][:3])
    moved = np.concatenate([*segments[:at], longer, shorter, *segments[at + 2 :]]).astype(np.int32)
    comparison = Comparison(model, model)
    comparison.add(utt, ids, moved)
    total = comparison.total()
    assert total.num_moved == 3 and comparison.phones[int(model.phone_of[shorter[0]])].num_moved == 3
    assert sorted(total.shifts)[-1] == 3 and np.count_nonzero(total.shifts) == 1
    assert total.mean_absolute_shift() == pytest.approx(3 / (len(segments) - 1))
    assert total.share_within(2) == pytest.approx(1 - 1 / (len(segments) - 1)) and total.share_within(3) == 1.0
    assert comparison.num_pdfs_moved == np.count_nonzero(model.pdf_of[ids] != model.pdf_of[moved]) > 0
    for fewer in (ids[:-1], np.append(ids, ids[-1:])):
        with pytest.raises(DataError, match=f"{len(ids)} frames in one alignment, {len(fewer)} in the other"):
            comparison.add(utt, ids, fewer)


def test_phones_without_counterpart_are_counted_over_all_phones():
    comparison = Comparison(*[TransitionModel.read(GOLDEN / "model" / "tri1" / "final.mdl")] * 2)
    comparison.phones = {1: PhoneChanges(num_unmatched=2), 2: PhoneChanges(num_unmatched=3), 3: PhoneChanges()}
    assert comparison.total().num_unmatched == 5


def test_phones_that_only_one_alignment_has_are_without_counterpart():
    first = [Interval(0, 5, 1), Interval(5, 9, 2), Interval(9, 12, 3)]
    second = [Interval(0, 6, 1), Interval(6, 8, 9), Interval(8, 12, 3)]
    assert matched(first, second) == [(first[0], second[0]), (first[1], None), (first[2], second[2])]
    assert matched(first, [second[0], second[2]])[1] == (first[1], None)


def test_utterances_of_one_alignment_only_are_counted(tmp_path, tri1):
    few = tmp_path / "few"
    shutil.copytree(tri1, few)
    write_alignments(few, list(read_alignments(tri1))[:3], 1)
    with pytest.raises(DataError, match=r"3 of 6 utterances skipped.*not_in_second"):
        run(["compare-ali", str(tri1), str(few)])
    run(["compare-ali", str(few), str(tri1)])


def test_phones_with_other_ids_are_told(tmp_path, tri1, capsys):
    table = (LANG / "phones.txt").read_text()
    other = make_ali_dir(tmp_path / "other", "tri1")
    (tri1 / "phones.txt").write_text(table)
    (other / "phones.txt").write_text(table.replace("#0 ", "#zero "))
    run(["compare-ali", f"--lang-dir={LANG}", str(tri1), str(other)])
    (other / "phones.txt").write_text(table.replace("\nS_B ", "\nNEW_B "))
    with pytest.raises(DataError, match=r"other/phones.txt: .* is .* here, .* in .*phones.txt; use files of one lang"):
        run(["compare-ali", str(tri1), str(other)])
    with pytest.raises(DataError, match=r"is (NEW_B here, S_B|S_B here, NEW_B) in"):
        run(["compare-ali", f"--lang-dir={LANG}", str(other), str(other)])


def test_models_with_other_hmms_are_told(tmp_path, tri1, caplog):
    """Where a phones.txt is missing they are the only hint that phones may have other ids."""
    topology = Topology.read(LANG / "topo")
    more = replace(topology, prototype_of=topology.prototype_of | {200: 0})
    other = make_ali_dir(tmp_path / "other", "mono")
    write_model(other / "final.mdl", TransitionModel.from_tree(DecisionTree.monophone(more), more))
    with caplog.at_level("WARNING", "acoustic"):
        run(["compare-ali", str(tri1), str(other)])
        assert "other HMMs for phones 200: are their ids of one lang directory?" in caplog.text
        caplog.clear()
        for folder in (tri1, other):
            shutil.copy(LANG / "phones.txt", folder)
        run(["compare-ali", str(tri1), str(other)])
        assert "HMMs" not in caplog.text
