"""Scripts around Kaldi's programs, with stand-ins for them: options, missing programs, failing jobs, what is left."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scripts import fake_programs
from tests.scripts.script_world import SCRIPTS, World, write

KALDI_SCRIPTS = ["decode_kaldi.sh", "align_kaldi.sh", "score_kaldi.sh", "score_sclite.sh"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    fake_programs.install(world.bin)
    return world


def lattices(folder: Path, stem: str = "lat") -> list[str]:
    """The lines of every archive of a folder, in the order of jobs."""
    num_jobs = int((folder / "num_jobs").read_text())
    assert sorted(p.name for p in folder.glob(f"{stem}.*.gz")) == sorted(f"{stem}.{j + 1}.gz" for j in range(num_jobs))
    return [
        line for j in range(num_jobs) for line in gzip.open(folder / f"{stem}.{j + 1}.gz", "rt").read().splitlines()
    ]


# --- command lines


@pytest.mark.parametrize("script", KALDI_SCRIPTS)
def test_help_shows_usage_and_every_option(world: World, script: str) -> None:
    result = world.run(script, "--help")
    assert result.returncode == 0
    assert f"scripts/{script} [options]" in result.stdout
    text = (SCRIPTS / script).read_text()
    names = text.split("option_names=(")[1].split(")")[0].split()
    for name in names:
        assert f"--{name.replace('_', '-')}" in result.stdout


@pytest.mark.parametrize("script", KALDI_SCRIPTS)
def test_unknown_option_and_wrong_number_of_arguments(world: World, script: str) -> None:
    result = world.run(script, "--beem=3", "a")
    assert result.returncode == 2
    assert "--beem" in result.stderr
    result = world.run(script, "one")
    assert result.returncode == 2
    assert "arguments, got 1" in result.stderr


def test_scripts_and_recipes_may_be_linked_into_an_experiment(world: World) -> None:
    """As Kaldi's experiments link their steps and utils."""
    for name in ("scripts", "recipes"):
        (world.root / name).symlink_to(SCRIPTS.parent / name)
    (world.root / "mini").symlink_to(SCRIPTS.parent / "recipes/mini")
    result = world.run(str(world.root / "scripts/decode_kaldi.sh"), "--help")
    assert result.returncode == 0, result.stderr
    for folder in ("recipes/mini", "mini"):
        command = ["bash", "-c", f'. {folder}/path.sh && echo "$root"']
        result = subprocess.run(command, cwd=world.root, capture_output=True, text=True)
        assert result.stdout == f"{SCRIPTS.parent}\n", result.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--nj", "0"), ("--nj", "two"), ("--beam", "1e"), ("--acwt", "$(touch bad)"), ("--nj", "")]
)
def test_values_of_the_wrong_kind_are_refused(world: World, option: str, value: str) -> None:
    result = world.decode(option, value)
    assert result.returncode == 2
    assert option in result.stderr
    assert not (world.root / "bad").exists()


def test_names_that_kaldi_cannot_hold_are_refused(world: World) -> None:
    for name in ("my out", "out;touch bad", "$(touch bad)", "out/JOB"):
        result = world.decode(out=name)
        assert result.returncode == 2
        assert name in result.stderr
    assert not (world.root / "bad").exists()


def test_every_missing_program_is_named(world: World) -> None:
    for name in ("lattice-scale", "compute-wer"):
        (world.bin / name).unlink()
    result = world.run("score_kaldi.sh", "--lmwt=10", "--wip=0", "data/test", "model/graph", "out")
    assert result.returncode == 2
    assert "not found: lattice-scale compute-wer" in result.stderr
    assert "KALDI_ROOT" in result.stderr and "acoustic score" in result.stderr


def test_programs_are_found_under_kaldi_root(world: World) -> None:
    kaldi = world.root / "kaldi/src"
    (kaldi / "bin").mkdir(parents=True)
    shutil.move(world.bin / "latgen-faster-mapped", kaldi / "bin")
    assert world.decode("--nj=1").returncode == 2
    assert world.decode("--nj=1", KALDI_ROOT=str(world.root / "kaldi")).returncode == 0


def test_missing_files_are_named(world: World) -> None:
    (world.root / "model/graph/HCLG.fst").unlink()
    result = world.decode()
    assert result.returncode == 3
    assert "model/graph/HCLG.fst is missing" in result.stderr


# --- decoding


