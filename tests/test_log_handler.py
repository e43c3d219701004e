"""Log lines beside progress bars, in one process and in several."""

import io
import logging
import os
import signal

from tqdm import tqdm

from acoustic import log


def test_a_closed_stream_stops_nobody(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.set_up()
    stream.close()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.get_logger("test").warning("nobody reads this")
    for handler in list(logging.getLogger("acoustic").handlers):
        logging.getLogger("acoustic").removeHandler(handler)


def test_a_process_killed_while_it_writes_stops_nobody():
    pid = os.fork()
    if pid == 0:
        with tqdm.get_lock():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    log.bar(1, "still here", "x").close()


def test_real_time_factor_is_of_the_duration_of_the_speech():
    assert log.real_time_factor(3.0, 6000) == "real-time factor 0.05 (frames of 10 ms)"
    assert log.real_time_factor(3.0, 6000, 5.0) == "real-time factor 0.1 (frames of 5 ms)"
