"""Damaged files of every kind: a value or our own exception with the file's name; 1 second and 512 MB for each.

    python scripts/trials/fuzz.py [--quick] [--cases N] [--only NAME] [--case NUMBER]
    python scripts/trials/fuzz.py --atheris NAME [--seconds S]   # guided by coverage, with the package atheris

Any other exception, a crash, more than a second of processor time or more than 512 MB over what the process had is a
failure. `--case NUMBER` runs one case again and shows what happens.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import traceback
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fuzz_targets import Target, targets
from harness import Outcome, Settings, fork, main, silence, without_curves
from mutate import mutated

from acoustic.errors import AcousticError, DataError
from acoustic.kaldi import sinks, sources

QUICK_CASES, FULL_CASES = 1500, 100_000
NUM_WORKERS = 2
MAX_BYTES = 512 << 20
MAX_CPU_SECONDS, MAX_SECONDS = 1.0, 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, help=f"how many ({FULL_CASES}; quick {QUICK_CASES})")
    parser.add_argument("--only", help="only targets whose name contains this")
    parser.add_argument("--case", type=int, help="run this one case and show what happens")
    parser.add_argument("--atheris", metavar="NAME", help="fuzz one target guided by coverage")
    parser.add_argument("--seconds", type=int, default=60, help="how long --atheris goes on (60)")


def run(settings: Settings) -> Outcome:
    silence()
    without_curves()
    args = settings.args
    base = settings.folder / "base"
    chosen = {name: target for name, target in targets(base).items() if (args.only or "") in name}
    if args.atheris:
        if args.atheris not in chosen:
            sys.exit(f"--atheris: choose one of {', '.join(chosen)}")
        guided_by_coverage(chosen[args.atheris], base, args.seconds)
    if args.case is not None:
        return show_case(list(chosen.items()), args.case, settings, base)
    num_cases = args.cases or (QUICK_CASES if settings.quick else FULL_CASES)
    failures = Path(settings.folder / "failures.jsonl")
    refused = Counter[str]()
    spend_cases(chosen, num_cases, settings, base, failures)
    records = [json.loads(line) for line in failures.read_text().splitlines()] if failures.exists() else []
    bad = [record for record in records if record["problem"]]
    for record in records:
        refused.update(record["refused"])
    for record in distinct(bad):
        print(f"case {record['case']} ({record['target']}): {record['problem']}")
    where = sum(count for key, count in refused.items() if key.endswith("+"))
    total = sum(refused.values())
    return Outcome(
        not bad,
        f"{num_cases} damaged files of {len(chosen)} kinds: {num_cases - len(bad) - total} read, {total} refused "
        f"({where} of them with byte, line or utterance), {len(bad)} failures",
    )


def distinct(bad: list[dict[str, str]]) -> list[dict[str, str]]:
    """One record of each problem, at most thirty."""
    by_problem = {record["problem"][-300:]: record for record in reversed(bad)}
    return list(by_problem.values())[:30]


# -- workers ------------------------------------------------------------------------------------------------------


def spend_cases(chosen: dict[str, Target], num_cases: int, settings: Settings, base: Path, failures: Path) -> None:
    """Run all cases in workers; one that dies is replaced, and the case it died of noted."""
    items = list(chosen.items())
    positions = mmap.mmap(-1, 8 * NUM_WORKERS)
    for worker in range(NUM_WORKERS):
        struct.pack_into("<q", positions, 8 * worker, worker)
    log = settings.folder / "workers.txt"

    def start(worker: int) -> int:
        folder = settings.folder / f"worker-{worker}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        return fork(lambda: work(items, worker, num_cases, settings.seed, folder, positions, failures), log)

    running = {start(worker): worker for worker in range(NUM_WORKERS)}
    while running:
        pid, status = os.wait()
        worker = running.pop(pid)
        if status == 0:
            continue
        (case,) = struct.unpack_from("<q", positions, 8 * worker)
        note(failures, case, items[case % len(items)][0], death(os.waitstatus_to_exitcode(status), log), {})
        struct.pack_into("<q", positions, 8 * worker, case + NUM_WORKERS)
        if case + NUM_WORKERS < num_cases:
            running[start(worker)] = worker


def death(status: int, log: Path) -> str:
    """Why a worker died."""
    reasons = {
        -signal.SIGPROF: f"more than {MAX_CPU_SECONDS:g} s of processor time",
        -signal.SIGALRM: f"stuck for {MAX_SECONDS:g} s",
    }
    return reasons.get(status) or f"the process ended with {status}: {log.read_text(errors='replace')[-2000:]}"


def note(failures: Path, case: int, target: str, problem: str, refused: dict[str, int]) -> None:
    """Add a record; appending a line is one system call, so that workers do not mix theirs."""
    with open(failures, "a", encoding="utf-8") as file:
        file.write(json.dumps({"case": case, "target": target, "problem": problem, "refused": refused}) + "\n")


def work(
    items: list[tuple[str, Target]], worker: int, num_cases: int, seed: int, folder: Path, positions: mmap.mmap,
    failures: Path,
) -> None:  # fmt: skip
    """Run the cases of one worker from where its predecessor ended."""
    limit(folder)
    (first,) = struct.unpack_from("<q", positions, 8 * worker)
    refused = Counter[str]()
    for case in range(first, num_cases, NUM_WORKERS):
        struct.pack_into("<q", positions, 8 * worker, case)
        name, target = items[case % len(items)]
        problem = one_case(case_data(target, name, seed, case), target, folder, refused)
        if problem:
            note(failures, case, name, problem, {})
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    note(failures, -1, "", "", dict(refused))


def case_data(target: Target, name: str, seed: int, case: int) -> bytes:
    """The damaged content of a case."""
    return mutated(random.Random(f"{seed} {name} {case}"), target.seeds)


def limit(folder: Path) -> None:
    """Bound the memory of this process, and keep commands that damaged scripts name from being run."""
    os.chdir(folder)
    sources.shell_command = sinks.shell_command = lambda command: ["false"]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGESIZE") + MAX_BYTES,) * 2)


def one_case(data: bytes, target: Target, folder: Path, refused: Counter[str]) -> str:
    """Let a target read damaged content; what was wrong, "" for nothing."""
    path = folder / target.file
    path.write_bytes(data)
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        target.read(folder)
    except AcousticError as error:
        located = isinstance(error, DataError) and (error.byte, error.line, error.utt) != (None, None, None)
        refused["refused+" if located else "refused"] += 1
        # A file that a script names, or the folder that the file belongs to, is as good as the file itself.
        named = (isinstance(error, DataError) and error.path is not None) or path.name in str(error)
        return "" if named or path.parent.name in str(error) else f"the file is not named: {error}"
    except Exception:  # what the trial is looking for: any exception that is not our own
        return traceback.format_exc(limit=-4)
    finally:
        if len(target.seeds[0]) and "/" in target.file:
            path.write_bytes(target.seeds[0])
    return ""


def show_case(items: list[tuple[str, Target]], case: int, settings: Settings, base: Path) -> Outcome:
    """Run one case without limits; any other exception than our own shows its traceback."""
    name, target = items[case % len(items)]
    os.chdir(base)
    sources.shell_command = sinks.shell_command = lambda command: ["false"]
    data = case_data(target, name, settings.seed, case)
    (base / target.file).write_bytes(data)
    print(f"{name}: {data[:300]!r}")
    try:
        print(target.read(base))
    except AcousticError as error:
        print(f"{type(error).__name__}: {error}")
    return Outcome(True, f"case {case} shown")


def guided_by_coverage(target: Target, base: Path, seconds: int) -> None:
    """Hand a target to atheris, which never comes back: it ends the process, with status 0 if nothing was found."""
    if importlib.util.find_spec("atheris") is None:
        sys.exit("the package atheris is not installed")
    atheris = importlib.import_module("atheris")
    os.chdir(base)
    sources.shell_command = sinks.shell_command = lambda command: ["false"]
    corpus = base / "atheris-corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)

    def one_input(data: bytes) -> None:
        (base / target.file).write_bytes(data)
        try:
            target.read(base)
        except AcousticError:
            return

    for function in functions_of("acoustic.kaldi", "acoustic.features", "acoustic.data"):
        atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", str(corpus)], one_input)
    atheris.Fuzz()


def functions_of(*rooms: str) -> Iterator[types.FunctionType]:
    """The functions and methods that the loaded modules of some rooms define. Not all there is: torch alone would take
    atheris many minutes."""
    for name, module in list(sys.modules.items()):
        if name.startswith(rooms):
            for member in vars(module).values():
                inside = vars(member).values() if isinstance(member, type) else [member]
                for function in inside:
                    if isinstance(function, types.FunctionType) and function.__module__ == name:
                        yield function


if __name__ == "__main__":
    main(__doc__ or "", run, add_arguments)