@pytest.mark.parametrize("nj", [1, 2, 3, 5])
def test_parts_hold_every_utterance_once_and_whole_speakers_statistics(world: World, nj: int) -> None:
    result = world.decode("--nj", str(nj))
    assert result.returncode == 0, result.stderr
    assert lattices(world.root / "out") == [f"spk{i // 2}-utt{i} 1" for i in range(5)]
    calls = [line for line in world.calls.read_text().splitlines() if line.startswith("loglikes")]
    assert len(calls) == nj
    assert all("--cmvn=scp:data/test/cmvn.scp" in call and "--utt2spk=ark:data/test/utt2spk" in call for call in calls)
    assert (world.root / "out/data_dir").read_text() == "data/test\n"
    assert not list((world.root / "out").glob(".unfinished*"))


def test_options_reach_the_programs(world: World) -> None:
    options = {"--acwt": "0.07", "--beam": "15.5", "--lattice-beam": "6", "--max-active": "99", "--min-active": "7"}
    flags = [f"{name}={value}" for name, value in options.items()]
    result = world.decode(*flags, "--nj=1", "--prior-scale", "0.8", "--fmllr", "ark:cat trans.* |", "--device=cuda")
    assert result.returncode == 0, result.stderr
    loglikes, latgen = sorted(world.calls.read_text().splitlines(), reverse=True)
    assert "--prior-scale=0.8" in loglikes and "--device=cuda" in loglikes and "--fmllr=ark:cat trans.* |" in loglikes
    for name, value in options.items():
        name = {"--acwt": "--acoustic-scale"}.get(name, name)
        assert f"{name}={value} " in latgen
    assert "model/graph/../final.mdl model/graph/HCLG.fst ark:- ark:-" in latgen


def test_statistics_are_made_over_the_whole_when_there_are_none(world: World) -> None:
    (world.root / "data/test/cmvn.scp").unlink()
    write(world.root / "data/test/spk2utt", "")
    assert world.decode("--nj=2").returncode == 0
    calls = [line for line in world.calls.read_text().splitlines() if line.startswith("loglikes")]
    assert all("--cmvn=ark:out/.unfinished." in call for call in calls)


def test_model_of_the_alignments_when_the_graph_has_none(world: World) -> None:
    shutil.move(world.root / "model/graph", world.root / "graph")
    result = world.run("decode_kaldi.sh", "--nj=1", "exp", "data/test", "graph", "out")
    assert result.returncode == 0, result.stderr
    assert " model/final.mdl " in world.calls.read_text()
    (world.root / "exp/config.yaml").unlink()
    result = world.run("decode_kaldi.sh", "--nj=1", "exp", "data/test", "graph", "out")
    assert result.returncode == 3
    assert "no final.mdl" in result.stderr


def test_a_network_failing_after_its_last_utterance_fails_the_decode(world: World) -> None:
    assert world.decode().returncode == 0
    result = world.decode(FAKE_CRASH="acoustic")
    assert result.returncode == 1
    assert "no memory" in result.stderr and "decode.1.log" in result.stderr
    assert not (world.root / "out/num_jobs").exists()
    result = world.run("score_kaldi.sh", "--lmwt=10", "--wip=0.0", "data/test", "model/graph", "out")
    assert result.returncode == 3
    assert "not complete" in result.stderr


def test_lost_utterances_count_against_the_whole(world: World) -> None:
    result = world.decode(FAKE_LOSE="spk1-utt2")
    assert result.returncode == 3
    assert "1 of 5 utterances were lost" in result.stderr
    assert world.decode("--max-skip-fraction=0.2", FAKE_LOSE="spk1-utt2").returncode == 0


def test_fewer_jobs_leave_no_lattices_or_scores_of_the_run_before(world: World) -> None:
    assert world.decode("--nj=4").returncode == 0
    score = ("score_kaldi.sh", "--lmwt=10", "--wip=0.0", "data/test", "model/graph", "out")
    assert world.run(*score).returncode == 0
    assert world.decode("--nj=2").returncode == 0
    assert len(lattices(world.root / "out")) == 5
    assert not (world.root / "out/wer_10_0.0").exists()


def test_rerun_after_a_kill_is_whole(world: World) -> None:
    """The decoder kills the script (kill -9) while its job is under way."""
    assert world.decode("--nj=3").returncode == 0
    command = 'export FAKE_KILL=$$; exec "$@"'
    script = [str(SCRIPTS / "decode_kaldi.sh"), "--nj=2", "exp", "data/test", "model/graph", "out"]
    env = {"PATH": f"{world.bin}:{os.environ['PATH']}", "FAKE_CALLS": str(world.calls)}
    killed = subprocess.run(
        ["bash", "-c", command, "-", *script], cwd=world.root, env=env, capture_output=True, timeout=60
    )
    assert killed.returncode == -9
    assert not (world.root / "out/num_jobs").exists()
    assert world.decode("--nj=2").returncode == 0
    assert len(lattices(world.root / "out")) == 5


