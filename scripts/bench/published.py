"""Networks of the papers at their sizes, on 300 hours of synthetic speech: what took a cluster days in 2013."""

from __future__ import annotations

import copy
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from ceilings import Net, best_of, num_operations, square_way
from measure import Comparison, Result, Setting
from synthetic import synthetic_cache
from training import BASE_DIM, batch_size_of, make_frontend, make_trainer

from acoustic.data.batches import FrameStore, Store
from acoustic.train.loop import Trainer
from acoustic.train.precision import choose_dtype
from acoustic.train.utilisation import make_utilisation

HOURS = 300  # 108 million frames, 8.6 GB in half precision
ZEILER_RATE = 1.2e9 / 86_400  # frames/s of their cluster (Zeiler et al. 2013, 1.2 billion frames a day)


@dataclass(frozen=True)
class Published:
    """A network of a paper.

    Attributes:
        net: its shape.
        splice: frames before and after.
        batches: how many times the usual batch size an update takes.
    """

    net: Net
    splice: tuple[int, int]
    batches: int = 1


MAAS, SHARE = "published_maas_bf16", 0.2  # whose epoch is a figure of its own; of the others this share is measured
NETS = {
    "published_maas": Published(Net(440, 4, 2048, 8986), (5, 5)),
    "published_zeiler": Published(Net(1040, 4, 2560, 7969), (20, 5)),
    "published_zeiler_8": Published(Net(1040, 8, 2560, 7969), (20, 5)),
    "published_maas_2_batches": Published(Net(440, 4, 2048, 8986), (5, 5), batches=2),
}


def published(setting: Setting) -> Iterator[Result]:
    """Each network in each precision, by the loop of `acoustic train`, its data path included."""
    hours = (HOURS / 50 if setting.quick else HOURS) if setting.on_gpu else 0.05
    num_pdfs = min(found.net.num_pdfs for found in NETS.values())  # one cache for all of them
    cache = synthetic_cache(setting.directory / "published", int(hours * 360_000), BASE_DIM, num_pdfs)
    store = FrameStore(cache, make_frontend(BASE_DIM), setting.device)
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("bf16", "tf32") if setting.on_gpu else ("bf16",):
            dtype = choose_dtype(precision, setting.device)
            peak = best_of(square_way(dtype, setting), setting.num_rounds)
            for name, found in NETS.items():
                store = spliced(store, found.splice)
                yield measure(f"{name}_{precision}", found, dtype, store, peak, setting)
                gc.collect()  # trainers refer to themselves: those of all networks would fill a device's memory
    finally:
        torch.set_float32_matmul_precision(before)


def spliced(store: FrameStore, splice: tuple[int, int]) -> FrameStore:
    """The same frames, where they are, spliced otherwise: 300 hours take a while to read."""
    other = copy.copy(store)
    other.frontend = make_frontend(BASE_DIM, *splice).to(store.device)
    return other


def measure(name: str, found: Published, dtype: torch.dtype, store: Store, peak: float, setting: Setting) -> Result:
    """One network: frames a second as it is and compiled, the faster of them over the epoch or a share of it."""
    batch_size = found.batches * batch_size_of(setting)
    num_steps = max(2, int((1.0 if name == MAAS else SHARE) * (store.num_frames // batch_size)))
    few = min(num_steps, 200 if setting.on_gpu else 2)
    rates = {}
    for way in ("as it is", "compiled"):
        trainer = make_trainer(found.net, dtype, store, batch_size, setting.directory)
        if way == "compiled" and not (setting.on_gpu and trainer.update_loss.compile(trainer.trial())):
            continue
        run(trainer, store, batch_size, few, setting)
        rates[way] = few * batch_size / run(trainer, store, batch_size, few, setting)
        if rates[way] == max(rates.values()):
            fastest = trainer
    with watched(setting) as busy_shares:
        seconds = run(fastest, store, batch_size, num_steps, setting)
    value = num_steps * batch_size / seconds
    ceiling = 1e9 * peak * batch_size / num_operations(found.net.training_products(batch_size))
    comparisons = [Comparison("ceiling: the square matrix product", ceiling, value / ceiling)]
    if "zeiler" in name:
        comparisons.append(Comparison("Zeiler et al. 2013: 1.2 billion a day", ZEILER_RATE, value / ZEILER_RATE))
    remarks = {
        f"seconds for {num_steps} updates of {batch_size}": seconds,
        f"seconds for {HOURS} hours at this rate": HOURS * 360_000 / value,
        **{f"frames/s of {few} updates {way}": rate for way, rate in rates.items()},
    }
    if busy_shares:  # the device says so, and it took more than a second
        remarks["per cent of the time the device was idle"] = 100 * (1 - sum(busy_shares) / len(busy_shares))
    return Result(name, value, "frames/s", comparisons, remarks)


def run(trainer: Trainer, store: Store, batch_size: int, num_steps: int, setting: Setting) -> float:
    """Seconds of so many updates on shuffled batches, assembled as in training."""
    setting.wait()
    start = time.perf_counter()
    for inputs, targets in islice(store.batches(batch_size, seed=1, epoch=0), num_steps):
        trainer.update(inputs, targets)
    setting.wait()
    return time.perf_counter() - start


@contextmanager
def watched(setting: Setting) -> Iterator[list[float]]:
    """Look every second how busy the device is, between 0 and 1; the first look, at the time before, does not count."""
    shares: list[float] = []
    ended, utilisation = threading.Event(), make_utilisation(setting.device)

    def look() -> None:
        utilisation.look()
        while not ended.wait(1.0):
            share = utilisation.look()
            if share is not None:
                shares.append(share)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield shares
    finally:
        ended.set()
        thread.join()
