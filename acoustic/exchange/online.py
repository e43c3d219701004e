"""What Kaldi's online decoders need beside an exported nnet3 net: conf/online.conf and the files that it names.

An online decoder (online2/online-nnet2-feature-pipeline.h) makes filter banks of audio, may normalise them by
statistics of the frames so far (OnlineCmvn), and hands them to the net: everything else must be inside the net. The
layout is that of steps/online/nnet3/prepare_online_decoding.sh, whose paths are absolute too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acoustic import fsio
from acoustic.errors import DataError
from acoustic.exchange.stages import Cmvn, Deltas, Fmllr, Split
from acoustic.features.fbank import FbankOptions
from acoustic.kaldi.matrix import read_matrix_file, write_matrix_file
from acoustic.log import get_logger

logger = get_logger(__name__)

CONF_DIR = "conf"
ONLINE_CONF = "conf/online.conf"
GLOBAL_STATS = "global_cmvn.stats"

# Defaults of OnlineCmvn (feat/online-feature.h), in frames.
ONLINE_WINDOW, ONLINE_GLOBAL_FRAMES = 600, 200

NOT_REGISTERED = "vtln_warp"  # compute-fbank-feats has it, the online pipeline has not


def write_online_conf(
    folder: Path, final_dir: Path, cut: Split, fbank_options: dict[str, Any] | None, global_cmvn: str | Path | None
) -> None:
    """Write what an online decoder needs, or log why it cannot make the net's features.

    Args:
        folder: the exported directory while it is written.
        final_dir: its name when it is complete, which goes into the files.
        cut: what is outside the net.
        fbank_options: options of the features, None where the model does not know them.
        global_cmvn: CMVN statistics [2, dim + 1] of the training data, where the online decoder starts from.

    Raises:
        DataError: the statistics cannot be read, or are of another dimension.
    """
    stats = None if global_cmvn is None else read_global_stats(global_cmvn, cut.dim)
    obstacle = why_not_online(cut, fbank_options, global_cmvn is not None)
    if obstacle is not None or fbank_options is None:
        logger.info("no %s: %s", ONLINE_CONF, obstacle)
        return
    final_dir = final_dir.absolute()
    (folder / CONF_DIR).mkdir()
    lines = ["--feature-type=fbank", f"--fbank-config={final_dir / CONF_DIR}/fbank.conf"]
    fsio.write_text(folder / CONF_DIR / "fbank.conf", fbank_conf(fbank_options))
    for stage in cut.outside:
        if isinstance(stage, Cmvn) and stats is not None:
            write_matrix_file(folder / GLOBAL_STATS, stats.astype("float64"))
            fsio.write_text(folder / CONF_DIR / "online_cmvn.conf", online_cmvn_conf(stage))
            lines.append(f"--cmvn-config={final_dir / CONF_DIR}/online_cmvn.conf")
            lines.append(f"--global-cmvn-stats={final_dir}/{GLOBAL_STATS}")
            logger.info("online, CMVN by the frames so far takes the place of that by %s", stage.kind)
    fsio.write_text(folder / ONLINE_CONF, "".join(f"{line}\n" for line in lines))


def read_global_stats(path: str | Path, dim: int) -> NDArray[np.float32] | NDArray[np.float64]:
    """CMVN statistics of features of `dim` values.

    Raises:
        DataError: they cannot be read, or are of another dimension.
    """
    stats = read_matrix_file(path)
    if stats.shape != (2, dim + 1):
        problem = f"a matrix {list(stats.shape)}, CMVN statistics of these features are [2, {dim + 1}]"
        raise DataError(problem, path=path, remedy="make them with: acoustic cmvn scp:feats.scp FILE")
    return stats


def why_not_online(cut: Split, fbank_options: dict[str, Any] | None, has_global_cmvn: bool) -> str | None:
    """What keeps an online decoder from making a net's features; None when nothing does."""
    if any(isinstance(stage, Fmllr) for stage in cut.outside):
        return "fMLLR transforms of a speaker take a first pass over the audio"
    if fbank_options is None:
        return "the network does not know how its features are made; train with features.fbank_config"
    if fbank_options.get(NOT_REGISTERED, 1.0) != 1.0:
        return "online decoders have no vtln-warp"
    if any(isinstance(stage, Deltas) for stage in cut.outside):
        return "deltas are outside the net; export with --edges=padded"
    if any(not isinstance(stage, Cmvn) for stage in cut.outside):
        return "splicing before another one is outside the net; export with --edges=padded"
    if cut.outside and not has_global_cmvn:
        return "CMVN by the frames so far starts from statistics of the training data; give --global-cmvn"
    return None


def fbank_conf(fbank_options: dict[str, Any]) -> str:
    """A configuration file of the filter banks, without dither, as `acoustic loglikes` makes them."""
    options = vars(FbankOptions(**{**fbank_options, "dither": 0.0}))
    return "".join(
        f"--{name.replace('_', '-')}={_value(value)}\n" for name, value in options.items() if name != NOT_REGISTERED
    )


def online_cmvn_conf(stage: Cmvn) -> str:
    """A configuration file of OnlineCmvn: over Kaldi's window, or that of sliding CMVN."""
    window = stage.window if stage.kind == "sliding" else ONLINE_WINDOW
    options = {
        "norm-means": True,
        "norm-vars": stage.norm_vars,
        "cmn-window": window,
        "speaker-frames": window,
        "global-frames": min(window, ONLINE_GLOBAL_FRAMES),
    }
    return "".join(f"--{name}={_value(value)}\n" for name, value in options.items())


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
