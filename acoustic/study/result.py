"""What one training of the grid gave, as a file that says of which configuration it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from acoustic import fsio
from acoustic.decode.wer import Scores
from acoustic.errors import DataError


@dataclass(frozen=True)
class Result:
    """The measurements of one training.

    Attributes:
        fingerprint: of all that decides the result, see Cell.fingerprint.
        dev_losses: cross-entropy [nats] on dev after each epoch.
        dev_loss, dev_accuracy: of the network that is kept; accuracy as a share of frames.
        wer: on test, with the scales that are best on dev [%].
        utts, num_words, num_errors: of each test utterance.
        epoch_seconds: an epoch's updates, mean, as the clock has it.
        pass_seconds: the least time of a minibatch forward and backward; on a CPU that of the process alone.
        zero_share: exact zeros among the outputs of all hidden layers.
        gradient_information: GAAF's G_k as in training, mean over layers.
        net_variance: GAAF's, mean over layers.
        features_accuracy: frame accuracy on dev of a linear classifier over 0, 1, ... unsupervised layers.
        detectors: phone -> precision, recall and accuracy of the best single unit of the first unsupervised layer, as
            shares; without phones that are never detected.
        diverged: why training stopped, empty if it did not. Such a network counts as one that knows nothing.
        seconds: that all of it took.
    """

    fingerprint: str
    dev_losses: list[float] = field(default_factory=list)
    dev_loss: float = 0.0
    dev_accuracy: float = 0.0
    wer: float = 100.0
    utts: list[str] = field(default_factory=list)
    num_words: list[int] = field(default_factory=list)
    num_errors: list[int] = field(default_factory=list)
    epoch_seconds: float = 0.0
    pass_seconds: float = 0.0
    zero_share: float = 0.0
    gradient_information: float = 0.0
    net_variance: float = 0.0
    features_accuracy: list[float] = field(default_factory=list)
    detectors: dict[str, list[float]] = field(default_factory=dict)
    diverged: str = ""
    seconds: float = 0.0

    def scores(self) -> Scores:
        """Word errors by utterance; what kind they are is not kept, all stand as substitutions."""
        none, errors = np.zeros(len(self.utts), dtype=np.int64), np.array(self.num_errors, dtype=np.int64)
        return Scores(self.utts, np.array(self.num_words, dtype=np.int64), none, none, errors, errors > 0)

    def median_precision(self) -> float:
        """Of the detectors; 0 without any."""
        return float(np.median([precision for precision, _, _ in self.detectors.values()])) if self.detectors else 0.0

    def write(self, path: Path) -> None:
        """Write JSON."""
        fsio.write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read what `write` wrote.

        Raises:
            DataError: something else stands there.
        """
        values = fsio.read_json(path)
        if not isinstance(values, dict) or set(values) != {field.name for field in fields(cls)}:
            raise DataError("is no result of a training of the grid", path=path, remedy="remove it")
        return cls(**values)
