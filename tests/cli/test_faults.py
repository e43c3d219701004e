"""Training and loglikes on faulty input: nothing is dropped without a word, and what is mended can be run again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.cli.hydra_config import compose_train_config
from acoustic.cli.main import run
from acoustic.errors import AcousticError, CheckpointError, ConfigError, DataError
from acoustic.features.audio import check_rate
from acoustic.kaldi.alignments import read_model, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter
from acoustic.train.precision import choose_device

GOLDEN = Path(__file__).parents[1] / "golden"
SPEAKERS = {f"s{speaker}-{i}": f"s{speaker}" for speaker in range(4) for i in range(8)}
SMALL = [
    "model.hidden_layers=1", "model.hidden_dim=4", "schedule=constant", "schedule.max_epochs=1",
    "runtime.precision=fp32", "runtime.num_threads=1",
]  # fmt: skip


def write_data(folder: Path, without: int = 0) -> None:
    """Features of three values for all utterances but the last `without`."""
    folder.mkdir(exist_ok=True)
    DataDir(utt2spk=SPEAKERS).write(folder)
    rng = np.random.default_rng(0)
    with TableWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp", "matrix") as writer:
        for utt in list(SPEAKERS)[: len(SPEAKERS) - without]:
            writer.write(utt, rng.normal(size=(20, 3)).astype(np.float32))


def write_ali(folder: Path, model: str) -> None:
    """Alignments by the golden model of that name."""
    folder.mkdir()
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / model / name, folder)
    rng = np.random.default_rng(0)
    highest = read_model(folder).num_transition_ids
    ids = {utt: rng.integers(1, highest + 1, 20).astype(np.int32) for utt in SPEAKERS}
    write_alignments(folder, sorted(ids.items()), 1)


def train(tmp_path: Path, *overrides: str) -> None:
    """A short training in tmp_path/exp."""
    sources = [f"train.data_dir={tmp_path}/data", f"train.ali_dir={tmp_path}/ali"]
    run(["train", f"exp_dir={tmp_path}/exp", *sources, *SMALL, *overrides])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """tmp_path with data/ and ali/, complete."""
    write_data(tmp_path / "data")
    write_ali(tmp_path / "ali", "mono")
    return tmp_path


def loglikes(corpus: Path, *options: str) -> None:
    """Loglikes of the corpus into corpus/out.ark."""
    run(["loglikes", *options, str(corpus / "exp"), str(corpus / "data"), f"ark:{corpus}/out.ark"])


def test_an_exp_dir_of_a_run_that_could_not_begin_is_free(corpus: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        train(corpus, f"train.data_dir={corpus}/nowhere")
    train(corpus)
    with pytest.raises(ConfigError, match="seed"):
        train(corpus, "seed=7")


def test_alignments_of_dev_by_another_model_are_refused(corpus: Path) -> None:
    write_ali(corpus / "other", "tri1")
    with pytest.raises(DataError, match=r"other: made with another tree"):
        train(corpus, f"dev.data_dir={corpus}/data", f"dev.ali_dir={corpus}/other")


def test_utterances_without_features_are_counted_and_named(corpus: Path) -> None:
    train(corpus)
    write_data(corpus / "data", without=1)
    loglikes(corpus)
    assert (corpus / "out.ark").exists()
    write_data(corpus / "data", without=2)
    (corpus / "out.ark").unlink()
    with pytest.raises(DataError, match=r"data: 2 of 32 utterances skipped.*no_features.*s3-6"):
        loglikes(corpus)
    assert not (corpus / "out.ark").exists()


def test_skipped_utterances_are_named_in_the_log(corpus: Path) -> None:
    write_data(corpus / "data", without=1)
    train(corpus, "dev.data_dir=" + str(corpus / "data"), f"dev.ali_dir={corpus}/ali")
    assert "WARNING skipped s3-7 (no_features)" in (corpus / "exp" / "train.log").read_text()


@pytest.mark.parametrize(
    ("options", "message"), [("--num-mel-bins=23", "23 values, but .* 3"), ("--high-freq=9000", "high_freq 9000")]
)
def test_options_that_the_features_were_not_made_with(corpus: Path, options: str, message: str) -> None:
    (corpus / "fbank.conf").write_text(options + "\n")
    with pytest.raises(ConfigError, match=message):
        train(corpus, f"features.fbank_config={corpus}/fbank.conf")
    (corpus / "fbank.conf").write_text("--num-mel-bins=3\n")
    train(corpus, f"features.fbank_config={corpus}/fbank.conf")


def test_dev_utterances_that_are_trained_on_are_told(corpus: Path) -> None:
    train(corpus)
    log = corpus / "exp" / "train.log"
    assert "trained on as well" not in log.read_text()
    train(corpus, f"dev.data_dir={corpus}/data", f"dev.ali_dir={corpus}/ali", f"exp_dir={corpus}/again")
    assert "32 of 32 dev utterances are trained on as well, such as s0-0" in (corpus / "again/train.log").read_text()


@pytest.mark.parametrize(
    "option",
    ["--prior-scale=nan", "--prior-scale=-1", "--prior-floor=inf", "--num-threads=0", "--max-skip-fraction=2",
     "--cmvn=scp:cmvn.scp", "--utt2spk=ark:utt2spk"],
)  # fmt: skip
def test_options_of_loglikes_out_of_range_or_without_use(corpus: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=option.split("=")[0]):
        loglikes(corpus, option)


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan", "x"])
@pytest.mark.parametrize("verb", ["decode", "align-equal"])
def test_a_share_of_utterances_that_cannot_be(verb: str, share: str) -> None:
    with pytest.raises(ConfigError, match=f"--max-skip-fraction: '{share}' is no number between 0 and 1"):
        run([verb, f"--max-skip-fraction={share}", *"abcd"])


@pytest.mark.parametrize(
    "override",
    ["optim.weight_decay=-1", "optim.betas=[0.9]", "optim.betas=[0.9,1]", "runtime.num_threads=0", "runtime.workers=-1",
     "schedule.warmup_steps=-5", "schedule.final_rate=-1", "data.length_tolerance=-1", "optim.learning_rate=nan",
     "optim.learning_rate=inf", "optim.weight_decay=nan"],
)  # fmt: skip
def test_values_of_a_configuration_out_of_range(override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        compose_train_config(["exp_dir=exp", "train.data_dir=data", "train.ali_dir=ali", override])


def test_options_of_other_features_are_named_with_their_file(corpus: Path) -> None:
    (corpus / "mfcc.conf").write_text("--num-ceps=13\n")
    told = f"features.fbank_config={corpus}/mfcc.conf: acoustic fbank: unrecognized arguments: --num-ceps=13"
    with pytest.raises(ConfigError, match=told):
        train(corpus, f"features.fbank_config={corpus}/mfcc.conf")


@pytest.mark.parametrize("name", ["meta", "hpu"])
def test_a_device_that_networks_are_not_trained_on(name: str) -> None:
    with pytest.raises(ConfigError, match="choose cpu or cuda"):
        choose_device(name)


def test_a_folder_that_is_not_there_and_no_table_either(corpus: Path) -> None:
    train(corpus)
    model = GOLDEN / "model" / "mono"
    for command in (
        ["loglikes", str(corpus / "exp"), "nowhere", "ark:-"],
        ["fbank", "nowhere", "ark:-"],
        ["convert-ali", f"{model}/final.mdl", f"{model}/final.mdl", f"{model}/tree", "nowhere", f"ark:{corpus}/out"],
    ):
        with pytest.raises(DataError, match="nowhere: is no folder that is there, and no table"):
            run(command)
    with pytest.raises(ConfigError, match="unknown option 'data/dev' of an rspecifier"):
        run(["loglikes", str(corpus / "exp"), "data/dev:feats", "ark:-"])
    assert not (corpus / "out").exists()


def test_a_damaged_bundle_is_refused_wherever_the_damage_lies(corpus: Path) -> None:
    train(corpus)
    path = corpus / "exp" / "final.pt"
    content = path.read_bytes()
    weights = torch.load(path, weights_only=True)["model_state"]
    tensor = next(value for value in weights.values() if value.ndim == 2).numpy().tobytes()
    inside = content.index(tensor) + 5
    for damaged in (content[:-50], b"", content[:inside] + b"\xff\xff" + content[inside + 2 :], b"no model" * 100):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as error:
            loglikes(corpus)
        assert "weights_only" not in str(error.value)


def test_groups_of_ones_own_must_exist(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="--config-dir=nowhere"):
        train(corpus, "--config-dir=nowhere")
    with pytest.raises(AcousticError, match=r"Available options in 'model': leaky_relu.*tanh"):
        train(corpus, "model=nowhere")


def test_audio_of_another_rate_names_its_file() -> None:
    with pytest.raises(DataError, match=r"a\.wav, utterance u1: audio of 16000 Hz.*resample"):
        check_rate(16000, 8000.0, "u1", "a.wav")


def test_score_shows_the_speakers_beside_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("a1 one two\na2 three\nb1 four\n")
    (tmp_path / "hyp").write_text("a1 one\na2 three\n")
    (tmp_path / "utt2spk").write_text("a1 a\na2 a\nb1 b\n")
    run(["score", str(tmp_path / "text"), str(tmp_path / "hyp")])
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[-2:]] == ["speaker", "a"]
    assert "utterances)" in printed.out
    assert printed.err.startswith("acoustic score: done 2 utterances, skipped 1 (no_hypothesis 1)")
    (tmp_path / "utt2spk").write_text("z z\n")
    run(["score", str(tmp_path / "text"), str(tmp_path / "hyp")])
    assert "speaker" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ref ref >&-", "standard output cannot be written (Bad file descriptor)"),
        ("ref ref > /dev/full", "standard output cannot be written (No space left on device)"),
        ("ark:- ref <&-", "standard input, byte 0: cannot be read ([Errno 9] Bad file descriptor)"),
        ("missing ref 2>&- >&3", ""),  # nowhere to tell it, on standard output least of all
    ],
)
def test_standard_streams_that_are_closed_or_full(tmp_path: Path, arguments: str, message: str) -> None:
    """Files opened later get the number of a closed stream: they must not be taken for it."""
    (tmp_path / "ref").write_text("utt one two\n")
    command = f"exec 3> seen; {sys.executable} -m acoustic score {arguments}"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 3 and (tmp_path / "seen").read_text() == ""
    assert message in result.stderr and len(result.stderr.splitlines()) == bool(message)
