"""The recogniser's view: which frames, phones and HMM states a network gets right, and how far its posteriors hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 20  # of confidences; of entropies relative to that of the uniform distribution
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How often the network is right when it claims to be.

    Attributes:
        counts: int [NUM_BINS], frames whose highest posterior lies in each bin of [0, 1].
        confidence: [NUM_BINS], mean of these posteriors, nan in empty bins.
        accuracy: [NUM_BINS], share of the frames that are right, likewise.
    """

    counts: NDArray[np.int64]
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def expected_error(self) -> float:
        """Mean of |accuracy - confidence| over frames (expected calibration error)."""
        full = self.counts > 0
        weights = self.counts[full] / self.counts.sum()
        return float((weights * np.abs(self.accuracy[full] - self.confidence[full])).sum())


def calibration(sums: FloatArray) -> Calibration:
    """From [NUM_BINS, 3]: frames, sum of their confidences, how many are right."""
    counts = sums[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return Calibration(counts.astype(np.int64), sums[:, 1] / counts, sums[:, 2] / counts)


def calibration_sums(confidence: FloatArray, is_right: NDArray[np.bool_]) -> FloatArray:
    """What `calibration` starts from, for frames with highest posteriors `confidence` [T]: [NUM_BINS, 3]."""
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    columns = [np.ones_like(confidence), confidence, is_right]
    return np.stack([np.bincount(bins, column, NUM_BINS) for column in columns], axis=1)


def entropies(log_posteriors: NDArray[np.float32]) -> FloatArray:
    """Entropy of each frame's posteriors [nats]: [T, num_pdfs] -> [T]."""
    with np.errstate(invalid="ignore"):
        terms = np.exp(log_posteriors, dtype=np.float64) * log_posteriors
    return -np.nansum(terms, axis=1)  # 0 log 0 = 0


def divergence(one: FloatArray, other: FloatArray) -> float:
    """Kullback-Leibler divergence of two distributions [nats]; infinite where `other` rules out what `one` has."""
    there = one > 0
    with np.errstate(divide="ignore"):
        return float((one[there] * np.log(one[there] / other[there])).sum())


class FrameStatistics:
    """Sums over frames, utterance by utterance, of all that the recogniser's view shows.

    Args:
        phone_of_pdf: [num_pdfs, num_phones], how probable each phone is given a pdf; rows sum to one.
        num_states: most HMM states of a phone.
        silence: bool [num_phones], which are silence.

    Attributes:
        frames, correct, loss: [num_phones, num_states], sums by phone and HMM state: frames, those whose pdf is
            the most probable, cross-entropy [nats].
        confusion: [num_phones, num_phones], frames by phone of the alignment and most probable phone.
        posterior_sum: [num_pdfs], sum of the posteriors.
        entropy_counts: [2, NUM_BINS], frames by entropy relative to its maximum; row 0 wrong, row 1 right.
        entropy_sum: of the entropies [nats].
        silence_mass: posterior probability of silence, summed over frames.
    """

    def __init__(self, phone_of_pdf: FloatArray, num_states: int, silence: NDArray[np.bool_]) -> None:
        num_pdfs, num_phones = phone_of_pdf.shape
        self.phone_of_pdf, self.silence = phone_of_pdf, silence
        self.frames = np.zeros((num_phones, num_states))
        self.correct, self.loss = np.zeros_like(self.frames), np.zeros_like(self.frames)
        self.confusion = np.zeros((num_phones, num_phones))
        self.posterior_sum = np.zeros(num_pdfs)
        self.pdf_counts = np.zeros(num_pdfs)
        self._calibration = np.zeros((NUM_BINS, 3))
        self.entropy_counts = np.zeros((2, NUM_BINS))
        self.entropy_sum = self.silence_mass = 0.0

    def add(
        self,
        log_posteriors: NDArray[np.float32],
        pdfs: NDArray[np.int64],
        phones: NDArray[np.int64],
        states: NDArray[np.int64],
    ) -> tuple[float, float]:
        """Add an utterance.

        Args:
            log_posteriors: [T, num_pdfs].
            pdfs, phones, states: int [T], what the alignment says of each frame.

        Returns:
            Its mean cross-entropy [nats] and frame accuracy.
        """
        posteriors = np.exp(log_posteriors, dtype=np.float64)
        is_right = log_posteriors.argmax(axis=1) == pdfs
        losses = -log_posteriors[np.arange(len(pdfs)), pdfs].astype(np.float64)
        where = phones * self.frames.shape[1] + states
        for total, weights in ((self.frames, None), (self.correct, is_right), (self.loss, losses)):
            total += np.bincount(where, weights, total.size).reshape(total.shape)
        of_phones = posteriors @ self.phone_of_pdf
        np.add.at(self.confusion, (phones, of_phones.argmax(axis=1)), 1)
        self.posterior_sum += posteriors.sum(axis=0)
        self.pdf_counts += np.bincount(pdfs, minlength=len(self.pdf_counts))
        self._calibration += calibration_sums(posteriors.max(axis=1), is_right)
        entropy = entropies(log_posteriors)
        relative = entropy / np.log(max(2, log_posteriors.shape[1]))
        bins = np.minimum((relative * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        np.add.at(self.entropy_counts, (is_right.astype(np.int64), bins), 1)
        self.entropy_sum += float(entropy.sum())
        self.silence_mass += float(of_phones[:, self.silence].sum())
        return float(losses.mean()), float(is_right.mean())

    @property
    def num_frames(self) -> int:
        """Frames added."""
        return int(self.frames.sum())

    @property
    def accuracy(self) -> float:
        """Share of frames whose pdf is the most probable."""
        return float(self.correct.sum() / self.num_frames)

    @property
    def cross_entropy(self) -> float:
        """Mean over frames [nats]."""
        return float(self.loss.sum() / self.num_frames)

    @property
    def phone_accuracy(self) -> float:
        """Share of frames whose phone is the most probable."""
        return float(np.trace(self.confusion) / self.num_frames)

    @property
    def mean_entropy(self) -> float:
        """Of the posteriors [nats]."""
        return self.entropy_sum / self.num_frames

    @property
    def calibration(self) -> Calibration:
        """Of the highest posteriors."""
        return calibration(self._calibration)

    @property
    def mean_posterior(self) -> FloatArray:
        """[num_pdfs], averaged over frames."""
        return self.posterior_sum / self.num_frames

    @property
    def silence_shares(self) -> dict[str, float]:
        """Share of silence in the alignments, among most probable phones, and of the posterior probability."""
        return {
            "alignments": float(self.confusion[self.silence].sum() / self.num_frames),
            "decided": float(self.confusion[:, self.silence].sum() / self.num_frames),
            "posteriors": self.silence_mass / self.num_frames,
        }

    @property
    def accuracy_without_silence(self) -> float:
        """`accuracy` over the frames of other phones; nan if there are none."""
        frames = self.frames[~self.silence].sum()
        return float(self.correct[~self.silence].sum() / frames) if frames else float("nan")

    def top_confusions(self, count: int) -> list[tuple[int, int, int, float]]:
        """The commonest confusions: phone, taken for, frames, share of the phone's frames."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        totals = self.confusion.sum(axis=1)
        found = []
        for cell in np.argsort(-wrong, axis=None, kind="stable")[:count]:
            phone, taken_for = divmod(int(cell), wrong.shape[1])
            if wrong[phone, taken_for]:
                frames = int(wrong[phone, taken_for])
                found.append((phone, taken_for, frames, frames / totals[phone]))
        return found
