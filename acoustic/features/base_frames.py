"""Base frames of stored features: tables of features, CMVN statistics and fMLLR transforms joined by utterance.

The frames cache and the forward pass both read features here, so that they cannot differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from acoustic.errors import ConfigError, DataError
from acoustic.features.cmvn import cmvn_stats
from acoustic.features.fmllr import open_transforms
from acoustic.features.frontend import Frontend
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.specifiers import parse_rspecifier, read_script
from acoustic.kaldi.tables import RandomAccessTable, read_table
from acoustic.log import Tally


class MatrixTable(Protocol):
    """Matrices by key: a dictionary of tensors or a table of files."""

    def __contains__(self, key: str, /) -> bool: ...

    def __getitem__(self, key: str, /) -> Any: ...


def base_frames(
    data_dir: DataDir,
    frontend: Frontend,
    tally: Tally,
    *,
    cmvn: Mapping[str, Tensor] | None = None,
    fmllr: str | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """What `frontend.per_utterance` makes of every utterance of a data directory, in the order of feats.scp.

    Utterances that cannot be used are counted in `tally` (no_features, unreadable, empty, wrong_dim, non_finite, and as
    done those that went through).

    Args:
        data_dir: with feats.scp; for speaker CMVN also utt2spk.
        frontend: the stages; global CMVN must have been set.
        tally: counts.
        cmvn: statistics by speaker. Without them those of cmvn.scp are used; when there is none either, they are
            computed in a pass over the features before the first utterance (`speaker_stats`).
        fmllr: rspecifier or directory of the transforms, by speaker or utterance as the front end's config says.

    Yields:
        Utterance id and float32 [T, base_dim].

    Raises:
        DataError: there are no features, or no statistics or transform for a speaker, who is named.
    """
    if not data_dir.feats:
        raise DataError("the data directory has no feats.scp", remedy="compute features first (acoustic fbank)")
    if frontend.config.needs_cmvn_stats or frontend.config.fmllr == "speaker":
        check_speakers(data_dir)
    with contextlib.ExitStack() as stack:
        stats: MatrixTable | None = cmvn
        if cmvn is None and frontend.config.needs_cmvn_stats:
            if data_dir.cmvn:
                table = RandomAccessTable.from_rxfilenames(data_dir.cmvn, "matrix", "cmvn.scp")
                stats = stack.enter_context(table)
            else:
                stats = speaker_stats(data_dir, frontend.feat_dim)
        transforms = open_fmllr(frontend, fmllr, stack)
        for utt in data_dir.utterances:
            if utt not in data_dir.feats:
                tally.skip("no_features", utt, "not in feats.scp")
        matrices = _matrices_of_dir(data_dir, tally)
        yield from _base_frames(matrices, frontend, tally, stats, data_dir.utt2spk, transforms)


def base_frames_of_table(
    feats: str,
    frontend: Frontend,
    tally: Tally,
    *,
    cmvn: str | None = None,
    utt2spk: str | None = None,
    fmllr: str | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """`base_frames` of a table of features, as Kaldi's programs take them.

    Args:
        feats: rspecifier of the features.
        frontend: the stages.
        tally: counts.
        cmvn: rspecifier of CMVN statistics, by speaker when `utt2spk` is given, else by utterance.
        utt2spk: rspecifier of the speaker of each utterance.
        fmllr: rspecifier or directory of fMLLR transforms, by speaker or utterance as the front end's config says.

    Raises:
        ConfigError: the front end needs statistics or speakers that were not given.
        DataError: no statistics, speaker or transform for an utterance, or an archive that cannot be read on.
    """
    if frontend.config.needs_cmvn_stats and cmvn is None:
        raise ConfigError("this model normalises by speaker: give --cmvn and --utt2spk, or a data directory")
    if frontend.config.fmllr == "speaker" and utt2spk is None:
        raise ConfigError("this model's fMLLR transforms are by speaker: give --utt2spk, or a data directory")
    speakers = dict(read_table(utt2spk, "token")) if utt2spk else {}
    with contextlib.ExitStack() as stack:
        stats = None
        if cmvn is not None and frontend.config.needs_cmvn_stats:
            stats = stack.enter_context(RandomAccessTable(cmvn, "matrix"))
        transforms = open_fmllr(frontend, fmllr, stack)
        yield from _base_frames(_matrices_of_table(feats, tally), frontend, tally, stats, speakers, transforms)


def open_fmllr(frontend: Frontend, source: str | None, stack: contextlib.ExitStack) -> MatrixTable | None:
    """The fMLLR transforms of an rspecifier or directory, when the front end applies them; closed with `stack`.

    Raises:
        ConfigError: it does and none are given, or the other way round.
        DataError: as `open_transforms`.
    """
    if source is None and frontend.config.fmllr != "none":
        raise ConfigError(
            f"the front end has fmllr={frontend.config.fmllr}, but no transforms are given: "
            "train.transform_dir and dev.transform_dir for training, --fmllr=DIR for loglikes"
        )
    if source is not None and frontend.config.fmllr == "none":
        raise ConfigError(f"the front end has fmllr=none, but {source} is given: set features.fmllr=speaker for it")
    return None if source is None else open_transforms(source, stack)


def check_speakers(data_dir: DataDir) -> None:
    """Check that utt2spk covers every utterance with features.

    Raises:
        DataError: naming one it does not.
    """
    for utt in data_dir.feats:
        if utt not in data_dir.utt2spk:
            raise DataError("is not in utt2spk", utt=utt, remedy="add it, or normalise by utterance (cmvn=utterance)")


def speaker_stats(data_dir: DataDir, feat_dim: int) -> dict[str, Tensor]:
    """CMVN statistics of each speaker over all usable utterances of a data directory: float64 [2, feat_dim + 1].

    Raises:
        DataError: an utterance without a speaker.
    """
    check_speakers(data_dir)
    stats: dict[str, Tensor] = {}
    for utt, feats in _usable(_matrices_of_dir(data_dir, Tally()), feat_dim, Tally()):
        speaker = data_dir.utt2spk[utt]
        utterance_stats = cmvn_stats(feats)
        stats[speaker] = stats[speaker] + utterance_stats if speaker in stats else utterance_stats
    return stats


def global_stats(data_dir: DataDir, feat_dim: int) -> Tensor:
    """CMVN statistics over all usable utterances of a data directory: float64 [2, feat_dim + 1]."""
    total = torch.zeros(2, feat_dim + 1, dtype=torch.float64)
    for _, feats in _usable(_matrices_of_dir(data_dir, Tally()), feat_dim, Tally()):
        total += cmvn_stats(feats)
    return total


def _base_frames(
    matrices: Iterable[tuple[str, Tensor]],
    frontend: Frontend,
    tally: Tally,
    stats: MatrixTable | None,
    utt2spk: Mapping[str, str],
    fmllr: MatrixTable | None,
) -> Iterator[tuple[str, Tensor]]:
    """Join features with statistics (by speaker where `utt2spk` has any) and transforms; run the front end."""
    for utt, feats in _usable(matrices, frontend.feat_dim, tally):
        utterance_stats, transform = None, None
        if stats is not None:
            utterance_stats = _matrix_of(stats, _owner(utt, utt2spk), utt, "CMVN statistics")
        if fmllr is not None:
            owner = _owner(utt, utt2spk) if frontend.config.fmllr == "speaker" else utt
            transform = _matrix_of(fmllr, owner, utt, "fMLLR transform")
        try:
            base = frontend.per_utterance(feats, utterance_stats, transform)
        except DataError as error:
            raise DataError(error.problem, utt=utt, remedy=error.remedy) from error
        tally.done()
        yield utt, base


def _owner(utt: str, utt2spk: Mapping[str, str]) -> str:
    """Whose statistics an utterance takes: its speaker's, or its own where speakers are not given."""
    if not utt2spk:
        return utt
    if utt not in utt2spk:
        raise DataError("is not in utt2spk", utt=utt, remedy="add it")
    return utt2spk[utt]


