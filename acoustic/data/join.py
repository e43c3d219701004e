"""Features, alignments and speakers of data directories brought together, every fault counted by its reason."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acoustic.errors import ConfigError, DataError
from acoustic.features.base_frames import MatrixTable, check_speakers, open_fmllr, speaker_stats
from acoustic.features.frontend import Frontend
from acoustic.kaldi.alignments import read_alignments, read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.steps import StepWatch
from acoustic.kaldi.tables import RandomAccessTable
from acoustic.kaldi.tree import DecisionTree
from acoustic.log import Tally, get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class Source:
    """One data directory with its alignments.

    Attributes:
        data_dir: Kaldi data directory with feats.scp and utt2spk (and cmvn.scp for CMVN by speaker).
        ali_dir: alignment directory: ali.*.gz, final.mdl, tree; may hold further utterances.
        fmllr: rspecifier or directory of fMLLR transforms by utterance or speaker, as the front end asks.
    """

    data_dir: str
    ali_dir: str
    fmllr: str | None = None


@dataclass(frozen=True)
class JoinOptions:
    """What is still accepted.

    Attributes:
        length_tolerance: frames by which features and alignment may differ; the longer is cut at its end.
        min_frames: shorter utterances are skipped.
        max_skip_fraction: the run fails when more of the utterances are skipped.
    """

    length_tolerance: int = 5
    min_frames: int = 1
    max_skip_fraction: float = 0.05


@dataclass(frozen=True)
class Utterance:
    """An utterance ready for training.

    Attributes:
        id: utterance id.
        speaker: speaker id.
        frames: float32 [T, base_dim], base frames as the front end makes them.
        pdf_ids: int32 [T].
    """

    id: str
    speaker: str
    frames: np.ndarray
    pdf_ids: np.ndarray


class Skip(Exception):  # noqa: N818 (control flow within this room, not an error a user meets)
    """An utterance that cannot be used: the reason it is counted under, and what exactly was wrong."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)


# -- labels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelModel:
    """The model whose senones are the labels: their number, and which model it is."""

    num_pdfs: int
    fingerprints: dict[str, str]


def label_model(sources: Sequence[Source]) -> LabelModel:
    """The one model that the alignments of all sources were made with.

    Raises:
        DataError: the sources' models differ, or a tree does not belong to its model.
    """
    if not sources:
        raise ConfigError("no data directory given")
    models = []
    for source in sources:
        model = read_model(source.ali_dir)
        fingerprints = {"transition_model": model.fingerprint()}
        tree_path = Path(source.ali_dir) / "tree"
        if tree_path.exists():
            tree = DecisionTree.read(tree_path)
            if tree.num_pdfs != model.num_pdfs:
                raise DataError(
                    f"a tree of {tree.num_pdfs} pdfs beside a final.mdl of {model.num_pdfs}",
                    path=tree_path,
                    remedy="take tree and final.mdl from the same system",
                )
            fingerprints["tree"] = tree.fingerprint()
        models.append(LabelModel(model.num_pdfs, fingerprints))
    for source, other in zip(sources, models, strict=True):
        if other.fingerprints["transition_model"] != models[0].fingerprints["transition_model"]:
            raise DataError(
                f"aligned with another model than {sources[0].ali_dir}",
                path=source.ali_dir,
                remedy="align all data with the same system",
            )
    return models[0]


def read_labels(source: Source, wanted: Collection[str], tally: Tally) -> Iterator[tuple[str, np.ndarray]]:
    """The pdf ids (int32 [T]) of each wanted utterance of a source that is aligned, in the alignments' order.

    Wanted utterances that have no alignment are skipped as `no_alignment`, transition_ids below 1 as
    `pdf_out_of_range`. Alignments of other utterances are passed over. If the first ones are no paths through the HMMs
    of final.mdl, a warning says so.

    Raises:
        DataError: a damaged archive, an utterance aligned twice, transition_ids the model does not have.
    """
    model = read_model(source.ali_dir)
    missing = dict.fromkeys(wanted)
    num_others = 0
    watch = StepWatch(model)
    for utt, alignment in read_alignments(source.ali_dir):
        if utt not in missing:
            num_others += 1
            continue
        del missing[utt]
        highest = int(alignment.max(initial=0))
        if highest > model.num_transition_ids:
            raise DataError(
                f"transition-id {highest}, but final.mdl has {model.num_transition_ids}: "
                "alignments of another model or tree",
                path=source.ali_dir,
                utt=utt,
                remedy="use the final.mdl and tree that made the alignments",
            )
        if int(alignment.min(initial=1)) < 1:
            tally.skip("pdf_out_of_range", utt, f"transition-id {int(alignment.min())}")
            continue
        watch.add(alignment)
        yield utt, model.pdf_of[alignment].astype(np.int32)
    watch.warn(source.ali_dir, "final.mdl", "put its final.mdl and tree there")
    for utt in missing:
        tally.skip("no_alignment", utt, f"not in {source.ali_dir}")
    if num_others:
        told = "%s: alignments of %d utterances outside this part of %s not used"
        logger.info(told, source.ali_dir, num_others, source.data_dir)


