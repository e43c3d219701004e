"""Choosing acoustic scale, insertion penalty and prior scale on development data, never on the data reported."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import kaldialign
import numpy as np
from numpy.typing import NDArray

from acoustic.decode.decoder import Decoder, DecoderOptions, NoPathError, SearchOptions
from acoustic.decode.graph import read_graph
from acoustic.decode.jobs import in_processes
from acoustic.decode.wer import percent
from acoustic.errors import ConfigError, DataError
from acoustic.fsio import read_json, write_json
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally

UNKNOWN_WORD = -1  # id of reference words that the graph does not have; no hypothesis can hold it


@dataclass(frozen=True)
class Grid:
    """The values to try, every combination of them.

    Attributes:
        acoustic_scales: scales of the log likelihoods; finer than Kaldi's 1 / integer if wanted.
        insertion_penalties: costs added to each word.
        prior_scales: factors on the log priors.
    """

    acoustic_scales: tuple[float, ...]
    insertion_penalties: tuple[float, ...] = (0.0,)
    prior_scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """ConfigError on a grid without cells, or with a scale at which nothing can be decoded."""
        if not (self.acoustic_scales and self.insertion_penalties and self.prior_scales):
            raise ConfigError("a grid to tune over needs at least one value of each kind")
        if not min(self.acoustic_scales) > 0.0:
            raise ConfigError(
                f"--acoustic-scales: {min(self.acoustic_scales):g} is among them, but scales are positive"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of prior scales, acoustic scales and insertion penalties."""
        return len(self.prior_scales), len(self.acoustic_scales), len(self.insertion_penalties)


@dataclass(frozen=True)
class Trial:
    """One combination and the errors it makes on the development data."""

    prior_scale: float
    acoustic_scale: float
    insertion_penalty: float
    num_words: int
    num_ins: int
    num_del: int
    num_sub: int

    @property
    def num_errors(self) -> int:
        """Word errors."""
        return self.num_ins + self.num_del + self.num_sub

    @property
    def wer(self) -> float:
        """Word error rate in per cent."""
        return percent(self.num_errors, self.num_words)


@dataclass(frozen=True)
class Tuning:
    """All trials, and the best."""

    best: Trial
    trials: list[Trial]

    def write(self, path: str | Path) -> None:
        """Write JSON: the best trial's values at the top, all trials under `trials`."""
        rows = [{**asdict(trial), "wer": round(trial.wer, 4)} for trial in self.trials]
        write_json(path, {**asdict(self.best), "wer": round(self.best.wer, 4), "trials": rows})


def read_tuned(path: str | Path) -> Trial:
    """The best trial of a file that `Tuning.write` made.

    Raises:
        DataError: the file is missing or not of that kind.
    """
    content = read_json(path)
    try:
        return Trial(**{name: content[name] for name in Trial.__dataclass_fields__})
    except (KeyError, TypeError) as error:
        raise DataError(f"is no file of decode-tune ({error})", path=path, remedy="make it with decode-tune") from error


