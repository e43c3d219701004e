"""`acoustic export`: a trained network as Kaldi's nnet1 or nnet3, or as ONNX."""

from __future__ import annotations

import argparse

from acoustic.cli.options import parse_bool

HELP = "a trained network as Kaldi's nnet1 or nnet3, or as ONNX"
EXAMPLE = (
    "acoustic export nnet3 --model=exp/tri3_ali/final.mdl exp/relu exp/relu_nnet3\n"
    "    writes final.raw, final.mdl, cmvn_opts, delta_opts, tree; the features that the net expects are in its\n"
    "    file feature_pipeline (DATA: the data directory, MODEL: the exported one, TRANS: that of fMLLR transforms),\n"
    "    and in conf/online.conf for online decoders, where these can make them"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command for each format."""
    formats = parser.add_subparsers(dest="format", required=True, metavar="nnet1|nnet3|onnx")
    nnet1 = formats.add_parser("nnet1", help="final.nnet, final.feature_transform, ali_train_pdf.counts")
    nnet3 = formats.add_parser("nnet3", help="final.raw, and with --model final.mdl")
    onnx = formats.add_parser("onnx", help="one file: features of an utterance to log posteriors and loglikes")
    for kaldi in (nnet1, nnet3):
        kaldi.add_argument("--model", help="final.mdl of the alignments trained on; its transitions are written too")
        kaldi.add_argument("--binary", type=parse_bool, default=True, help="false: nets as text")
    nnet3.add_argument(
        "--edges",
        choices=["exact", "padded"],
        default="exact",
        help="exact: what nnet3 cannot do exactly at an utterance's edges (deltas before splicing) is left to the "
        "feature pipeline. padded: it is in the net too, and outputs of the first and last frames differ",
    )
    nnet3.add_argument(
        "--global-cmvn",
        metavar="FILE",
        help="CMVN statistics of the training data (acoustic cmvn scp:data/train/feats.scp FILE): online decoders, "
        "which cannot know a speaker's, start from them",
    )
    for subparser in (nnet1, nnet3, onnx):
        subparser.add_argument("exp_dir", help="training's exp_dir, or a final.pt")
        subparser.add_argument("out", help="the directory to write" if subparser is not onnx else "the file to write")


def run(args: argparse.Namespace) -> None:
    """Export in the chosen format."""
    from acoustic.exchange.kaldi_model import load_for_export
    from acoustic.exchange.nnet1_export import export_nnet1
    from acoustic.exchange.nnet3_export import export_nnet3
    from acoustic.exchange.onnx_export import export_onnx

    bundle, frontend = load_for_export(args.exp_dir)
    if args.format == "nnet1":
        export_nnet1(bundle, frontend, args.out, args.model, args.binary)
    elif args.format == "nnet3":
        is_exact = args.edges == "exact"
        export_nnet3(bundle, frontend, args.out, args.model, args.binary, is_exact, args.global_cmvn)
    else:
        export_onnx(bundle, frontend, args.out)
