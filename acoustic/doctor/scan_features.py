"""All features of a data directory, read once: their sizes, their least and largest values, and what cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acoustic.doctor.findings import Finding, Severity, from_error
from acoustic.doctor.packs import scan_in_packs
from acoustic.errors import DataError
from acoustic.kaldi.specifiers import parse_script_entry
from acoustic.kaldi.tables import RandomAccessTable

PACK_UTTERANCES = 100
REMEDY = "compute the features again, or leave the utterances out (--fix)"

FloatArray = NDArray[np.float32]


@dataclass
class FeaturesScan:
    """Facts about features.

    Attributes:
        num_frames: of each utterance whose features are usable in themselves.
        dims: values in a frame of each of them.
        extremes: for each dimension seen, the least and the largest value of each coefficient, [2, dim].
        findings: what could not be used.
    """

    num_frames: dict[str, int] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    extremes: dict[int, FloatArray] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def dim(self) -> int | None:
        """The dimension that most utterances have; None without any."""
        return Counter(self.dims.values()).most_common(1)[0][0] if self.dims else None

    def constant_coefficients(self) -> list[int]:
        """The coefficients (from 0) that have one value throughout."""
        if self.dim is None:
            return []
        least, largest = self.extremes[self.dim]
        return np.flatnonzero(least == largest).tolist()

    def add(self, utt: str, feats: NDArray[Any]) -> None:
        """Count usable features [T, dim]."""
        dim = feats.shape[1]
        self.num_frames[utt], self.dims[utt] = feats.shape[0], dim
        self.widen(dim, np.stack([feats.min(0), feats.max(0)]).astype(np.float32))

    def widen(self, dim: int, extremes: FloatArray) -> None:
        """Take further extremes [2, dim] in."""
        known = self.extremes.get(dim, extremes)
        self.extremes[dim] = np.stack([np.minimum(known[0], extremes[0]), np.maximum(known[1], extremes[1])])


def scan_features(feats: Mapping[str, str], num_jobs: int = 1) -> FeaturesScan:
    """Read the features of every utterance.

    Args:
        feats: rxfilename of each utterance's features, as feats.scp has them.
        num_jobs: processes.
    """
    total = FeaturesScan()
    for part in scan_in_packs(scan_utterances, list(feats.items()), PACK_UTTERANCES, num_jobs, "features"):
        total.num_frames |= part.num_frames
        total.dims |= part.dims
        total.findings += part.findings
        for dim, extremes in part.extremes.items():
            total.widen(dim, extremes)
    return total


def scan_utterances(feats: Sequence[tuple[str, str]]) -> FeaturesScan:
    """Read the features of some utterances, given as (utterance, rxfilename)."""
    scan = FeaturesScan()
    for utt, matrix in read_each(feats, "features unreadable", scan.findings):
        if matrix.size == 0:
            scan.findings.append(_unusable("features without frames", utt, "no frames"))
        elif not np.isfinite(matrix).all():
            frame = int(np.argmin(np.isfinite(matrix).all(1)))
            detail = f"frame {frame} of {len(matrix)} holds NaN or infinity"
            scan.findings.append(_unusable("features with NaN or infinity", utt, detail))
        else:
            scan.add(utt, matrix)
    return scan


def read_each(
    rxfilenames: Sequence[tuple[str, str]], fault: str, findings: list[Finding], drops: bool = True
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The matrices that can be read, by key; a finding for each of the others.

    Args:
        rxfilenames: (key, where its matrix is, perhaps with a range).
        fault: what findings say.
        findings: where they go.
        drops: whether the keys are utterances, not usable then.
    """
    readable = {}
    for key, rxfilename in rxfilenames:
        try:
            parse_script_entry(rxfilename)
            readable[key] = rxfilename
        except DataError as error:
            findings.append(from_error(fault, error, REMEDY, where=key, drops=(key,) if drops else ()))
    with RandomAccessTable.from_rxfilenames(readable, "matrix", "script") as table:
        for key in readable:
            try:
                matrix = table[key]
            except DataError as error:
                findings.append(from_error(fault, error, REMEDY, where=key, drops=(key,) if drops else ()))
                continue
            yield key, matrix


def _unusable(fault: str, utt: str, detail: str) -> Finding:
    return Finding(fault, Severity.ERROR, utt, detail, REMEDY, (utt,), cleanable=True)