@pytest.mark.parametrize("lines", ["b 1\na 1\n", "a 1\na 2\n"])
def test_unsorted_features_are_refused(world: World, lines: str) -> None:
    write(world.root / "data/test/feats.scp", lines)
    result = world.decode("--nj=2")
    assert result.returncode == 3
    assert "not sorted" in result.stderr


def test_more_jobs_than_utterances_are_refused(world: World) -> None:
    result = world.decode("--nj=6")
    assert result.returncode == 2
    assert "5 lines, too few for 6 jobs" in result.stderr


def test_loglikes_made_beforehand(world: World) -> None:
    for job in (1, 2):
        write(world.root / f"loglikes.{job}.ark", f"utt{job} 1\n")
    write(world.root / "data/test/utt2spk", "utt1 a\nutt2 b\n")
    result = world.decode("--nj=2", "--loglikes", "ark:loglikes.JOB.ark")
    assert result.returncode == 0, result.stderr
    assert lattices(world.root / "out") == ["utt1 1", "utt2 1"]
    result = world.decode("--nj=2", "--loglikes=ark:loglikes.1.ark")
    assert result.returncode == 2
    assert "JOB" in result.stderr


# --- launchers

RUN_PL = """#!/usr/bin/env python3
# Takes what run.pl takes: options, NAME=FIRST:LAST, a log, words of shell.
import subprocess, sys
args = sys.argv[1:]
while args[0].startswith("-"):
    args = args[2:]
(name, numbers), log, words = args[0].split("="), args[1], args[2:]
first, last = map(int, numbers.split(":"))
line = " ".join(word if len(word.split()) == 1 else f"'{word}'" if '"' in word else f'"{word}"' for word in words)
status = 0
for job in range(first, last + 1):
    with open(log.replace(name, str(job)), "w") as file:
        command = ["bash", "-c", f"( {line} )".replace(name, str(job))]
        code = subprocess.run(command, stdout=file, stderr=file).returncode
        print("LAST_LINE".format(code=code), file=file)
    status |= code != 0
open("launched", "a").write(line + "\\n")
sys.exit(status)
"""


# The last lines of the logs of run.pl, and of queue.pl and slurm.pl.
LAST_LINES = {"run.pl": "# Ended (code {code}) at noon", "queue.pl": "# Finished at noon with status {code}"}


@pytest.mark.parametrize("name", LAST_LINES)
def test_a_launcher_with_options_gets_the_jobs(world: World, name: str) -> None:
    write(world.bin / name, RUN_PL.replace("LAST_LINE", LAST_LINES[name])).chmod(0o755)
    result = world.decode("--nj=2", "--cmd", f"{name} --mem 4G", "--fmllr", "ark:cat trans.* |")
    assert result.returncode == 0, result.stderr
    assert len(lattices(world.root / "out")) == 5
    assert "latgen-faster-mapped" in (world.root / "launched").read_text()
    # Only the first part fails: its log is shown, and that of no job that went well.
    program = '#!/bin/bash\nlines=$(cat)\ncase $lines in *utt1*) echo "too deep" >&2; exit 1 ;; esac\necho "$lines"\n'
    write(world.bin / "latgen-faster-mapped", program)
    result = world.decode("--nj=3", "--cmd", name)
    assert result.returncode == 1
    assert "too deep" in result.stderr and "decode.1.log" in result.stderr
    assert "decode.2.log" not in result.stderr


def test_a_launcher_that_is_not_there(world: World) -> None:
    result = world.decode("--cmd=queue.pl -q all.q")
    assert result.returncode == 2
    assert "queue.pl is no program" in result.stderr


# --- aligning


def test_alignment_directory(world: World) -> None:
    write(world.root / "data/test/text", "a-unused one\nspk0-utt0 one two\nspk0-utt1 one\nspk1-utt2\nspk1-utt3 one\n")
    result = world.run("align_kaldi.sh", "--nj=2", "--max-skip-fraction=0.3", "exp", "data/test", "lang", "ali")
    assert result.returncode == 0, result.stderr
    # Words outside the vocabulary are mapped; utterances without features or words are not there.
    assert lattices(world.root / "ali", "ali") == ["spk0-utt0 1 2", "spk0-utt1 1", "spk1-utt2", "spk1-utt3 1"]
    assert (world.root / "ali/tree").read_text() == "the tree\n"
    assert (world.root / "ali/final.mdl").read_text() == "the model\n"
    assert not list((world.root / "ali").glob(".unfinished*"))
    result = world.run("align_kaldi.sh", "--nj=2", "exp", "data/test", "lang", "ali")
    assert result.returncode == 3
    assert "1 of 5 utterances were lost" in result.stderr


# --- scoring


@pytest.fixture
def decoded(world: World) -> World:
    for name in ("dev", "test"):
        assert world.decode(data=f"data/{name}", out=f"out_{name}").returncode == 0
    return world


