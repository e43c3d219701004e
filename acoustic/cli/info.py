"""`acoustic info`: what a file or folder is, found from its content."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sized
from pathlib import Path

from acoustic.cli.info_files import REMEDY, Describe, bundle, file, fingerprints, fst, transition_model, tree
from acoustic.data.cache import CacheMeta
from acoustic.decode.graph import GRAPH_JSON
from acoustic.decode.provenance import read_note
from acoustic.errors import DataError
from acoustic.exchange.nnet3_export import inexact, inexact_frames
from acoustic.exchange.online import ONLINE_CONF
from acoustic.exchange.pipeline import PIPELINE_FILE
from acoustic.fsio import read_json
from acoustic.kaldi.alignments import alignment_rspecifiers, read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.net_dir import check_net_dir
from acoustic.kaldi.nnet3 import Nnet3
from acoustic.kaldi.symbols import SymbolTable
from acoustic.log import Tally
from acoustic.train.checkpoint import NAME, Checkpoints

HELP = "tell what files and folders are: models, trees, graphs, tables, data, with their fingerprints"
EXAMPLE = "acoustic info exp/relu exp/tri3/final.mdl exp/tri3/tree exp/tri3/graph data/train/feats.scp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Anything that is there."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="path", help="file or folder")


def run(args: argparse.Namespace) -> None:
    """Describe each path: one line that says what it is, then indented ones."""
    tally = Tally("files and folders")
    for path in args.paths:
        what, *details = describe(path)
        print(f"{path}: {what}")
        for line in itertools.chain(details, made_with(path)):
            print(f"  {line}")
        tally.done()
    sys.stdout.flush()
    print(f"acoustic info: {tally.summary()}", file=sys.stderr)


def describe(path: Path) -> Iterator[str]:
    """What a file or folder is, then its particulars, a line each.

    Raises:
        DataError: it is missing, damaged, or nothing known.
    """
    return folder(path) if path.is_dir() else file(path)


def made_with(path: Path) -> Iterator[str]:
    """What the note beside a file says."""
    yield from (f"made with {name} {digest}" for name, digest in sorted(read_note(path).items()))


# -- folders ------------------------------------------------------------------------------------------------------


def folder(path: Path) -> Iterator[str]:
    """A folder, told by what lies in it."""
    kinds: list[tuple[str, Describe]] = [
        ("final.pt", lambda folder: bundle(folder / "final.pt")),
        ("checkpoints", unfinished_run),
        ("manifest.json", checkpoint),
        ("meta.json", cache),
        (PIPELINE_FILE, exported),
        ("final.nnet", exported),
        ("final.raw", exported),
        ("HCLG.fst", graph_dir),
        ("L.fst", lang_dir),
        ("ali.*", ali_dir),
        ("final.mdl", model_dir),
        ("*.scp", data_dir),
        ("utt2spk", data_dir),
        ("lat.*", lattice_dir),
        ("text", data_dir),
        ("step-*", checkpoints),
        ("*/meta.json", caches),
        ("lexicon*.txt", lambda folder: iter(["dictionary directory"])),
        ("journal.log", lambda folder: iter(["search of acoustic tune"])),
        ("claims.md", lambda folder: iter(["trainings of acoustic claims"])),
        ("report.html", lambda folder: iter(["report of acoustic analyze"])),
    ]
    for pattern, describe_kind in kinds:
        if any(path.glob(pattern)):
            return describe_kind(path)
    raise DataError("a folder of no known kind", path=path, remedy=REMEDY)


def unfinished_run(path: Path) -> Iterator[str]:
    """An exp_dir without final.pt."""
    steps = Checkpoints(path / "checkpoints").steps()
    yield f"unfinished training run with {len(steps)} checkpoints"
    if steps:
        yield from checkpoint(path / "checkpoints" / f"step-{steps[-1]:09d}")


def checkpoints(path: Path) -> Iterator[str]:
    """The checkpoints of a run, finished or not."""
    steps = Checkpoints(path).steps()
    yield f"{len(steps)} checkpoints, after {', '.join(map(str, steps))} updates"


def checkpoint(path: Path) -> Iterator[str]:
    """A checkpoint, checked against its manifest."""
    if NAME.fullmatch(path.name) is None:
        raise DataError("a folder of no known kind", path=path, remedy=REMEDY)
    step = int(path.name.removeprefix("step-"))
    state = Checkpoints(path.parent).load(step)
    yield f"checkpoint after {step} updates, {state['position']['interval']} dev evaluations"
    yield f"{sum(tensor.numel() for tensor in state['model'].values())} parameters, {state['dtype']}"
    yield f"best weights: those of step {state['best_step']}, dev loss {state['schedule']['best_loss']:.4f}"
    yield from fingerprints(state["data"])


def cache(path: Path) -> Iterator[str]:
    """A frames cache."""
    meta = CacheMeta.read(path)
    yield f"frames cache of {meta.num_utts} utterances, {meta.num_frames} frames"
    yield f"{meta.base_dim} {meta.dtype} values in a frame, {meta.num_pdfs} pdfs"
    yield from fingerprints(meta.fingerprints)


def caches(path: Path) -> Iterator[str]:
    """Frames caches side by side."""
    found = sorted(meta.parent for meta in path.glob("*/meta.json"))
    yield f"{len(found)} frames caches"
    for folder in found:
        yield f"{folder.name}: {next(cache(folder))}"


def lattice_dir(path: Path) -> Iterator[str]:
    """What decoding with Kaldi's programs or `acoustic lattices` leaves."""
    yield f"lattices in {len(list(path.glob('lat.*')))} archives"


