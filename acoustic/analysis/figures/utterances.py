"""Pictures of single utterances: spectrogram, posteriorgram, alignment and best path on one time axis."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from acoustic.analysis.figures.panel import AMOUNT, INK, MODEL_COLOURS, MUTED, Panel, draw

LEAST_SHOWN = 0.35  # phones whose posterior never reaches this are left out


@dataclass(frozen=True)
class Picture:
    """What is shown of an utterance.

    Attributes:
        utt: its name.
        sound: [num_bins, T'], a spectrogram in dB, or features.
        is_audio: whether `sound` is a spectrogram.
        rate: sampling frequency of the audio [Hz], 0 for features.
        posteriors: [T, num_phones], of phones.
        reference: int64 [T], the phone of each frame by the alignment.
        path: int64 [T], by the best path of the decoder, or None.
        frame_rate: frames per second.
    """

    utt: str
    sound: NDArray[np.float32]
    is_audio: bool
    rate: float
    posteriors: NDArray[np.float64]
    reference: NDArray[np.int64]
    path: NDArray[np.int64] | None
    frame_rate: float = 100.0


def spectrogram(samples: NDArray[np.float32], rate: float) -> NDArray[np.float32]:
    """Magnitudes in dB of windows of 25 ms every 10 ms, the loudest at 0: [num_samples] -> [num_bins, T]."""
    length, shift = int(0.025 * rate), int(0.01 * rate)
    if len(samples) < length:
        samples = np.pad(samples, (0, length - len(samples)))
    windows = np.lib.stride_tricks.sliding_window_view(samples, length)[::shift] * np.hanning(length)
    magnitude = np.abs(np.fft.rfft(windows, 1 << (2 * length - 1).bit_length(), axis=1)).T
    return (20 * np.log10(np.maximum(magnitude, 1e-4 * magnitude.max() + 1e-9) / (magnitude.max() + 1e-9))).astype(
        np.float32
    )


def utterance(name: str, picture: Picture, phone_names: list[str]) -> Panel:
    """Draw an utterance."""
    strips = 1 if picture.path is None else 2
    ordered = _phones_shown(picture)
    size = (9.4, 2.2 + 0.3 * strips + 0.15 * len(ordered))

    def paint(figure: Figure) -> None:
        ratios = [1.5, 0.15 * len(ordered), 0.3 * strips]
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=ratios)
        seconds = len(picture.posteriors) / picture.frame_rate
        _paint_sound(top, picture, seconds)
        extent = (0.0, seconds, len(ordered) - 0.5, -0.5)
        shown = picture.posteriors[:, ordered].T
        middle.imshow(shown, cmap=AMOUNT, vmin=0, vmax=1, aspect="auto", extent=extent, interpolation="nearest")
        _paint_outline(middle, picture, ordered)
        middle.set_yticks(range(len(ordered)), [phone_names[phone] for phone in ordered], fontsize=6.5)
        middle.set_ylabel("posterior", fontsize=8)
        middle.grid(axis="x", visible=False)
        rows = [("aligned", picture.reference)] + ([] if picture.path is None else [("decoded", picture.path)])
        _paint_strips(bottom, rows, phone_names, picture.frame_rate)
        bottom.set(xlabel="seconds", xlim=(0, seconds))

    return draw(
        name, f"Spectrogram, phone posteriors and alignment of the utterance {picture.utt}", paint, size, wide=True
    )


def _phones_shown(picture: Picture) -> list[int]:
    """The phones worth a row, in the order in which the alignment has them first."""
    shown = set(np.flatnonzero(picture.posteriors.max(axis=0) >= LEAST_SHOWN).tolist())
    order = dict.fromkeys(picture.reference.tolist())
    if picture.path is not None:
        order |= dict.fromkeys(picture.path.tolist())
    return [*order, *sorted(shown - order.keys())]


def _paint_sound(axis: Axes, picture: Picture, seconds: float) -> None:
    height = picture.rate / 2000 if picture.is_audio else picture.sound.shape[0]
    low, high = (-70.0, 0.0) if picture.is_audio else (None, None)
    axis.imshow(
        picture.sound, origin="lower", aspect="auto", cmap="magma", extent=(0.0, seconds, 0.0, height), vmin=low,
        vmax=high,
    )  # fmt: skip
    axis.set_ylabel("kHz" if picture.is_audio else "feature", fontsize=8)
    axis.grid(False)


def _runs(phones: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(begin, end, phone) of the runs of equal phones."""
    edges = np.flatnonzero(np.diff(phones)) + 1
    bounds = [0, *edges.tolist(), len(phones)]
    return [(begin, end, int(phones[begin])) for begin, end in pairwise(bounds)]


def _paint_outline(axis: Axes, picture: Picture, ordered: list[int]) -> None:
    """A frame around the stretch of each aligned phone, in its row."""
    for begin, end, phone in _runs(picture.reference):
        row = ordered.index(phone)
        axis.plot(
            np.array([begin, end, end, begin, begin]) / picture.frame_rate,
            row + np.array([-0.45, -0.45, 0.45, 0.45, -0.45]),
            color=MODEL_COLOURS[1],
            linewidth=0.8,
        )


def _paint_strips(axis: Axes, rows: list[tuple[str, NDArray[np.int64]]], names: list[str], frame_rate: float) -> None:
    """The phones of each row one after another, named where there is room."""
    for row, (_, phones) in enumerate(rows):
        for begin, end, phone in _runs(phones):
            axis.axvline(begin / frame_rate, 1 - (row + 1) / len(rows), 1 - row / len(rows), color=MUTED, lw=0.6)
            if end - begin >= 3:
                axis.text(
                    (begin + end) / 2 / frame_rate, row, names[phone], ha="center", va="center", fontsize=6.5,
                    color=INK, clip_on=True,
                )  # fmt: skip
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(False)
