"""Whether the machine of a run is still there: a connection on which nothing is ever said.

A process that ends closes its connections, and whoever waits at their other ends is told. A machine that loses its
power or its network closes none. The kernel finds that out where it is asked to probe idle connections (keepalive,
RFC 1122, section 4.2.3.6), which torch does not ask for.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import timedelta
from typing import TypeVar

from acoustic.asynchronous.talk import ANSWER, RunOverError
from acoustic.errors import TrainingError

Answer = TypeVar("Answer")

# After a minute of silence a probe every ten seconds; six without an answer are the end of it.
KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 6}


class Lifeline:
    """A connection to the coordinator of a run.

    Args:
        host, port: of its queues.

    Raises:
        OSError: nobody is there.
    """

    def __init__(self, host: str, port: int) -> None:
        self.place = f"{host}:{port}"
        self._socket = socket.create_connection((host, port), timeout=ANSWER.total_seconds())
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            self._socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def check(self) -> None:
        """Make sure that the run goes on, as far as is known. Never waits.

        Raises:
            RunOverError: the coordinator has ended.
            TrainingError: its machine, or the network to it, is gone.
        """
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise RunOverError from error
        except OSError as error:
            raise TrainingError(
                f"async.join={self.place}: that machine is not to be reached any more ({error.strerror}); "
                "start this again once the run goes on"
            ) from error
        raise RunOverError

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


def within(patience: timedelta, work: Callable[[], Answer]) -> Answer:
    """What `work` gives. What waits for an answer in torch, however long, is left to itself after so much time.

    Raises:
        TimeoutError: it takes longer.
    """
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="acoustic-within", daemon=True).start()
    if not wait([answer], patience.total_seconds()).done:
        raise TimeoutError("no answer")
    return answer.result()
