"""recipes/mini/run.sh: its command line, and the whole of it on a small corpus."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from acoustic.kaldi.alignments import read_alignments

RECIPES = Path(__file__).parents[2] / "recipes"


def run(recipe: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RECIPES / recipe / "run.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, "LC_ALL": "C"})


@pytest.mark.parametrize("recipe", ["mini", "digits"])
def test_help_shows_options_stages_and_an_example(recipe):
    result = run(recipe, "--help")
    assert result.returncode == 0
    for part in (
        "--exp DIR",
        "--stage N",
        "--stop-stage M",
        "hydra overrides",
        "11 scoring",
        f"recipes/{recipe}/run.sh",
    ):
        assert part in result.stdout
    assert not result.stdout.startswith("#") and "set -euo" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stag", "3"], "no option --stag; there are --exp --stage"),
        (["--stage"], "--stage needs a value"),
        (["--stage", "two"], "--stage two: expected a whole number"),
        (["train"], "train is neither an option"),
        (["--PATH", "/tmp"], "no option --PATH"),
        (["--realign", "once"], "--realign once: expected a whole number"),
        (["--stage", "12", "--realign", "1"], "dnn/final.pt is missing: run the earlier stages"),
        (["--flat-start=maybe"], "--flat-start takes no value"),
        (["--flat-start-gauss", "many"], "--flat-start-gauss many: expected a whole number"),
        (["--sequence", "mpe"], "--sequence mpe: choose none, mmi, smbr, lfmmi or lfsmbr"),
        (["--sequence", "lfmmi", "--stage", "12"], "dnn/final.pt is missing: run the earlier stages"),
        (["--decoder", "htk"], "--decoder htk: choose auto, kaldi or acoustic"),
        (["--stage", "8"], "dnn/final.pt is missing: run the earlier stages"),
        (["--stage", "6", "exp_dir=elsewhere"], "exp_dir=elsewhere: the recipe decides where the network goes"),
    ],
)
def test_wrong_command_lines_are_refused_with_the_reason(tmp_path, arguments, message):
    result = run("mini", "--exp", str(tmp_path / "exp"), *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_option_values_are_not_evaluated(tmp_path):
    run("mini", f"--exp={tmp_path}/$(touch {tmp_path}/evaluated)", "--stage=12")
    assert not (tmp_path / "evaluated").exists()


def test_stages_outside_the_range_are_not_run(tmp_path):
    result = run("mini", "--exp", str(tmp_path / "exp"), "--stage=12", "--stop-stage=12")
    assert result.returncode == 0 and result.stdout == ""


@pytest.mark.slow
def test_from_nothing_to_a_word_error_rate(tmp_path):
    exp = tmp_path / "exp"
    sizes = ["--train-utterances=2", "--dev-utterances=1", "--test-utterances=1", "--num-jobs=2"]
    network = ["model.hidden_layers=1", "model.hidden_dim=32", "schedule.max_epochs=1"]
    result = run("mini", f"--exp={exp}", *sizes, *network, timeout=400)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("stage")] == [f"stage {n}" for n in range(12)]
    dev, test = lines[-2:]
    for line, set_name in ((dev, "dev"), (test, "test")):
        words = sum(len(text.split()) - 1 for text in (exp / "data" / set_name / "text").read_text().splitlines())
        assert re.fullmatch(rf"%WER \d+\.\d\d \[ \d+ / {words}, \d+ ins, \d+ del, \d+ sub \]", line)
    assert "hidden_layers: 1" in (exp / "dnn" / "config.yaml").read_text()
    again = run("mini", f"--exp={exp}", "--stage=10", "--analyze", timeout=200)
    assert again.stdout.splitlines()[-2:] == [dev, test]
    assert (exp / "dnn" / "analysis" / "report.html").exists()
    realigned = run("mini", f"--exp={exp}", "--num-jobs=2", "--stage=12", "--realign=1", *network, timeout=400)
    assert realigned.returncode == 0, realigned.stderr
    assert "% of frames moved to another pdf" in realigned.stdout
    words = [line.split() for line in (exp / "realignment").read_text().splitlines()]
    assert [folder for folder, *_ in words] == [".", "realign1"]
    better = min(words, key=lambda word: float(word[1]))
    assert (exp / "best").resolve() == (exp / better[0]).resolve()
    chosen = [line.split()[1] for line in realigned.stdout.splitlines()[-2:]]
    assert chosen == better[1:]
    for criterion in ("lfmmi", "smbr"):
        arguments = ["--num-jobs=2", "--stage=15", "--realign=1", f"--sequence={criterion}"]
        further = run("mini", f"--exp={exp}", *arguments, "sequence.schedule.max_epochs=1", *network, timeout=400)
        assert further.returncode == 0, further.stderr
        lines = further.stdout.splitlines()
        assert [line[:8] for line in lines if line.startswith("stage")] == [f"stage {n}" for n in (15, 16, 17)]
        results = [line.split() for line in (exp / "sequence").read_text().splitlines()]
        assert [folder for folder, *_ in results] == [better[0], f"sequence_{criterion}"]
        chosen = min(results, key=lambda result: float(result[1]))
        assert (exp / "best").resolve() == (exp / chosen[0]).resolve()
        assert [line.split()[1] for line in lines[-2:]] == chosen[1:]
    flat = run("mini", f"--exp={exp}", "--num-jobs=2", "--flat-start", "--stage=1", "--stop-stage=1", timeout=200)
    assert flat.returncode == 0, flat.stderr
    known, equal = (dict(read_alignments(exp / name)) for name in ("mono_ali", "flat_ali"))
    assert {utt: len(ids) for utt, ids in known.items()} == {utt: len(ids) for utt, ids in equal.items()}