SCORE = ["data/test", "model/graph", "out_test"]


@pytest.mark.parametrize("script", ["score_kaldi.sh", "score_sclite.sh"])
@pytest.mark.parametrize("options", [[], ["--lmwt=10"], ["--wip=0.0"]])
def test_weights_are_never_picked_on_the_set_reported(decoded: World, script: str, options: list[str]) -> None:
    result = decoded.run(script, *options, *SCORE)
    assert result.returncode == 2
    assert "--tune-on" in result.stderr


def test_weights_chosen_on_dev_are_applied_to_test(decoded: World) -> None:
    result = decoded.run("score_kaldi.sh", "--tune-on=out_dev", "--min-lmwt=4", "--max-lmwt=9", *SCORE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "%WER 0.00 [ 0 / 100, 0 ins, 0 del, 0 sub ]",
        "%WER 3.00 [ 3 / 100, 0 ins, 0 del, 3 sub ]",
    ]
    # Of the test set nothing else was ever computed, though weight 4 would be better there.
    assert [path.name for path in (decoded.root / "out_test").glob("wer_*")] == ["wer_7_0.0"]
    assert (decoded.root / "out_test/scoring_kaldi/penalty_0.0/7.txt").read_text().startswith("spk0-utt0 one\n")


def test_weight_at_the_end_of_its_range_is_noted(decoded: World) -> None:
    result = decoded.run("score_kaldi.sh", "--tune-on=out_dev", "--min-lmwt=8", "--max-lmwt=12", *SCORE)
    assert result.returncode == 0
    assert "weight lies at the end of its range 8 ... 12" in result.stderr


def test_given_weights(decoded: World) -> None:
    result = decoded.run("score_kaldi.sh", "--lmwt=6", "--wip=0.5", *SCORE)
    assert result.stdout == "%WER 3.00 [ 3 / 100, 0 ins, 0 del, 3 sub ]\n"
    result = decoded.run("score_kaldi.sh", "--lmwt=6", "--wip=0.5", "--tune-on=out_dev", *SCORE)
    assert result.returncode == 2


def test_references_without_lattice_fail_above_the_limit(decoded: World) -> None:
    result = decoded.run("score_kaldi.sh", "--lmwt=6", "--wip=0.5", *SCORE, FAKE_ABSENT="1")
    assert result.returncode == 3
    assert "1 not present in hyp" in result.stderr


def test_development_data_that_is_not_named(decoded: World) -> None:
    (decoded.root / "out_dev/data_dir").unlink()
    result = decoded.run("score_kaldi.sh", "--tune-on=out_dev", *SCORE)
    assert result.returncode == 2
    assert "--tune-data" in result.stderr
    result = decoded.run("score_kaldi.sh", "--tune-on=out_dev", "--tune-data=data/dev", *SCORE)
    assert result.returncode == 0, result.stderr


def test_a_program_failing_in_the_middle_of_scoring(decoded: World) -> None:
    write(decoded.bin / "lattice-add-penalty", "#!/bin/sh\ncat\necho broken >&2\nexit 1\n")
    result = decoded.run("score_kaldi.sh", "--lmwt=6", "--wip=0.5", *SCORE)
    assert result.returncode == 1
    assert "broken" in result.stderr
    assert not (decoded.root / "out_test/wer_6_0.5").exists()


def test_truncated_lattices_fail_scoring(decoded: World) -> None:
    path = decoded.root / "out_test/lat.2.gz"
    path.write_bytes(path.read_bytes()[:-5])
    result = decoded.run("score_kaldi.sh", "--lmwt=6", "--wip=0.5", *SCORE)
    assert result.returncode == 1
    assert "unexpected end of file" in result.stderr


def test_a_word_id_without_word_fails_scoring(decoded: World) -> None:
    write(decoded.root / "model/graph/words.txt", "<eps> 0\n")
    result = decoded.run("score_kaldi.sh", "--lmwt=6", "--wip=0.5", *SCORE)
    assert result.returncode == 1
    assert "no symbol for 1" in result.stderr


# --- sclite


def test_missing_sctk_is_named(decoded: World) -> None:
    if Path("/usr/lib/sctk/bin/hubscr.pl").exists():
        pytest.skip("SCTK is installed")
    result = decoded.run("score_sclite.sh", "--lmwt=6", "--wip=0.0", *SCORE)
    assert result.returncode == 2
    assert "hubscr.pl" in result.stderr and "sctk" in result.stderr


# --- the scripts themselves


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck() -> None:
    scripts = sorted(str(path.relative_to(SCRIPTS.parent)) for path in SCRIPTS.glob("*.sh"))
    result = subprocess.run(["shellcheck", "-x", *scripts], cwd=SCRIPTS.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
