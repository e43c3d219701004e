"""The decoding graph HCLG from a lang directory and a model directory, step by step as utils/mkgraph.sh."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import kaldifst
import numpy as np

from acoustic.decode.graph_arrays import from_kaldifst, to_vector
from acoustic.decode.graph_epsilons import remove_epsilons_locally
from acoustic.decode.graph_hmm import make_h_transducer
from acoustic.decode.graph_operations import add_self_loops, push_special, remove_input_symbols
from acoustic.decode.lang_match import check_same_phones
from acoustic.errors import DataError
from acoustic.fsio import atomic_dir, read_json, write_json
from acoustic.kaldi.fst import FstArrays, read_fst
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.log import get_logger

logger = get_logger(__name__)

GRAPH_JSON = "graph.json"
MAKE_GRAPH = "use the graph made for this model, or make one with acoustic mkgraph"
COPIED_PHONE_FILES = ("word_boundary.*", "align_lexicon.*", "optional_silence.*", "disambig.*", "silence.csl")


@dataclass(frozen=True)
class GraphOptions:
    """Options of `acoustic mkgraph`, with the names and defaults of mkgraph.sh."""

    transition_scale: float = field(default=1.0, metadata={"help": "scale of transition log probabilities"})
    self_loop_scale: float = field(default=0.1, metadata={"help": "scale of self-loop log probabilities"})

    def __post_init__(self) -> None:
        """ValueError on scales that are no scales."""
        for name in ("transition_scale", "self_loop_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"--{name.replace('_', '-')}={value}: must be finite and not negative")


def make_graph(
    lang_dir: str | Path, model_dir: str | Path, graph_dir: str | Path, options: GraphOptions | None = None
) -> FstArrays:
    """Build HCLG and write the graph directory; an earlier graph directory of that name is replaced.

    The directory holds HCLG.fst, words.txt, phones.txt, num_pdfs, disambig_tid.int, phones/ and graph.json with the
    fingerprints of tree and transition model, by which a decoder sees whether it has the right model.

    Args:
        lang_dir: has L_disambig.fst, G.fst, words.txt, phones.txt and phones/disambig.int (or disambig.int).
        model_dir: has tree and final.mdl.

    Raises:
        DataError: a file is missing or damaged, the parts do not fit together, or `graph_dir` holds something else.
    """
    options = options or GraphOptions()
    lang_dir, model_dir, graph_dir = Path(lang_dir), Path(model_dir), Path(graph_dir)
    check_replaceable(graph_dir)
    check_same_phones(lang_dir, model_dir)
    tree = DecisionTree.read(model_dir / "tree")
    model = TransitionModel.read(model_dir / "final.mdl")
    if tree.num_pdfs != model.num_pdfs:
        raise DataError(
            f"tree with {tree.num_pdfs} pdfs beside a final.mdl with {model.num_pdfs}",
            path=model_dir,
            remedy="use tree and final.mdl of one experiment",
        )
    with atomic_dir(graph_dir) as folder:  # made first, so that one that cannot be written is told before hours of work
        graph, disambig = compile_graph(lang_dir, tree, model, options)
        graph.write(folder / "HCLG.fst")
        copy_lang_files(lang_dir, folder)
        (folder / "num_pdfs").write_text(f"{model.num_pdfs}\n", encoding="ascii")
        (folder / "disambig_tid.int").write_text("".join(f"{symbol}\n" for symbol in disambig), encoding="ascii")
        write_json(folder / GRAPH_JSON, describe(tree, model, options))
    return graph


def compile_graph(
    lang_dir: Path, tree: DecisionTree, model: TransitionModel, options: GraphOptions
) -> tuple[FstArrays, list[int]]:
    """HCLG, and the disambiguation symbols that H gave it.

    Raises:
        DataError: a file of `lang_dir` is missing or damaged, or the parts do not fit together.
    """
    lg = compose_lexicon_grammar(lang_dir)
    logger.info("LG: %d states", lg.num_states)
    clg, windows = kaldifst.compose_context(read_disambig(lang_dir), tree.context_width, tree.central_position, lg)
    kaldifst.arcsort(clg, sort_type="ilabel")
    logger.info("CLG: %d states, %d phones in context", clg.num_states, len(windows) - 1)
    h, disambig = make_h_transducer(windows, tree, model, options.transition_scale)
    graph = add_self_loops(expand_hmms(h, clg, disambig), model, options.self_loop_scale)
    logger.info("HCLG: %d states, %d arcs", graph.num_states, graph.num_arcs)
    return graph, disambig


def compose_lexicon_grammar(lang_dir: Path) -> kaldifst.StdVectorFst:
    """LG: L_disambig composed with G, determinised, minimised, and its weights pushed.

    Raises:
        DataError: they have no path in common, or a file is missing or damaged.
    """
    lexicon, grammar = (to_vector(read_fst(lang_dir / name)) for name in ("L_disambig.fst", "G.fst"))
    kaldifst.arcsort(lexicon, sort_type="olabel")
    kaldifst.arcsort(grammar, sort_type="ilabel")
    lg = kaldifst.compose(lexicon, grammar)
    if lg.start < 0:
        raise DataError(
            "L_disambig.fst and G.fst have no path in common",
            path=lang_dir,
            remedy="make both with one words.txt, and check that the grammar has sentences",
        )
    determinize(lg, "LG")
    kaldifst.minimize_encoded(lg)
    return to_vector(push_special(from_kaldifst(lg)))


def determinize(fst: kaldifst.StdVectorFst, what: str) -> None:
    """Remove epsilons and determinise in the log semiring, in place (fstdeterminizestar --use-log=true).

    Raises:
        DataError: the transducer cannot be determinised.
    """
    try:
        stopped_early = kaldifst.determinize_star(fst, use_log=True)
    except RuntimeError as error:
        raise DataError(
            f"{what} cannot be determinised ({error})",
            remedy="check the disambiguation symbols of the lexicon and that the grammar has no cycle of epsilons",
        ) from error
    if stopped_early or fst.start < 0:
        raise DataError(f"determinising {what} left no transducer")


def expand_hmms(h: kaldifst.StdVectorFst, clg: kaldifst.StdVectorFst, disambig: list[int]) -> FstArrays:
    """H composed with CLG, determinised, freed of disambiguation symbols and minimised: HCLG without self-loops."""
    kaldifst.arcsort(h, sort_type="olabel")
    graph = kaldifst.compose(h, clg)
    if graph.start < 0:
        raise DataError("the HMMs and the grammar have no path in common", remedy="check phones.txt and topo")
    determinize(graph, "HCLG")
    trimmed = to_vector(remove_epsilons_locally(remove_input_symbols(from_kaldifst(graph), disambig)))
    kaldifst.connect(trimmed)
    kaldifst.minimize_encoded(trimmed)
    return from_kaldifst(trimmed)


def read_disambig(lang_dir: Path) -> list[int]:
    """The phone-side disambiguation symbols of a lang directory.

    Raises:
        DataError: there is no list, or it holds something other than ids.
    """
    candidates = (lang_dir / "phones" / "disambig.int", lang_dir / "disambig.int")
    return read_ids(next((candidate for candidate in candidates if candidate.exists()), candidates[0]))


def read_ids(path: str | Path) -> list[int]:
    """The ids in a file of integers, sorted.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        return sorted(int(field) for field in Path(path).read_text(encoding="ascii").split())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path, remedy="make it with prepare-lang") from error
    except ValueError as error:
        raise DataError("holds something other than ids", path=path) from error


