"""Worker processes that do not outlive the process that they work for."""

from __future__ import annotations

import multiprocessing
import os
import threading

__all__ = ["exit_with_parent"]


def exit_with_parent() -> None:
    """End this worker process as soon as its parent has ended, however that was; to be called in the worker.

    A worker of concurrent.futures waits for work at a pipe that it can itself write to, so that it never sees an end of
    file: if its parent is killed, it goes on with what was submitted, then waits for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("this process was not started by multiprocessing")

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="exit_with_parent", daemon=True).start()