def _matrix_of(table: MatrixTable, owner: str, utt: str, what: str) -> Tensor:
    """The matrix of a speaker or utterance, which must be there."""
    if owner not in table:
        raise DataError(f"no {what} for {owner}", utt=utt, remedy="make them for the whole set")
    return torch.as_tensor(table[owner])


def _matrices_of_dir(data_dir: DataDir, tally: Tally) -> Iterator[tuple[str, Tensor]]:
    """Every readable feature matrix of feats.scp."""
    return _readable(RandomAccessTable.from_rxfilenames(data_dir.feats, "matrix", "feats.scp"), data_dir.feats, tally)


def _matrices_of_table(rspecifier: str, tally: Tally) -> Iterator[tuple[str, Tensor]]:
    """Every readable feature matrix of a table; an archive that cannot be read on is an error."""
    table = parse_rspecifier(rspecifier)
    if table.is_script:
        yield from _readable(RandomAccessTable(rspecifier, "matrix"), read_script(table.rxfilename), tally)
        return
    for utt, matrix in read_table(rspecifier, "matrix"):
        yield utt, torch.from_numpy(matrix)


def _readable(table: RandomAccessTable, utterances: Iterable[str], tally: Tally) -> Iterator[tuple[str, Tensor]]:
    """The matrices of `utterances`; those that cannot be read are counted."""
    with table:
        for utt in utterances:
            try:
                matrix: np.ndarray[Any, Any] = table[utt]
            except DataError as error:
                tally.skip("unreadable", utt, str(error))
                continue
            yield utt, torch.from_numpy(matrix)


def _usable(matrices: Iterable[tuple[str, Tensor]], feat_dim: int, tally: Tally) -> Iterator[tuple[str, Tensor]]:
    """Pass on the matrices that are [T >= 1, feat_dim] and finite; the others are counted."""
    for utt, feats in matrices:
        if feats.numel() == 0:
            tally.skip("empty", utt, "no frames")
        elif feats.shape[1] != feat_dim:
            tally.skip("wrong_dim", utt, f"{feats.shape[1]} values in a frame instead of {feat_dim}")
        elif not bool(feats.isfinite().all()):
            tally.skip("non_finite", utt, f"NaN or infinite values, first in frame {_first_bad_frame(feats)}")
        else:
            yield utt, feats


def _first_bad_frame(feats: Tensor) -> int:
    """The first frame of [T, dim] with a NaN or infinite value."""
    return int((~feats.isfinite().all(1)).nonzero()[0])
