"""`acoustic compile-train-graphs`: the graphs that alignment needs, from transcripts."""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from acoustic.cli.options import add_dataclass_options, dataclass_from_args, parse_share
from acoustic.decode.graph import read_ids
from acoustic.decode.jobs import in_processes, num_cores
from acoustic.decode.lang_match import check_lexicon, check_same_phones
from acoustic.decode.train_graphs import TrainGraphCompiler, TrainGraphOptions, transcript_ids
from acoustic.decode.wer import read_transcripts
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.fst import FstArrays, read_fst
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
    words = SymbolTable.read(args.word_symbol_table) if args.word_symbol_table else None
    model, lexicon = TransitionModel.read(args.model), read_fst(args.lexicon)
    check_same_phones(Path(args.model).parent, Path(args.lexicon).parent)
    check_lexicon(args.lexicon, lexicon, model.topology.phones, disambig, words)
    compiler = TrainGraphCompiler(
        DecisionTree.read(args.tree), model, lexicon, disambig, dataclass_from_args(TrainGraphOptions, args)
    )
    tally, unknown = Tally(), UnknownWords()
    transcripts = read_word_ids(args.transcripts, words, args.oov, unknown)
    compiled = in_processes(partial(compile_one, compiler), transcripts, args.num_jobs)
    with TableWriter(args.graphs_wspecifier, "fst") as writer, contextlib.closing(compiled):
        for utt, graph in progress(compiled, "compile"):
            if isinstance(graph, DataError):
                tally.skip("no_graph", utt, graph.problem)
                continue
            writer.write(utt, graph)
            tally.done()
        tally.check(args.max_skip_fraction, args.transcripts)
    logger.info(tally.summary(unknown.summary(args.oov)))


def compile_one(compiler: TrainGraphCompiler, item: tuple[str, list[int]]) -> tuple[str, FstArrays | DataError]:
    """The graph of one utterance, or why there is none."""
    utt, word_ids = item
    try:
        return utt, compiler.compile(word_ids)
    except DataError as error:
        return utt, error


@dataclass
class UnknownWords:
    """How many of the transcripts' words stand for others, being in no lexicon.

    Attributes:
        num_words: words seen.
        counts: of each unknown one.
    """

    num_words: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, tokens: Sequence[str], words: Mapping[str, int]) -> None:
        """Count the words of a transcript; `words`: those that are known."""
        self.num_words += len(tokens)
        self.counts.update(token for token in tokens if token not in words)

    def summary(self, oov: str | None) -> str:
        """What to say of them, nothing if there are none; a warning if they are most of the words."""
        total = self.counts.total()
        if total == 0:
            return ""
        text = f"{total} of {self.num_words} words are unknown and taken as {oov}"
        if 2 * total > self.num_words:
            logger.warning("%s: are transcripts and --word-symbol-table of one language?", text)
        return f"{text} (most often {self.counts.most_common(1)[0][0]})"


def read_word_ids(
    transcripts: str, words: SymbolTable | None, oov: str | None, unknown: UnknownWords
) -> Iterator[tuple[str, list[int]]]:
    """Utterances and their word ids.

    Args:
        transcripts: of words, or of ids where there are no `words`.
        words: their ids.
        oov: the word for unknown ones.
        unknown: counts these.

    Raises:
        ConfigError: `oov` is not in the symbol table.
        DataError: an unknown word and no `oov`, or something other than ids where ids are expected.
    """
    if oov is not None and (words is None or oov not in words):
        raise ConfigError(f"--oov={oov}: is no word of --word-symbol-table")
    for utt, tokens in read_transcripts(transcripts).items():
        try:
            if words is not None:
                unknown.add(tokens, words.id_of)
                yield utt, transcript_ids(tokens, words.id_of, words.id_of[oov] if oov is not None else None)
            else:
                yield utt, [int(token) for token in tokens]
        except DataError as error:
            raise DataError(error.problem, path=transcripts, utt=utt, remedy="name --oov, or mend the text") from error
        except ValueError as error:
            problem, remedy = "expected word ids", "give --word-symbol-table for transcripts in words"
            raise DataError(problem, path=transcripts, utt=utt, remedy=remedy) from error
