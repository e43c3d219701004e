"""One thread that works ahead of the one that consumes, and how threads share the cores."""

from __future__ import annotations

import contextlib
import ctypes
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Have this thread do its tensor operations by itself, and leave OpenMP's threads to the one that computes.

    Every thread that starts a parallel operation gets a team as large as there are cores, and with more threads than
    cores GNU's OpenMP no longer lets those that wait spin: each operation of every team begins by waking sleepers. On
    two cores one idle team made updates of 4 x 2048 units take 1.1 to 1.2 times as long, smaller ones half as long
    again. Not for what must be the same to the bit elsewhere: products may depend on the number of threads.
    """
    num_threads = torch.get_num_threads()  # not to be left out: torch sets the number when a thread first asks
    all_loaded = ctypes.CDLL(None)
    if not hasattr(all_loaded, "omp_set_num_threads"):  # of this thread alone, unlike torch.set_num_threads
        yield
        return
    all_loaded.omp_set_num_threads(1)
    try:
        yield
    finally:
        all_loaded.omp_set_num_threads(num_threads)


class _Failure:
    """An exception on its way from the working thread to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def prefetch(items: Iterable[T], depth: int = 2, on_one_core: bool = False) -> Generator[T, None, None]:
    """Pass `items` through in their order, produced by a thread that is at most `depth` items ahead.

    An exception of the producer is raised to the consumer in its place. The thread ends when the consumer stops early.

    Args:
        items: what to pass through.
        depth: how far to work ahead.
        on_one_core: leave the cores to another thread, that computes (see `one_core`).
    """
    ready: queue.Queue[object] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            with one_core() if on_one_core else contextlib.nullcontext():
                for item in items:
                    if not put(item):
                        return
            put(_END)
        except BaseException as error:
            put(_Failure(error))

    thread = threading.Thread(target=produce, name="acoustic-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