# -- features -----------------------------------------------------------------------------------------------------


class SourceReader:
    """Random access to the base frames of one source. A context manager.

    Args:
        data_dir: features, speakers and statistics.
        frontend: makes base frames of features.
        options: what is still accepted.
        cmvn: statistics by speaker, where cmvn.scp has none (`speaker_statistics`).
        fmllr: rspecifier or directory of the transforms, when the front end applies them.
    """

    def __init__(
        self,
        data_dir: DataDir,
        frontend: Frontend,
        options: JoinOptions,
        cmvn: Mapping[str, torch.Tensor] | None = None,
        fmllr: str | None = None,
    ) -> None:
        self._data_dir, self._frontend, self._options = data_dir, frontend, options
        self._stack = contextlib.ExitStack()
        self._feats = self._stack.enter_context(
            RandomAccessTable.from_rxfilenames(data_dir.feats, "matrix", "feats.scp")
        )
        self._cmvn: MatrixTable | None = cmvn
        if frontend.config.needs_cmvn_stats and cmvn is None:
            table = RandomAccessTable.from_rxfilenames(data_dir.cmvn, "matrix", "cmvn.scp")
            self._cmvn = self._stack.enter_context(table)
        self._fmllr = open_fmllr(frontend, fmllr, self._stack)

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def speaker(self, utt: str) -> str:
        """The utterance's speaker; itself where utt2spk does not say."""
        return self._data_dir.utt2spk.get(utt, utt)

    def read(self, utt: str, pdf_ids: np.ndarray) -> Utterance:
        """Join one utterance.

        Raises:
            Skip: it cannot be used.
        """
        feats = self._read_feats(utt)
        num_frames = min(len(feats), len(pdf_ids))
        if num_frames < self._options.min_frames:
            raise Skip("too_short", f"{num_frames} frames")
        if abs(len(feats) - len(pdf_ids)) > self._options.length_tolerance:
            raise Skip("length_mismatch", f"{len(feats)} frames of features, {len(pdf_ids)} of alignment")
        if not np.isfinite(feats).all():
            raise Skip("non_finite", f"frame {int(np.argmin(np.isfinite(feats).all(1)))} holds NaN or infinity")
        base = self._base_frames(utt, feats)[:num_frames]
        return Utterance(utt, self.speaker(utt), base, pdf_ids[:num_frames])

    def _read_feats(self, utt: str) -> np.ndarray:
        """The stored features of an utterance, checked for their dimension."""
        try:
            feats: np.ndarray = self._feats[utt]
        except DataError as error:
            raise Skip("unreadable", str(error)) from error
        if feats.ndim == 2 and len(feats) and feats.shape[1] != self._frontend.feat_dim:
            raise Skip("wrong_dim", f"dimension {feats.shape[1]} instead of {self._frontend.feat_dim}")
        return feats

    def _base_frames(self, utt: str, feats: np.ndarray) -> np.ndarray:
        """CMVN and transforms."""
        speaker = self.speaker(utt)
        stats = self._matrix(self._cmvn, speaker, "no_cmvn")
        fmllr_key = speaker if self._frontend.config.fmllr == "speaker" else utt
        fmllr = self._matrix(self._fmllr, fmllr_key, "no_fmllr")
        try:
            base = self._frontend.per_utterance(torch.from_numpy(feats), stats, fmllr)
        except DataError as error:
            raise Skip("unusable_transform", str(error)) from error
        if not bool(base.isfinite().all()):
            raise Skip("non_finite", "after normalisation")
        return base.numpy()

    @staticmethod
    def _matrix(table: MatrixTable | None, key: str, reason: str) -> torch.Tensor | None:
        """A speaker's or utterance's matrix, None where no table is used."""
        if table is None:
            return None
        if key not in table:
            raise Skip(reason, f"none for {key}")
        try:
            return torch.as_tensor(table[key])
        except DataError as error:
            raise Skip(reason, str(error)) from error


