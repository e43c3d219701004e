"""Every kind of file the project writes, in two versions, for the trial of failing disks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from corpus import GOLDEN, MODEL_DIR

from acoustic.cli import main as command_line
from acoustic.decode.graph import GraphOptions, make_graph
from acoustic.kaldi.alignments import write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.matrix import write_matrix_file
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3Model
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import TableWriter
from acoustic.kaldi.transitions import TransitionModel, write_model
from acoustic.kaldi.tree import DecisionTree
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.curves import draw_curves
from acoustic.train.metrics import Metrics

Writer = Callable[[Path, int], None]


def matrix(version: int) -> np.ndarray:
    """Some features, others in each version."""
    return np.random.default_rng(version).normal(size=(20 + version, 5)).astype(np.float32)


def write_table(options: str, files: str, compression_method: int | None = None) -> Writer:
    """A table of matrices; FOLDER in `files` stands for the folder."""

    def write(folder: Path, version: int) -> None:
        specifier = f"{options}:{files.replace('FOLDER', str(folder))}"
        with TableWriter(specifier, "matrix", compression_method) as writer:
            for number in range(3 + version):
                writer.write(f"utt{version}{number}", matrix(version + number))

    return write


def write_ali(folder: Path, version: int) -> None:
    alignments = [(f"utt{n}", np.full(9 + version, n + 1, np.int32)) for n in range(6)]
    write_alignments(folder, alignments, 3 - version)


def write_data_dir(folder: Path, version: int) -> None:
    utts = [f"spk{version}-utt{n}" for n in range(4)]
    DataDir(
        wav={utt: f"{utt}.wav" for utt in utts},
        utt2spk={utt: f"spk{version}" for utt in utts},
        text={utt: ["words", str(version)] for utt in utts},
    ).write(folder)


def write_graph(folder: Path, version: int) -> None:
    options = GraphOptions(self_loop_scale=0.1 + version)
    make_graph(GOLDEN / "graph" / "lang", MODEL_DIR, folder / "graph", options)


def write_lang(folder: Path, version: int) -> None:
    dictionary = folder.parent / "dictionary"
    dictionary.mkdir(exist_ok=True)
    files = {
        "lexicon.txt": "!SIL SIL\n<UNK> SPN\noh ow\ntwo t uw\n",
        "silence_phones.txt": "SIL\nSPN\n",
        "nonsilence_phones.txt": "ow\nt\nuw\n",
        "optional_silence.txt": "SIL\n",
    }
    for name, text in files.items():
        if not (dictionary / name).exists():
            (dictionary / name).write_text(text)
    sil_prob = f"--sil-prob=0.{5 - version}"
    command_line.run(["prepare-lang", sil_prob, str(dictionary), "<UNK>", str(folder / "lang")])


def write_grammar(folder: Path, version: int) -> None:
    text = folder.parent / f"text{version}"
    if not text.exists():
        text.write_text("a b\nb c a\n" * (1 + version))
    command_line.run(["ngram", "--order=2", str(text), str(folder / "lm.arpa")])


def write_features(folder: Path, version: int) -> None:
    wav = folder.parent / "wav.scp"
    if not wav.exists():
        wav.write_text("".join(f"{path.stem} {path}\n" for path in sorted((GOLDEN / "wav").glob("engb*.wav"))))
    command_line.run(
        ["fbank", "--num-jobs=1", "--sample-frequency=8000", "--dither=0", f"--num-mel-bins={20 + version}",
         f"scp:{wav}", f"ark,scp:{folder}/feats.ark,{folder}/feats.scp"]
    )  # fmt: skip


def save_checkpoint(folder: Path, version: int) -> None:
    torch.manual_seed(version)
    Checkpoints(folder, keep=2).save(5, {"weights": torch.randn(40), "best_step": 5}, 5)


def append_metrics(folder: Path, version: int) -> None:
    metrics = Metrics(folder / "metrics.jsonl")
    metrics.truncate(0)
    metrics.append({"epoch": version, "train_loss": 1.0})


def draw(folder: Path, version: int) -> None:
    draw_curves([{"epoch": 1, "train_loss": 1.0 + version}], folder / "curves.png")


# What each writes, and whether it is one unit: then a failure must leave the old or the new version, nothing between.
WRITERS: dict[str, Writer] = {
    "archive": write_table("ark", "FOLDER/feats.ark"),
    "archive with scp": write_table("ark,scp", "FOLDER/feats.ark,FOLDER/feats.scp"),
    "text archive": write_table("ark,t", "FOLDER/feats.ark"),
    "gzip archive": write_table("ark", "FOLDER/feats.gz"),
    "compressed archive": write_table("ark", "FOLDER/feats.ark", 1),
    "alignments": write_ali,
    "data directory": write_data_dir,
    "graph directory": write_graph,
    "lang directory": write_lang,
    "language model": write_grammar,
    "features": write_features,
    "matrix": lambda folder, version: write_matrix_file(folder / "final.mat", matrix(version)),
    "symbols": lambda folder, version: SymbolTable({"<eps>": 0, f"word{version}": 1}).write(folder / "words.txt"),
    "nnet1": lambda folder, version: Nnet1.read(GOLDEN / "nnet1" / "final.nnet").write(folder / "n", version == 0),
    "nnet3": lambda folder, version: Nnet3Model.read(GOLDEN / "nnet3" / "final.mdl").write(folder / "n", version == 0),
    "tree": lambda folder, version: DecisionTree.read(MODEL_DIR / "tree").write(folder / "tree", version == 0),
    "transition model": lambda folder, version: write_model(
        folder / "final.mdl", TransitionModel.read(MODEL_DIR / "final.mdl"), version == 0
    ),
    "checkpoint": save_checkpoint,
    "metrics": append_metrics,
    "curves": draw,
}
# Several files, each of them complete or absent; the others are one unit.
SEVERAL_FILES = ("archive with scp", "features", "alignments", "data directory", "metrics")
