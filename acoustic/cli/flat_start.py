"""`acoustic flat-start`: first alignments, of training graphs and features alone."""

from __future__ import annotations

import argparse

from acoustic.cli.options import dataclass_from_args
from acoustic.cli.train_gmm import (
    Report,
    add_data_arguments,
    add_output_argument,
    add_training_options,
    check_output,
    read_data,
    silence_phones_of,
    write,
)
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally
from acoustic.states.flat_start import FlatStartOptions, flat_start

HELP = "first alignments: equally long states, then mixtures of Gaussians that grow (train_mono.sh)"
EXAMPLE = (
    "acoustic flat-start --utt2spk=ark:data/train/utt2spk exp/mono/final.mdl ark:graphs.fsts "
    "scp:data/train/feats.scp exp/mono_ali"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in the order of Kaldi's programs."""
    add_training_options(parser, FlatStartOptions)
    parser.add_argument("model", help="final.mdl of init-mono")
    add_data_arguments(parser)
    add_output_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Align and write."""
    options, silence_phones = dataclass_from_args(FlatStartOptions, args), silence_phones_of(args)
    check_output(args.ali_dir)
    tally = Tally()
    graphs, features = read_data(args, tally)
    report = Report()
    model, alignments = flat_start(
        TransitionModel.read(args.model),
        graphs,
        features,
        options,
        silence_phones=silence_phones,
        num_jobs=args.num_jobs,
        report=report,
    )
    write(args, model, alignments, report, tally)
