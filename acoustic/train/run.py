"""From a configuration to `final.pt`: caches, front end, network, the loop, the bundle."""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acoustic import fsio, log
from acoustic.data.build import CacheOptions, ensure_cache
from acoustic.data.cache import FramesCache
from acoustic.data.join import JoinOptions, Source, hold_out, source_list
from acoustic.data.moments import input_moments, lda_stats
from acoustic.data.windows import open_store
from acoustic.errors import CheckpointError, ConfigError, DataError
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.features.frontend import Frontend
from acoustic.nn.bundle import Bundle, load_bundle
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.config import TrainConfig
from acoustic.train.frontend import make_frontend
from acoustic.train.guard import Interrupt
from acoustic.train.hessian_free_loop import HessianFreeTrainer
from acoustic.train.initial import initial_frontend, load_initial_weights
from acoustic.train.loop import Trainer
from acoustic.train.precision import choose_device, choose_dtype, set_up_torch
from acoustic.train.pretrain import pretrain
from acoustic.train.ranks import Ranks

logger = log.get_logger(__name__)


@dataclass
class Prepared:
    """What training starts from.

    Attributes:
        frontend: with everything set but an LDA to be estimated and the normalisation of the network's input.
        train: frames cache of the training data.
        dev: frames cache of the dev data.
    """

    frontend: Frontend
    train: FramesCache
    dev: FramesCache


def prepare(config: TrainConfig) -> Prepared:
    """Set up the front end and build the frames caches, or open those that are there for the same input.

    Raises:
        ConfigError: options that do not go together.
        DataError: unusable data, or too many utterances skipped.
    """
    train_sources = source_list(config.train.data_dir, config.train.ali_dir, config.train.transform_dir)
    dev_sources, train_part, dev_part = train_sources, None, None
    if config.dev.data_dir:
        dev_sources = source_list(config.dev.data_dir, config.dev.ali_dir, config.dev.transform_dir)
    else:
        train_part, dev_part = hold_out(train_sources, config.dev.hold_out, config.dev.fraction, config.seed)
    if config.init_from is None:
        frontend = make_frontend(config.features, train_sources)
    else:
        frontend = initial_frontend(config, train_sources)
    if config.features.fbank is not None:
        check_fbank_options(config.features.fbank, frontend.feat_dim)
    options = CacheOptions(
        dtype=config.data.dtype,
        join=JoinOptions(
            length_tolerance=config.data.length_tolerance, max_skip_fraction=config.data.max_skip_fraction
        ),
    )
    directory = Path(config.data.cache_dir or Path(config.exp_dir) / "cache")
    num_jobs = config.data.num_jobs
    train = ensure_cache(directory / "train", train_sources, frontend, options, train_part, num_jobs)
    dev = ensure_cache(directory / "dev", dev_sources, frontend, options, dev_part, num_jobs)
    check_same_model(train, dev, dev_sources)
    if in_both := set(dev.ids()).intersection(train.ids()):
        logger.warning(
            "%d of %d dev utterances are trained on as well, such as %s: the dev loss will flatter the network",
            len(in_both), dev.meta.num_utts, min(in_both),
        )  # fmt: skip
    return Prepared(frontend, train, dev)


def check_fbank_options(options: dict[str, Any], feat_dim: int) -> None:
    """Check that features of `feat_dim` values can have been made with some options, which the model will remember.

    Raises:
        ConfigError: they cannot.
    """
    try:
        dim = Fbank(FbankOptions(**options)).dim
    except (TypeError, ValueError) as error:
        raise ConfigError(f"features.fbank_config: {error}") from error
    if dim != feat_dim:
        raise ConfigError(
            f"features.fbank_config makes frames of {dim} values, but those of feats.scp have {feat_dim}: give the "
            "options that these were made with, or none"
        )


def check_same_model(train: FramesCache, dev: FramesCache, dev_sources: Sequence[Source]) -> None:
    """Check that pdf ids mean the same in training and dev alignments.

    Raises:
        DataError: naming the dev alignments.
    """
    name = "transition_model"
    if train.meta.fingerprints[name] != dev.meta.fingerprints[name]:
        raise DataError(
            f"made with another tree or model ({dev.num_pdfs} pdfs) than the training alignments ({train.num_pdfs})",
            path=", ".join(source.ali_dir for source in dev_sources),
            remedy="align training and dev data with the same system",
        )


def train(
    config: TrainConfig,
    ranks: Ranks | None = None,
    trainer_class: type[Trainer] | None = None,
    when_chosen: Callable[[TrainConfig], None] = lambda config: None,
) -> None:
    """Run a training, or go on with an interrupted one, and write `final.pt`.

    Args:
        config: the whole configuration.
        ranks: the processes that train together; rank 0 writes.
        trainer_class: the loop, by default the synchronous one that the optimizer needs.
        when_chosen: is told, in rank 0 before training begins, the configuration with what it had left open.

    Raises:
        CheckpointError: a damaged `final.pt` without checkpoints.
        AcousticError: see the rooms this calls.
    """
    ranks = ranks or Ranks()
    trainer_class = trainer_class or loop_for(config)
    final = Path(config.exp_dir) / "final.pt"
    if is_done(final):
        logger.info("%s is there already: nothing to do", final)
        return
    device = choose_device(config.runtime.device)
    dtype = choose_dtype(config.runtime.precision, device)
    set_up_torch(device, config.runtime.num_threads, config.runtime.deterministic)

    with (
        Interrupt(at_once=True),
        fsio.sole_owner(config.exp_dir) if ranks.is_first else contextlib.nullcontext(),
        spared_from_collection(),
        lack_of_memory_told(),
    ):
        with ranks.first_goes_ahead():
            prepared = prepare(config)
        trainer = make_trainer(config, prepared, device, dtype, ranks, trainer_class)
        if ranks.is_first and trainer.config != config:
            when_chosen(trainer.config)
        ranks.meet(patiently=True)  # one may have read its frames in seconds, another in hours
        trainer.run()
        if not ranks.is_first:
            return
        with fsio.atomic_write(final) as file:
            file.write(make_bundle(trainer.config, prepared, trainer.classifier).to_bytes())
        trainer.observer.close()
    logger.info("wrote %s", final)


