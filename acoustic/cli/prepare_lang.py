"""`acoustic prepare-lang`: a lang directory from a dictionary directory."""

from __future__ import annotations

import argparse

from acoustic.cli.options import add_dataclass_options, dataclass_from_args
from acoustic.decode.lang import LangOptions, prepare_lang

HELP = "make a lang directory (words, phones, topology, lexicon transducers) from a dictionary directory"
EXAMPLE = "acoustic prepare-lang --sil-prob=0.5 data/local/dict '<UNK>' data/lang"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of prepare_lang.sh and its arguments (no temporary folder is needed)."""
    add_dataclass_options(parser, LangOptions)
    parser.add_argument(
        "dict_dir",
        help="folder with lexicon.txt or lexiconp.txt, silence_phones.txt, nonsilence_phones.txt, "
        "optional_silence.txt and perhaps extra_questions.txt",
    )
    parser.add_argument("oov_word", help="the lexicon's word for words outside it")
    parser.add_argument("lang_dir", help="folder to make; an earlier lang directory there is replaced")


def run(args: argparse.Namespace) -> None:
    """Make the lang directory."""
    prepare_lang(args.dict_dir, args.oov_word, args.lang_dir, dataclass_from_args(LangOptions, args))
