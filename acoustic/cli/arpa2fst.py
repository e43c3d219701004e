"""`acoustic arpa2fst`: the grammar G.fst from an ARPA language model."""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.decode.lang_fst import write_fst
from acoustic.decode.lang_grammar import arpa_to_fst
from acoustic.kaldi.symbols import SymbolTable
from acoustic.log import get_logger

HELP = "compile an ARPA language model into a grammar G.fst"
EXAMPLE = "acoustic arpa2fst data/local/lm.arpa.gz data/lang data/lang/G.fst"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--disambig-symbol", default="#0", help="input label of backoff arcs (default: %(default)s)")
    parser.add_argument("arpa", help="language model in ARPA format: a file, file.gz, `command |` or -")
    parser.add_argument("words", help="words.txt, or the lang directory that holds it")
    parser.add_argument("fst", help="grammar to write")


def run(args: argparse.Namespace) -> None:
    """Compile the model and report what was left out."""
    words = Path(args.words)
    symbols = SymbolTable.read(words / "words.txt" if words.is_dir() else words)
    fst, tally = arpa_to_fst(args.arpa, symbols.id_of, args.disambig_symbol)
    write_fst(fst, args.fst)
    logger.info("%s: %s", args.fst, tally.summary(f"{fst.num_states} states"))
