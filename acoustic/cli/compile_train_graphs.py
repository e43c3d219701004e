"""`acoustic compile-train-graphs`: the graphs that alignment needs, from transcripts."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from functools import partial

from acoustic.cli.options import add_dataclass_options, dataclass_from_args, parse_share
from acoustic.decode.graph import read_ids
from acoustic.decode.jobs import in_processes, num_cores
from acoustic.decode.train_graphs import TrainGraphCompiler, TrainGraphOptions, transcript_ids
from acoustic.decode.wer import read_transcripts
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import TableWriter
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.log import Tally, get_logger, progress

HELP = "training graphs from transcripts, for align (compile-train-graphs)"
EXAMPLE = (
    "acoustic compile-train-graphs --word-symbol-table=data/lang/words.txt --oov='<UNK>' exp/tri1/tree "
    "exp/tri1/final.mdl data/lang/L.fst data/train/text ark:graphs.fsts"
)

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments in Kaldi's order."""
    add_dataclass_options(parser, TrainGraphOptions)
    parser.add_argument("--read-disambig-syms", help="phones/disambig.int, for an L_disambig.fst")
    parser.add_argument("--word-symbol-table", help="words.txt: the transcripts are words, not ids")
    parser.add_argument("--oov", help="the word of words.txt that stands for unknown ones (default: none may be)")
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="worker processes (default: the cores)")
    parser.add_argument("--max-skip-fraction", type=parse_share, default=0.05, help="fail if more have no graph (0.05)")
    parser.add_argument("tree")
    parser.add_argument("model", help="final.mdl")
    parser.add_argument("lexicon", help="L.fst of the lang directory")
    parser.add_argument("transcripts", help="text of a data directory, or an rspecifier of words or word ids")
    parser.add_argument("graphs_wspecifier", help="where the graphs go")


def run(args: argparse.Namespace) -> None:
    """Compile and write."""
    disambig = read_ids(args.read_disambig_syms) if args.read_disambig_syms else []
    compiler = TrainGraphCompiler(
        DecisionTree.read(args.tree),
        TransitionModel.read(args.model),
        args.lexicon,
        disambig,
        dataclass_from_args(TrainGraphOptions, args),
    )
    tally = Tally()
    transcripts = read_word_ids(args.transcripts, args.word_symbol_table, args.oov)
    compiled = in_processes(partial(compile_one, compiler), transcripts, args.num_jobs)
    with TableWriter(args.graphs_wspecifier, "fst") as writer, contextlib.closing(compiled):
        for utt, graph in progress(compiled, "compile"):
            if isinstance(graph, DataError):
                tally.skip("no_graph", utt, graph.problem)
                continue
            writer.write(utt, graph)
            tally.done()
        tally.check(args.max_skip_fraction, args.transcripts)
    logger.info(tally.summary())


def compile_one(compiler: TrainGraphCompiler, item: tuple[str, list[int]]) -> tuple[str, FstArrays | DataError]:
    """The graph of one utterance, or why there is none."""
    utt, word_ids = item
    try:
        return utt, compiler.compile(word_ids)
    except DataError as error:
        return utt, error


def read_word_ids(transcripts: str, word_symbol_table: str | None, oov: str | None) -> Iterator[tuple[str, list[int]]]:
    """Utterances and their word ids.

    Raises:
        ConfigError: `oov` is not in the symbol table.
        DataError: an unknown word, or something other than ids where ids are expected.
    """
    words = SymbolTable.read(word_symbol_table).id_of if word_symbol_table else None
    if oov is not None and (words is None or oov not in words):
        raise ConfigError(f"--oov={oov}: is no word of --word-symbol-table")
    for utt, tokens in read_transcripts(transcripts).items():
        try:
            if words is not None:
                yield utt, transcript_ids(tokens, words, words[oov] if oov is not None else None)
            else:
                yield utt, [int(token) for token in tokens]
        except DataError as error:
            raise DataError(error.problem, path=transcripts, utt=utt, remedy="name --oov, or mend the text") from error
        except ValueError as error:
            problem, remedy = "expected word ids", "give --word-symbol-table for transcripts in words"
            raise DataError(problem, path=transcripts, utt=utt, remedy=remedy) from error
