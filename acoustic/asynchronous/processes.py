"""The processes of replicas and shards on this machine: started, watched, replaced, ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

from acoustic.asynchronous.talk import REPORTS, Control, RunOverError
from acoustic.errors import AcousticError, TrainingError
from acoustic.log import get_logger

logger = get_logger(__name__)
LOOK_SECONDS = 1.0  # between looks at the clock while no process ends
END_SECONDS = 2.0  # in which a process whose connections broke is known to have ended


@dataclass
class Post:
    """A place that one process after the other holds.

    Attributes:
        what: `replica` or `shard`.
        number: which.
        process: that holds it now.
        since: when that was started.
    """

    what: str
    number: int
    process: BaseProcess
    since: float


class Processes:
    """Those that were started here.

    Args:
        max_restarts: how many that died are replaced.

    Attributes:
        num_restarts: how many were.
    """

    def __init__(self, max_restarts: int) -> None:
        self.max_restarts, self.num_restarts = max_restarts, 0
        self.posts: dict[tuple[str, int], Post] = {}
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["acoustic.asynchronous.forkserver"])
        self._ends = threading.Event()

    def start(self, what: str, number: int, work: Callable[..., None], *arguments: Any) -> None:
        """Have a process do `work(number, *arguments)` at a post."""
        process = self._context.Process(target=work, args=(number, *arguments), daemon=True)
        process.start()
        self.posts[what, number] = Post(what, number, process, time.monotonic())
        logger.info("%s %d is process %d", what, number, process.pid)

    def watch(self, control: Control) -> None:
        """Put a look at the clock into the coordinator's queue now and then, and whenever a process ends."""

        def look() -> None:
            while not self._ends.is_set():
                started = time.monotonic()
                wait([post.process.sentinel for post in list(self.posts.values())], LOOK_SECONDS)
                self._ends.wait(0.05 if time.monotonic() - started < LOOK_SECONDS else 0)
                try:
                    control.send(REPORTS, None)
                except RunOverError:
                    return

        threading.Thread(target=look, name="acoustic-watch", daemon=True).start()

    def dead(self, *kinds: str) -> list[Post]:
        """The posts of these kinds whose process was killed, or lost its connection to a run that goes on.

        Raises:
            TrainingError: one ended by itself, or too many were killed already.
        """
        found = []
        for post in self.posts.values():
            status = post.process.exitcode
            if status is None or post.what not in kinds:
                continue
            if status > 0:
                raise TrainingError(f"{post.what} {post.number} ended with status {status}; its own message says why")
            self.num_restarts += 1
            end = f"was killed by signal {-status}" if status else "lost its connection to the coordinator"
            if self.num_restarts > self.max_restarts:
                raise TrainingError(
                    f"{post.what} {post.number} {end}, and {self.max_restarts} processes were replaced before: "
                    "raise async.max_restarts if the machine is to blame"
                )
            logger.warning("%s %d %s and is replaced", post.what, post.number, end)
            found.append(post)
        return found

    def kill(self, what: str, number: int) -> None:
        """End a process that does not answer; it counts as dead."""
        process = self.posts[what, number].process
        process.kill()
        process.join(END_SECONDS)

    def wait_for_end(self, what: str, number: int) -> None:
        """Wait for a process whose connections broke, a little: it may be about to end."""
        self.posts[what, number].process.join(END_SECONDS)

    def end(self) -> None:
        """End all."""
        self._ends.set()
        for post in self.posts.values():
            post.process.kill()
        for post in self.posts.values():
            post.process.join()
        self.posts.clear()


@contextlib.contextmanager
def telling_why_it_ends(name: str) -> Iterator[None]:
    """What a process of a run, or a thread of one, does: the end of the run ends the process, and so does a fault.

    At once, for threads that still wait for another process would not let the interpreter end.
    """
    try:
        yield
    except RunOverError:
        os._exit(0)
    except AcousticError as error:
        print(f"acoustic: error: {name}: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
