"""What a file is, found from its first bytes: for `acoustic info`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from acoustic.errors import DataError
from acoustic.exchange.onnx_export import onnx_facts
from acoustic.features.audio import read_audio
from acoustic.kaldi.fst import MAGIC, read_fst
from acoustic.kaldi.matrix import read_matrix_file
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import read_head
from acoustic.kaldi.tree import DecisionTree
from acoustic.nn.bundle import load_bundle

Describe = Callable[[Path], Iterator[str]]

REMEDY = "acoustic info knows the files of Kaldi experiments and those that acoustic writes"
HEAD_BYTES = 4096
BINARY = b"\0B"
FST = MAGIC.to_bytes(4, "little")
MATRICES, VECTORS = (b"FM", b"DM", b"CM", b"CM2", b"CM3"), (b"FV", b"DV")
# Type of the arcs, as the head of an OpenFst file names it -> kind of table.
ARCS = {b"standard": "fst", b"lattice4": "lattice", b"compactlattice44": "compact_lattice"}
NAMES = {"fst": "transducers", "lattice": "lattices, state by state", "compact_lattice": "compact lattices"}


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
    if head.startswith(FST):
        return fst(path)
    if is_onnx(head):
        return onnx(path)
    if head.lstrip().startswith(b"{"):
        return json_file(path)
    if path.suffix == ".yaml":
        return yaml_file(path)
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


def is_onnx(head: bytes) -> bool:
    """Whether a file begins as ONNX models do: the version of the format, then who wrote it (protocol buffers)."""
    return head[:1] == b"\x08" and head[2:3] == b"\x12"


def onnx(path: Path) -> Iterator[str]:
    """A network in ONNX format."""
    facts = onnx_facts(path)
    yield f"ONNX network: {facts.input_dim} values in a frame, {facts.num_outputs} outputs"
    if facts.feature_pipeline is not None:
        yield f"features: {facts.feature_pipeline}"


def json_file(path: Path) -> Iterator[str]:
    """A JSON object, or one on each line.

    Raises:
        DataError: neither.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        objects = [json.loads(text)]
    except json.JSONDecodeError:
        try:
            objects = [json.loads(line) for line in text.splitlines()]
        except json.JSONDecodeError as error:
            raise DataError(f"is not JSON ({error})", path=path, remedy=REMEDY) from error
        yield f"{len(objects)} lines of JSON"
    else:
        yield "JSON"
    yield ", ".join(dict.fromkeys(key for value in objects if isinstance(value, dict) for key in value))


def yaml_file(path: Path) -> Iterator[str]:
    """A configuration, of which the outermost keys are told."""
    yield "YAML"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    yield ", ".join(line.split(":")[0] for line in lines if ":" in line and line[0].isalpha())


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
    if kind in NAMES:
        yield from fsts(path, kind)
        return
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


def fsts(path: Path, kind: str) -> Iterator[str]:
    """An archive of training graphs or lattices."""
    num_keys = num_arcs = 0
    for _, value in read_table(f"ark:{path}", kind):
        num_keys += 1
        num_arcs += len(value.arcs)
    yield f"table of {num_keys} {NAMES[kind]}, {num_arcs} arcs"


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
    if rest.startswith(FST):
        return next((kind for arcs, kind in ARCS.items() if len(arcs).to_bytes(4, "little") + arcs in rest[:64]), None)
    if rest.startswith(BINARY):
        token = rest.removeprefix(BINARY).split(b" ", 1)[0]
        by_token = {**dict.fromkeys(MATRICES, "matrix"), **dict.fromkeys(VECTORS, "vector")}
        return "int_vector" if rest[2:3] == b"\4" else by_token.get(token)
    if b"\0" in head or not head.strip():
        return None
    if rest.lstrip(b" ").startswith(b"["):
        return "matrix" if rest.split(b"[", 1)[1].lstrip(b" ").startswith(b"\n") else "vector"
    return "tokens"
