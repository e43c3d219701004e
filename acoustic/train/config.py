"""The configuration of a training run: one dataclass for each config group that no other room owns, and the whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from acoustic.features.config import FrontendConfig
from acoustic.nn.classifier import ClassifierConfig
from acoustic.train.asynchronous_config import AsynchronousConfig
from acoustic.train.average import AverageConfig
from acoustic.train.guard import GuardConfig
from acoustic.train.masking import MaskingConfig
from acoustic.train.optim import RATE_FRAMES, OptimConfig
from acoustic.train.pretrain_config import PretrainConfig
from acoustic.train.ranks import RanksConfig
from acoustic.train.schedule import ScheduleConfig

STRATEGIES = ("synchronous", "async_sgd", "async_simulation")
LATER = ("gaaf_width", "gaaf_steepness", "gaaf_shift")  # of the model; runs older than they are keep their fingerprint
# Of asynchronous SGD: how its processes are run, which a run may be resumed with others of.
ELASTIC = (
    "replicas", "shards", "snapshot_seconds", "lease_seconds", "max_restarts", "journal", "listen", "port", "join",
)  # fmt: skip


def as_list(value: Any) -> list[str]:
    """One path, several or none, as a list."""
    return [] if value is None else [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


@dataclass(kw_only=True)
class AlignedData:
    """One data directory, its alignments and perhaps fMLLR transforms, or lists of them, pairwise."""

    data_dir: Any = None
    ali_dir: Any = None
    transform_dir: Any = None  # with trans.1, ...: fMLLR transforms for features.fmllr; one directory may serve all

    def __post_init__(self) -> None:
        self.data_dir, self.ali_dir = as_list(self.data_dir), as_list(self.ali_dir)
        self.transform_dir = as_list(self.transform_dir)

    def check(self, name: str) -> None:
        """ValueError where the directories are not pairs, or one is an empty word, as an unset shell variable gives.

        Args:
            name: train or dev, for messages.
        """
        if "" in self.data_dir + self.ali_dir + self.transform_dir:
            raise ValueError(f"{name}.data_dir, {name}.ali_dir or {name}.transform_dir is an empty word: give a folder")
        if len(self.data_dir) != len(self.ali_dir):
            raise ValueError(f"{name}.data_dir and {name}.ali_dir must be as many of one as of the other")


@dataclass(kw_only=True)
class TrainData(AlignedData):
    """Training data, and how the processes that train on it work together."""

    strategy: str = "synchronous"  # async_sgd: replicas and a parameter server; async_simulation: those in one process

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in STRATEGIES:
            raise ValueError(f"train.strategy={self.strategy!r}: choose {', '.join(STRATEGIES)}")


@dataclass(kw_only=True)
class DevData(AlignedData):
    """Dev data; where none is given, a part of the training data is held out."""

    hold_out: str = "speaker"  # whole speakers, or utterance; copies that utt2uniq tells go with their originals
    fraction: float = 0.1  # of speakers or utterances

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hold_out not in ("speaker", "utterance"):
            raise ValueError(f"dev.hold_out={self.hold_out!r}: choose speaker or utterance")
        if not 0 < self.fraction < 1:
            raise ValueError("dev.fraction must lie between 0 and 1")


@dataclass(kw_only=True)
class DataConfig:
    """The frames cache and the batches."""

    batch_size: int | None = None  # frames in an update, of each rank; null: by device and corpus (batch_size.py)
    eval_batch_size: int = 2048
    cache_dir: str | None = None  # null: exp_dir/cache
    dtype: str = "float16"  # of cached frames: float16 or float32
    length_tolerance: int = 5  # frames by which features and alignments may differ; Kaldi's --length-tolerance
    max_skip_fraction: float = 0.05  # a larger share of unusable utterances fails the run
    num_jobs: int = 1  # processes that build the cache
    store: str = "auto"  # memory, or windowed: read from the disk while training; auto: memory_gb decides
    memory_gb: float = 10.0  # auto keeps frames that take at most as much in memory, of the GPU if there is one
    window_shards: int = 16  # windowed: frames are shuffled within so many shards of 2^18 frames, two windows at a time

    def __post_init__(self) -> None:
        if self.store not in ("auto", "memory", "windowed"):
            raise ValueError(f"data.store={self.store!r}: choose auto, memory or windowed")
        if self.window_shards < 1 or not self.memory_gb >= 0:
            raise ValueError("data.window_shards must be at least 1 and data.memory_gb not negative")
        if min(self.eval_batch_size, self.num_jobs) < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError("data.batch_size, data.eval_batch_size and data.num_jobs must be at least 1")
        if self.length_tolerance < 0 or not 0 <= self.max_skip_fraction <= 1:
            raise ValueError("data.length_tolerance must not be negative, data.max_skip_fraction lie between 0 and 1")
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"data.dtype={self.dtype!r}: choose float16 or float32")


@dataclass(kw_only=True)
class RuntimeConfig:
    """Where and how a run computes, and how often it saves."""

    device: str = "auto"  # cpu, cuda, cuda:1, ...; auto: cuda when there is one
    precision: str = "auto"  # fp32, tf32, bf16; auto: bf16 where the device gains from it
    compile: str = "auto"  # true, false: forward and backward pass by torch.compile; auto: where a GPU gains from it
    num_threads: int | None = None  # of the CPU; null: all cores
    deterministic: bool = True  # only operations that give the same bits every time
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3  # the newest, beside the best
    workers: int = 0  # 1: a thread assembles batches ahead, where there are more cores than num_threads; same result
    log_seconds: float = 60.0  # between lines of the log that tell how an epoch goes
    curves: bool = True  # draw exp_dir/curves.png after each evaluation, in a process beside
    tensorboard: bool = False  # write exp_dir/tensorboard too; needs the extra of that name

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "tf32", "bf16"):
            raise ValueError(f"runtime.precision={self.precision!r}: choose auto, fp32, tf32 or bf16")
        self.compile = str(self.compile).lower()  # true and false may come as such
        if self.compile not in ("auto", "true", "false"):
            raise ValueError(f"runtime.compile={self.compile!r}: choose auto, true or false")
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError("runtime.num_threads must be at least 1, or null")
        if self.workers < 0:
            raise ValueError("runtime.workers must not be negative")
        if self.keep_checkpoints < 2:
            raise ValueError("runtime.keep_checkpoints must be at least 2: the newest may turn out damaged")


@dataclass(kw_only=True)
class FeaturesConfig(FrontendConfig):
    """The front end, with what the model must remember of how its features were made."""

    fbank_config: str | None = None  # the fbank.conf the features were made with, so that the model can read audio
    fbank: dict[str, Any] | None = None  # its options, filled in from that file
    kaldi_dir: str | None = None  # a Kaldi experiment whose cmvn_opts, delta_opts, final.mat, splice_opts are taken
    transform_mat: str | None = None  # file of the transform before fMLLR, as final.mat; transform_dim is its rows
    lda_mat: str | None = None  # file of the transform after splicing; null: estimated on training frames if lda_dim


@dataclass(kw_only=True)
class TrainConfig:
    """Everything a training run is made of. `exp_dir` and `runtime` do not change what is computed."""

    exp_dir: str
    seed: int = 1
    init_from: str | None = None  # exp_dir or final.pt of a network to start from; its front end and shape are taken
    init_sha256: str | None = None  # of that model, filled in
    train: TrainData = field(default_factory=TrainData)
    dev: DevData = field(default_factory=DevData)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    ranks: RanksConfig = field(default_factory=RanksConfig)
    asynchronous: AsynchronousConfig = field(default_factory=AsynchronousConfig)
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        if not self.exp_dir:
            raise ValueError("exp_dir must be given")
        self.train.check("train")
        self.dev.check("dev")
        if not self.train.data_dir:
            raise ValueError("train.data_dir=... and train.ali_dir=... must be given")
        if not 0 <= self.seed < 2**31:
            raise ValueError("seed must lie in [0, 2^31)")
        self.pretrain.check_fits(self.model)
        if self.train.strategy != "synchronous":
            self.data.batch_size = self.data.batch_size or RATE_FRAMES  # of every replica, wherever it computes
        if self.optim.name == "hessian_free" and self.init_from is None:  # whose network is as in evaluation
            if self.model.norm == "batch":
                raise ValueError("optim.name=hessian_free keeps model.norm=batch at its first moments: take norm=layer")
            if any(name.startswith("gaaf_") for name in self.model.layer_activations):
                raise ValueError(
                    "optim.name=hessian_free adds no gradients to gaaf_*: take model.activation=relu or tanh"
                )
        if self.pretrain.name != "none" and self.init_from is not None:
            raise ValueError("pretrain and init_from both give the first weights: choose one of them")
        if self.runtime.compile == "true" and self.compile_setting != "true":
            raise ValueError(
                "runtime.compile=true is for updates by cross-entropy alone: leave it at auto for Hessian-free "
                "optimization, asynchronous replicas and sequence criteria"
            )

    @property
    def compile_setting(self) -> str:
        """runtime.compile, or false where updates are not what `train.compiled` can compile."""
        can_compile = self.optim.name != "hessian_free" and self.train.strategy == "synchronous"
        return self.runtime.compile if can_compile else "false"

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        return dataclasses.asdict(self)

    @property
    def target_smoothing(self) -> float:
        """Share of each target that is spread over all senones in what decides the network's outputs."""
        return self.optim.label_smoothing

    def identity(self) -> dict[str, Any]:
        """What decides the result: everything but where it is written and how it is run."""
        values = self.to_dict()
        del values["exp_dir"], values["init_from"], values["data"]["cache_dir"], values["data"]["num_jobs"]
        values["runtime"] = {key: values["runtime"][key] for key in ("precision", "deterministic")}
        plain = dataclasses.asdict(ClassifierConfig())
        for name in LATER:
            if values["model"][name] == plain[name]:
                del values["model"][name]
        if self.train.strategy == "synchronous":
            del values["asynchronous"], values["train"]["strategy"]
        elif self.train.strategy == "async_sgd":
            for name in (*ELASTIC, "delays"):
                del values["asynchronous"][name]
        return values

    def without_default(self) -> dict[str, Any]:
        """What must be given, by name: with it alone a configuration has its defaults everywhere else."""
        return {name: getattr(self, name) for name in ("exp_dir", "train", "dev", "init_from")}

    def fingerprint(self) -> str:
        """SHA-256 of `identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
