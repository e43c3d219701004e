"""The data that models are looked at with: utterances that have an alignment, and a sample of their frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acoustic.analysis.phones import PhoneSet, find_symbols
from acoustic.decode.forward import AcousticModel
from acoustic.errors import DataError
from acoustic.features.base_frames import base_frames, speaker_stats
from acoustic.kaldi.alignments import check_alignment, read_alignments, read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally

LENGTH_TOLERANCE = 5  # frames by which features and alignments may differ, as in training


@dataclass(frozen=True)
class DataSet:
    """Labelled utterances.

    Attributes:
        name: of the data directory.
        data_dir: the utterances.
        transition_model: of the alignments.
        phones: what its phones are called.
        alignments: utterance -> int32 [T] transition_ids; only utterances of the data directory.
        fmllr: rspecifier or directory of fMLLR transforms, or None.
    """

    name: str
    data_dir: DataDir
    transition_model: TransitionModel
    phones: PhoneSet
    alignments: dict[str, NDArray[np.int32]]
    fmllr: str | None = None

    @classmethod
    def read(
        cls,
        data_dir: str | Path,
        ali_dir: str | Path,
        graph_dir: str | Path | None = None,
        silence_phones: set[int] | None = None,
        fmllr: str | None = None,
    ) -> DataSet:
        """Read a data directory and its alignments; phones.txt is taken from the graph or the alignment directory.

        Raises:
            DataError: something is missing or damaged, or no utterance has an alignment.
        """
        directory = DataDir.read(data_dir)
        model = read_model(ali_dir)
        wanted = set(directory.utterances)
        alignments = {}
        for utt, alignment in read_alignments(ali_dir):
            if utt in wanted and len(alignment):
                check_alignment(model, utt, alignment)
                alignments[utt] = alignment
        if not alignments:
            remedy = "give the alignments of this data with --ali-dir"
            raise DataError("has no alignment for any utterance of the data", path=ali_dir, remedy=remedy)
        phones = PhoneSet.make(model, find_symbols(graph_dir, ali_dir), silence_phones)
        ordered = {utt: alignments[utt] for utt in directory.utterances if utt in alignments}
        return cls(Path(data_dir).name, directory, model, phones, ordered, fmllr)

    @property
    def num_frames(self) -> int:
        """Frames of all alignments."""
        return sum(map(len, self.alignments.values()))

    @property
    def num_states(self) -> int:
        """Most HMM states of a phone."""
        return int(self.transition_model.hmm_state_of.max()) + 1

    def sample(self, num_frames: int, seed: int = 0) -> dict[str, NDArray[np.int64]]:
        """Frames drawn without replacement, sorted, by utterance; all of them if there are no more."""
        lengths = np.array([len(alignment) for alignment in self.alignments.values()])
        ends = lengths.cumsum()
        drawn = np.random.default_rng(seed).choice(ends[-1], min(num_frames, int(ends[-1])), replace=False)
        drawn.sort()
        owner = np.searchsorted(ends, drawn, side="right")
        within = drawn - (ends - lengths)[owner]
        return {utt: within[owner == number] for number, utt in enumerate(self.alignments)}

    def frames(self, model: AcousticModel, tally: Tally, only: set[str] | None = None) -> Iterator[Labelled]:
        """Each aligned utterance as a model sees it; what cannot be used is counted (no_alignment, length, ...)."""
        directory, cmvn = self.data_dir, None
        if model.frontend.config.needs_cmvn_stats and not directory.cmvn:
            cmvn = speaker_stats(directory, model.frontend.feat_dim)
        if only is not None:
            feats = {utt: feats for utt, feats in directory.feats.items() if utt in only}
            directory = DataDir(feats=feats, utt2spk=directory.utt2spk, cmvn=directory.cmvn)
        read = Tally()
        for utt, base in base_frames(directory, model.frontend, read, cmvn=cmvn, fmllr=self.fmllr):
            alignment = self.alignments.get(utt)
            if alignment is None:
                tally.skip("no_alignment", utt)
            elif abs(len(alignment) - len(base)) > LENGTH_TOLERANCE:
                tally.skip("length", utt, f"{len(base)} frames of features, {len(alignment)} of alignment")
            else:
                length = min(len(base), len(alignment))
                tally.done()
                yield Labelled(utt, base[:length], alignment[:length])
        for reason, key, detail in read.skips if only is None else []:
            tally.skip(reason, key, detail)


@dataclass(frozen=True)
class Labelled:
    """An utterance: base frames float32 [T, base_dim], transition_ids int32 [T]."""

    utt: str
    base: Tensor
    alignment: NDArray[np.int32]

    def inputs(self, model: AcousticModel, frames: NDArray[np.int64]) -> Tensor:
        """Network inputs [len(frames), input_dim] of some frames."""
        index = torch.as_tensor(frames[frames < len(self.base)])
        base = self.base.to(model.device)
        index = index.to(model.device)
        return model.frontend.window(base, index, index, len(base) - 1 - index)
