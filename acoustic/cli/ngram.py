"""`acoustic ngram`: an ARPA language model estimated from text."""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.cli.options import parse_bool
from acoustic.decode.lang_arpa import write_arpa
from acoustic.decode.lang_ngram import read_sentences, witten_bell
from acoustic.errors import ConfigError
from acoustic.kaldi.symbols import SymbolTable
from acoustic.log import get_logger

HELP = "estimate an n-gram language model (Witten-Bell) from text and write it in ARPA format"
EXAMPLE = "acoustic ngram --order=3 --utterance-ids=true --words=data/lang/words.txt data/train/text data/local/lm.arpa"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--order", type=int, default=2, help="longest n-gram (default: %(default)s)")
    parser.add_argument(
        "--utterance-ids",
        type=parse_bool,
        nargs="?",
        const=True,
        default=False,
        help="lines begin with an utterance id, as in a data directory's text (default: false)",
    )
    parser.add_argument("--words", help="words.txt, or its lang directory: its words get a probability, seen or not")
    parser.add_argument("text", help="one sentence a line: a file, file.gz, `command |` or -")
    parser.add_argument("arpa", help="language model to write")


def run(args: argparse.Namespace) -> None:
    """Estimate and write the model."""
    if args.order < 1:
        raise ConfigError(f"--order={args.order}: must be at least 1")
    model = witten_bell(
        read_sentences(args.text, args.utterance_ids), args.order, lexicon_words(args.words) if args.words else []
    )
    write_arpa(args.arpa, model)
    logger.info("%s: %s n-grams of order 1 to %d", args.arpa, ", ".join(str(len(n)) for n in model), args.order)


def lexicon_words(words: str) -> list[str]:
    """The words of a symbol table that a sentence can hold: not <eps>, <s>, </s>, nor disambiguation symbols."""
    path = Path(words)
    symbols = SymbolTable.read(path / "words.txt" if path.is_dir() else path)
    return [word for word in symbols.id_of if word not in ("<eps>", "<s>", "</s>") and not word.startswith("#")]