def copy_lang_files(lang_dir: Path, folder: Path) -> None:
    """Copy what decoding and scoring need of the lang directory, as mkgraph.sh does."""
    for name in ("words.txt", "phones.txt"):
        try:
            shutil.copyfile(lang_dir / name, folder / name)
        except FileNotFoundError as error:
            raise DataError("is missing", path=lang_dir / name, remedy="make it with prepare-lang") from error
    (folder / "phones").mkdir()
    for pattern in COPIED_PHONE_FILES:
        for path in sorted((lang_dir / "phones").glob(pattern)):
            shutil.copyfile(path, folder / "phones" / path.name)


def describe(tree: DecisionTree, model: TransitionModel, options: GraphOptions) -> dict[str, object]:
    """What graph.json says."""
    return {
        "tree": tree.fingerprint(),
        "transition_model": model.fingerprint(),
        "context_width": tree.context_width,
        "central_position": tree.central_position,
        "transition_scale": options.transition_scale,
        "self_loop_scale": options.self_loop_scale,
    }


def check_replaceable(graph_dir: Path) -> None:
    """DataError when `graph_dir` exists and is neither empty nor a graph directory: it is not ours to replace."""
    if not graph_dir.exists() or (graph_dir / "HCLG.fst").exists():
        return
    if not graph_dir.is_dir() or any(graph_dir.iterdir()):
        raise DataError("exists and is not a graph directory", path=graph_dir, remedy="remove it or name another")


