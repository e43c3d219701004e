"""What a sequence criterion is to the trainer: it knows of each utterance what should be said, and scores loglikes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class UnusableError(Exception):
    """An utterance that a criterion can do nothing with.

    Args:
        reason: counted in the tally of skipped utterances, e.g. `no lattice`.
        details: for the log.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(f"{reason}: {details}" if details else reason)
        self.reason, self.details = reason, details


@dataclass(frozen=True)
class Objective:
    """The value of a criterion on some utterances.

    Attributes:
        value: scalar, summed over frames, larger is better; `backward` reaches the loglikes.
        num_frames: what to divide it by for a mean.
        statistics: further sums over the same frames by name, such as dropped frames.
    """

    value: Tensor
    num_frames: int
    statistics: dict[str, float]


class Criterion(Protocol):
    """A sequence criterion.

    Attributes:
        frame_subsampling: only every so many-th frame of an utterance is given to the network, from the first.
        offset: a constant added to the mean objective of a frame before it is negated and reported as a loss
            (-1 makes an expected accuracy an expected error rate); it has no gradient.
        loss_scale: factor on the objective in the loss that is minimised. Criteria over lattices take
            1 / acoustic_scale: their derivatives are then those by the scaled loglikes, as in Kaldi, and learning
            rates mean the same as there.
    """

    frame_subsampling: int
    offset: float
    loss_scale: float

    def prepare(self, utt: str, num_frames: int) -> Any:
        """What is known of an utterance, to be given to `__call__`; called once for each, before training.

        Args:
            utt: the utterance.
            num_frames: frames of its features, before subsampling.

        Raises:
            UnusableError: it has to be left out.
        """

    def __call__(self, loglikes: Tensor, supervisions: Sequence[Any]) -> Objective:
        """Score some utterances.

        Args:
            loglikes: [num_frames, num_pdfs], frames of all utterances one behind the other (after subsampling):
                logits minus log priors, not normalised, on the training device.
            supervisions: what `prepare` gave for each of them.
        """
