"""`acoustic cache`: the frames caches of a training run, built ahead of it."""

from __future__ import annotations

import argparse

from acoustic.cli import train as train_verb
from acoustic.cli.hydra_config import compose_train_config
from acoustic.log import get_logger
from acoustic.train.run import prepare

HELP = "build the frames caches of a training run (the same overrides as train)"
EXAMPLE = "acoustic cache exp_dir=exp/relu train.data_dir=data/train train.ali_dir=exp/tri3_ali data.num_jobs=8"

add_arguments = train_verb.add_arguments
logger = get_logger(__name__)


def run(args: argparse.Namespace) -> None:
    """Build the caches, unless they are there already for the same input."""
    config = compose_train_config(args.overrides, args.config_dir)
    train_verb.complete(config)
    train_verb.claim_exp_dir(config)
    prepared = prepare(config)
    for name, cache in (("train", prepared.train), ("dev", prepared.dev)):
        logger.info("%s: %d utterances, %d frames", name, cache.meta.num_utts, cache.num_frames)
