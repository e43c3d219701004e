"""Features of many utterances: audio read and features computed by several workers, results in the input's order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from acoustic.errors import DataError
from acoustic.features.audio import FloatArray, Utterance, check_rate, reason_of
from acoustic.features.fbank import Fbank

# What a worker takes at a time.
PACK_UTTERANCES = 16
# Samples that it reads before it computes their features: more would only take memory, where recordings are long.
BATCH_SAMPLES = 1 << 22


@dataclass
class Extracted:
    """What became of one utterance: features, or the reason why there are none."""

    utt: str
    seconds: float = 0.0  # of audio
    feats: FloatArray | None = None  # [num_frames, dim]
    reason: str = ""
    detail: str = ""


def extract(
    utterances: Iterable[Utterance], fbank: Fbank, num_jobs: int = 1, min_seconds: float = 0.0
) -> Iterator[Extracted]:
    """Compute the features of utterances, in their order.

    Workers are threads: reading, decoding and the arithmetic all run outside Python's lock, and nothing is copied
    between processes. Let torch use one thread in each (torch.set_num_threads).

    Args:
        utterances: what to compute; may be a generator, which is read as far ahead as the workers need.
        fbank: on the CPU or another device.
        num_jobs: workers.
        min_seconds: shorter utterances are left out as too_short.

    Raises:
        DataError: an utterance's audio has another rate than `fbank` is configured for.
    """
    pending: deque[Future[list[Extracted]]] = deque()
    with ThreadPoolExecutor(num_jobs) as pool:
        try:
            for pack in _packs(utterances):
                pending.append(pool.submit(extract_pack, pack, fbank, min_seconds))
                # Two packs for each worker, so that none waits for the consumer.
                if len(pending) > 2 * num_jobs:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _packs(utterances: Iterable[Utterance]) -> Iterator[list[Utterance]]:
    """Utterances, PACK_UTTERANCES at a time."""
    iterator = iter(utterances)
    while pack := list(itertools.islice(iterator, PACK_UTTERANCES)):
        yield pack


def extract_pack(pack: list[Utterance], fbank: Fbank, min_seconds: float) -> list[Extracted]:
    """Read some utterances and compute their features, as many at a time as their samples are few.

    `pack` is emptied on the way, so that audio whose features are computed is no longer in memory.
    """
    results: list[Extracted] = []
    batch: list[tuple[Extracted, torch.Tensor]] = []
    num_samples = 0
    while pack:
        utterance = pack.pop(0)
        result = Extracted(utterance.utt)
        results.append(result)
        try:
            samples, rate = utterance.read()
        except DataError as error:
            result.reason, result.detail = reason_of(error), str(error)
            continue
        check_rate(rate, fbank.options.sample_frequency, utterance.utt, utterance.recording.rxfilename)
        result.seconds = len(samples) / rate
        if result.seconds < min_seconds or fbank.options.num_frames(len(samples)) == 0:
            result.reason, result.detail = "too_short", f"{result.seconds:.3f} s"
            continue
        batch.append((result, torch.from_numpy(samples)))
        num_samples += len(samples)
        if num_samples >= BATCH_SAMPLES:
            _compute(batch, fbank)
            batch, num_samples = [], 0
    _compute(batch, fbank)
    return results


def _compute(batch: list[tuple[Extracted, torch.Tensor]], fbank: Fbank) -> None:
    """Give each of some utterances the features of its samples."""
    feats = fbank([samples for _, samples in batch], [result.utt for result, _ in batch])
    for (result, _), matrix in zip(batch, feats, strict=True):
        result.feats = matrix.cpu().numpy()
