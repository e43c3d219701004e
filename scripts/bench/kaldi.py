"""What Kaldi's programs are given to do the same work as we: networks, features, targets, counts in its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ceilings import Net
from measure import run_program

from acoustic.kaldi.tables import TableWriter

UTTERANCE_FRAMES = 512


@dataclass(frozen=True)
class Nnet1Files:
    """Paths of a network of nnet1 and of data for it."""

    net: Path
    feats: Path
    targets: Path
    counts: Path


def write_feats(path: Path, num_frames: int, dim: int) -> None:
    """Random features [512, dim] of utterances that hold so many frames together."""
    rng = np.random.default_rng(0)
    with TableWriter(f"ark:{path}", "matrix") as writer:
        for number in range(max(1, num_frames // UTTERANCE_FRAMES)):
            writer.write(f"utt{number:06d}", rng.standard_normal((UTTERANCE_FRAMES, dim), dtype=np.float32))


def nnet1_files(net: Net, num_frames: int, directory: Path, base_dim: int = 40) -> Nnet1Files:
    """A network of sigmoids with random weights, features, targets and pdf counts."""
    files = Nnet1Files(*(directory / name for name in ("init.nnet", "nnet1.feats", "nnet1.post", "nnet1.counts")))
    write_feats(files.feats, num_frames, base_dim)
    rng = np.random.default_rng(1)
    with TableWriter(f"ark:{files.targets}", "posterior") as writer:
        for number in range(max(1, num_frames // UTTERANCE_FRAMES)):
            pdf_ids = rng.integers(0, net.num_pdfs, UTTERANCE_FRAMES).tolist()
            writer.write(f"utt{number:06d}", [[(pdf_id, 1.0)] for pdf_id in pdf_ids])
    files.counts.write_text(f"[ {' '.join(['100'] * net.num_pdfs)} ]\n", encoding="ascii")
    lines = []
    for number, (inputs, outputs) in enumerate(zip(net.dims[:-1], net.dims[1:], strict=True), 1):
        dims = f"<InputDim> {inputs} <OutputDim> {outputs}"
        lines.append(f"<AffineTransform> {dims} <BiasMean> 0.0 <BiasRange> 0.0 <ParamStddev> 0.02")
        kind = "Sigmoid" if number <= net.hidden_layers else "Softmax"
        lines.append(f"<{kind}> <InputDim> {outputs} <OutputDim> {outputs}")
    proto = directory / "nnet.proto"
    proto.write_text("\n".join(["<NnetProto>", *lines, "</NnetProto>", ""]), encoding="ascii")
    run_program(["nnet-initialize", proto, files.net])
    return files


def splice_net(directory: Path, dim: int, context: int) -> Path:
    """A network of nnet1 that does nothing but splice."""
    path = directory / "splice.nnet"
    offsets = " ".join(str(offset) for offset in range(-context, context + 1))
    path.write_text(f"<Nnet>\n<Splice> {dim * (2 * context + 1)} {dim}\n[ {offsets} ]\n</Nnet>\n", encoding="ascii")
    return path
