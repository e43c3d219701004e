"""score_sclite.sh with NIST's own scorer; Kaldi's programs are stand-ins that hand on lines of text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.scripts import fake_programs
from tests.scripts.script_world import SCRIPTS, World, write

HAS_SCTK = shutil.which("hubscr.pl") is not None or Path("/usr/lib/sctk/bin/hubscr.pl").exists()
pytestmark = pytest.mark.skipif(not HAS_SCTK, reason="NIST's SCTK (Debian package sctk) is not installed")

# The stand-ins make of every utterance the one word `one`, from 0.1 to 0.3 s, and find the best weight of dev at 7.
STM = """;; CATEGORY "0" "" ""
;; LABEL "O" "Overall" "Overall"
en_1 A en_1_A 0.00 1.00 <O> ONE
en_1 B en_1_B 0.00 1.00 <O> ONE TWO THREE
sw_2 A sw_2_A 0.00 1.00 <O> ONE
sw_2 A sw_2_A 5.00 6.00 <O> (%HESITATION)
sw_2 B sw_2_B 9.00 9.90 <O> FOUR
"""
GLM = """;;
* name "test.glm"
* desc "test"
* format = 'NIST1'
* max_nrules = '100'
* copy_no_hit = 'T'
* case_sensitive = 'F'

UM => %HESITATION / [ ] __ [ ]
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    fake_programs.install(world.bin)
    data = tmp_path / "data/test"
    write(data / "stm", STM)
    write(data / "glm", GLM)
    recordings = {"spk0-utt0": ("en_1-A", 0), "spk0-utt1": ("en_1-B", 0), "spk1-utt2": ("sw_2-A", 0)}
    recordings |= {"spk1-utt3": ("sw_2-A", 5), "spk2-utt4": ("sw_2-B", 9)}
    write(data / "segments", "".join(f"{utt} {rec} {begin} {begin + 1}\n" for utt, (rec, begin) in recordings.items()))
    names = sorted({rec for rec, _ in recordings.values()})
    write(data / "reco2file_and_channel", "".join(f"{rec} {rec[:4]} {rec[5:]}\n" for rec in names))
    for name in ("dev", "test"):
        assert world.decode(data=f"data/{name}", out=f"out_{name}").returncode == 0
    return world


ARGUMENTS = ["data/test", "model/graph", "out_test"]


def test_rows_of_the_parts_and_the_total(world: World) -> None:
    """Of `one` in each utterance: two words deleted in en_1 B, wrong at the hesitation and in sw_2 B."""
    result = world.run("score_sclite.sh", "--tune-on=out_dev", *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    *table, dev, total = result.stdout.splitlines()
    assert [row.split() for row in table] == [
        ["set", "words", "sub", "del", "ins", "%WER"],
        ["swbd", "3", "2", "0", "0", "66.67"],
        ["callhome", "4", "0", "2", "0", "50.00"],
        ["total", "7", "2", "2", "0", "57.14"],
    ]
    assert dev == "%WER 0.00 [ 0 / 100, 0 ins, 0 del, 0 sub ]"
    assert total == "%WER 57.14 [ 4 / 7, 0 ins, 2 del, 2 sub ]"
    ctm = (world.root / "out_test/score_7_0.0/test.ctm").read_text().splitlines()
    assert ctm[0] == "en_1 A 0.10 0.20 one"
    assert "sw_2 A 5.10 0.20 one" in ctm
    assert (world.root / "out_test/score_7_0.0/test.ctm.swbd.filt.sys").exists()


def test_ctm_filter_and_sets(world: World) -> None:
    result = world.run("score_sclite.sh", "--lmwt=6", "--wip=0.5", "--ctm-filter=cat none", "--sets=b=sw_", *ARGUMENTS)
    assert result.returncode == 2
    assert "--ctm-filter failed: cat none" in result.stderr
    drop = "awk '$3 < 5 || $3 > 6'"
    result = world.run("score_sclite.sh", "--lmwt=6", "--wip=0.5", f"--ctm-filter={drop}", "--sets=b=sw_", *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    rows = [row.split() for row in result.stdout.splitlines()[1:3]]
    assert rows == [["b", "3", "1", "0", "0", "33.33"], ["total", "7", "1", "2", "0", "42.86"]]


def test_a_glm_that_the_filters_cannot_read(world: World) -> None:
    glm = world.root / "data/test/glm"
    glm.write_text(glm.read_text() + "no arrow\n")
    result = world.run("score_sclite.sh", "--lmwt=6", "--wip=0.5", *ARGUMENTS)
    assert result.returncode == 3
    assert "no arrow" in result.stderr


def test_hub5_filter(world: World) -> None:
    ctm = "".join(f"sw_2 A 0.1 0.2 {word}\n" for word in ["yes", "um", "[noise]", "<unk>", "th-", "uh-huh", "ummm"])
    write(world.root / "ctm", ctm)
    write(world.bin / "filter.sh", f"#!/bin/sh\nexec awk -f {SCRIPTS}/kaldi/hub5_ctm.awk ctm\n").chmod(0o755)
    result = world.run(str(world.bin / "filter.sh"))
    assert [line.split()[4] for line in result.stdout.splitlines()] == ["yes", "uh-huh", "ummm"]


def test_an_utterance_without_segment_is_named(world: World) -> None:
    segments = world.root / "data/test/segments"
    segments.write_text("".join(segments.read_text().splitlines(keepends=True)[1:]))
    result = world.run("score_sclite.sh", "--lmwt=6", "--wip=0.5", *ARGUMENTS)
    assert result.returncode == 1
    assert "no segment or file for utterance spk0-utt0" in result.stderr


def test_an_stm_that_sclite_refuses(world: World) -> None:
    stm = world.root / "data/test/stm"
    stm.write_text(stm.read_text().replace("<O>", "<O,unheard>"))
    result = world.run("score_sclite.sh", "--lmwt=6", "--wip=0.5", *ARGUMENTS)
    assert result.returncode == 3
    assert "sclite failed on swbd" in result.stderr and "unheard" in result.stderr
    assert not (world.root / "out_test/score_6_0.5").exists()
