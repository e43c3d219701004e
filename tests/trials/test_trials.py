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
}  # fmt: skip


@pytest.fixture(scope="module")
def output():
    """What all of them print, one after the other."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run_all.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"},
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TABLE))
def test_small_size_passes(name, output):
    assert re.search(rf"(?m)^{name} passed: .*\d", output), output[-5000:]


@pytest.mark.parametrize("name", sorted(TABLE))
def test_each_is_a_command_that_explains_itself(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert f"python scripts/trials/{name}.py [--quick]" in text and 'if __name__ == "__main__":\n' in text
