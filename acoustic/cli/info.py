"""`acoustic info`: what a file or folder is, found from its content."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sized
from pathlib import Path

from acoustic.data.cache import CacheMeta
from acoustic.decode.graph import GRAPH_JSON
from acoustic.decode.provenance import read_note
from acoustic.errors import DataError
from acoustic.exchange.nnet3_export import inexact, inexact_frames
from acoustic.exchange.online import ONLINE_CONF
from acoustic.exchange.pipeline import PIPELINE_FILE
from acoustic.features.audio import read_audio
from acoustic.fsio import read_json
from acoustic.kaldi.alignments import alignment_rspecifiers, read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.fst import MAGIC, read_fst
from acoustic.kaldi.matrix import read_matrix_file
from acoustic.kaldi.net_dir import check_net_dir
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import read_head
from acoustic.kaldi.tree import DecisionTree
from acoustic.log import Tally
from acoustic.nn.bundle import load_bundle
from acoustic.train.checkpoint import NAME, Checkpoints

HELP = "tell what files and folders are: models, trees, graphs, tables, data, with their fingerprints"
EXAMPLE = "acoustic info exp/relu exp/tri3/final.mdl exp/tri3/tree exp/tri3/graph data/train/feats.scp"

Describe = Callable[[Path], Iterator[str]]

REMEDY = "acoustic info knows the files of Kaldi experiments and those that acoustic writes"
HEAD_BYTES = 4096
BINARY = b"\0B"
MATRICES, VECTORS = (b"FM", b"DM", b"CM", b"CM2", b"CM3"), (b"FV", b"DV")


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
        ("text", data_dir),
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


# -- files --------------------------------------------------------------------------------------------------------


def file(path: Path) -> Iterator[str]:
    """A file, told by its first bytes."""
    with open_reader(path) as reader:
        head = reader.peek(HEAD_BYTES)
        reader.abort()
    tokens = head.removeprefix(BINARY).split(maxsplit=1)
    kinds: dict[bytes, Describe] = {
        b"<TransitionModel>": transition_model,
        b"ContextDependency": tree,
        b"<Topology>": topology,
        b"<Nnet>": nnet1,
        b"<Nnet3>": nnet3,
        **dict.fromkeys((*MATRICES, b"["), matrix),
    }
    if head.startswith(b"PK\x03\x04"):
        return bundle(path)
    if head.startswith(MAGIC.to_bytes(4, "little")):
        return fst(path)
    if head.startswith((b"RIFF", b"fLaC")):
        return audio(path)
    if tokens and tokens[0] in kinds:
        return kinds[tokens[0]](path)
    if any(line.strip() == b"\\data\\" for line in head.splitlines()):
        return arpa(path)
    return table(path, head)


def arpa(path: Path) -> Iterator[str]:
    """An n-gram model in ARPA format, of which the head is read."""
    yield "ARPA language model"
    with open_reader(path) as reader:
        head = reader.peek(HEAD_BYTES).decode(errors="replace")
        reader.abort()
    yield from (line.strip() for line in head.splitlines() if line.startswith("ngram "))


def bundle(path: Path) -> Iterator[str]:
    """A trained network."""
    content = load_bundle(path)
    config = content.classifier.config
    yield f"trained network of {content.classifier.num_parameters} parameters"
    yield f"{content.feat_dim} values in a frame of features, {content.classifier.input_dim} inputs"
    yield f"hidden layers {config.widths}, {content.classifier.num_pdfs} pdfs"
    yield from fingerprints(content.fingerprints)


def fingerprints(values: dict[str, str]) -> Iterator[str]:
    """What something was made of."""
    yield from (f"{name} {digest}" for name, digest in sorted(values.items()))


def transition_model(path: Path) -> Iterator[str]:
    """final.mdl, of which the head is read."""
    model, follower = read_head(path)
    yield f"transition model of {model.num_phones} phones, {model.num_transition_ids} transition_ids"
    yield f"{model.num_pdfs} pdfs" + (f"; {follower} follows" if follower else "")
    yield f"transition_model {model.fingerprint()}"


def tree(path: Path) -> Iterator[str]:
    """A decision tree."""
    content = DecisionTree.read(path)
    yield f"decision tree over {content.context_width} phones, {content.num_pdfs} pdfs"
    yield f"tree {content.fingerprint()}"


def topology(path: Path) -> Iterator[str]:
    """An HMM topology."""
    yield f"topology of {len(Topology.read(path).entries)} phones"


def nnet1(path: Path) -> Iterator[str]:
    """A network or feature transform of Kaldi's nnet1."""
    net = Nnet1.read(path)
    yield f"nnet1 of {len(net.components)} components"


def nnet3(path: Path) -> Iterator[str]:
    """A raw network of Kaldi's nnet3."""
    yield f"nnet3 of {len(Nnet3.read(path).components)} components"


def fst(path: Path) -> Iterator[str]:
    """A transducer."""
    content = read_fst(path)
    yield f"transducer of {content.num_states} states, {len(content.arcs)} arcs"


def audio(path: Path) -> Iterator[str]:
    """A wave or flac file of one channel."""
    samples, rate = read_audio(str(path))
    yield f"audio of {len(samples) / rate:.2f} s at {rate} Hz"


def matrix(path: Path) -> Iterator[str]:
    """One matrix, such as global CMVN statistics."""
    yield "matrix [{}, {}]".format(*read_matrix_file(path).shape)


def table(path: Path, head: bytes) -> Iterator[str]:
    """An archive of matrices, vectors or integers; or lines of text with keys."""
    kind = kind_of_values(head)
    if kind is None:
        raise DataError("nothing known", path=path, remedy=REMEDY)
    if kind == "int_vector" and not is_of_kind(path, kind):  # posteriors begin like integers
        kind = "posterior"
    num_keys = num_rows = 0
    columns: set[int] = set()
    for _, value in read_table(f"ark:{path}", kind):
        num_keys += 1
        num_rows += len(value)
        columns |= {value.shape[1]} if kind == "matrix" and len(value) else set()
    unit = "words" if kind == "tokens" else "frames or values"
    yield f"table of {num_keys} entries ({kind}), {num_rows} {unit}"
    if columns:
        yield f"{' or '.join(map(str, sorted(columns)))} values in a frame"


def is_of_kind(path: Path, kind: str) -> bool:
    """Whether the first two entries of an archive can be read as `kind`: one alone may end anywhere."""
    try:
        for _ in itertools.islice(read_table(f"ark:{path}", kind), 2):
            pass
    except DataError:
        return False
    return True


def kind_of_values(head: bytes) -> str | None:
    """The kind of values that follow the keys of a table, None when this is no table."""
    parts = head.split(b" ", 1)
    rest = parts[1] if len(parts) == 2 else b""
    if rest.startswith(BINARY):
        token = rest.removeprefix(BINARY).split(b" ", 1)[0]
        by_token = {**dict.fromkeys(MATRICES, "matrix"), **dict.fromkeys(VECTORS, "vector")}
        return "int_vector" if rest[2:3] == b"\4" else by_token.get(token)
    if b"\0" in head or not head.strip():
        return None
    if rest.lstrip(b" ").startswith(b"["):
        return "matrix" if rest.split(b"[", 1)[1].lstrip(b" ").startswith(b"\n") else "vector"
    return "tokens"
