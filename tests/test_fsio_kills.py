"""What kills leave behind: nothing that is taken for whole, and nothing that stays for ever."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from acoustic import fsio
from acoustic.errors import DataError

ROOT = Path(__file__).parents[1]


def killed(script: str, *args: Path) -> None:
    """Run Python code in a process that kills itself."""
    code = f"import os, signal, sys\nfrom acoustic import fsio\n{script}\n"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -9


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def test_a_folder_left_by_a_killed_process_is_removed_by_the_next(tmp_path):
    killed(
        f"with fsio.atomic_dir(sys.argv[1]) as folder:\n (folder / 'x').write_text('half'); {KILL}", tmp_path / "out"
    )
    assert len(list(tmp_path.iterdir())) == 1 and not (tmp_path / "out").exists()
    with fsio.atomic_dir(tmp_path / "out") as folder:
        (folder / "x").write_text("whole")
    assert [item.name for item in tmp_path.iterdir()] == ["out"] and (tmp_path / "out" / "x").read_text() == "whole"


def test_a_folder_that_another_process_is_filling_is_left_alone(tmp_path):
    with fsio.atomic_dir(tmp_path / "out") as one:
        with fsio.atomic_dir(tmp_path / "out") as other:
            (other / "x").write_text("first")
        assert one.is_dir()
        (one / "x").write_text("second")
    assert (tmp_path / "out" / "x").read_text() == "second"


@pytest.mark.parametrize("in_one_step", [True, False])
def test_folders_are_swapped(tmp_path, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr(fsio.ctypes, "CDLL", lambda *_, **__: object())
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    fsio.exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "other").exists() and (tmp_path / "other" / "one").exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failing_swap_puts_back_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(fsio.ctypes, "CDLL", lambda *_, **__: object())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(DataError, match="Input/output error"), fsio.atomic_dir(tmp_path / "out") as folder:
        (folder / "new").touch()
    assert [item.name for item in tmp_path.rglob("*")] == ["out", "old"]


def test_a_lock_ends_with_its_process(tmp_path):
    killed(f"with fsio.sole_owner(sys.argv[1]):\n {KILL}", tmp_path / "exp")
    with (
        fsio.sole_owner(tmp_path / "exp"),
        pytest.raises(DataError, match="another process"),
        fsio.sole_owner(tmp_path / "exp"),
    ):
        pass
