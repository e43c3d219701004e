"""fMLLR transforms where Kaldi leaves them: `trans.N` of align_fmllr.sh, train_sat.sh and decode_fmllr.sh."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from acoustic.errors import DataError
from acoustic.kaldi.tables import RandomAccessTable, read_table

Matrix = np.ndarray[Any, Any]

# trans.1, trans.1.gz, trans.1.ark, trans.1.ark.gz
_JOB_FILE = re.compile(r"trans\.(\d+)(\.ark)?(\.gz)?")


def open_transforms(source: str, stack: contextlib.ExitStack) -> RandomAccessTable | dict[str, Matrix]:
    """Transforms by speaker or utterance.

    Args:
        source: a directory with `trans.scp`, `trans.ark` or `trans.1` ... `trans.N` (`.gz`, `.ark` allowed), or an
            rspecifier. The archives of a directory are held in memory; of `trans.scp` only what is being used is.
        stack: closes what stays open.

    Raises:
        DataError: no transforms there, a job's file missing, an archive damaged, an owner with two transforms.
    """
    if not Path(source).is_dir():
        return stack.enter_context(RandomAccessTable(source, "matrix"))
    script = Path(source) / "trans.scp"
    if script.exists():
        return stack.enter_context(RandomAccessTable(f"scp:{script}", "matrix"))
    transforms: dict[str, Matrix] = {}
    for path in transform_files(source):
        for owner, matrix in read_table(f"ark:{path}", "matrix"):
            if owner in transforms:
                raise DataError(f"{owner} has two transforms", path=path, remedy="remove what an earlier run left")
            transforms[owner] = matrix
    return transforms


def transform_files(directory: str | Path) -> list[Path]:
    """The files that hold a directory's transforms: `trans.scp`, else `trans.ark`, else those of the jobs in order.

    Raises:
        DataError: there are none, or the jobs are not numbered 1 ... N (N as `num_jobs` says, where that file is).
    """
    directory = Path(directory)
    for name in ("trans.scp", "trans.ark", "trans.ark.gz"):
        if (directory / name).exists():
            return [directory / name]
    jobs: dict[int, Path] = {}
    for path in directory.iterdir():
        if match := _JOB_FILE.fullmatch(path.name):
            if int(match[1]) in jobs:
                raise DataError(f"the same job as {jobs[int(match[1])].name}", path=path, remedy="remove one of them")
            jobs[int(match[1])] = path
    if not jobs:
        remedy = "run align_fmllr.sh (training data) or decode_fmllr.sh (others), or give their directory"
        raise DataError("no fMLLR transforms here (trans.1, ...)", path=directory, remedy=remedy)
    num_jobs = max([*jobs, _num_jobs(directory / "num_jobs")])
    if missing := sorted(set(range(1, num_jobs + 1)) - set(jobs)):
        remedy = "estimate the transforms again"
        raise DataError(f"trans.{missing[0]} is missing of {num_jobs} jobs", path=directory, remedy=remedy)
    return [jobs[job] for job in sorted(jobs)]


def _num_jobs(path: Path) -> int:
    """The number in a `num_jobs` file; 0 where there is none."""
    if not path.exists():
        return 0
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not text.isdecimal():
        raise DataError(f"expected a number, found {text!r}", path=path)
    return int(text)
