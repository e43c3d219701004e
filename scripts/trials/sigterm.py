"""SIGTERM and SIGUSR1 at random moments: saved within one step, exit status 143, and the resumed run is identical.

    python scripts/trials/sigterm.py [--quick]

A second signal while the checkpoint is being saved must end the process at once, and lose nothing either.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from corpus import make_corpus, train_config
from harness import Outcome, Settings, fork, has_traceback, identity, main, train, train_here, wait, without_curves

from acoustic.train import guard, loop
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.config import TrainConfig

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SECONDS_TO_LEAVE = 60.0


def run(settings: Settings) -> Outcome:
    without_curves()
    num_signals, options = (4, {"schedule__max_epochs": 6}) if settings.quick else (20, {"schedule__max_epochs": 20})
    corpus = make_corpus(settings.folder / "corpus")
    unbroken = train_config(corpus, settings.folder / "unbroken", **options)
    start = time.monotonic()
    train(unbroken, settings.folder / "unbroken.log")
    seconds, expected = time.monotonic() - start, identity(Path(unbroken.exp_dir))

    generator = random.Random(settings.seed)
    faults: list[str] = []
    for number in range(num_signals):
        config = train_config(corpus, settings.folder / f"signal-{number}", **options)
        moment = generator.uniform(0.0, 0.9) * seconds
        faults += one_signal(config, SIGNALS[number % 2], moment, expected)
    for number in SIGNALS:
        config = train_config(corpus, settings.folder / f"twice-{number}", **options)
        faults += two_signals(config, number, expected)
    for fault in faults:
        print(fault)
    return Outcome(
        expected != "incomplete" and not faults,
        f"{num_signals} signals and 2 pairs of signals, {len(faults)} faults (not saved within one step, exit status "
        "other than 143, resumed run not identical)",
    )


def one_signal(config: TrainConfig, number: signal.Signals, moment: float, expected: str) -> list[str]:
    """Send one signal some seconds after the command began to heed them; what was wrong."""
    exp_dir = Path(config.exp_dir)
    log, begun, step_file = (exp_dir.with_suffix(suffix) for suffix in (".log", ".begun", ".step"))
    pid = fork(lambda: note_step_and_train(config, begun, step_file), log)
    faults = [] if wait_for(begun) else [f"{exp_dir.name}: did not begin"]
    time.sleep(moment)
    os.kill(pid, number)
    status = wait(pid)
    if step_file.exists():
        arrived, saved = int(step_file.read_text()), newest_step(exp_dir)
        if not arrived <= saved <= arrived + 1:
            faults.append(f"{exp_dir.name}: the signal came at step {arrived}, saved was step {saved}")
    has_ended = status in (0, -number) and (exp_dir / "final.pt").exists()
    if status != 143 and not has_ended:
        faults.append(f"{exp_dir.name}: exit status {status}\n{log.read_text()}")
    return faults + resume(config, log, expected)


def wait_for(path: Path) -> bool:
    """Wait until a file exists; False when it takes too long."""
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    return path.exists()


def note_step_and_train(config: TrainConfig, begun: Path, step_file: Path) -> None:
    """Train, note that signals are heeded now, and at which step one arrived."""
    steps = [0]
    update, handle, enter = loop.Trainer.update, guard.Interrupt._handle, guard.Interrupt.__enter__

    def entered(self):  # type: ignore[no-untyped-def]
        entering = enter(self)
        begun.touch()
        return entering

    def counted(self, inputs, targets):  # type: ignore[no-untyped-def]
        steps[0] = self.position.step
        update(self, inputs, targets)
        steps[0] = self.position.step

    def noted(self, number, frame):  # type: ignore[no-untyped-def]
        if not self.at_once:
            step_file.write_text(str(steps[0]))
        handle(self, number, frame)

    loop.Trainer.update, guard.Interrupt._handle = counted, noted  # type: ignore[method-assign]
    guard.Interrupt.__enter__ = entered  # type: ignore[method-assign]
    train_here(config)


def two_signals(config: TrainConfig, number: signal.Signals, expected: str) -> list[str]:
    """Send a second signal while the first one's checkpoint is being saved; what was wrong."""
    exp_dir = Path(config.exp_dir)
    log, marker = exp_dir.with_suffix(".log"), exp_dir.with_suffix(".saving")
    pid = fork(lambda: save_slowly(config, marker), log)
    if not wait_for(marker):
        os.kill(pid, signal.SIGKILL)
        wait(pid)
        return [f"{exp_dir.name}: the third update was not saved in {SECONDS_TO_LEAVE:.0f} s\n{log.read_text()}"]
    os.kill(pid, number)
    status = wait(pid, SECONDS_TO_LEAVE)
    faults = [] if status == 143 else [f"{exp_dir.name}: exit status {status} after two signals"]
    return faults + resume(config, log, expected)


def save_slowly(config: TrainConfig, marker: Path) -> None:
    """Train; at the third update a signal comes, and saving its checkpoint takes forever."""
    update, save = loop.Trainer.update, Checkpoints.save

    def signalled(self, inputs, targets):  # type: ignore[no-untyped-def]
        update(self, inputs, targets)
        if self.position.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    def slow(self, step, state, best_step):  # type: ignore[no-untyped-def]
        if step == 3:
            marker.touch()
            time.sleep(60)
        save(self, step, state, best_step)

    loop.Trainer.update, Checkpoints.save = signalled, slow  # type: ignore[method-assign]
    train_here(config)


def resume(config: TrainConfig, log: Path, expected: str) -> list[str]:
    """Run to the end; what was wrong."""
    exp_dir = Path(config.exp_dir)
    status = train(config, log)
    faults = [] if status == 0 else [f"{exp_dir.name}: exit status {status} when resumed"]
    if identity(exp_dir) != expected:
        faults.append(f"{exp_dir.name}: the resumed run is not identical")
    if has_traceback(log):
        faults.append(f"{exp_dir.name}: a traceback\n{log.read_text()}")
    shutil.rmtree(exp_dir)
    return faults


def newest_step(exp_dir: Path) -> int:
    """The step of the newest checkpoint."""
    return max(Checkpoints(exp_dir / "checkpoints").steps(), default=-1)


if __name__ == "__main__":
    main(__doc__ or "", run)
