"""`acoustic compare`: training runs side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from acoustic import fsio
from acoustic.analysis.compare import as_markdown, as_text, comparison, read_runs
from acoustic.analysis.records import exp_dir_of
from acoustic.cli.hydra_config import read_yaml
from acoustic.decode.wer import read_transcripts
from acoustic.errors import ConfigError

HELP = "training runs side by side: settings that differ, dev curves, word errors, speed, size"
EXAMPLE = "acoustic compare --ref=data/test/text --hyp=exp/relu/text --hyp=exp/tanh/text exp/relu exp/tanh"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument("--ref", help="reference transcripts, for word errors")
    parser.add_argument(
        "--hyp", action="append", default=[], metavar="FILE",
        help="hypotheses of a run, one for each in order (default with --ref: EXP/text)",
    )  # fmt: skip
    parser.add_argument("--utt2spk", help="draw whole speakers in the bootstrap")
    parser.add_argument("--markdown", metavar="FILE", help="write Markdown there (-: instead of the plain table)")
    parser.add_argument("--html", metavar="FILE", help="write a page there")
    parser.add_argument("exp_dirs", nargs="+", help="exp_dirs of training runs, also unfinished ones")


def run(args: argparse.Namespace) -> None:
    """Print the tables; write them where asked."""
    if args.hyp and not args.ref:
        raise ConfigError("--hyp is to be scored: give --ref too")
    if args.hyp and len(args.hyp) != len(args.exp_dirs):
        raise ConfigError(f"--hyp: {len(args.hyp)} files for {len(args.exp_dirs)} runs; give one for each")
    runs = read_runs(args.exp_dirs, [config_of(path) for path in args.exp_dirs], hypotheses(args), args.ref)
    speakers = {utt: words[0] for utt, words in read_transcripts(args.utt2spk).items()} if args.utt2spk else None
    grids = comparison(runs, speakers)
    if args.markdown and args.markdown != "-":
        fsio.write_text(args.markdown, as_markdown(grids))
    if args.html:
        from acoustic.analysis.compare_html import as_html  # matplotlib takes a second

        fsio.write_text(args.html, as_html(runs, grids))
    print(as_markdown(grids) if args.markdown == "-" else as_text(grids), end="")
    sys.stdout.flush()


def hypotheses(args: argparse.Namespace) -> list[str | None]:
    """The transcripts of each run: those given, else with --ref the `text` in its exp_dir."""
    if args.hyp:
        return list(args.hyp)
    found = [exp_dir_of(path) / "text" for path in args.exp_dirs]
    return [str(path) if args.ref and path.is_file() else None for path in found]


def config_of(path: str) -> dict[str, Any]:
    """The settings in an exp_dir's config.yaml; none if it is not there."""
    file = Path(exp_dir_of(path)) / "config.yaml"
    return dict(read_yaml(file)) if file.is_file() else {}
