"""Speed as ratios: training, loglikes, fbank, decoding, caches, each measured in turns with what it is compared to.

python scripts/bench/bench.py [--quick] [--json=FILE] [--only=NAME,...] [--device=cpu]

A ratio above 1 means that ours is faster; ceilings are what the machine does with nothing else: matrix products,
copies, the disk. Kaldi's programs are compared with when they are on PATH. What cannot be measured here is told, with
the reason. Everything is written below a temporary directory (TMPDIR) and removed; the full out_of_core takes 18 GB of
it. Figures mean something only while nothing else runs.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import corpora
import published
import scaling
import torch
from ceilings import ceilings
from measure import NotMeasuredError, Result, Setting, on_path
from training import train, train_compiled

from acoustic.errors import ConfigError
from acoustic.train.precision import choose_device, keep_freed_memory

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
KALDI = (
    "nnet-train-frmshuff", "nnet-initialize", "nnet-forward", "compute-fbank-feats", "latgen-faster-mapped",
    "decode-faster-mapped",
)  # fmt: skip


def of_verb(name: str, setting: Setting) -> list[Result]:
    """A benchmark of verbs.py, which needs libraries that training does without."""
    found: list[Result] = getattr(importlib.import_module("verbs"), name)(setting)
    return found


BENCHES: dict[str, Callable[[Setting], Iterable[Result]]] = {
    "ceilings": ceilings,
    "train_bf16": functools.partial(train, "bf16"),
    "train_fp32": functools.partial(train, "fp32"),
    "train_bf16_compiled": train_compiled,
    **{name: functools.partial(of_verb, name) for name in ("loglikes", "fbank", "decode")},
    "cache_build": corpora.cache_build,
    "out_of_core": corpora.out_of_core,
    **{name: functools.partial(scaling.shapes, name) for name in scaling.SHAPES},
    "scaling_corpus": scaling.corpus,
    "scaling_ranks": scaling.ranks,
    "published": published.published,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds: minutes")
    parser.add_argument("--json", type=Path, help="file for the figures, by name")
    parser.add_argument("--only", default=",".join(BENCHES), help=f"some of {', '.join(BENCHES)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, help="how often each way is measured (default: 9, quick 3)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between measurements, on a shared machine")
    parser.add_argument("--num-threads", type=int, help="of the CPU (default: all cores)")
    parser.add_argument("--decode-model", default=GOLDEN / "model" / "tri1" / "final.mdl", help="final.mdl of")
    parser.add_argument("--decode-graph", default=GOLDEN / "graph" / "tri1" / "HCLG.fst", help="the graph to decode")
    parser.add_argument("--decode-loglikes", default=f"ark:{GOLDEN}/decode/tri1/loglikes.ark", help="with these")
    args = parser.parse_args()
    unknown = set(args.only.split(",")) - set(BENCHES)
    if unknown:
        parser.error(f"--only={','.join(sorted(unknown))}: there are {', '.join(BENCHES)}")
    try:
        choose_device(args.device)
    except ConfigError as error:
        parser.error(str(error))
    return args


def main() -> None:
    """Measure what was asked for and print the table."""
    args = parse()
    logging.getLogger("acoustic").setLevel(logging.WARNING)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    if args.device == "cpu":
        keep_freed_memory()  # as the verbs do, for all that is compared
    decode = (str(args.decode_model), str(args.decode_graph), args.decode_loglikes)
    absent = [program for program in KALDI if not on_path(program)]
    if absent:
        print(f"not on PATH, so not compared with: {', '.join(absent)}", flush=True)
    figures: dict[str, Any] = {}
    for name in args.only.split(","):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            rounds = args.rounds or (3 if args.quick else 9)
            setting = Setting(Path(directory), torch.device(args.device), args.quick, rounds, args.pause, decode)
            try:
                for result in BENCHES[name](setting):
                    print("\n".join(result.lines()), flush=True)
                    print(f"{'':18s} ({time.monotonic() - start:.0f} s)", flush=True)
                    figures[result.name] = result.to_json()
                    write(figures, args.json)
            except (NotMeasuredError, ImportError) as error:
                print(f"{name:18s} not measured: {error}", flush=True)
                nothing = {"value": None, "unit": "", "against": "", "ratio": None}
                figures[name] = nothing | {"not_measured": str(error)}
                write(figures, args.json)
        release(setting)


def release(setting: Setting) -> None:
    """Give back a GPU's memory, which the next benchmark may want in another process.

    A trainer refers to itself, so that collecting garbage it takes; and torch keeps what was freed.
    """
    gc.collect()
    if setting.on_gpu:
        torch.cuda.empty_cache()


def write(figures: dict[str, Any], path: Path | None) -> None:
    """Write what has been measured so far: whatever ends the run, it is kept."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
