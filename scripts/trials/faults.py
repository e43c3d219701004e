"""Failing disks and pipes: refused cleanly, earlier data intact, nothing half written adopted.

    python scripts/trials/faults.py [--quick]

- ENOSPC (for good) and EIO (once) at every write point of a training run: our error, and the run goes on from there
  to the same result when the disk is mended;
- the same at every write point of every kind of file the project writes, over an earlier version of that file;
- a real disk that fills up (a tmpfs of a megabyte, where the system lets us mount one), and /dev/full;
- commands that fail, are killed, or give nothing, at both ends of a pipe; reads that are short, or fail.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from corpus import GOLDEN, Corpus, make_corpus, train_config
from harness import (
    Outcome,
    Settings,
    fork,
    has_traceback,
    identity,
    leftovers,
    main,
    silence,
    train,
    train_here,
    wait,
    without_curves,
)
from inject import WritePoints
from pipe_faults import pipe_faults
from writers import SEVERAL_FILES, WRITERS, Writer

from acoustic.errors import AcousticError
from acoustic.kaldi.tables import TableWriter
from acoustic.train.config import TrainConfig

FAULTS = ((errno.ENOSPC, True), (errno.EIO, False))
OUR_ERROR = 3


def run(settings: Settings) -> Outcome:
    silence()
    without_curves()
    problems: list[str] = []
    counts: dict[str, int] = {}
    for name, trial in (
        ("training", training_faults),
        ("writers", writer_faults),
        ("full disks", full_disks),
        ("pipes and reads", pipe_faults),
    ):
        faults, counts[name] = trial(settings)
        problems += [f"{name}: {fault}" for fault in faults]
    for problem in problems:
        print(problem)
    total = sum(counts.values())
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Outcome(not problems, f"{total - len(problems)} of {total} faults met well ({told})")


def training_faults(settings: Settings) -> tuple[list[str], int]:
    """A training run on a failing disk."""
    corpus = make_corpus(settings.folder / "corpus", num_utts=15)
    options = {"schedule__max_epochs": 2}
    unbroken = train_config(corpus, settings.folder / "unbroken", **options)
    train(unbroken, settings.folder / "unbroken.log")
    expected = identity(Path(unbroken.exp_dir))
    counted = train_config(corpus, settings.folder / "counted", **options)
    names = settings.folder / "points.json"
    wait(fork(lambda: fail_at(counted, -1, 0, False, names), settings.folder / "counted.log"))
    points = json.loads(names.read_text())
    faults, num_trials = [], 0
    for at in range(0, len(points), 29 if settings.quick else 1):
        for number, forever in FAULTS:
            config = train_config(corpus, settings.folder / f"fault-{at}-{number}", **options)
            num_trials += 1
            fault = one_training_fault(config, at, number, forever, expected)
            if fault:
                faults.append(f"{errno.errorcode[number]} at {points[at]}: {fault}")
    return faults, num_trials


def fail_at(config: TrainConfig, at: int, number: int, forever: bool, names: Path | None = None) -> None:
    """Train on a disk that fails at a write point."""
    points = WritePoints(Path(config.exp_dir), at, number, forever).install()
    train_here(config)
    if names is not None:
        names.write_text(json.dumps(points.names))


def one_training_fault(config: TrainConfig, at: int, number: int, forever: bool, expected: str) -> str:
    """What was wrong with a run on a failing disk or with its resumption; "" for nothing."""
    exp_dir = Path(config.exp_dir)
    log = exp_dir.with_suffix(".log")
    status = wait(fork(lambda: fail_at(config, at, number, forever), log))
    if status not in (0, OUR_ERROR) or has_traceback(log):
        return f"exit status {status}: {log.read_text()}"
    if status == 0 and identity(exp_dir) != expected:
        return "the run ended as if nothing had been, with another result"
    status = train(config, log)
    if status != 0 or identity(exp_dir) != expected or leftovers(exp_dir / "checkpoints"):
        return f"after mending the disk: exit status {status}, or another result: {log.read_text()}"
    shutil.rmtree(exp_dir)
    return ""


# -- every kind of file -------------------------------------------------------------------------------------------


def writer_faults(settings: Settings) -> tuple[list[str], int]:
    """Each kind of file on a failing disk, an earlier version of it being there."""
    faults, num_trials = [], 0
    for name, write in WRITERS.items():
        folder = settings.folder / "writers" / name.replace(" ", "_")
        old, new = folder / "old", folder / "new"
        for path, versions in ((old, (0,)), (new, (0, 1))):
            path.mkdir(parents=True)
            for version in versions:  # in a child: some writers start threads, and this process is to be forked
                in_child(folder, lambda path=path, version=version, write=write: write(path, version) or "")  # type: ignore[misc]
        num_points = int(in_child(folder, lambda folder=folder, write=write: count_points(folder, write)))  # type: ignore[misc]
        for at in range(0, num_points, max(1, num_points // 3) if settings.quick else 1):
            for number, forever in FAULTS[at % 2 :][:1] if settings.quick else FAULTS:
                num_trials += 1
                fault = one_writer_fault(name, write, folder, at, number, forever)
                if fault:
                    faults.append(f"{name}, {errno.errorcode[number]} at write point {at}: {fault}")
    return faults, num_trials


def in_child(folder: Path, work: Callable[[], str]) -> str:
    """What `work` gives, done in a child."""
    answer = folder / "answer"
    answer.unlink(missing_ok=True)
    log = folder / "log"
    status = wait(fork(lambda: answer.write_text(work()) and None, log))
    if status != 0:
        return f"exit status {status}: {log.read_text()}"
    return answer.read_text()


def count_points(folder: Path, write: Writer) -> str:
    """How many write points a writer has."""
    shutil.copytree(folder / "old", folder / "out")
    points = WritePoints(folder / "out").install()
    write(folder / "out", 1)
    return str(len(points.names))


def one_writer_fault(name: str, write: Writer, folder: Path, at: int, number: int, forever: bool) -> str:
    """What was wrong after writing over an earlier version on a failing disk; "" for nothing."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder / "old", out)

    def attempt() -> str:
        WritePoints(out, at, number, forever).install()
        try:
            write(out, 1)
        except AcousticError as error:
            return str(error)
        return "nothing"

    message = in_child(folder, attempt)
    if message.startswith("exit status"):
        return message
    found, old, new = (contents(path) for path in (out, folder / "old", folder / "new"))
    if message == "nothing":
        return "" if found == new else "no error, but not the new version either"
    strange = [path for path in found if found[path] not in (old.get(path), new.get(path))]
    if name == "metrics":  # lines are appended; a run that goes on cuts off what came after its checkpoint
        return ""
    if strange:
        return f"{strange} neither old nor new ({message})"
    if name not in SEVERAL_FILES and found not in (old, new):
        return f"a mixture of old and new ({message})"
    if name in ("archive with scp", "features") and "feats.scp" in found:
        same = [(found[path] == old[path], found[path] == new[path]) for path in ("feats.ark", "feats.scp")]
        if same[0] != same[1]:
            return f"the scp is not the archive's ({message})"
    return ""


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a reader looks at, whatever the folder is called."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(re.sub(rb"/(old|new|out)/", b"/", path.read_bytes())).hexdigest()
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