def tune(
    model: TransitionModel,
    graph: str | Path | FstArrays,
    utterances: Iterable[tuple[str, NDArray[np.float32]]],
    ref: Mapping[str, Sequence[str]],
    word_ids: Mapping[str, int],
    grid: Grid,
    options: SearchOptions | None = None,
    log_priors: NDArray[np.float32] | None = None,
    num_jobs: int = 1,
) -> Tuning:
    """Decode development data once for every combination of the grid and count word errors.

    The data are gone through once and never held as a whole; each worker decodes an utterance in all combinations.

    Args:
        model, graph: as for `Decoder`.
        utterances: (utterance, loglikes) pairs, made with prior scale 1.
        ref: utterance -> reference words.
        word_ids: word -> id in the graph.
        grid: what to try.
        options: how thoroughly to search.
        log_priors: float32 [num_pdfs], needed for prior scales other than 1.
        num_jobs: worker processes.

    Raises:
        ConfigError: prior scales without log priors.
        DataError: faulty loglikes, or more than 5 % of the utterances without reference.
    """
    if log_priors is None and set(grid.prior_scales) != {1.0}:
        raise ConfigError("prior scales other than 1 need the log priors")
    decoders = _decoders(model, graph, grid, options or SearchOptions())
    tally = Tally()

    def with_reference() -> Iterator[tuple[NDArray[np.float32], list[int], str]]:
        for utt, loglikes in utterances:
            if utt in ref:
                tally.done()
                yield loglikes, [word_ids.get(word, UNKNOWN_WORD) for word in ref[utt]], utt
            else:
                tally.skip("no_reference", utt)

    def work(item: tuple[NDArray[np.float32], list[int], str]) -> tuple[int, NDArray[np.int64]]:
        loglikes, ref_ids, utt = item
        try:
            counts = [
                _count_errors(decoder, rescaled, ref_ids)
                for rescaled in _with_prior_scales(loglikes, log_priors, grid.prior_scales)
                for decoder in decoders
            ]
        except DataError as error:
            raise DataError(error.problem, utt=utt, remedy=error.remedy) from error
        return len(ref_ids), np.array(counts, dtype=np.int64)

    num_words = 0
    errors = np.zeros((np.prod(grid.shape), 3), dtype=np.int64)
    for words, counts in in_processes(work, with_reference(), num_jobs):
        num_words += words
        errors += counts
    tally.check()
    if num_words == 0:
        raise DataError("the references of the development data hold no words")
    cells = itertools.product(grid.prior_scales, grid.acoustic_scales, grid.insertion_penalties)
    trials = [Trial(*cell, num_words, *row) for cell, row in zip(cells, errors.tolist(), strict=True)]
    return Tuning(trials[best_cell(errors.sum(axis=1).reshape(grid.shape))], trials)


def best_cell(errors: NDArray[np.int64]) -> int:
    """Position, in C order, of the least errors on a grid.

    Among equals it is the one whose neighbours do best, then the one nearest to the centre: a value in the middle of a
    plateau is more likely to hold on other data than one at its edge.

    Args:
        errors: [num_prior_scales, num_acoustic_scales, num_insertion_penalties].
    """
    padded = np.pad(errors, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3,) * errors.ndim)
    around = windows.sum(axis=tuple(range(errors.ndim, 2 * errors.ndim)))
    offsets = [np.abs(np.arange(size) - (size - 1) / 2) / size for size in errors.shape]
    from_centre = np.add.outer(np.add.outer(offsets[0], offsets[1]), offsets[2])
    return int(np.lexsort((from_centre.ravel(), around.ravel(), errors.ravel()))[0])


def _decoders(
    model: TransitionModel, graph: str | Path | FstArrays, grid: Grid, options: SearchOptions
) -> list[Decoder]:
    """A decoder for each acoustic scale and insertion penalty, the latter varying faster; scales share a graph."""
    arrays = graph if isinstance(graph, FstArrays) else read_graph(graph, model)
    by_penalty = [
        Decoder(model, arrays, DecoderOptions(**asdict(options), insertion_penalty=penalty))
        for penalty in grid.insertion_penalties
    ]
    return [decoder.with_acoustic_scale(scale) for scale in grid.acoustic_scales for decoder in by_penalty]


def _with_prior_scales(
    loglikes: NDArray[np.float32], log_priors: NDArray[np.float32] | None, prior_scales: Sequence[float]
) -> Iterator[NDArray[np.float32]]:
    """Loglikes as they would be with other factors on the log priors; disabled pdfs stay disabled."""
    for prior_scale in prior_scales:
        if log_priors is None or prior_scale == 1.0:
            yield loglikes
        else:
            yield loglikes + np.where(log_priors < 0.0, (1.0 - prior_scale) * log_priors, 0.0).astype(np.float32)


def _count_errors(decoder: Decoder, loglikes: NDArray[np.float32], ref_ids: list[int]) -> tuple[int, int, int]:
    """Insertions, deletions and substitutions; an utterance without a path counts as empty."""
    try:
        words = decoder.decode(loglikes).words
    except NoPathError:
        words = []
    distance = kaldialign.edit_distance(ref_ids, words)
    return distance["ins"], distance["del"], distance["sub"]
