"""What the doctor examines: the parts of an experiment, each read when a check first asks for it, and then kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from acoustic.doctor.findings import Loaded, load
from acoustic.doctor.scan_alignments import AlignmentsScan, scan_alignments
from acoustic.doctor.scan_audio import AudioScan, scan_audio
from acoustic.doctor.scan_features import FeaturesScan, scan_features
from acoustic.errors import DataError
from acoustic.features.frontend import Frontend
from acoustic.kaldi.alignments import read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.fst import FstArrays, read_fst
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.nn.bundle import Bundle, load_bundle


@dataclass(frozen=True)
class Options:
    """What to examine, and how.

    Attributes:
        data_dir: Kaldi data directory.
        ali_dir: alignment directory: ali.*.gz, final.mdl, tree.
        graph_dir: with HCLG.fst and words.txt.
        lang_dir: with words.txt, phones.txt, topo.
        model: a `final.mdl`, or the bundle `final.pt` of a trained network, or the folder that holds one of them.
        transform_dir: with fMLLR transforms (trans.*), final.mat, splice_opts.
        root: folder to which plain relative paths in the data directory are relative.
        length_tolerance: frames by which features and alignment may differ.
        max_skip_fraction: share of the utterances that may be lost.
        num_jobs: processes.
        skip_audio: leave the audio alone.
        channel: which channel of recordings with several, from 0.
    """

    data_dir: Path
    ali_dir: Path | None = None
    graph_dir: Path | None = None
    lang_dir: Path | None = None
    model: Path | None = None
    transform_dir: Path | None = None
    root: Path | None = None
    length_tolerance: int = 5
    max_skip_fraction: float = 0.05
    num_jobs: int = 1
    skip_audio: bool = False
    channel: int | None = None


class Experiment:
    """A data directory with whatever belongs to it. A part that was not named is None.

    Attributes:
        options: which parts.
        data_dir: what could be read of the data directory.
        file_faults: what was wrong with its files.
    """

    def __init__(self, options: Options) -> None:
        """Read the data directory.

        Raises:
            DataError: one of the directories does not exist, or there is no data in it.
        """
        for folder in (options.ali_dir, options.graph_dir, options.lang_dir, options.transform_dir, options.root):
            if folder is not None and not folder.is_dir():
                raise DataError("is no directory", path=folder)
        self.options = options
        self.data_dir, self.file_faults = DataDir.read_with_faults(options.data_dir, options.root)

    @cached_property
    def utterances(self) -> list[str]:
        """The utterances of the data directory."""
        return self.data_dir.utterances

    def owners_without(self, there: Collection[str]) -> list[str]:
        """The speakers for which a table with keys `there` has nothing; the utterances, if its keys are utterances.

        Utterances without features need nothing; without utt2spk it is not known who does.
        """
        data_dir = self.data_dir
        if not data_dir.utt2spk:
            return []
        utterances = [utt for utt in data_dir.utt2spk if utt in data_dir.feats or not data_dir.feats]
        speakers = sorted({data_dir.utt2spk[utt] for utt in utterances})
        by_utterance = not any(speaker in there for speaker in speakers) and any(utt in there for utt in utterances)
        return [owner for owner in (utterances if by_utterance else speakers) if owner not in there]

    # -- scans --------------------------------------------------------------------------------------------------------

    @cached_property
    def audio(self) -> AudioScan | None:
        """The audio; None when there is no wav.scp or it is to be left alone."""
        if not self.data_dir.wav or self.options.skip_audio:
            return None
        return scan_audio(self.data_dir, self.options.channel, self.options.num_jobs)

    @cached_property
    def feats(self) -> FeaturesScan | None:
        """The features; None when there is no feats.scp."""
        return scan_features(self.data_dir.feats, self.options.num_jobs) if self.data_dir.feats else None

    @cached_property
    def alignments(self) -> AlignmentsScan | None:
        """The alignments; None without an alignment directory."""
        if self.options.ali_dir is None or self.ali_model is None:
            return None
        return scan_alignments(self.options.ali_dir, self.ali_model.value, self.utterances, self.options.num_jobs)

    # -- models -------------------------------------------------------------------------------------------------------

    @cached_property
    def ali_model(self) -> Loaded[TransitionModel] | None:
        """The model that the alignments were made with."""
        ali_dir = self.options.ali_dir
        return load(partial(read_model, ali_dir)) if ali_dir is not None else None

    @cached_property
    def trees(self) -> dict[Path, Loaded[DecisionTree]]:
        """The trees that lie beside a transition model, by path."""
        paths = [path.with_name("tree") for path in self.transition_models]
        return {path: load(partial(DecisionTree.read, path)) for path in paths if path.exists()}

    @cached_property
    def model_path(self) -> Path | None:
        """The file meant by the option `model`."""
        path = self.options.model
        if path is not None and path.is_dir():
            return path / "final.pt" if (path / "final.pt").exists() else path / "final.mdl"
        return path

    @cached_property
    def given_model(self) -> Loaded[TransitionModel] | None:
        """The option `model` where it is a Kaldi model."""
        path = self.model_path
        return load(partial(TransitionModel.read, path)) if path is not None and path.suffix != ".pt" else None

    @cached_property
    def bundle(self) -> Loaded[Bundle] | None:
        """The option `model` where it is a trained network."""
        path = self.model_path
        return load(partial(load_bundle, path)) if path is not None and path.suffix == ".pt" else None

    @cached_property
    def frontend(self) -> Loaded[Frontend] | None:
        """The front end of the trained network."""
        bundle = self.bundle.value if self.bundle is not None else None
        if bundle is None:
            return None
        return load(partial(Frontend.from_config, bundle.frontend_config, bundle.feat_dim))

    @cached_property
    def transition_models(self) -> dict[Path, TransitionModel]:
        """The transition models that could be read, by path: the given one, the alignments', the one over the graph."""
        models: dict[Path, TransitionModel] = {}
        if self.given_model is not None and self.given_model.value is not None and self.model_path is not None:
            models[self.model_path] = self.given_model.value
        if self.ali_model is not None and self.ali_model.value is not None and self.options.ali_dir is not None:
            models[self.options.ali_dir / "final.mdl"] = self.ali_model.value
        if not models and self.options.graph_dir is not None:
            path = self.options.graph_dir.resolve().parent / "final.mdl"  # where Kaldi's mkgraph.sh leaves it
            beside_graph = load(partial(TransitionModel.read, path)) if path.exists() else Loaded[TransitionModel]()
            if beside_graph.value is not None:
                models[path] = beside_graph.value
        return models

    @property
    def transition_model(self) -> tuple[Path, TransitionModel] | None:
        """The transition model that all else is compared with: the given one if there is one."""
        return next(iter(self.transition_models.items()), None)

    # -- graph and lang -----------------------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> Loaded[FstArrays] | None:
        """HCLG."""
        folder = self.options.graph_dir
        return load(partial(read_fst, folder / "HCLG.fst")) if folder is not None else None

    @cached_property
    def words(self) -> dict[Path, Loaded[SymbolTable]]:
        """The words.txt of graph and lang directory, by path."""
        return self._symbols("words.txt")

    @cached_property
    def phones(self) -> dict[Path, Loaded[SymbolTable]]:
        """The phones.txt of graph and lang directory, by path; a graph need not have one."""
        return {path: table for path, table in self._symbols("phones.txt").items() if path.exists()}

    @cached_property
    def topology(self) -> Loaded[Topology] | None:
        """The topology of the lang directory, where it has one."""
        folder = self.options.lang_dir
        if folder is None or not (folder / "topo").exists():
            return None
        return load(partial(Topology.read, folder / "topo"))

    def _symbols(self, name: str) -> dict[Path, Loaded[SymbolTable]]:
        folders: Iterator[Path] = (d for d in (self.options.graph_dir, self.options.lang_dir) if d is not None)
        return {path: load(partial(SymbolTable.read, path)) for path in (d / name for d in folders)}
