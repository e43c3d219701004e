"""The stages in front of an exported net, as Kaldi's programs and scripts do them.

A directory of Kaldi's holds `cmvn_opts` and `delta_opts` (steps/nnet/train.sh); what they cannot say is in
`feature_pipeline`, one rspecifier, with the matrices it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from acoustic import fsio
from acoustic.exchange.stages import Affine, Cmvn, Deltas, Fmllr, GlobalCmvn, Splice, Split, Stage
from acoustic.kaldi.matrix import write_matrix_file

PIPELINE_FILE = "feature_pipeline"
STATS_FILE = "global_cmvn.mat"
TRANSFORM_FILE = "final.mat"

_CMVN_STATS = {
    "speaker": "--utt2spk=ark:DATA/utt2spk scp:DATA/cmvn.scp",
    "utterance": "'ark:compute-cmvn-stats scp:DATA/feats.scp ark:- |'",
}
_FMLLR = {
    "speaker": "transform-feats --utt2spk=ark:DATA/utt2spk 'ark:cat TRANS/trans.* |' ark:- ark:-",
    "utterance": "transform-feats 'ark:cat TRANS/trans.* |' ark:- ark:-",
}


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _cmvn_command(stage: Cmvn) -> str:
    if stage.kind == "sliding":
        return (
            f"apply-cmvn-sliding --cmn-window={stage.window} --min-cmn-window={stage.min_window} "
            f"--center={_flag(stage.center)} --norm-vars={_flag(stage.norm_vars)} ark:- ark:-"
        )
    return f"apply-cmvn {_cmvn_opts(stage)} {_CMVN_STATS[stage.kind]} ark:- ark:-"


def _cmvn_opts(stage: Cmvn | GlobalCmvn) -> str:
    return f"--norm-means=true --norm-vars={_flag(stage.norm_vars)}"


def _delta_opts(stage: Deltas) -> str:
    return f"--delta-order={stage.order} --delta-window={stage.window}"


_COMMANDS: dict[type[Any], Callable[[Any], str]] = {
    Cmvn: _cmvn_command,
    GlobalCmvn: lambda stage: f"apply-cmvn {_cmvn_opts(stage)} MODEL/{STATS_FILE} ark:- ark:-",
    Deltas: lambda stage: f"add-deltas {_delta_opts(stage)} ark:- ark:-",
    Splice: lambda stage: f"splice-feats --left-context={stage.left} --right-context={stage.right} ark:- ark:-",
    Affine: lambda stage: f"transform-feats MODEL/{TRANSFORM_FILE} ark:- ark:-",
    Fmllr: lambda stage: _FMLLR[stage.kind],
}


def feature_pipeline(stages: list[Stage]) -> str:
    """The rspecifier of the features that a net expects.

    In it DATA stands for the data directory, MODEL for the exported one, TRANS for that of the fMLLR transforms. The
    scaling of the network's input comes behind the last splicing and so is never among `stages`.
    """
    commands = ["copy-feats scp:DATA/feats.scp ark:-", *(_COMMANDS[type(stage)](stage) for stage in stages)]
    return f"ark:{' | '.join(commands)} |"


def write_pipeline(directory: Path, cut: Split) -> None:
    """Write what says how to make the features of an exported net: `feature_pipeline` and the files it names.

    `cmvn_opts` and `delta_opts` are written where these two alone say it, as steps/nnet/train.sh leaves them.
    """
    fsio.write_text(directory / PIPELINE_FILE, feature_pipeline(cut.outside) + "\n")
    for stage in cut.outside:
        if isinstance(stage, GlobalCmvn):
            write_matrix_file(directory / STATS_FILE, stage.stats)
        elif isinstance(stage, Affine):
            write_matrix_file(directory / TRANSFORM_FILE, stage.matrix.astype("float32"))
    if all(isinstance(stage, Deltas) or _is_stored_cmvn(stage) for stage in cut.outside):
        for stage in cut.outside:
            if isinstance(stage, Deltas):
                fsio.write_text(directory / "delta_opts", _delta_opts(stage) + "\n")
            elif isinstance(stage, Cmvn):
                fsio.write_text(directory / "cmvn_opts", _cmvn_opts(stage) + "\n")


def _is_stored_cmvn(stage: Stage) -> bool:
    """Whether it is CMVN by statistics that lie in cmvn.scp."""
    return isinstance(stage, Cmvn) and stage.kind != "sliding"
