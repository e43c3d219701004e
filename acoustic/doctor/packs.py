"""Scans in several processes: items are dealt out in packs, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from acoustic import log
from acoustic.decode.jobs import in_processes

Item = TypeVar("Item")
Result = TypeVar("Result")


def scan_in_packs(
    work: Callable[[Sequence[Item]], Result], items: Sequence[Item], pack_size: int, num_jobs: int, what: str
) -> Iterator[Result]:
    """Yield `work(pack)` for runs of `pack_size` items, in order.

    Args:
        work: called in the processes.
        items: all items.
        pack_size: how many `work` gets at a time.
        num_jobs: how many processes.
        what: what the items are, for the progress bar.

    Raises:
        DataError: a process died.
    """
    packs = [items[begin : begin + pack_size] for begin in range(0, len(items), pack_size)]
    bar = log.bar(len(items), what, "it")
    results = in_processes(work, packs, max(1, min(num_jobs, len(packs))))
    for pack, result in zip(packs, results, strict=True):
        bar.update(len(pack))
        yield result
    bar.close()