# -- full disks ---------------------------------------------------------------------------------------------------


def full_disks(settings: Settings) -> tuple[list[str], int]:
    """Disks that the kernel says are full."""
    faults = []
    status = wait(fork(lambda: write_to_full_device(), settings.folder / "full.log"))
    if status != 0:
        faults.append(f"/dev/full: {(settings.folder / 'full.log').read_text()}")
    mount = settings.folder / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        print("no small tmpfs: the system does not let us mount one")
        return faults, 1
    try:
        corpus = make_corpus(settings.folder / "small-corpus", num_utts=15)
        faults += training_on_small_disk(corpus, mount, settings.folder)
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    return faults, 2


def write_to_full_device() -> None:
    """Every table written to /dev/full must raise our error."""
    for specifier in ("ark:/dev/full", "ark,t:/dev/full"):
        try:
            with TableWriter(specifier, "matrix") as writer:
                writer.write("utt", np.zeros((1000, 40), np.float32))
        except AcousticError:
            continue
        raise SystemExit(f"{specifier}: no error")


def training_on_small_disk(corpus: Corpus, mount: Path, folder: Path) -> list[str]:
    """Train until the disk is full, make it larger, go on; the result must be the usual one."""
    options = {"schedule__max_epochs": 2, "model__hidden_dim": 64}
    large = train_config(corpus, folder / "large", **options)
    train(large, folder / "large.log")
    config, log = train_config(corpus, mount / "exp", **options), folder / "small.log"
    status = train(config, log)
    if status != OUR_ERROR or has_traceback(log):
        return [f"a small disk: exit status {status}: {log.read_text()}"]
    subprocess.run(["mount", "-o", "remount,size=100m", str(mount)], check=True)
    status = train(config, log)
    same = status == 0 and identity(mount / "exp") == identity(folder / "large")
    return [] if same else [f"a small disk made larger: exit status {status}, or another result: {log.read_text()}"]


if __name__ == "__main__":
    os.chdir(GOLDEN.parents[1])
    main(__doc__ or "", run)
