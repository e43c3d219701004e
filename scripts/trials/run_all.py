"""All trials one after the other, with the figure of each.

    python scripts/trials/run_all.py [--quick] [NAME ...]

They run in children of this process, so that the libraries are loaded only once.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import time
from pathlib import Path

import fuzz_targets  # noqa: F401 (imported here, and so only once)
import harness
import torch

TRIALS = (
    "kill_resume", "sigterm", "interrupt", "faults", "truncate", "fuzz", "nonfinite", "skip_counts", "leakage", "soak",
    "async_kill",
)  # fmt: skip


def run() -> int:
    """Run the trials asked for; how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(TRIALS)} (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed, start = [], time.monotonic()
    for name in args.names or TRIALS:
        path = Path(__file__).with_name(f"{name}.py")
        pid = os.fork()
        if pid == 0:
            sys.argv = [str(path), *(["--quick"] if args.quick else [])]
            runpy.run_path(str(path), run_name="__main__")
            os._exit(99)  # not reached: a trial ends the process
        if harness.wait(pid, 48 * 3600.0) != 0:
            failed.append(name)
    told = f"{', '.join(failed)} FAILED" if failed else "all passed"
    print(f"run_all: {told} ({time.monotonic() - start:.0f} s)")
    return len(failed)


if __name__ == "__main__":
    sys.exit(1 if run() else 0)
