"""Work on many utterances in forked processes: what they share is in memory once, results come in order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from acoustic.errors import ConfigError, DataError
from acoustic.workers import exit_with_parent

Item = TypeVar("Item")
Answer = TypeVar("Answer")

AHEAD = 3  # items each process may have waiting; more would only take memory

_work: Callable[[Any], Any] | None = None


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def in_processes(work: Callable[[Item], Answer], items: Iterable[Item], num_jobs: int) -> Generator[Answer, None, None]:
    """Yield `work(item)` for each item, in order, reading items no further ahead than the processes need.

    The processes end when this one does, however it is killed. They inherit open files: close the generator before
    pipes that a program at the other end reads to the end.

    Args:
        work: called in the processes; it and what it refers to are inherited by them, not copied.
        items: what is sent to them.
        num_jobs: how many processes; with 1 all is done in this one.

    Raises:
        ConfigError: `num_jobs` is not positive.
        DataError: a process died.
    """
    if num_jobs < 1:
        raise ConfigError(f"--num-jobs={num_jobs}: at least 1 is needed")
    if num_jobs == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Answer]] = deque()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(num_jobs, context, initializer=_start, initargs=(work,)) as pool:
        try:
            for number, item in enumerate(items):
                if number == 0:  # with the first item the pool forks all its processes
                    end_openmp_threads()
                waiting.append(pool.submit(_call, item))
                if len(waiting) >= AHEAD * num_jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process died", remedy="if memory ran out, use fewer of them with --num-jobs"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def end_openmp_threads() -> None:
    """End the threads that OpenMP keeps for this thread's next computation, which will start new ones.

    GNU's OpenMP, which torch computes with, takes them to be there in a forked process too, and waits for them for
    ever as soon as it computes on more than one thread.
    """
    all_loaded, soft = ctypes.CDLL(None), 1  # omp_pause_soft: numbers of threads that were set stay so
    if hasattr(all_loaded, "omp_pause_resource_all"):  # OpenMP 5, if anything here uses it
        all_loaded.omp_pause_resource_all(soft)


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends the processes


def _call(item: Any) -> Any:
    if _work is None:
        raise RuntimeError("the worker process was not started by in_processes")
    return _work(item)
