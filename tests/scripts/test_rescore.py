"""rescore_kaldi.sh: with stand-ins for Kaldi's programs, and with Kaldi against the grammar's own arithmetic."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import fake_programs
from tests.scripts.script_world import SCRIPTS, World, write

GOLDEN = Path(__file__).parents[1] / "golden"
KALDI = ["latgen-faster-mapped", "lattice-lmrescore", "lattice-scale", "compute-wer", "fstproject"]
on_path = pytest.mark.skipif(not all(map(shutil.which, KALDI)), reason="Kaldi's programs are not on PATH")

RESCORE = """
echo "{name} $*" >> "$FAKE_CALLS"
[ "${{FAKE_CRASH:-}}" != "{name}" ] || exit 1
num=0
while read -r line; do echo "$line {name}"; num=$((num + 1)); done
echo "LOG ({name}[5.5]:main():{name}.cc:142) Done ${{FAKE_DONE:-$num}} lattices, failed for 0" >&2
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    fake_programs.install(world.bin)
    for name in ("lattice-lmrescore", "lattice-lmrescore-const-arpa"):
        write(world.bin / name, f"#!/usr/bin/env bash\nset -eu\n{RESCORE.format(name=name)}").chmod(0o755)
    write(world.bin / "fstproject", '#!/bin/sh\n[ "$1" = --project_type=output ] && cp "$2" "$3"\n').chmod(0o755)
    for name in ("lang_old", "lang_new"):
        write(world.root / name / "words.txt", "<eps> 0\none 1\n")
        write(world.root / name / "G.fst", name)
    assert world.decode("--nj=2", out="first").returncode == 0
    return world


def archives(folder: Path) -> list[list[str]]:
    return [
        gzip.decompress((folder / f"lat.{job}.gz").read_bytes()).decode().splitlines()
        for job in range(1, int((folder / "num_jobs").read_text()) + 1)
    ]


def rescore(world: World, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return world.run("rescore_kaldi.sh", *options, "lang_old", "lang_new", "first", "second", **env)


def test_the_old_grammar_is_taken_away_and_the_new_one_added(world: World) -> None:
    world.calls.unlink()
    result = rescore(world)
    assert result.returncode == 0, result.stderr
    added = " lattice-lmrescore lattice-lmrescore"
    assert archives(world.root / "second") == [
        [f"{line}{added}" for line in part] for part in archives(world.root / "first")
    ]
    calls = sorted(set(world.calls.read_text().splitlines()))
    assert ["--lm-scale=-1.0" in call and "old.fst" in call for call in calls] == [True, False]
    assert "--lm-scale=1.0" in calls[1] and "new.fst" in calls[1]
    assert (world.root / "second/data_dir").read_text() == "data/test\n"
    assert "done 5 of 5" in result.stderr
    assert not list((world.root / "second").glob(".unfinished*"))


def test_a_constant_arpa_is_preferred(world: World) -> None:
    write(world.root / "lang_new/G.carpa", "")
    assert rescore(world).returncode == 0
    assert all(line.endswith("const-arpa") for part in archives(world.root / "second") for line in part)


def test_earlier_scores_go(world: World) -> None:
    write(world.root / "second/wer_9_0.0", "old")
    assert rescore(world).returncode == 0
    assert not (world.root / "second/wer_9_0.0").exists()


@pytest.mark.parametrize("program", ["lattice-lmrescore", "lattice-lmrescore-const-arpa"])
def test_a_failing_program_leaves_no_complete_output(world: World, program: str) -> None:
    write(world.root / "lang_new/G.carpa", "")
    result = rescore(world, FAKE_CRASH=program)
    assert result.returncode == 1
    assert "a job failed" in result.stderr
    assert not (world.root / "second/num_jobs").exists()


def test_lost_lattices_are_counted(world: World) -> None:
    result = rescore(world, FAKE_DONE="1")
    assert result.returncode == 3
    assert "3 of 5 utterances were lost" in result.stderr
    assert rescore(world, "--max-skip-fraction=0.7", FAKE_DONE="1").returncode == 0


def test_what_cannot_be_rescored(world: World) -> None:
    write(world.root / "lang_new/words.txt", "<eps> 0\ntwo 1\n")
    result = rescore(world)
    assert result.returncode == 3 and "are not the same" in result.stderr
    (world.root / "first/num_jobs").unlink()
    result = rescore(world)
    assert result.returncode == 3 and "first is not complete" in result.stderr
    result = world.run("rescore_kaldi.sh", "lang_old", "lang_new", "first", "first")
    assert result.returncode == 2 and "is the decode-dir itself" in result.stderr
    (world.bin / "lattice-lmrescore").unlink()
    result = rescore(world)
    assert result.returncode == 2 and "not found: lattice-lmrescore" in result.stderr


def test_help_shows_every_option(world: World) -> None:
    result = world.run("rescore_kaldi.sh", "--help")
    assert result.returncode == 0
    assert "--cmd" in result.stdout and "--max-skip-fraction" in result.stdout


def kaldi(cwd: Path, *command: str | Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@on_path
@pytest.mark.kaldi
@pytest.mark.parametrize("form", ["G.fst", "G.carpa"])
def test_the_same_grammar_again_changes_nothing(tmp_path: Path, form: str) -> None:
    """With Kaldi's G.fst taken away and its ARPA file put back, in either form, the best words are the golden ones."""
    if form == "G.carpa" and shutil.which("arpa-to-const-arpa") is None:
        pytest.skip("arpa-to-const-arpa is not on PATH")
    lang, model, graph = GOLDEN / "graph/lang", GOLDEN / "model/tri1", GOLDEN / "graph/tri1"
    new_lang = tmp_path / "lang_new"
    new_lang.mkdir()
    shutil.copy(lang / "words.txt", new_lang)
    if form == "G.fst":
        shutil.copy(lang / "G.fst", new_lang)
    else:
        ids = dict(line.split() for line in (lang / "words.txt").read_text().splitlines())
        symbols = [f"--bos-symbol={ids['<s>']}", f"--eos-symbol={ids['</s>']}"]
        lines = (lang / "lm.arpa").read_text().splitlines()
        write(tmp_path / "lm.int", "".join(f"{to_integers(line, ids)}\n" for line in lines))
        kaldi(tmp_path, "arpa-to-const-arpa", *symbols, tmp_path / "lm.int", new_lang / "G.carpa")
    options = ["--nj=1", f"--loglikes=ark:{GOLDEN}/decode/tri1/loglikes.ark", f"--model={model}/final.mdl"]
    kaldi(tmp_path, SCRIPTS / "decode_kaldi.sh", *options, "-", GOLDEN / "wav", graph, "first")
    kaldi(tmp_path, SCRIPTS / "rescore_kaldi.sh", lang, new_lang, "first", "second")
    texts = []
    for name in ("first", "second"):
        kaldi(tmp_path, SCRIPTS / "score_kaldi.sh", "--lmwt=10", "--wip=0.0", GOLDEN / "wav", graph, name)
        texts.append((tmp_path / name / "scoring_kaldi/penalty_0.0/10.txt").read_text())
    assert texts[0] == texts[1]


def to_integers(line: str, ids: dict[str, str]) -> str:
    """A line of an ARPA file with its words replaced by their numbers."""
    first, *rest = line.split() or [""]
    return " ".join([first, *(ids.get(word, word) for word in rest)]) if first.startswith("-") else line
