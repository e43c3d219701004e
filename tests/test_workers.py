"""Worker processes end with the process that they work for, even when it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acoustic.workers import exit_with_parent

FORKED = """
import os, sys, time
from pathlib import Path
from acoustic.decode.jobs import in_processes

def work(number):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(600)

list(in_processes(work, range(4), 2))
"""
# As frames caches are built: processes of a fork server.
SERVED = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from acoustic.workers import exit_with_parent

def work(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver"), exit_with_parent) as pool:
        list(pool.map(work, [sys.argv[1]] * 4))
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for its status does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition) -> bool:
    """Whether it comes true within a minute."""
    for _ in range(1200):
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("script", [FORKED, SERVED], ids=["forked", "served"])
def test_workers_end_when_their_parent_is_killed(tmp_path, script):
    program, at_work = tmp_path / "program.py", tmp_path / "at_work"
    program.write_text(script)
    at_work.mkdir()
    parent = subprocess.Popen([sys.executable, str(program), str(at_work)])
    try:
        assert wait_until(lambda: len(os.listdir(at_work)) == 2)
        workers = [int(name) for name in os.listdir(at_work)]
        assert all(map(is_alive, workers))
    finally:
        parent.kill()
        parent.wait()
    try:
        assert wait_until(lambda: not any(map(is_alive, workers)))
    finally:
        for pid in filter(is_alive, workers):
            os.kill(pid, signal.SIGKILL)


def test_a_process_without_parent_is_refused():
    with pytest.raises(RuntimeError, match="multiprocessing"):
        exit_with_parent()