def graph_dir(path: Path) -> Iterator[str]:
    """A decoding graph."""
    yield "graph directory"
    yield from fst(path / "HCLG.fst")
    description = path / GRAPH_JSON
    if description.exists():
        yield from (f"{name} {value}" for name, value in sorted(read_json(description).items()))
    if (path / "words.txt").exists():
        yield f"{len(SymbolTable.read(path / 'words.txt').id_of)} word symbols"


def lang_dir(path: Path) -> Iterator[str]:
    """A lang directory."""
    yield "lang directory"
    for name in ("words.txt", "phones.txt"):
        yield f"{len(SymbolTable.read(path / name).id_of)} symbols in {name}"


def ali_dir(path: Path) -> Iterator[str]:
    """Alignments."""
    model = read_model(path)
    yield f"alignment directory of {len(alignment_rspecifiers(path))} archives, {model.num_pdfs} pdfs"
    yield f"transition_model {model.fingerprint()}"


def exported(path: Path) -> Iterator[str]:
    """A net of nnet1 or nnet3, with what says how to make its features, if it was exported here."""
    net = check_net_dir(path)
    beside = [name for name in ("final.mdl", "tree") if (path / name).exists()]
    yield f"{net.format} directory: {net.input_dim} values in a frame, {net.num_outputs} outputs"
    yield "priors of all outputs" if net.num_priors is not None else "no priors"
    if beside:
        yield f"{' and '.join(beside)} fit" + ("s" if len(beside) == 1 else "")
    if (path / PIPELINE_FILE).exists():
        yield f"features: {(path / PIPELINE_FILE).read_text(encoding='utf-8').strip()}"
        if net.format == "nnet3" and any(frames := inexact_frames(Nnet3.read(path / "final.raw"))):
            yield f"exported with --edges=padded: outputs of {inexact(*frames)}"
    if net.format == "nnet3":
        yield f"online decoding: {ONLINE_CONF if (path / ONLINE_CONF).exists() else 'not prepared'}"


def model_dir(path: Path) -> Iterator[str]:
    """A Kaldi experiment without alignments."""
    yield "model directory"
    yield from transition_model(path / "final.mdl")
    if (path / "tree").exists():
        yield from tree(path / "tree")


def data_dir(path: Path) -> Iterator[str]:
    """A data directory."""
    data = DataDir.read(path)
    yield f"data directory of {len(data.utterances)} utterances, {len(set(data.utt2spk.values()))} speakers"
    counts: dict[str, Sized] = {
        "recordings": data.wav,
        "segments": data.segments,
        "texts": data.text,
        "features": data.feats,
    }
    yield ", ".join(f"{len(entries)} {what}" for what, entries in counts.items() if entries)
