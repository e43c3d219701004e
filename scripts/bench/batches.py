"""What share of a training step goes into reading and assembling batches.

python scripts/bench/batches.py [--quick] [--cpu-time] [--device=cpu] [--only=NAME,...]

For each net, steps on one batch that stays where it is and steps through the whole data path (shuffled index, gather,
deltas, splice, normalisation) are timed in turns; the share is what the second take longer, of the median round.
Wall time means something only while nothing else runs; on a busy machine, --cpu-time counts the processor's seconds of
one thread instead.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
from synthetic import synthetic_cache
from torch import Tensor
from torch.nn import functional

from acoustic.data.batches import BLOCK_FRAMES, FrameStore, Store
from acoustic.data.windows import WindowedStore
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train.optim import OptimConfig, make_optimizer

AIM = 0.10


@dataclass(frozen=True)
class Net:
    """A network with its front end and batch size."""

    delta_order: int
    hidden_layers: int
    hidden_dim: int
    num_pdfs: int
    batch_size: int
    dtype: torch.dtype


NETS = {
    "digits_bf16": Net(2, 3, 1024, 128, 256, torch.bfloat16),
    "digits_fp32": Net(2, 3, 1024, 128, 256, torch.float32),
    "large_bf16": Net(0, 4, 2048, 3034, 512, torch.bfloat16),
    "large_fp32": Net(0, 4, 2048, 3034, 512, torch.float32),
}


class Step:
    """One update: the network, cross-entropy, the optimizer, and nothing else that the training loop does."""

    def __init__(self, net: Net, input_dim: int, device: torch.device) -> None:
        config = ClassifierConfig(hidden_layers=net.hidden_layers, hidden_dim=net.hidden_dim)
        self.classifier = SenoneClassifier(config, input_dim, net.num_pdfs).to(device)
        self.optimizer = make_optimizer(OptimConfig(learning_rate=1e-4), self.classifier.parameters())
        self.dtype, self.device = net.dtype, device

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            logits = self.classifier(inputs)
        loss = functional.cross_entropy(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def seconds_per_step(
    step: Step, batches: Iterator[tuple[Tensor, Tensor]], num_steps: int, clock: Callable[[], float]
) -> float:
    """Time of one step over some batches."""
    start = clock()
    for inputs, targets in islice(batches, num_steps):
        step(inputs, targets)
    if step.device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) / num_steps


def endless(store: Store, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch after another."""
    for epoch in cycle(range(1 << 30)):
        yield from store.batches(batch_size, seed=1, epoch=epoch, workers=workers)


def measure(
    name: str,
    directory: Path,
    device: torch.device,
    num_frames: int,
    num_rounds: int,
    clock: Callable[[], float],
) -> None:
    """Print one line for each way to get at batches."""
    net = NETS[name]
    cache = synthetic_cache(directory / name, num_frames, 40, net.num_pdfs)
    config = FrontendConfig(cmvn="none", delta_order=net.delta_order, splice_left=5, splice_right=5)
    frontend = Frontend(config, 40)
    step = Step(net, frontend.input_dim, device)
    memory = FrameStore(cache, frontend, device)
    ways = {
        "memory, workers=0": endless(memory, net.batch_size, 0),
        "memory, workers=1": endless(memory, net.batch_size, 1),
        "windows, workers=1": endless(WindowedStore(cache, frontend, device, window_shards=2), net.batch_size, 1),
    }
    resident = cycle([next(ways["memory, workers=0"])])
    num_steps = 2 * BLOCK_FRAMES[device.type] // net.batch_size
    for way, batches in ways.items():
        for warm_up in (resident, batches):
            seconds_per_step(step, warm_up, num_steps // 2, clock)
        rounds = [
            (seconds_per_step(step, resident, num_steps, clock), seconds_per_step(step, batches, num_steps, clock))
            for _ in range(num_rounds)
        ]
        alone, whole = (statistics.median(times) for times in zip(*rounds, strict=True))
        share = statistics.median(1 - one / other for one, other in rounds)
        verdict = "" if share < AIM else f"  (aim: below {AIM:.0%})"
        print(
            f"{name:12s} {way:19s} step alone {1e3 * alone:8.3f} ms   with its data {1e3 * whole:8.3f} ms   "
            f"data {share:6.1%} of the step   {net.batch_size / whole:9.0f} frames/s{verdict}",
            flush=True,
        )
        batches.close()  # type: ignore[attr-defined]


def main() -> None:
    """Measure the nets asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds over a smaller corpus")
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread instead of wall time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", default=",".join(NETS), help=f"some of {','.join(NETS)}")
    args = parser.parse_args()
    num_frames, num_rounds = (300_000, 5) if args.quick else (2_000_000, 15)
    if args.cpu_time:
        torch.set_num_threads(1)
    clock = time.process_time if args.cpu_time else time.perf_counter
    with tempfile.TemporaryDirectory() as directory:
        for name in args.only.split(","):
            measure(name, Path(directory), torch.device(args.device), num_frames, num_rounds, clock)


if __name__ == "__main__":
    main()
