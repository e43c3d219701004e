"""`acoustic claims`: the papers' claims, trained anew on a corpus and judged."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from acoustic.cli.hydra_config import compose_train_config, conf_dir, read_yaml
from acoustic.cli.options import Parser, add_dataclass_options, dataclass_from_args, read_config_option
from acoustic.decode.jobs import num_cores
from acoustic.errors import ConfigError
from acoustic.features.fbank import FbankOptions
from acoustic.log import get_logger
from acoustic.study.cell import device_of
from acoustic.study.claims import Claim, all_claims
from acoustic.study.claims_report import describe_scale, write_report
from acoustic.study.extra import stats
from acoustic.study.folds import Corpus
from acoustic.study.grid import run_grid
from acoustic.study.scale import Scale
from acoustic.study.verdict import Verdict

HELP = "train what the papers compare, over folds and seeds, and judge their claims"
EXAMPLE = "acoustic claims --num-jobs=2 ~/kaldi/egs/digits exp/claims"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the data are, how large the nets, what to judge."""
    parser.add_argument("corpus", help="a Kaldi experiment with data/foldK/{train,dev,test} or data/{train,dev,test}")
    parser.add_argument("out_dir", help="trainings, claims.md and figures; begun ones go on")
    parser.add_argument("--ali-dir", default="exp/tri1_ali", help="in the corpus: alignments (default: exp/tri1_ali)")
    parser.add_argument("--graph-dir", default="exp/tri1/graph", help="in the corpus (default: exp/tri1/graph)")
    parser.add_argument("--fbank-config", help="options of acoustic fbank, where features are not stored")
    parser.add_argument("--size", default="digits", help="of conf/claims: digits, paper, quick, or a file of yours")
    parser.add_argument("--quick", action="store_true", help="the same as --size=quick")
    parser.add_argument("--claims", help="names, separated by commas (default: all)")
    parser.add_argument("--folds", help="such as 1,2 (default: all)")
    parser.add_argument("--seeds", help="such as 1,2,3 (default: those of the size)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda if there is one")
    parser.add_argument("--num-jobs", type=int, help="trainings at a time (default: the GPUs, else the cores)")
    parser.add_argument("--list", action="store_true", help="show the claims and what they train, and stop")


def run(args: argparse.Namespace) -> None:
    """Train, judge, write."""
    claims, scale = chosen_claims(args.claims), read_scale("quick" if args.quick else args.size)
    if args.seeds:
        scale = dataclasses.replace(scale, seeds=parse_seeds(args.seeds))
    if args.list:
        for claim in claims:
            print(f"{claim.name}: {claim.text} ({claim.paper}); trains {', '.join(claim.settings)}")
        return
    stats()  # before any time is spent
    device = device_of(args.device)
    num_jobs = args.num_jobs
    if num_jobs is None:
        num_jobs = torch.cuda.device_count() if device == "cuda" else num_cores()
    if num_jobs < 1:
        raise ConfigError(f"--num-jobs={num_jobs}: at least 1 is needed")
    corpus, out_dir = corpus_of(args), Path(args.out_dir)
    folds = chosen_folds(list(corpus.divisions()), args.folds)
    start = time.monotonic()
    grid = run_grid(corpus, out_dir, scale, claims, folds, compose_train_config, num_jobs, device)
    hours = sum(result.seconds for result in grid.results.values()) / 3600
    about = [
        f"Corpus: `{corpus.root.name}`, {'folds' if len(folds) > 1 else 'division'} {', '.join(folds)}. "
        f"{len(grid.results)} trainings, {hours:.2f} hours of them on {device}, {num_jobs} at a time.",
        describe_scale(grid.scale),
    ]
    verdicts = write_report(grid, claims, about, out_dir)
    counted = ", ".join(f"{list(verdicts.values()).count(verdict)} {verdict.value}" for verdict in Verdict)
    logger.info("%d claims: %s; %s, %.0f s", len(claims), counted, out_dir / "claims.md", time.monotonic() - start)


def chosen_claims(names: str | None) -> list[Claim]:
    """The claims of these names.

    Raises:
        ConfigError: an unknown one.
    """
    claims = {claim.name: claim for claim in all_claims()}
    if names is None:
        return list(claims.values())
    if unknown := [name for name in names.split(",") if name not in claims]:
        raise ConfigError(f"--claims: no claim {', '.join(unknown)}; there are {', '.join(claims)}")
    return [claims[name] for name in names.split(",")]


def read_scale(name: str) -> Scale:
    """A size of conf/claims, or of a file of the user's.

    Raises:
        ConfigError: there is no such size, or its file is faulty.
    """
    path = Path(name) if name.endswith(".yaml") else conf_dir() / "claims" / f"{name}.yaml"
    if not path.is_file():
        sizes = ", ".join(sorted(item.stem for item in (conf_dir() / "claims").glob("*.yaml")))
        raise ConfigError(f"--size={name}: there are {sizes}, or a .yaml file")
    return Scale.from_dict(read_yaml(path), str(path))


def corpus_of(args: argparse.Namespace) -> Corpus:
    """The corpus that the options describe."""
    root = Path(args.corpus).resolve()
    options = Parser(prog="acoustic fbank")
    add_dataclass_options(options, FbankOptions)
    given = [f"--config={args.fbank_config}"] if args.fbank_config else []
    try:
        fbank = dataclass_from_args(FbankOptions, options.parse_args(read_config_option(given)))
    except ConfigError as error:
        raise ConfigError(f"--fbank-config={args.fbank_config}: {error}") from error
    return Corpus(root, root / args.ali_dir, root / args.graph_dir, fbank)


def chosen_folds(there: Sequence[str], wanted: str | None) -> list[str]:
    """The folds to train on.

    Raises:
        ConfigError: one that is not there, or is named twice.
    """
    if wanted is None:
        return list(there)
    names = [name if name in there else f"fold{name}" for name in wanted.split(",")]
    if len(set(names)) < len(names):
        raise ConfigError(f"--folds={wanted}: a fold that counts twice makes intervals too narrow")
    if unknown := [name for name in names if name not in there]:
        raise ConfigError(f"--folds: no {', '.join(unknown)}; there are {', '.join(there)}")
    return names


def parse_seeds(text: str) -> list[int]:
    """Seeds separated by commas, each once.

    Raises:
        ConfigError: anything else.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds={text}: expected whole numbers separated by commas") from error
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds={text}: each number once")
    if not all(0 <= seed < 2**31 for seed in seeds):
        raise ConfigError(f"--seeds={text}: must lie in [0, 2^31)")
    return seeds
