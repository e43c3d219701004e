"""Every trial of scripts/trials in its small size: exit status 0 and a figure on the last line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRIALS = sorted(
    path.stem
    for path in (ROOT / "scripts" / "trials").glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def test_no_trial_of_the_table_is_missing():
    table = {"kill_resume", "sigterm", "fuzz", "truncate", "faults", "nonfinite", "skip_counts", "interrupt", "soak"}
    assert table | {"leakage"} <= set(TRIALS)


@pytest.mark.parametrize("name", TRIALS)
def test_small_size_passes(name):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "trials" / f"{name}.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-5000:]
    assert re.match(rf"{name} passed: .*\d", done.stdout.splitlines()[-1]), output[-5000:]
