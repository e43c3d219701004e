"""Checks of the features and of the CMVN statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Severity
from acoustic.doctor.scan_features import REMEDY, read_each

CMVN_REMEDY = "compute them again (acoustic cmvn)"


def check_features(experiment: Experiment) -> Iterator[Finding]:
    """Features that cannot be read, are empty or not finite."""
    if experiment.feats is not None:
        yield from experiment.feats.findings


def check_dimensions(experiment: Experiment) -> Iterator[Finding]:
    """Utterances whose frames have another size than most, and features of another size than a trained network's."""
    feats, bundle = experiment.feats, experiment.bundle
    if feats is None:
        return
    for utt, dim in feats.dims.items():
        if dim != feats.dim:
            detail = f"{dim} values in a frame, {feats.dim} in most utterances"
            yield Finding("features of another dimension", Severity.ERROR, utt, detail, REMEDY, (utt,), cleanable=True)
    if bundle is not None and bundle.value is not None and feats.dim not in (None, bundle.value.feat_dim):
        detail = f"trained on {bundle.value.feat_dim} values in a frame, these features have {feats.dim}"
        remedy = "compute the features with the options of the model's"
        yield Finding("features do not fit the model", Severity.ERROR, str(experiment.model_path), detail, remedy)


def check_constant_coefficients(experiment: Experiment) -> Iterator[Finding]:
    """Coefficients that never change: nothing to learn from, and a variance of zero."""
    feats = experiment.feats
    if feats is None or sum(feats.num_frames.values()) < 2:
        return
    for coefficient in feats.constant_coefficients():
        detail = "has one value in all frames"
        remedy = "check the options of the features, e.g. mel frequencies above half the audio's rate"
        yield Finding("constant coefficient", Severity.WARNING, f"coefficient {coefficient}", detail, remedy)


def check_num_frames(experiment: Experiment) -> Iterator[Finding]:
    """Numbers in utt2num_frames that the features have not."""
    if experiment.feats is None:
        return
    for utt, num_frames in experiment.feats.num_frames.items():
        said = experiment.data_dir.utt2num_frames.get(utt, num_frames)
        if said != num_frames:
            detail = f"{num_frames} frames, utt2num_frames says {said}"
            yield Finding("wrong utt2num_frames", Severity.WARNING, utt, detail, "delete utt2num_frames")


def check_cmvn(experiment: Experiment) -> Iterator[Finding]:
    """Statistics that are missing, unreadable, of another dimension or impossible."""
    data_dir = experiment.data_dir
    if not data_dir.cmvn:
        return
    for owner in experiment.owners_without(data_dir.cmvn):
        yield Finding("no CMVN statistics", Severity.ERROR, owner, "is not in cmvn.scp", CMVN_REMEDY)
    dim = experiment.feats.dim if experiment.feats is not None else None
    findings: list[Finding] = []
    for owner, stats in read_each(list(data_dir.cmvn.items()), "CMVN statistics unreadable", findings, drops=False):
        fault = fault_of_stats(stats, dim)
        if fault:
            findings.append(Finding("wrong CMVN statistics", Severity.ERROR, owner, fault, CMVN_REMEDY))
    yield from findings


def fault_of_stats(stats: NDArray[Any], dim: int | None) -> str | None:
    """What is wrong with statistics for features of `dim` values (None: not known); None when nothing is."""
    if stats.ndim != 2 or stats.shape[0] not in (1, 2) or stats.shape[1] < 2:
        return f"shape {stats.shape} is not that of statistics"
    if dim is not None and stats.shape[1] != dim + 1:
        return f"made of features with {stats.shape[1] - 1} values in a frame, these have {dim}"
    if not np.isfinite(stats).all():
        return "NaN or infinite values"
    count = stats[0, -1]
    if not count >= 1:
        return f"made of {count:g} frames"
    if len(stats) == 2:
        mean_square, mean = stats[1, :-1] / count, stats[0, :-1] / count
        # Rounding aside, no mean of squares is below the square of the mean.
        if np.any(mean_square < mean**2 - 1e-3 * (1 + mean**2)):
            return "negative variances"
    return None