def is_done(final: Path) -> bool:
    """Whether a run has left a sound `final.pt`. A damaged one is to be made again, where there are checkpoints.

    Raises:
        CheckpointError: it is damaged, and there are none.
    """
    if not final.exists():
        return False
    try:
        load_bundle(final)
    except CheckpointError as error:
        if not Checkpoints(final.parent / "checkpoints").steps():
            remedy = "there is no checkpoint to make it again from: remove it to train anew"
            raise CheckpointError(f"{error}; {remedy}") from error
        logger.warning("%s; it is made again from the checkpoints", error)
        return False
    return True


def loop_for(config: TrainConfig) -> type[Trainer]:
    """The synchronous loop that the optimizer needs.

    Raises:
        ConfigError: another strategy is asked for.
    """
    if config.train.strategy != "synchronous":
        raise ConfigError(f"train.strategy={config.train.strategy}: only `acoustic train` knows how to")
    return HessianFreeTrainer if config.optim.name == "hessian_free" else Trainer


@contextlib.contextmanager
def spared_from_collection() -> Iterator[None]:
    """Keep what exists now out of the collections of cyclic garbage within the block.

    Those of the loop then take milliseconds, since they pass over the hundreds of thousands of objects of the
    libraries, and can be had after each evaluation (see `observe`).
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def lack_of_memory_told() -> Iterator[None]:
    """Turn a lack of memory, a GPU's or the host's, within the block into an error that says what to do about it.

    Not a TrainingError, which searches and claims take for a network that diverged.

    Raises:
        ConfigError: it did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        problem = str(error).partition(" Including")[0].rstrip(".")
        raise ConfigError(
            f"{problem}: lower data.batch_size (data.eval_batch_size if it was evaluating), or data.memory_gb, "
            "which keeps frames there"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        problem = str(error).rpartition("DefaultCPUAllocator: ")[2].partition(". Error code")[0]
        raise ConfigError(
            f"{problem or 'memory ran out'}: lower the sizes of the network or of its input (model.hidden_dim, "
            "features.lda_dim, features.splice_left and the like), or data.batch_size"
        ) from error


def make_trainer(
    config: TrainConfig,
    prepared: Prepared,
    device: torch.device,
    dtype: torch.dtype,
    ranks: Ranks | None = None,
    trainer_class: type[Trainer] = Trainer,
) -> Trainer:
    """The loop with its data in memory and its network initialised."""
    ranks = ranks or Ranks()
    is_new = config.init_from is None
    if is_new and config.features.lda_dim and config.features.lda_mat is None:
        prepared.frontend.set_lda(lda_stats(prepared.train, prepared.frontend).estimate(config.features.lda_dim))
    frontend = prepared.frontend.to(device)
    train_store, dev_store = (
        open_store(
            cache, frontend, device, kind=config.data.store, max_bytes=1e9 * config.data.memory_gb,
            window_shards=config.data.window_shards,
        )
        for cache in (prepared.train, prepared.dev)
    )  # fmt: skip
    if is_new and frontend.config.global_norm:
        frontend.set_global_norm(*input_moments(train_store, config.seed))

    torch.manual_seed(config.seed)
    classifier = SenoneClassifier(config.model, frontend.input_dim, prepared.train.num_pdfs)
    if not is_new:
        load_initial_weights(config, classifier, prepared.train)
    classifier.to(device)
    if config.pretrain.name != "none":
        with ranks.first_goes_ahead():
            pretrain(config, classifier, train_store)
    logger.info(
        "%d inputs, %s hidden units, %d senones: %.2f million parameters; %d training and %d dev frames; %s on %s",
        frontend.input_dim, config.model.widths, classifier.num_pdfs, classifier.num_parameters / 1e6,
        train_store.num_frames, dev_store.num_frames, str(dtype).removeprefix("torch."), device,
    )  # fmt: skip
    return trainer_class(config, classifier, train_store, dev_store, device, dtype, ranks)


def make_bundle(config: TrainConfig, prepared: Prepared, classifier: SenoneClassifier) -> Bundle:
    """The trained network with all it needs at test time."""
    frontend = prepared.frontend
    state = {name: tensor.cpu() for name, tensor in frontend.state_dict().items()}
    return Bundle(
        classifier=classifier.eval().cpu(),
        frontend_config=frontend.config_dict(),
        frontend_state=state,
        feat_dim=frontend.feat_dim,
        fbank_options=config.features.fbank,
        pdf_counts=counts_of_targets(prepared.train.pdf_counts, config.target_smoothing),
        fingerprints={
            **prepared.train.meta.fingerprints,
            "frontend_tensors": fingerprint_of(state),
            "config": config.fingerprint(),
        },
        config=config.identity(),
    )


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors in the host's memory."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()


def counts_of_targets(pdf_counts: Tensor, label_smoothing: float) -> Tensor:
    """The frames of each senone as smoothed targets share them out, int64 [num_pdfs]; unseen senones stay unseen.

    They are what the posteriors of a network that was trained on such targets have to be divided by: it gives a rare
    senone a share of every frame that lies far above its relative frequency, by which it would win everywhere.
    """
    counts = pdf_counts.double()
    shared = (1 - label_smoothing) * counts + label_smoothing * counts.mean()
    return torch.where(pdf_counts > 0, shared.round().clamp(min=1).long(), 0)
