"""What the trials share: the command line, a scratch folder, forked children, the identity of a training run."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._dynamo

from acoustic import log
from acoustic.cli import main as command_line
from acoustic.cli import train as train_verb
from acoustic.train import observe
from acoustic.train.config import TrainConfig

RAM_DISK = Path("/dev/shm")  # killing a process loses nothing that was written there


@dataclass
class Outcome:
    """What a trial found.

    Attributes:
        passed: whether everything was as it should be.
        figure: one line with what was measured.
    """

    passed: bool
    figure: str


@dataclass(frozen=True)
class Settings:
    """What a trial is called with.

    Attributes:
        quick: the small size, as the tests run it.
        folder: scratch folder, empty.
        seed: of everything random.
        args: all options, the trial's own among them.
    """

    quick: bool
    folder: Path
    seed: int
    args: argparse.Namespace


def main(
    description: str,
    run: Callable[[Settings], Outcome],
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Run a trial from the command line: its figure is the last line, exit status 0 when it passes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder")
    if add_arguments:
        add_arguments(parser)
    args = parser.parse_args()
    # Children are forked: no thread may exist before, and none is needed for nets of this size.
    torch.set_num_threads(1)
    name = Path(sys.argv[0]).stem
    folder = Path(tempfile.mkdtemp(prefix=f"acoustic-{name}-", dir=RAM_DISK if RAM_DISK.is_dir() else None))
    start = time.monotonic()
    try:
        outcome = run(Settings(args.quick, folder, args.seed, args))
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    verdict = "passed" if outcome.passed else "FAILED"
    print(f"{name} {verdict}: {outcome.figure} ({time.monotonic() - start:.0f} s)", flush=True)
    sys.exit(0 if outcome.passed else 1)


# -- children -----------------------------------------------------------------------------------------------------


def fork(work: Callable[[], None], log_path: Path) -> int:
    """Do `work` in a forked child, its output in `log_path`. Returns the child's process id.

    The child ends with status 0, with the status of a SystemExit, or with 99 after a traceback.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        output = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int, seconds: float = 300.0) -> int:
    """The exit status of a child, minus the signal's number if one ended it; it is killed after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -signal.SIGKILL
        time.sleep(0.002)


def train_here(config: TrainConfig) -> None:
    """The command `acoustic train` in this process, which ends with its exit status on an error.

    hydra has done its part already, which takes longer than a tiny net to train.
    """
    command_line.run = lambda argv: train_verb.train_as(config)
    command_line.main()


def train(config: TrainConfig, log_path: Path, seconds: float = 300.0) -> int:
    """Run `acoustic train` in a child to its end; returns the exit status."""
    return wait(fork(lambda: train_here(config), log_path), seconds)


def without_curves() -> None:
    """From now on no learning curves are drawn, which takes longer than a tiny net to train."""
    observe.CurveArtist.draw = lambda self: None  # type: ignore[method-assign]


def silence() -> None:
    """No log lines from this process."""
    log.set_up(level=60)


# -- identity -----------------------------------------------------------------------------------------------------


def identity(exp_dir: Path) -> str:
    """SHA-256 of what a training run leaves: the model and its metrics. "incomplete" without a final.pt."""
    if not (exp_dir / "final.pt").exists():
        return "incomplete"
    digest = hashlib.sha256()
    for name in ("final.pt", "metrics.jsonl"):
        digest.update((exp_dir / name).read_bytes())
    return digest.hexdigest()


def leftovers(folder: Path) -> list[str]:
    """Names of unfinished or hidden files below a folder, but for those that processes lock."""
    hidden = (path for path in folder.rglob(".*") if path.name not in (".lock", ".turn"))
    return sorted(str(path.relative_to(folder)) for path in hidden)


def has_traceback(log_path: Path) -> bool:
    """Whether a child's output shows a traceback: an error that reached the user as a bug."""
    return log_path.exists() and "Traceback (most recent call last)" in log_path.read_text(errors="replace")
