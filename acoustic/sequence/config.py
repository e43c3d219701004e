"""The configuration of a run of `acoustic train-sequence`: that of a training run, and the criterion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acoustic.sequence.lattice_criteria import LatticeCriterionConfig
from acoustic.sequence.lattice_free import LatticeFreeConfig
from acoustic.train.config import DevData, TrainConfig, TrainData, as_list

CRITERION_CONFIGS = {
    **dict.fromkeys(("mmi", "bmmi", "mpe", "smbr"), LatticeCriterionConfig),
    **dict.fromkeys(("lfmmi", "lfsmbr"), LatticeFreeConfig),
}
"""The options of each criterion, by its name."""


@dataclass(kw_only=True)
class SequenceTrainData(TrainData):
    """Training data with what some criteria need of each utterance besides: a lattice, or a training graph."""

    lat_dir: Any = None  # with lat.*.gz, lat.scp or lat.ark; as many as there need be
    graph_dir: Any = None  # with fsts.*.gz, fsts.scp or fsts.ark: for criterion.numerator=graph

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lat_dir, self.graph_dir = as_list(self.lat_dir), as_list(self.graph_dir)


@dataclass(kw_only=True)
class SequenceDevData(DevData):
    """Dev data with the same; where no data are given, a part of the training data is held out."""

    lat_dir: Any = None
    graph_dir: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lat_dir, self.graph_dir = as_list(self.lat_dir), as_list(self.graph_dir)


@dataclass(kw_only=True)
class SequenceConfig(TrainConfig):
    """A run of sequence training. Batches are of utterances, and learning rates for sums over their frames.

    So Kaldi's nnet1 has it: its rate, such as 1e-5, is the one to give.
    """

    train: SequenceTrainData = field(default_factory=SequenceTrainData)
    dev: SequenceDevData = field(default_factory=SequenceDevData)
    criterion: Any = field(default_factory=lambda: {"name": "smbr"})  # one of CRITERION_CONFIGS, by its `name`
    f_smoothing: float = 0.0  # weight of cross-entropy beside the criterion's, 1 - f_smoothing (Su et al. 2013)

    @property
    def target_smoothing(self) -> float:
        """None: the criterion's loglikes are over the alignments' own priors."""
        return 0.0

    @property
    def compile_setting(self) -> str:
        """False: criteria go through lattices or graphs of each utterance."""
        return "false"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.criterion, Mapping):
            self.criterion = _criterion(dict(self.criterion))
        if not 0 <= self.f_smoothing < 1:
            raise ValueError("f_smoothing must lie in [0, 1)")
        if self.optim.label_smoothing > 0 and self.f_smoothing == 0:
            raise ValueError("optim.label_smoothing is of cross-entropy's targets: it needs f_smoothing above 0")
        if isinstance(self.criterion, LatticeCriterionConfig):
            if self.init_from is None:
                raise ValueError("init_from=... must be given: the network that the lattices were made with, or a like")
            self._check_given("lat_dir")
        elif isinstance(self.criterion, LatticeFreeConfig) and self.criterion.numerator == "graph":
            self._check_given("graph_dir")

    def without_default(self) -> dict[str, Any]:
        """As of any training, and the criterion: the others may need other data."""
        return {**super().without_default(), "criterion": {"name": self.criterion.name}}

    def _check_given(self, name: str) -> None:
        if not getattr(self.train, name) or (self.dev.data_dir and not getattr(self.dev, name)):
            raise ValueError(f"train.{name}=... must be given, and dev.{name}=... with dev.data_dir")


def _criterion(values: dict[str, Any]) -> LatticeCriterionConfig | LatticeFreeConfig:
    """The options of a criterion.

    Raises:
        ValueError: an unknown criterion or option, or a value out of range.
    """
    name = values.get("name")
    if name not in CRITERION_CONFIGS:
        raise ValueError(f"criterion.name={name!r}: choose one of {', '.join(CRITERION_CONFIGS)}")
    kind = CRITERION_CONFIGS[name]
    unknown = sorted(values.keys() - {option.name for option in dataclasses.fields(kind)})
    if unknown:
        raise ValueError(f"criterion.{unknown[0]}: there is no such option of {name}")
    return kind(**values)
