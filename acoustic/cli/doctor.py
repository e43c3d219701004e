"""`acoustic doctor`: what would go wrong later, found before any time is spent."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from acoustic.cli.options import parse_share
from acoustic.decode.jobs import num_cores
from acoustic.doctor.clean import DROPPED, check_is_new, clean
from acoustic.doctor.examine import examine
from acoustic.doctor.experiment import Experiment, Options
from acoustic.doctor.findings import Finding, Report, Severity, left_after_cleaning
from acoustic.errors import ConfigError, DataError

HELP = "find all that would go wrong later with data, alignments, model and graph (validate_data_dir.sh and more)"
EXAMPLE = "acoustic doctor --ali-dir=exp/tri3_ali --graph-dir=exp/tri3/graph --fix=data/train_clean data/train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument("data_dir", type=Path, help="Kaldi data directory")
    parser.add_argument("--ali-dir", type=Path, help="its alignments: ali.*.gz, final.mdl, tree")
    parser.add_argument("--graph-dir", type=Path, help="decoding graph: HCLG.fst, words.txt")
    parser.add_argument("--lang-dir", type=Path, help="lang directory: words.txt, phones.txt, topo")
    parser.add_argument("--model", type=Path, help="final.mdl, or a trained network's final.pt or exp_dir")
    parser.add_argument("--transform-dir", type=Path, help="transforms: trans.*, final.mat, splice_opts")
    parser.add_argument("--root", type=Path, help="folder that the data directory's paths are relative to (default: .)")
    parser.add_argument("--fix", type=Path, metavar="OUT-DIR", help="write a cleaned copy of the data directory there")
    parser.add_argument("--skip-audio", action="store_true", help="do not read the audio; features are enough")
    parser.add_argument("--channel", type=int, help="channel, from 0; needed when the audio has several")
    parser.add_argument(
        "--length-tolerance", type=int, default=5, help="frames by which alignments may differ (default: 5)"
    )
    parser.add_argument(
        "--max-skip-fraction",
        type=parse_share,
        default=0.05,
        help="share of utterances that may be lost (default: 0.05)",
    )
    parser.add_argument("--num-jobs", type=int, default=num_cores(), help="processes (default: one a core)")


def run(args: argparse.Namespace) -> None:
    """Examine, print the table, write the cleaned copy.

    Raises:
        DataError: there are errors, or with --fix errors that a cleaned copy still has.
    """
    start = time.monotonic()
    options = options_from(args)
    if args.fix is not None:
        check_is_new(args.fix)
    experiment = Experiment(options)
    report = examine(experiment)
    if report.findings:
        print(report.table(), flush=True)
    dropped = clean(experiment, report, args.fix) if args.fix is not None else []
    print(f"acoustic doctor: {summary(experiment, report)}, {time.monotonic() - start:.1f} s", file=sys.stderr)
    if args.fix is not None:
        where = f", listed in {args.fix / DROPPED}" if dropped else ""
        print(f"acoustic doctor: {args.fix}: a copy without {len(dropped)} utterances{where}", file=sys.stderr)
        check_copy(report, len(dropped), args.fix)
    elif report.count(Severity.ERROR):
        remedy = "mend them, or let --fix=OUT-DIR write a copy without what is at fault"
        raise DataError(f"{counted(report, Severity.ERROR)} in all", path=args.data_dir, remedy=remedy)


def options_from(args: argparse.Namespace) -> Options:
    """The options, checked.

    Raises:
        ConfigError: a value out of range.
    """
    if args.num_jobs < 1:
        raise ConfigError(f"--num-jobs={args.num_jobs}: at least 1 is needed")
    if args.length_tolerance < 0:
        raise ConfigError("--length-tolerance must not be negative")
    if args.channel is not None and args.channel < 0:
        raise ConfigError("--channel must not be negative")
    return Options(**{name: value for name, value in vars(args).items() if name != "fix"})


def check_copy(report: Report, num_dropped: int, out_dir: Path) -> None:
    """Judge the cleaned copy.

    Raises:
        DataError: it still has errors, or too much was left out.
    """
    left: list[Finding] = [f for f in left_after_cleaning(report.findings) if f.severity is Severity.ERROR]
    if left:
        faults = ", ".join(sorted({finding.fault for finding in left}))
        raise DataError(f"a cleaned copy does not help against: {faults}", path=out_dir)
    if num_dropped > report.max_skip_fraction * report.num_utterances:
        problem = f"{num_dropped} of {report.num_utterances} utterances are left out"
        raise DataError(problem, path=out_dir, remedy="mend the data, or raise --max-skip-fraction")


def summary(experiment: Experiment, report: Report) -> str:
    """What was looked at, and what was found."""
    options = experiment.options
    looked_at = {
        "audio": experiment.audio is not None,
        "features": experiment.feats is not None,
        "alignments": options.ali_dir is not None,
        "model": options.model is not None,
        "graph": options.graph_dir is not None,
        "lang": options.lang_dir is not None,
        "transforms": options.transform_dir is not None,
    }
    parts = ["files", *(name for name, there in looked_at.items() if there)]
    found = ", ".join(counted(report, severity) for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE))
    return f"{report.num_utterances} utterances ({', '.join(parts)}): {found}"


def counted(report: Report, severity: Severity) -> str:
    """Such as `2 errors`."""
    count = report.count(severity)
    return f"{count} {severity.value}{'' if count == 1 else 's'}"
