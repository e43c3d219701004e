"""Directories with a net of nnet1 or nnet3, exported or trained by Kaldi, and whether what lies there fits together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from acoustic.errors import DataError
from acoustic.kaldi.matrix import read_vector_file
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.nnet3_config import InputNode
from acoustic.kaldi.stream import open_reader
from acoustic.kaldi.transitions import TransitionModel, fault_of_tree
from acoustic.kaldi.tree import DecisionTree

REMEDY = "take all its files from one system"
COUNTS = "ali_train_pdf.counts"


@dataclass(frozen=True)
class NetOfDir:
    """The net of a directory.

    Attributes:
        format: nnet1 or nnet3.
        input_dim: elements of a frame of features.
        num_outputs: elements of its output, which stand for pdfs.
        num_priors: the priors, or counts of pdfs, that its outputs are divided by; None where there are none.
    """

    format: str
    input_dim: int
    num_outputs: int
    num_priors: int | None


def has_net(directory: Path) -> bool:
    """Whether there is a net: final.nnet, final.raw, or a final.mdl with one."""
    return any((directory / name).exists() for name in ("final.nnet", "final.raw")) or _has_nnet3(directory)


def read_net(directory: Path) -> NetOfDir:
    """Read the net of a directory that has one.

    Raises:
        DataError: it is damaged or holds what is not supported here, or its parts do not fit together.
    """
    return _read_nnet1(directory) if (directory / "final.nnet").exists() else _read_nnet3(directory)


def fault_of_outputs(net: NetOfDir, model: TransitionModel) -> str | None:
    """What shows that a net's outputs are not a model's pdfs; None when they may be."""
    if net.num_outputs != model.num_pdfs:
        return f"a net of {net.num_outputs} outputs, final.mdl has {model.num_pdfs} pdfs"
    return None


def check_net_dir(directory: Path) -> NetOfDir:
    """Read the net of a directory and make sure that net, priors, transition model and tree are of one system.

    Raises:
        DataError: they are not, or one of them cannot be read.
    """
    net = read_net(directory)
    if net.num_priors not in (None, net.num_outputs):
        problem = f"{net.num_priors} priors for a net of {net.num_outputs} outputs"
        raise DataError(problem, path=directory, remedy=REMEDY)
    model_path, tree_path = directory / "final.mdl", directory / "tree"
    if model_path.exists():
        model = TransitionModel.read(model_path)
        fault = fault_of_outputs(net, model)
        if fault is None and tree_path.exists():
            fault = fault_of_tree(DecisionTree.read(tree_path), model)
        if fault is not None:
            raise DataError(fault, path=directory, remedy=REMEDY)
    return net


def _has_nnet3(directory: Path) -> bool:
    """Whether final.mdl is a transition model with an nnet3 net behind it."""
    path = directory / "final.mdl"
    if not path.exists():
        return False
    with open_reader(path) as reader:
        reader.read_binary_header()
        TransitionModel.read_from(reader)
        has_more = bool(reader.peek(1)) and reader.peek_token() == "<Nnet3>"
        reader.abort()
    return has_more


def _read_nnet1(directory: Path) -> NetOfDir:
    net, transform_path = Nnet1.read(directory / "final.nnet"), directory / "final.feature_transform"
    input_dim = net.input_dim
    if transform_path.exists():
        transform = Nnet1.read(transform_path)
        if transform.output_dim != net.input_dim:
            problem = f"gives {transform.output_dim} values, final.nnet takes {net.input_dim}"
            raise DataError(problem, path=transform_path, remedy=REMEDY)
        input_dim = transform.input_dim
    counts = directory / COUNTS
    num_priors = len(read_vector_file(counts)) if counts.exists() else None
    return NetOfDir("nnet1", input_dim, net.output_dim, num_priors)


def _read_nnet3(directory: Path) -> NetOfDir:
    found: NetOfDir | None = None
    if _has_nnet3(directory):
        model = Nnet3Model.read(directory / "final.mdl")
        found = _nnet3_dims(model.nnet, directory / "final.mdl", len(model.priors) or None)
    raw_path = directory / "final.raw"
    if raw_path.exists():
        raw = _nnet3_dims(Nnet3.read(raw_path), raw_path, None)
        if found is not None and (raw.input_dim, raw.num_outputs) != (found.input_dim, found.num_outputs):
            problem = (
                f"has {raw.input_dim} inputs and {raw.num_outputs} outputs, the net in final.mdl {found.input_dim}"
            )
            raise DataError(f"{problem} and {found.num_outputs}", path=raw_path, remedy=REMEDY)
        found = found or raw
    if found is None:
        raise DataError("holds no net", path=directory, remedy="name a directory with final.nnet, final.raw, final.mdl")
    return found


def _nnet3_dims(net: Nnet3, path: Path, num_priors: int | None) -> NetOfDir:
    node = net.node_of.get("input")
    if not isinstance(node, InputNode):
        raise DataError("an nnet3 net without an input node 'input'", path=path)
    return NetOfDir("nnet3", node.dim, net.descriptor_dim(net.output().input), num_priors)
