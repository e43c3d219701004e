"""What units look for and what they tell: Zeiler et al. 2013, "On rectified linear units for speech processing"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPORTED_ZEROS = 0.8  # "about 80 % of hidden units exactly zero" after training
# Table 2: single units of an unsupervised first layer as detectors (precision, recall, accuracy).
REPORTED_DETECTORS = {"er": (0.570, 0.020, 0.985), "iy": (0.496, 0.110, 0.967), "r": (0.525, 0.060, 0.972)}
UNITS_AT_ONCE = 128  # bounds the memory of the search for detectors


@dataclass(frozen=True)
class Detector:
    """One unit with a threshold as a detector of a phone: it fires when its value is above.

    Attributes:
        unit: which.
        threshold: of its value.
        precision: share of its alarms that are right; nan if it never fires.
        recall: share of the phone's frames that it finds; nan if there are none.
        accuracy: share of frames that it sorts rightly.
        f1: harmonic mean of precision and recall, 0 where either is not there.
    """

    unit: int
    threshold: float
    precision: float
    recall: float
    accuracy: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


def zero_share(outputs: NDArray[np.float32]) -> float:
    """The share of values that are exactly zero."""
    return float((outputs == 0).mean())


def best_inputs(pre_activations: NDArray[np.float32], units: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The inputs that drive each of some units most: [N, D] -> indices [len(units), count], best first."""
    return np.argsort(-pre_activations[:, units], axis=0, kind="stable")[:count].T


def choose_detectors(
    values: NDArray[np.float32], phones: NDArray[np.int64], num_phones: int, criterion: str = "accuracy"
) -> list[Detector | None]:
    """For each phone the unit and threshold that detect it best on these frames.

    The paper does not say how thresholds are set. Its low recall at a precision of a half is what thresholds of the
    highest accuracy give; the other criterion is the F1 measure.

    Args:
        values: [N, D], outputs of a layer.
        phones: int [N], the phone of each frame, 0 .. num_phones - 1.
        num_phones: how many.
        criterion: accuracy or f1.

    Returns:
        For each phone its detector, None if the phone does not occur.
    """
    best: list[tuple[float, int, float] | None] = [None] * num_phones
    counts = np.bincount(phones, minlength=num_phones)
    for begin in range(0, values.shape[1], UNITS_AT_ONCE):
        block = values[:, begin : begin + UNITS_AT_ONCE]
        order = np.argsort(-block, axis=0, kind="stable")
        ranked = np.take_along_axis(block, order, axis=0)
        # A cut between equal values is none; one before all of them fires never.
        cuttable = np.vstack([ranked[:-1] > ranked[1:], np.ones((1, block.shape[1]), dtype=bool)])
        ranked_phones = phones[order]
        fired = np.arange(1, len(values) + 1)[:, None]
        for phone in np.flatnonzero(counts):
            hits = np.cumsum(ranked_phones == phone, axis=0, dtype=np.int32)
            merit = _merit(hits, fired, int(counts[phone]), criterion)
            merit = np.where(cuttable, merit, -np.inf)
            rows = merit.argmax(axis=0)
            column = int(merit[rows, np.arange(block.shape[1])].argmax())
            row, value = int(rows[column]), float(merit[rows[column], column])
            current = best[phone]
            if current is None or value > current[0]:
                following = ranked[row + 1, column] if row + 1 < len(values) else ranked[row, column] - 1
                threshold = (float(ranked[row, column]) + float(following)) / 2
                best[phone] = value, begin + column, threshold
    return [
        None if found is None else evaluate_detector(values, phones, phone, found[1], found[2])
        for phone, found in enumerate(best)
    ]


def _merit(
    hits: NDArray[np.int32], fired: NDArray[np.int64], count: int, criterion: str
) -> NDArray[np.float64] | NDArray[np.int64]:
    """How good a cut is, up to what does not depend on it: right minus wrong alarms, or F1."""
    if criterion == "accuracy":
        return 2 * hits - fired
    return 2 * hits / (fired + count)


def evaluate_detector(
    values: NDArray[np.float32], phones: NDArray[np.int64], phone: int, unit: int, threshold: float
) -> Detector:
    """How well `values[:, unit] > threshold` tells the frames of a phone; arguments as in `choose_detectors`."""
    fires, wanted = values[:, unit] > threshold, phones == phone
    hits = int((fires & wanted).sum())
    precision = hits / int(fires.sum()) if fires.any() else float("nan")
    recall = hits / int(wanted.sum()) if wanted.any() else float("nan")
    return Detector(unit, threshold, precision, recall, float((fires == wanted).mean()))
