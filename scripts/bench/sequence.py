"""What an epoch of lattice-free training costs beside one of cross-entropy: the same network, data and frame rate.

python scripts/bench/sequence.py --network EXP_DIR --cache CACHE_DIR --ali-dir DIR[,DIR...] [--device=cpu] [--cpu-time]
    [--frame-subsampling=1] [--recursion=auto]

EXP_DIR holds a trained network, CACHE_DIR the frames cache (.../cache/train) that it was trained on. Updates of both
kinds are timed in turns; the last line printed is the ratio of their times per frame of the data, seen or not, each the
median of the rounds; lattice-free criteria may see one in three (--frame-subsampling=3). Wall time means something only
while nothing else runs; --cpu-time counts the processor's seconds of one thread instead.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from acoustic.data.batches import FrameStore, Store
from acoustic.data.cache import FramesCache
from acoustic.decode.forward import AcousticModel
from acoustic.sequence.config import LatticeFreeConfig
from acoustic.sequence.forward_backward import RECURSIONS
from acoustic.sequence.make_criterion import make_lattice_free
from acoustic.sequence.utterances import UtteranceStore
from acoustic.train.optim import OptimConfig, make_optimizer

CRITERIA = ("lfmmi", "lfsmbr")
ROUNDS = 5


class Bench:
    """A network that is trained by either criterion.

    Args:
        args: the command line's.
        device: where to compute.
    """

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.device = device
        self.model = AcousticModel.load(args.network, device=device)
        self.classifier = self.model.classifier.train()
        self.frames = FrameStore(FramesCache.open(args.cache), self.model.frontend, device)
        self.optimizer = make_optimizer(OptimConfig(learning_rate=1e-5), self.classifier.parameters())
        self.batch_size, self.utterances = args.batch_size, args.utterances
        self.seconds = time.thread_time if args.cpu_time else time.perf_counter
        self.ali_dirs, self.frame_subsampling = args.ali_dir.split(","), args.frame_subsampling
        self.recursion = args.recursion

    def cross_entropy(self) -> Callable[[int], float]:
        """Times some updates by cross-entropy."""

        def loss(inputs: Tensor, targets: Tensor, _: int) -> Tensor:
            return functional.cross_entropy(self.classifier(inputs), targets)

        return self._timer(self.frames, self.batch_size, loss, 1)

    def lattice_free(self, name: str) -> Callable[[int], float]:
        """Times some updates by a lattice-free criterion."""
        cache = self.frames.cache
        config = LatticeFreeConfig(name=name, frame_subsampling=self.frame_subsampling, recursion=self.recursion)
        criterion = make_lattice_free(config, self.ali_dirs, set(cache.ids()), set(), self.device)
        store = UtteranceStore(self.frames, criterion, "training", 0.05)

        def loss(inputs: Tensor, targets: Tensor, batch: int) -> Tensor:
            loglikes = self.classifier(inputs) - self.model.scaled_log_priors
            chosen = store.chosen(self.utterances, 1, 0, batch)
            objective = criterion(loglikes, [utterance.supervision for utterance in chosen])
            return -objective.value / objective.num_frames

        return self._timer(store, self.utterances, loss, self.frame_subsampling)

    def _timer(
        self, store: Store, batch_size: int, loss: Callable[[Tensor, Tensor, int], Tensor], step: int
    ) -> Callable[[int], float]:
        """A function that makes updates for about so many frames, of which every `step`-th is seen, and times these."""
        batches = enumerate(self._forever(store, batch_size))

        def run(num_frames: int) -> float:
            done, start = 0, self.seconds()
            while done < num_frames:
                number, (inputs, targets) = next(batches)
                self.optimizer.zero_grad(set_to_none=True)
                loss(inputs, targets, number % store.num_batches(batch_size)).backward()
                self.optimizer.step()
                done += step * len(targets)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return (self.seconds() - start) / done

        return run

    def _forever(self, store: Store, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from store.batches(batch_size, seed=1)


def main() -> None:
    """Time both kinds of update in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--ali-dir", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--batch-size", type=int, default=512, help="frames in a batch of cross-entropy")
    parser.add_argument("--utterances", type=int, default=16, help="utterances in a batch of a lattice-free criterion")
    parser.add_argument("--frame-subsampling", type=int, default=1, help="of the lattice-free criteria")
    parser.add_argument("--recursion", default="auto", choices=RECURSIONS, help="how forward-backward is run")
    parser.add_argument("--frames", type=int, default=20_000, help="frames in a round")
    args = parser.parse_args()
    if args.cpu_time:
        torch.set_num_threads(1)
    bench = Bench(args, torch.device(args.device))
    runs = {"cross-entropy": bench.cross_entropy(), **{name: bench.lattice_free(name) for name in CRITERIA}}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(args.frames // 4)  # warms up
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(run(args.frames))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name}: {1e6 * median:.1f} microseconds a frame")
    print(" ".join(f"{name}/cross-entropy {medians[name] / medians['cross-entropy']:.2f}" for name in CRITERIA))


if __name__ == "__main__":
    main()
