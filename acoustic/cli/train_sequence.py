"""`acoustic train-sequence`: a trained network trained further by a criterion over whole utterances."""

from __future__ import annotations

import argparse

from acoustic.cli.hydra_config import compose_sequence_config
from acoustic.cli.train import complete, train_as
from acoustic.errors import ConfigError
from acoustic.sequence.config import SequenceConfig
from acoustic.sequence.trainer import SequenceHessianFreeTrainer, SequenceTrainer

HELP = "train a network further by MMI, boosted MMI, MPE or sMBR over lattices, or lattice-free (hydra overrides)"
EXAMPLE = (
    "acoustic train-sequence exp_dir=exp/relu_smbr init_from=exp/relu criterion=smbr \\\n"
    "    train.data_dir=data/train train.ali_dir=exp/relu_ali train.lat_dir=exp/relu_denlats \\\n"
    "    criterion.silence_phones=[1,2,3] optim.learning_rate=1e-5"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """hydra's overrides, and where else to look for config groups."""
    parser.add_argument("overrides", nargs="*", help="hydra overrides, such as criterion=mmi f_smoothing=0.1")
    parser.add_argument("--config-dir", help="a folder with config groups of your own, e.g. DIR/experiment/mine.yaml")


def run(args: argparse.Namespace) -> None:
    """Train, or go on where an interrupted run of the same configuration stopped."""
    config = compose_sequence_config(args.overrides, args.config_dir)
    if config.train.strategy != "synchronous":
        raise ConfigError(f"train.strategy={config.train.strategy}: sequence training is synchronous")
    check_given(config)
    complete(config)
    uses_curvature = config.optim.name == "hessian_free"
    train_as(config, SequenceHessianFreeTrainer if uses_curvature else SequenceTrainer)


def check_given(config: SequenceConfig) -> None:
    """Check that batch size and learning rate are given: those that training chooses are of frames and their mean loss.

    Raises:
        ConfigError: one is not.
    """
    if config.data.batch_size is None:
        raise ConfigError("data.batch_size must be given: of utterances, as data=utterances has it")
    if config.optim.learning_rate is None and config.optim.name != "hessian_free":
        raise ConfigError(
            "optim.learning_rate must be given: for sums over the frames of an update, such as the 1e-5 of "
            "optim=per_utterance"
        )
