"""`acoustic VERB ...`: finds the verb's module, parses its options, turns our exceptions into exit statuses."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import acoustic
from acoustic import log
from acoustic.cli.options import Parser, read_config_option
from acoustic.errors import AcousticError, ConfigError, DataError

# verb -> module of acoustic.cli; imported only when used, so that `acoustic score` does not wait for torch.
VERBS = {
    "fbank": "fbank",
    "cmvn": "cmvn",
    "paste-feats": "paste_feats",
    "doctor": "doctor",
    "mkgraph": "mkgraph",
    "cache": "cache",
    "train": "train",
    "train-sequence": "train_sequence",
    "loglikes": "loglikes",
    "decode": "decode",
    "decode-tune": "decode_tune",
    "lattices": "lattices",
    "compile-train-graphs": "compile_train_graphs",
    "init-mono": "init_mono",
    "align-equal": "align_equal",
    "flat-start": "flat_start",
    "train-gmm": "train_gmm",
    "build-tree": "build_tree",
    "convert-ali": "convert_ali",
    "align": "align",
    "ali-to-ctm": "ali_to_ctm",
    "est-transitions": "est_transitions",
    "compare-ali": "compare_ali",
    "score": "score",
    "analyze": "analyze",
    "compare": "compare",
    "tune": "tune",
    "claims": "claims",
    "export": "export",
    "import": "import_net",
    "prepare-lang": "prepare_lang",
    "ngram": "ngram",
    "arpa2fst": "arpa2fst",
    "perturb": "perturb",
    "info": "info",
}


OUTPUT_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # of standard output


def usage() -> str:
    """The text of `acoustic --help`."""
    lines = [
        f"acoustic {acoustic.__version__}: hybrid DNN-HMM acoustic models on Kaldi data",
        "",
        "usage: acoustic VERB ...",
    ]
    width = max(map(len, VERBS))
    for verb, module in VERBS.items():
        lines.append(f"  {verb:{width}s} {importlib.import_module(f'acoustic.cli.{module}').HELP}")
    lines.append("\n`acoustic VERB --help` shows a verb's options and an example.")
    return "\n".join(lines)


def run(argv: Sequence[str]) -> None:
    """Run one command line.

    Raises:
        AcousticError: whatever the verb met.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return
    if argv[0] == "--version":
        print(acoustic.__version__)
        return
    if argv[0] not in VERBS:
        raise ConfigError(f"acoustic: no verb {argv[0]!r}; there are {', '.join(VERBS)}")
    verb = importlib.import_module(f"acoustic.cli.{VERBS[argv[0]]}")
    parser = Parser(
        prog=f"acoustic {argv[0]}",
        description=verb.HELP,
        epilog=f"example: {verb.EXAMPLE}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_arguments(parser)
    verb.run(parser.parse_args(read_config_option(argv[1:])))


def occupy_standard_streams() -> None:
    """Put something in the place of standard streams that are closed, or files opened next would get their numbers.

    Reading or writing there fails, but messages to a closed standard error are lost.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def give_up_output(reason: str, status: int) -> NoReturn:
    """End after standard output has failed: Python would complain once more while flushing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print(f"acoustic: error: {reason}", file=sys.stderr)
    sys.exit(status)


def main() -> None:
    """Entry point of the installed command: our own errors become one line on stderr and an exit status."""
    occupy_standard_streams()
    log.set_up()
    try:
        run(sys.argv[1:])
        sys.stdout.flush()
    except AcousticError as error:
        print(f"acoustic: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our standard output left (`| head`)
        give_up_output("the program reading our output ended early", 1)
    except OSError as error:
        # What fails on files has become a DataError that names them.
        if error.filename is not None or error.errno not in OUTPUT_FAILURES:
            raise
        give_up_output(f"standard output cannot be written ({error.strerror})", DataError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
