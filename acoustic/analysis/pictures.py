"""Gathers what the pictures of the worst utterances show: sound, posteriors, alignment, best path."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from acoustic.analysis.dataset import DataSet
from acoustic.analysis.examine import Examined, with_log_posteriors
from acoustic.analysis.figures.utterances import Picture, spectrogram
from acoustic.errors import DataError
from acoustic.features.audio import utterances_of_dir
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import RandomAccessTable
from acoustic.log import Tally, get_logger

logger = get_logger(__name__)


def pictures(examined: Examined, data: DataSet, utts: Iterable[str]) -> list[Picture]:
    """The pictures of some utterances of the data, in their order."""
    wanted = list(utts)
    sounds = {utt: sound_of(data.data_dir, utt) for utt in wanted}
    fbank = examined.model.bundle.fbank_options or {}
    model, found = data.transition_model, {}
    labelled = data.frames(examined.model, Tally(), only=set(wanted))
    for item, log_posteriors in with_log_posteriors(examined.model, labelled):
        sound, rate = sounds[item.utt]
        path = examined.utterances[item.utt].path
        found[item.utt] = Picture(
            utt=item.utt,
            sound=sound,
            is_audio=rate > 0,
            rate=rate,
            posteriors=np.exp(log_posteriors.cpu().numpy().astype(np.float64)) @ examined.frames.phone_of_pdf,
            reference=data.phones.phones_of(model, item.alignment),
            path=None if path is None else data.phones.phones_of(model, path),
            frame_rate=1000.0 / float(fbank.get("frame_shift", 10.0)),
        )
    return [found[utt] for utt in wanted]


def sound_of(directory: DataDir, utt: str) -> tuple[NDArray[np.float32], float]:
    """The spectrogram of an utterance with its sampling rate; where audio cannot be had its features, with rate 0.

    Raises:
        DataError: its features cannot be read either.
    """
    segment = directory.segments.get(utt)
    recording = segment.recording if segment else utt
    if recording in directory.wav:
        single = DataDir(wav={recording: directory.wav[recording]}, segments={utt: segment} if segment else {})
        try:
            samples, rate = next(iter(utterances_of_dir(single))).read()
            return spectrogram(samples, rate), float(rate)
        except DataError as error:
            logger.warning("no audio of %s, its features are shown instead: %s", utt, error)
    with RandomAccessTable.from_rxfilenames({utt: directory.feats[utt]}, "matrix", "feats.scp") as table:
        return np.ascontiguousarray(table[utt].T), 0.0