def speaker_statistics(data_dir: DataDir, frontend: Frontend) -> Mapping[str, torch.Tensor] | None:
    """CMVN statistics by speaker computed from the features, when the front end needs them and cmvn.scp has none.

    Raises:
        DataError: an utterance without a speaker.
    """
    if not frontend.config.needs_cmvn_stats:
        return None
    check_speakers(data_dir)
    return None if data_dir.cmvn else speaker_stats(data_dir, frontend.feat_dim)


def feat_dim(sources: Sequence[Source]) -> int:
    """Values per frame of the stored features: those of the first utterance that can be read.

    Raises:
        DataError: there is none.
    """
    first_error: DataError | None = None
    for source in sources:
        data_dir = DataDir.read(source.data_dir)
        with RandomAccessTable.from_rxfilenames(data_dir.feats, "matrix", "feats.scp") as feats:
            for utt in data_dir.feats:
                try:
                    matrix = feats[utt]
                except DataError as error:
                    first_error = first_error or error
                    continue
                if len(matrix):
                    return int(matrix.shape[1])
    raise first_error or DataError(
        "no features in feats.scp", path=sources[0].data_dir, remedy="compute them first (acoustic fbank)"
    )


def hold_out(sources: Sequence[Source], by: str, fraction: float, seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """Split the utterances of training data into (train, dev), deterministically.

    Copies of an utterance, which utt2uniq tells, stay on its side, and with them their speakers: a voice at another
    speed is not another one, and a dev loss on it would fall as the training loss does.

    Args:
        sources: the training data.
        by: "speaker" (whole speakers) or "utterance".
        fraction: share of the speakers or utterances that goes to dev, at least one.
        seed: which ones.

    Raises:
        ConfigError: another value of `by`.
        DataError: fewer than two speakers or utterances.
    """
    if by not in ("speaker", "utterance"):
        raise ConfigError(f"dev data can be held out by speaker or by utterance, not by {by!r}")
    group_of: dict[str, str] = {}
    original_of: dict[str, str] = {}
    for source in sources:
        data_dir = DataDir.read(source.data_dir)
        original_of |= data_dir.utt2uniq
        for utt in data_dir.utterances:
            group_of[utt] = data_dir.utt2spk.get(utt, utt) if by == "speaker" else utt
    group_of = _with_copies(group_of, original_of)
    groups = sorted(set(group_of.values()), key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
    if len(groups) < 2:
        raise DataError(
            f"there is only one {by}, nothing can be held out for dev",
            path=sources[0].data_dir,
            remedy="give dev data, or hold out by utterance" if by == "speaker" else "give dev data",
        )
    num_dev = min(max(1, math.floor(fraction * len(groups) + 0.5)), len(groups) - 1)
    dev_groups = set(groups[:num_dev])
    dev = frozenset(utt for utt, group in group_of.items() if group in dev_groups)
    return frozenset(group_of) - dev, dev


def _with_copies(group_of: Mapping[str, str], original_of: Mapping[str, str]) -> dict[str, str]:
    """The group of each utterance, groups that have copies of one utterance made one."""
    joined: dict[str, str] = {}  # a group that was joined to another, and which

    def root(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    group_with: dict[str, str] = {}
    for utt, group in group_of.items():
        one, other = sorted((root(group), root(group_with.setdefault(original_of.get(utt, utt), group))))
        if one != other:
            joined[other] = one
    return {utt: root(group) for utt, group in group_of.items()}


def source_list(data_dirs: Sequence[str], ali_dirs: Sequence[str], transform_dirs: Sequence[str] = ()) -> list[Source]:
    """Pair data directories with alignment directories and fMLLR transforms; one of these may serve all.

    Raises:
        ConfigError: their numbers do not fit.
    """

    def paired(dirs: Sequence[str], what: str) -> Sequence[str]:
        if len(dirs) not in (1, len(data_dirs)):
            raise ConfigError(f"{len(data_dirs)} data directories but {len(dirs)} {what}")
        return list(dirs) * len(data_dirs) if len(dirs) == 1 else dirs

    ali_dirs = paired(ali_dirs, "alignment directories")
    transforms = paired(transform_dirs, "transform directories") if transform_dirs else [None] * len(data_dirs)
    return [Source(*parts) for parts in zip(data_dirs, ali_dirs, transforms, strict=True)]
