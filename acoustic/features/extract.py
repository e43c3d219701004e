"""Features of many utterances: audio read and features computed by several workers, results in the input's order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from acoustic.errors import DataError
from acoustic.features.audio import FloatArray, Utterance, check_rate, reason_of
from acoustic.features.fbank import Fbank

# What a worker takes at a time; the samples of a pack are all in memory.
PACK_UTTERANCES = 16


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


def _packs(utterances: Iterable[Utterance]) -> Iterator[tuple[Utterance, ...]]:
    """Utterances, PACK_UTTERANCES at a time."""
    iterator = iter(utterances)
    while pack := tuple(itertools.islice(iterator, PACK_UTTERANCES)):
        yield pack


def extract_pack(pack: Sequence[Utterance], fbank: Fbank, min_seconds: float) -> list[Extracted]:
    """Read some utterances and compute their features in one batch."""
    results: list[Extracted] = []
    waveforms: list[torch.Tensor] = []
    readable: list[Extracted] = []
    for utterance in pack:
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
        waveforms.append(torch.from_numpy(samples))
        readable.append(result)
    feats = fbank(waveforms, [result.utt for result in readable]) if waveforms else []
    for result, matrix in zip(readable, feats, strict=True):
        result.feats = matrix.cpu().numpy()
    return results
