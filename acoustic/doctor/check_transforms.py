"""Checks of feature transforms: final.mat with splice_opts, and the fMLLR transforms of each speaker or utterance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Severity, from_error, load
from acoustic.errors import AcousticError, DataError
from acoustic.features.kaldi_dir import config_from_kaldi_dir
from acoustic.kaldi.tables import read_table

ESTIMATE = "estimate the transforms again for this data (steps/decode_fmllr.sh, steps/align_fmllr.sh)"
_TRANS = re.compile(r"trans\.(\d+)(?:\.gz)?")


def check_final_mat(experiment: Experiment) -> Iterator[Finding]:
    """An LDA+MLLT matrix that cannot be read or does not fit the spliced features."""
    folder = experiment.options.transform_dir
    if folder is None or not (folder / "final.mat").exists():
        return
    where, feats = str(folder / "final.mat"), experiment.feats
    try:
        config, matrix = config_from_kaldi_dir(folder)
    except AcousticError as error:
        yield from_error("transform unreadable", error, "copy it again", where=where)
        return
    if matrix is None or feats is None or feats.dim is None:
        return
    num_spliced = config.transform_splice_left + 1 + config.transform_splice_right
    if matrix.shape[1] not in (feats.dim * num_spliced, feats.dim * num_spliced + 1):
        detail = f"has {matrix.shape[1]} columns for {num_spliced} spliced frames of {feats.dim} values"
        remedy = "use the features and splice_opts that it was estimated on"
        yield Finding("transform of another dimension", Severity.ERROR, where, detail, remedy)


def check_fmllr(experiment: Experiment) -> Iterator[Finding]:
    """fMLLR transforms that are unreadable, of another dimension, or missing for a speaker or utterance."""
    folder = experiment.options.transform_dir
    if folder is None:
        return
    try:
        rspecifiers = transform_rspecifiers(folder)
    except DataError as error:
        yield from_error("transform files missing", error, ESTIMATE)
        return
    owners: set[str] = set()
    complete = True
    expected = expected_rows(experiment)
    for rspecifier in rspecifiers:
        try:
            for owner, matrix in read_table(rspecifier, "matrix"):
                expected = expected or matrix.shape[0]
                owners.add(owner)
                detail = fault_of_transform(matrix, expected)
                if detail:
                    yield Finding("wrong fMLLR transform", Severity.ERROR, owner, detail, ESTIMATE)
        except DataError as error:
            complete = False
            yield from_error("transforms unreadable", error, ESTIMATE)
    if complete and rspecifiers:
        for owner in experiment.owners_without(owners):
            detail = f"is not in {folder}"
            yield Finding("no fMLLR transform", Severity.ERROR, owner, detail, ESTIMATE)


def transform_rspecifiers(folder: Path) -> list[str]:
    """Where the fMLLR transforms of a directory are: `trans.N` in numeric order, else trans.scp or trans.ark.

    A folder with final.mat alone has none, and needs none.

    Raises:
        DataError: there are none at all, or that of a job is missing.
    """
    jobs = {int(match[1]): path for path in folder.glob("trans.*") if (match := _TRANS.fullmatch(path.name))}
    if jobs:
        missing = sorted(set(range(1, max(jobs) + 1)) - jobs.keys())
        if missing:
            raise DataError(f"trans.{missing[0]} is missing", path=folder)
        return [f"ark:{jobs[job]}" for job in sorted(jobs)]
    for kind in ("scp", "ark"):
        if (folder / f"trans.{kind}").exists():
            return [f"{kind}:{folder / f'trans.{kind}'}"]
    if (folder / "final.mat").exists():
        return []
    raise DataError("holds no transforms (trans.*, final.mat)", path=folder)


def expected_rows(experiment: Experiment) -> int | None:
    """Rows of the fMLLR transforms, as far as the network's front end or final.mat says."""
    frontend = experiment.frontend.value if experiment.frontend is not None else None
    folder = experiment.options.transform_dir
    if frontend is not None and frontend.config.fmllr != "none":
        return frontend.base_dim
    if folder is None or not (folder / "final.mat").exists():
        return None
    loaded = load(lambda: config_from_kaldi_dir(folder)[0].transform_dim)
    return loaded.value


def fault_of_transform(matrix: NDArray[Any], rows: int) -> str | None:
    """What is wrong with a transform of frames with `rows` values; None when nothing is."""
    if matrix.ndim != 2 or matrix.shape[0] != rows or matrix.shape[1] not in (rows, rows + 1):
        return f"has shape {matrix.shape}, expected {rows} rows and {rows + 1} columns"
    if not np.isfinite(matrix).all():
        return "NaN or infinite values"
    return None