def read_graph(path: str | Path, model: TransitionModel, fingerprints: Mapping[str, str] | None = None) -> FstArrays:
    """Read HCLG for decoding with `model`.

    Args:
        path: HCLG.fst; graph.json and num_pdfs beside it are looked at.
        model: what its labels mean.
        fingerprints: those of the model and, where known, of its tree (provenance.fingerprints_of).

    Raises:
        DataError: the file is damaged, empty, or made for another model or tree: graph.json or num_pdfs beside it say
            so, or its labels are none of the model's transition_ids.
    """
    path = Path(path)
    graph = read_fst(path)
    if graph.num_arcs == 0:
        raise DataError("is an empty graph", path=path, remedy=MAKE_GRAPH)
    description = path.parent / GRAPH_JSON
    if description.exists():
        known = {"transition_model": model.fingerprint(), **(fingerprints or {})}
        made_with = read_json(description)
        if not isinstance(made_with, dict):
            raise DataError("is no description of a graph", path=description, remedy=MAKE_GRAPH)
        if any(made_with.get(name, digest) != digest for name, digest in known.items()):
            raise DataError("was made for another tree or topology than the model's", path=path, remedy=MAKE_GRAPH)
    highest = int(graph.arcs["ilabel"].max())
    if highest > model.num_transition_ids:
        raise DataError(
            f"has transition_id {highest}, the model only {model.num_transition_ids}",
            path=path,
            remedy=MAKE_GRAPH,
        )
    num_pdfs_file = path.parent / "num_pdfs"
    if num_pdfs_file.exists():
        num_pdfs = num_pdfs_file.read_text(encoding="ascii", errors="replace").strip()
        if num_pdfs != str(model.num_pdfs):
            problem = f"says {num_pdfs} pdfs, the model has {model.num_pdfs}"
            raise DataError(problem, path=num_pdfs_file, remedy=MAKE_GRAPH)
    return graph


def read_words(path: str | Path, graph: FstArrays, graph_path: str | Path) -> SymbolTable:
    """Read the words that a graph's output ids stand for.

    Where the words.txt beside the graph has other words for them, a warning says so.

    Args:
        path: words.txt, or another table for the same ids.
        graph: whose words are looked for.
        graph_path: the file that it was read from.

    Raises:
        DataError: the table is damaged, or lacks a word of the graph.
    """
    words = SymbolTable.read(path)
    remedy = "use the words.txt of the graph directory"
    highest = int(graph.arcs["olabel"].max(initial=0))
    if highest > max(words.symbol_of, default=0):
        raise DataError(f"has no word with the id {highest}, which {graph_path} has", path=path, remedy=remedy)
    is_used = np.zeros(highest + 1, dtype=np.bool_)  # found in time that grows with the arcs, which sorting would not
    is_used[graph.arcs["olabel"]] = True
    used = np.flatnonzero(is_used[1:]) + 1
    if missing := [id_ for id_ in used.tolist() if id_ not in words.symbol_of]:
        raise DataError(f"has no word with the id {missing[0]}, which {graph_path} has", path=path, remedy=remedy)
    beside = Path(graph_path).parent / "words.txt"
    if beside.is_file() and beside.resolve() != Path(path).resolve():
        own = SymbolTable.read(beside).symbol_of
        other = [id_ for id_ in used.tolist() if own.get(id_) not in (None, words.symbol_of[id_])]
        if other:
            told = "%s is not the table of the graph: %d of its words are others in %s (id %d: %s, there %s)"
            logger.warning(told, path, len(other), beside, other[0], words.symbol_of[other[0]], own[other[0]])
    return words
