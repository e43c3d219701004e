"""Features of many utterances: what is in memory at a time, and order."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
import torch

from acoustic.features.audio import FloatArray, Recording, Utterance
from acoustic.features.extract import extract
from acoustic.features.fbank import Fbank, FbankOptions

FBANK = Fbank(FbankOptions(sample_frequency=16000.0, num_mel_bins=23, dither=0.0))


class Counted(Recording):
    """A recording that, when read, notes how many others are in memory; its samples follow from its number."""

    alive: ClassVar[list[weakref.ref[FloatArray]]] = []
    most_alive = 0

    def __init__(self, number: int) -> None:
        super().__init__(f"r{number}", "")
        self.number = number

    def read(self) -> tuple[FloatArray, int]:
        if self._result is None:
            samples = 1000 * np.random.default_rng(self.number).standard_normal(2000 + self.number).astype(np.float32)
            self._result = samples, 16000
            Counted.alive.append(weakref.ref(samples))
            Counted.most_alive = max(Counted.most_alive, sum(found() is not None for found in Counted.alive))
        return self._result  # type: ignore[return-value]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    """With its counts at zero."""
    monkeypatch.setattr(Counted, "alive", [])
    monkeypatch.setattr(Counted, "most_alive", 0)
    return Counted


@pytest.mark.parametrize("num_jobs", [1, 3])
def test_samples_are_in_memory_until_there_are_enough_of_them(
    counted: type[Counted], num_jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def utterances() -> Iterator[Utterance]:
        yield from (Utterance(f"u{number}", Counted(number)) for number in range(70))

    expected = {result.utt: result.feats for result in extract(utterances(), FBANK)}
    assert list(expected) == [f"u{n}" for n in range(70)]
    assert counted.most_alive >= 16  # all of a pack: they are short
    counted.alive.clear()
    counted.most_alive = 0
    monkeypatch.setattr("acoustic.features.extract.BATCH_SAMPLES", 5000)
    for result in extract(utterances(), FBANK, num_jobs):
        wanted = expected.pop(result.utt)
        assert wanted is not None and result.feats is not None
        np.testing.assert_allclose(result.feats, wanted, atol=1e-4)
        assert result.seconds == (2000 + int(result.utt[1:])) / 16000
    assert not expected
    assert counted.most_alive <= 4 * num_jobs


def test_features_are_those_of_the_waveform() -> None:
    recording = Counted(5)
    (result,) = extract([Utterance("u", recording)], FBANK)
    assert result.feats is not None
    (expected,) = FBANK([torch.from_numpy(recording.read()[0])])
    np.testing.assert_array_equal(result.feats, expected)
