"""Files and folders that are complete or absent, and never in the place of something else."""

import os
import signal
import stat
import threading
import time

import pytest

from acoustic.errors import DataError
from acoustic.fsio import atomic_dir, atomic_write, check_writable, in_turn, remove_abandoned, sole_owner


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(RuntimeError), atomic_write(path, "w") as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "before" and [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_device_is_written_to_and_stays_a_device():
    with atomic_write(os.devnull) as file:
        file.write(b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("occupied", ["file", "folder of another kind", os.devnull])
def test_a_folder_replaces_only_its_own_kind(tmp_path, occupied):
    path = tmp_path / occupied  # an absolute path stands for itself
    if occupied == "file":
        path.write_text("mine")
    elif occupied != os.devnull:
        path.mkdir()
        (path / "letters.txt").write_text("mine")
    with pytest.raises(DataError, match="folder"), atomic_dir(path, marker="wav.scp") as folder:
        (folder / "wav.scp").write_text("")
    assert occupied == os.devnull or "mine" in (path if path.is_file() else path / "letters.txt").read_text()


def test_a_folder_of_the_same_kind_or_an_empty_one_is_replaced(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "data").mkdir(exist_ok=True)
        with atomic_dir(tmp_path / "data", marker="wav.scp") as folder:
            (folder / "wav.scp").write_text(content)
        assert (tmp_path / "data" / "wav.scp").read_text() == content
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("way", ["remove_abandoned", "sole_owner"])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, way):
    path = tmp_path / "table"
    pid = os.fork()
    if pid == 0:
        with atomic_write(path, "w"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.glob(".table.*.tmp"))) == 1
    with atomic_write(path, "w") as file:
        if way == "remove_abandoned":
            remove_abandoned(path)
        else:
            with sole_owner(tmp_path):
                pass
        file.write("whole")
    assert path.read_text() == "whole" and not list(tmp_path.glob(".table.*"))


def test_in_turn_one_after_another(tmp_path):
    inside, order = threading.Event(), []

    def first():
        with in_turn(tmp_path / "new"):
            inside.set()
            time.sleep(0.05)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with in_turn(tmp_path / "new"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_what_cannot_be_written_is_known_beforehand(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "below", tmp_path / "file" / "below" / "it"):
        with pytest.raises(DataError, match=r"cannot be written \((Is|Not) a directory\)"):
            check_writable(path)
    for path in (tmp_path / "file", tmp_path / "new" / "folder" / "file", os.devnull):
        check_writable(path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(DataError, match="Permission denied"):
        check_writable(tmp_path / "new" / "file")
