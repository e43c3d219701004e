"""Broken experiments that no doctor saw: each verb that meets the fault ends with one line that names it.

The experiments are those of test_broken_data.py and test_broken_models.py, where the doctor names each fault.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from acoustic.cli.main import main
from acoustic.errors import DataError
from tests.doctor import test_broken_data as data
from tests.doctor import test_broken_models as models
from tests.doctor.experiments import Made

Break = Callable[[Made], None]
SMALL = [
    "model.hidden_layers=1", "model.hidden_dim=4", "schedule=constant", "schedule.max_epochs=1",
    "runtime.precision=fp32", "runtime.num_threads=1", "data.num_jobs=1",
]  # fmt: skip


def train(made: Made, *overrides: str) -> list[str]:
    """The command line that trains on the experiment, with statistics and transforms of each speaker."""
    sources = [f"train.data_dir={made.data}", f"train.ali_dir={made.ali}", f"train.transform_dir={made.transforms}"]
    features = ["features.cmvn=speaker", "features.norm_vars=true", "features.fmllr=speaker"]
    return ["train", f"exp_dir={made.root}/exp", *sources, *features, *SMALL, *overrides]


def fail(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command line that must end with an error of ours; returns its line on stderr."""
    monkeypatch.setattr(sys, "argv", ["acoustic", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr().err
    assert end.value.code not in (0, None)
    assert "Traceback" not in captured
    return captured.splitlines()[-1]


# Faults of what is trained on, each with words of the message that training ends with.
TRAINING: list[tuple[Break, str]] = [
    (data.duplicate_utterance, "utt2spk, line 4, utterance anna-2: comes twice"),
    (data.unsorted_text, "sort it with LC_ALL=C sort"),
    (data.malformed_utt2spk, "expected one word, found 'anna twice'"),
    (data.wrong_spk2utt, "rebuild spk2utt from utt2spk"),
    (data.not_in_utt2spk, "missing in utt2spk"),
    (data.no_utt2spk, "is not in utt2spk"),
    (data.cut_utt2spk, "the last line has no newline"),
    (data.not_utf8, "not UTF-8"),
    (data.not_in_feats_scp, "no_features (e.g. anna-0"),
    (data.segment_of_unknown_recording, "its recording dora is not in wav.scp"),
    (data.segment_backwards, "not after its begin"),
    (data.nan_features, "non_finite (e.g. carl-1: frame 17 holds NaN or infinity)"),
    (data.features_of_wrong_dimension, "wrong_dim (e.g. carl-1: dimension 3 instead of 4)"),
    (data.features_without_frames, "too_short (e.g. carl-1: 0 frames)"),
    (data.truncated_archive, "the file was cut short or damaged"),
    (data.failing_features_command, "the command failed with exit status 1"),
    (data.malformed_range, "unreadable (e.g. anna-0"),
    (data.range_outside, "range [0:99999] does not fit"),
    (data.features_of_wrong_length, "462 frames of features, 468 of alignment"),
    (data.no_stats_of_a_speaker, "no_cmvn (e.g. bert-0: none for bert)"),
    (data.stats_of_wrong_dimension, "do not fit features of dimension 4"),
    (data.stats_without_frames, "CMVN statistics hold 0 frames"),
    (data.stats_with_negative_variance, "CMVN statistics give negative variances"),
    (data.truncated_stats, "the file was cut short or damaged"),
    (models.no_alignment, "no_alignment (e.g. anna-3"),
    (models.few_alignments, "no_alignment"),
    (models.short_alignment, "467 frames of features, 461 of alignment"),
    (models.empty_alignment, "too_short (e.g. anna-3"),
    (models.transition_id_out_of_range, "transition-id 547, but final.mdl has 546"),
    (models.transition_id_zero, "transition-id 0"),
    (models.truncated_alignments, "ali.2.gz"),
    (models.alignment_file_of_no_bytes, "a gzip file has at least 18 bytes"),
    (models.alignment_job_missing, "ali.1.gz is missing, but there are 2 jobs"),
    (models.num_jobs_of_more_files, "ali.3.gz is missing"),
    (models.aligned_twice, "utterance anna-0: aligned twice"),
    (models.tree_of_another_model, "a tree of 104 pdfs beside a final.mdl of 62"),
    (models.truncated_tree, "tree, byte"),
    (models.truncated_model, "final.mdl, byte"),
    (models.no_transform_of_a_speaker, "no_fmllr (e.g. carl-0: none for carl)"),
    (models.transform_file_missing, "trans.2 is missing"),
    (models.transform_of_wrong_dimension, "an fMLLR transform with 3 rows instead of 4"),
    (models.transform_with_nan, "an fMLLR transform with NaN or infinity"),
    (models.truncated_transforms, "trans.2, utterance bert"),
    (models.no_transforms, "no fMLLR transforms here"),
]


@pytest.mark.parametrize(("break_it", "message"), TRAINING, ids=[b.__name__ for b, _ in TRAINING])
def test_training_ends_with_a_message_that_names_the_fault(
    made: Made, break_it: Break, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(made)
    line = fail(train(made), capsys, monkeypatch)
    assert line.startswith("acoustic: error: ") and message in line
    assert str(made.root) in line or "utterance" in line
    assert not (made.root / "exp/final.pt").exists()


def test_the_command_itself_prints_the_line_and_exits_with_the_status_of_faulty_data(made: Made) -> None:
    models.tree_of_another_model(made)
    done = subprocess.run([sys.executable, "-m", "acoustic", *train(made)], capture_output=True, text=True)
    assert done.returncode == DataError.exit_code
    assert done.stderr.splitlines()[-1].startswith(f"acoustic: error: {made.ali}/tree: a tree of 104 pdfs")
    assert "Traceback" not in done.stderr


# -- what training does not read --------------------------------------------------------------------------------------

# Audio: the verb that makes features of it.
AUDIO: list[tuple[Break, str]] = [
    (data.segment_beyond_end, "anna-7"),
    (data.truncated_wav, "bert-2"),
    (data.no_wave_file, "bert-2"),
    (data.missing_wav, "bert-2"),
    (data.wav_without_samples, "bert-2"),
    (data.wav_with_nan, "bert-2"),
    (data.wav_of_wrong_rate, "bert-2"),
    (data.stereo_wav, "bert-2"),
    (data.failing_audio_command, "anna-0"),
]


@pytest.mark.parametrize(("break_it", "message"), AUDIO, ids=[b.__name__ for b, _ in AUDIO])
def test_features_of_broken_audio(
    made: Made, break_it: Break, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(made)
    for name in ("text", "utt2spk", "spk2utt", "wav.scp", "segments", "feats.scp", "cmvn.scp"):
        if (made.data / name).exists():  # one utterance of this speaker's eight is more than may be lost
            made.write_lines(name, [line for line in made.lines(name) if line.startswith(message[:4])])
    arguments = ["fbank", "--sample-frequency=8000", "--num-jobs=1", str(made.data), f"ark:{made.root}/out.ark"]
    line = fail(arguments, capsys, monkeypatch)
    assert line.startswith("acoustic: error: ") and message in line
    assert not (made.root / "out.ark").exists()


# Networks: going on with one in training.
NETWORKS: list[tuple[Break, str]] = [
    (models.truncated_network, "final.pt"),
    (models.network_of_other_features, "features of 4 values, but"),
    (models.network_of_another_front_end, "its values are those of another front end"),
    (models.network_with_unknown_front_end, "front end: cmvn must be one of"),
    (models.network_of_another_tree, "62 senones of another model"),
]


@pytest.mark.parametrize(("break_it", "message"), NETWORKS, ids=[b.__name__ for b, _ in NETWORKS])
def test_training_a_broken_network_further(
    made: Made, break_it: Break, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(made)
    sources = [f"train.data_dir={made.data}", f"train.ali_dir={made.ali}", f"train.transform_dir={made.transforms}"]
    start = [f"init_from={made.network}", "schedule=constant", "schedule.max_epochs=1", "runtime.precision=fp32"]
    line = fail(["train", f"exp_dir={made.root}/exp", *sources, *start], capsys, monkeypatch)
    assert line.startswith("acoustic: error: ") and message in line


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (models.truncated_network, "final.pt"),
        (models.network_of_another_front_end, "its values are those of another front end"),
        (models.network_with_unknown_front_end, "cmvn must be one of"),
        (models.network_with_wrong_priors, "7 priors for 62 outputs"),
    ],
)
def test_loglikes_of_a_broken_network(
    made: Made, break_it: Break, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(made)
    arguments = ["loglikes", f"--fmllr={made.transforms}", str(made.network), str(made.data)]
    line = fail([*arguments, f"ark:{made.root}/out.ark"], capsys, monkeypatch)
    assert line.startswith("acoustic: error: ") and message in line
    assert not (made.root / "out.ark").exists()


# Graphs: decoding with them.
GRAPHS: list[tuple[Break, str]] = [
    (models.graph_of_another_model, "HCLG.fst"),
    (models.num_pdfs_of_another_model, "num_pdfs"),
    (models.our_graph_of_another_model, "another tree"),
    (models.truncated_graph, "HCLG.fst"),
    (models.graph_missing, "HCLG.fst"),
]


@pytest.mark.parametrize(("break_it", "message"), GRAPHS, ids=[b.__name__ for b, _ in GRAPHS])
def test_decoding_with_a_broken_graph(
    made: Made, break_it: Break, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(made)
    loglikes = Path(data.__file__).parents[1] / "golden/decode/mono/loglikes.ark"
    arguments = ["decode", f"{made.ali}/final.mdl", f"{made.graph}/HCLG.fst", f"ark:{loglikes}"]
    line = fail([*arguments, f"ark,t:{made.root}/text"], capsys, monkeypatch)
    assert line.startswith("acoustic: error: ") and message in line
    assert not (made.root / "text").exists()
