"""Every trial of scripts/trials in its small size: exit status 0 and a figure on the last line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "scripts" / "trials"
TABLE = {
    "kill_resume", "sigterm", "fuzz", "truncate", "faults", "nonfinite", "skip_counts", "interrupt", "soak", "leakage",
    "async_kill",
}  # fmt: skip


@pytest.fixture(scope="module")
def output():
    """What all of them print, one after the other."""
    done = subprocess.run(
        [sys.executable, "-u", str(FOLDER / "run_all.py"), "--quick"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"},
    )
    return done.stdout


def told_by(name, output):
    """The lines that one trial printed: from the verdict before its own to its own."""
    verdict = re.search(rf"(?m)^{name} (passed|FAILED): .*$", output)
    if verdict is None:
        return f"no verdict of {name}\n{output[-5000:]}"
    return re.split(r"(?m)^\w+ (?:passed|FAILED): .*\n", output[: verdict.end()])[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TABLE))
def test_small_size_passes(name, output):
    assert re.search(rf"(?m)^{name} passed: .*\d", output), told_by(name, output)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_each_is_a_command_that_explains_itself(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert f"python scripts/trials/{name}.py [--quick]" in text and 'if __name__ == "__main__":\n' in text
