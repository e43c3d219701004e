"""Commands that fail, die or give nothing at either end of a pipe, and reads that are short or fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus import GOLDEN
from harness import Settings

from acoustic.cli import main as command_line
from acoustic.errors import AcousticError
from acoustic.kaldi.matrix import read_matrix_file
from acoustic.kaldi.tables import RandomAccessTable, TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel

FEATS = GOLDEN / "feats" / "two.ark"
ALI = GOLDEN / "align" / "tri1" / "ali.1.gz"
Read = Callable[[], Any]


def pipe_faults(settings: Settings) -> tuple[list[str], int]:
    """All of them; what was wrong, and how many there were."""
    trials = {**reading(settings.folder), **writing(settings.folder)}
    faults = [f"{name}: no error" for name, read in trials.items() if not refuses(read)]
    short, num_short = short_reads()
    return faults + short, len(trials) + num_short


def refuses(read: Read) -> bool:
    """Whether our error is raised."""
    try:
        read()
    except AcousticError:
        return True
    return False


def reading(folder: Path) -> dict[str, Read]:
    """Reading from commands that go wrong, though all or some data came."""
    cut = folder / "cut.gz"
    cut.write_bytes(ALI.read_bytes()[:-20])
    commands = {
        "fails after all data": f"cat {FEATS}; exit 1",
        "killed after all data": f"cat {FEATS}; kill -9 $$",
        "fails inside a pipeline": f"(cat {FEATS}; false) | cat",
        "fails after half of the data": f"head -c 20000 {FEATS}; exit 1",
        "ends after half of the data": f"head -c 20000 {FEATS}",
        "fails without data": "exit 3",
        "is not there": "no-such-program-anywhere",
        "gives something else": "echo hello",
    }
    trials: dict[str, Read] = {}
    for name, command in commands.items():
        trials[f"a command that {name}"] = lambda command=command: list(read_table(f"ark:{command} |", "matrix"))
        trials[f"a command that {name}, by key"] = lambda command=command: by_key(f"ark:{command} |", "matrix")
    trials["gunzip of a cut file"] = lambda: list(read_table(f"ark:gunzip -c {cut} |", "int_vector"))
    trials["gunzip killed"] = lambda: list(read_table(f"ark:gunzip -c {ALI}; kill -9 $$ |", "int_vector"))
    trials["a cut gzip file"] = lambda: list(read_table(f"ark:{cut}", "int_vector"))
    trials["a matrix of a command without output"] = lambda: read_matrix_file("true |")
    trials["a model of a command without output"] = lambda: TransitionModel.read("true |")
    trials["an empty table given to a verb"] = lambda: command_line.run(
        ["cmvn", "ark:true |", f"ark:{folder}/cmvn.ark"]
    )
    trials["fbank of a command without output"] = lambda: command_line.run(
        ["fbank", "scp:true |", f"ark:{folder}/x.ark"]
    )
    return trials


def by_key(rspecifier: str, kind: str) -> None:
    """Ask for a key that is not there, so that all is read."""
    with RandomAccessTable(rspecifier, kind) as table:
        table.get("no such key")


def writing(folder: Path) -> dict[str, Read]:
    """Writing to commands that go wrong."""
    commands = {
        "fails at once": "false",
        "fails at the end": "cat > /dev/null; exit 1",
        "is killed": "kill -9 $$",
        "reads too little": "head -c 10 > /dev/null",
        "is not there": "no-such-program-anywhere",
        "writes into a folder that is not there": f"cat > {folder}/nowhere/x",
    }
    return {
        f"writing to a command that {name}": lambda command=command: write_to(command)  # type: ignore[misc]
        for name, command in commands.items()
    }


def write_to(command: str) -> None:
    """More than a pipe holds."""
    with TableWriter(f"ark:| {command}", "matrix") as writer:
        for number in range(20):
            writer.write(f"utt{number}", np.zeros((500, 40), np.float32))


def short_reads() -> tuple[list[str], int]:
    """The kernel may give fewer bytes than asked for: the same values must come. Or fail: our error must come."""
    whole = {key: value.tobytes() for key, value in read_table(f"ark:{FEATS}", "matrix")}
    preadv = os.preadv
    faults = []
    for most in (1, 7, 1000):
        os.preadv = lambda fd, views, at, most=most: preadv(fd, [views[0][:most]], at)  # type: ignore[misc]
        try:
            if {key: value.tobytes() for key, value in read_table(f"ark:{FEATS}", "matrix")} != whole:
                faults.append(f"reads of at most {most} bytes give other values")
        finally:
            os.preadv = preadv
    num_failing = 0
    for fail_at in range(4):
        calls = [0]

        def failing(fd: int, views: Any, at: int, fail_at: int = fail_at, calls: list[int] = calls) -> int:
            calls[0] += 1
            if calls[0] > fail_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return preadv(fd, [views[0][:8000]], at)

        os.preadv = failing
        try:
            num_failing += 1
            if not refuses(lambda: list(read_table(f"ark:{FEATS}", "matrix"))):
                faults.append(f"EIO at read {fail_at}: no error")
        finally:
            os.preadv = preadv
    return faults, 3 + num_failing
