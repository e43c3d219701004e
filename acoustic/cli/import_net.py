"""`acoustic import`: a network that Kaldi trained, to be decoded, analysed or trained further."""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.errors import ConfigError
from acoustic.exchange.importing import write_bundle
from acoustic.exchange.nnet1_import import import_nnet1, import_nnet1_dir
from acoustic.exchange.nnet3_import import import_nnet3, import_nnet3_dir
from acoustic.log import get_logger
from acoustic.nn.bundle import Bundle

HELP = "Kaldi's nnet1 or plain feed-forward nnet3 network as exp_dir/final.pt"
EXAMPLE = (
    "acoustic import nnet1 exp/dnn4 exp/imported\n"
    "    a directory gives its CMVN and deltas (cmvn_opts, delta_opts) and priors too; single files mean neither:\n"
    "    acoustic import nnet1 final.nnet [final.feature_transform [pdf.counts]] exp/imported\n"
    "    acoustic import nnet3 final.mdl exp/imported\n"
    "    to go on training: acoustic train init_from=exp/imported exp_dir=... train.data_dir=... train.ali_dir=..."
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command for each format."""
    formats = parser.add_subparsers(dest="format", required=True, metavar="nnet1|nnet3")
    nnet1 = formats.add_parser("nnet1", help="final.nnet with its feature transform and class counts")
    nnet1.add_argument("inputs", nargs="+", help="Kaldi's directory; or nnet, feature transform, class frame counts")
    nnet3 = formats.add_parser("nnet3", help="final.mdl or final.raw")
    nnet3.add_argument("inputs", nargs="+", help="Kaldi's directory, or the file")
    for subparser in (nnet1, nnet3):
        subparser.add_argument("exp_dir", help="where final.pt is written")


def run(args: argparse.Namespace) -> None:
    """Import and write final.pt."""
    bundle = read_nnet1(args.inputs) if args.format == "nnet1" else read_nnet3(args.inputs)
    write_bundle(bundle, args.exp_dir)
    config = bundle.classifier.config
    logger.info(
        "%s: features of %d values, hidden layers %s (%s), %d pdfs", args.exp_dir, bundle.feat_dim, config.widths,
        ", ".join(config.layer_activations), bundle.classifier.num_pdfs,
    )  # fmt: skip


def read_nnet1(inputs: list[str]) -> Bundle:
    """The model of a directory or of up to three files."""
    if len(inputs) == 1 and Path(inputs[0]).is_dir():
        return import_nnet1_dir(inputs[0])
    if len(inputs) > 3:
        raise ConfigError("import nnet1: at most a nnet, a feature transform and class frame counts")
    nnet, feature_transform, counts = [*inputs, None, None][:3]
    return import_nnet1(str(nnet), feature_transform, counts)


def read_nnet3(inputs: list[str]) -> Bundle:
    """The model of a directory or a file."""
    if len(inputs) > 1:
        raise ConfigError("import nnet3: one directory or file")
    return import_nnet3_dir(inputs[0]) if Path(inputs[0]).is_dir() else import_nnet3(inputs[0])
