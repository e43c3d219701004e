"""The training step, with and without its data, beside the machine's matrix products, Kaldi nnet1 and plain PyTorch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice, repeat
from pathlib import Path

import torch
from ceilings import DTYPES, Net, num_operations, products_way, square_way
from kaldi import nnet1_files, splice_net
from measure import NotMeasuredError, Result, Setting, Way, compare, on_path, run_program
from synthetic import synthetic_cache
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from acoustic.data.batches import BLOCK_FRAMES, FrameStore, Store
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train.config import DataConfig, TrainConfig, TrainData
from acoustic.train.loop import Trainer
from acoustic.train.optim import OptimConfig
from acoustic.train.precision import keep_freed_memory
from acoustic.train.ranks import Ranks

BASE_DIM, SPLICE = 40, 5


def batch_size_of(setting: Setting) -> int:
    """Frames in an update: the 512 of the published figures, more where a GPU wants them."""
    return 4096 if setting.on_gpu else 512


def make_frontend(base_dim: int = BASE_DIM, left: int = SPLICE, right: int = SPLICE) -> Frontend:
    """Splicing alone: eleven frames, if nothing else is asked for."""
    return Frontend(FrontendConfig(cmvn="none", delta_order=0, splice_left=left, splice_right=right), base_dim)


def make_trainer(
    net: Net, dtype: torch.dtype, store: Store, batch_size: int, directory: Path, ranks: Ranks | None = None
) -> Trainer:
    """The loop of `acoustic train` with an untrained network of this shape; evaluated on its own training data."""
    torch.manual_seed(1)
    if store.device.type == "cpu":
        keep_freed_memory()
    model = ClassifierConfig(hidden_layers=net.hidden_layers, hidden_dim=net.hidden_dim)
    config = TrainConfig(
        exp_dir=str(directory / "exp"),
        train=TrainData(data_dir="synthetic", ali_dir="synthetic"),
        model=model,
        optim=OptimConfig(learning_rate=1e-4),
        data=DataConfig(batch_size=batch_size),
    )
    classifier = SenoneClassifier(model, store.frontend.input_dim, net.num_pdfs).to(store.device).train()
    return Trainer(config, classifier, store, store, store.device, dtype, ranks)


def endless(store: Store, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches, one epoch after another, assembled as in training."""
    for epoch in cycle(range(1 << 30)):
        end = store.num_frames // batch_size
        yield from store.batches(
            batch_size, seed=1, epoch=epoch, end_batch=end, rank=rank, world_size=world_size
        )  # fmt: skip


def updates_way(
    update: Callable[[Tensor, Tensor], object],
    batches: Iterator[tuple[Tensor, Tensor]],
    num_steps: int,
    setting: Setting,
) -> Way:
    """Frames a second of some updates."""

    def way() -> float:
        num_frames = 0
        setting.wait()
        start = time.perf_counter()
        for inputs, targets in islice(batches, num_steps):
            update(inputs, targets)
            num_frames += len(targets)
        setting.wait()
        return num_frames / (time.perf_counter() - start)

    return way


def plain_way(net: Net, dtype: torch.dtype, batch_size: int, num_steps: int, setting: Setting) -> Way:
    """The loop that one writes without thinking: spliced frames in a DataLoader, autocast, SGD."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(net.dims[:-2], net.dims[1:-1], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(*net.dims[-2:])).to(setting.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    num_frames = num_steps * batch_size
    data = TensorDataset(torch.randn(num_frames, net.input_dim), torch.randint(net.num_pdfs, (num_frames,)))
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True)

    def update(inputs: Tensor, targets: Tensor) -> None:
        inputs, targets = inputs.to(setting.device), targets.to(setting.device)
        with torch.autocast(setting.device.type, dtype, enabled=dtype != torch.float32):
            loss = functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    batches = (batch for _ in repeat(None) for batch in loader)
    return updates_way(update, batches, num_steps, setting)


def nnet1_way(net: Net, batch_size: int, num_frames: int, setting: Setting) -> Way:
    """Kaldi's nnet-train-frmshuff, by the speed it reports itself."""
    files = nnet1_files(net, num_frames, setting.directory)
    command = [
        "nnet-train-frmshuff", "--learn-rate=0.0001", f"--minibatch-size={batch_size}", "--randomizer-size=32768",
        f"--feature-transform={splice_net(setting.directory, BASE_DIM, SPLICE)}", f"ark:{files.feats}",
        f"ark:{files.targets}", files.net, setting.directory / "trained.nnet",
    ]  # fmt: skip

    def way() -> float:
        return float(re.findall(r"([\d.e+]+) frames per sec", run_program(command))[-1])

    return way


def train_compiled(setting: Setting) -> list[Result]:
    """The step in bfloat16, its passes compiled (runtime.compile).

    Raises:
        NotMeasuredError: they cannot be compiled here; the log says why.
    """
    net, batch_size = Net(), batch_size_of(setting)
    cache = synthetic_cache(setting.directory / "compiled", 300_000, BASE_DIM, net.num_pdfs)
    store = FrameStore(cache, make_frontend(), setting.device)
    ours, as_it_is = (make_trainer(net, torch.bfloat16, store, batch_size, setting.directory) for _ in range(2))
    ours.update_loss.compile(ours.trial())
    num_steps = 2 * BLOCK_FRAMES[setting.device.type] // batch_size
    compiled_way, way = (
        updates_way(trainer.update, endless(store, batch_size), num_steps, setting) for trainer in (ours, as_it_is)
    )
    result = compare("train_bf16_compiled", "frames/s", compiled_way, {"step as it is": way}, setting)
    if ours.update_loss.compiled is None:  # what fails is given up, also in the midst of updates
        raise NotMeasuredError("updates cannot be compiled here; the warning says why")
    return [result]


def train(precision: str, setting: Setting) -> list[Result]:
    """The step in one precision."""
    net, dtype, batch_size = Net(), DTYPES[precision], batch_size_of(setting)
    cache = synthetic_cache(setting.directory / precision, 300_000, BASE_DIM, net.num_pdfs)
    store = FrameStore(cache, make_frontend(), setting.device)
    trainer = make_trainer(net, dtype, store, batch_size, setting.directory)
    batches = endless(store, batch_size)
    num_steps = 2 * BLOCK_FRAMES[setting.device.type] // batch_size
    products = net.training_products(batch_size)
    square = square_way(dtype, setting)
    others = {
        "ceiling: the square matrix product": lambda: 1e9 * square() * batch_size / num_operations(products),
        "products of the net's shapes alone": products_way(products, dtype, setting, batch_size, num_steps // 2),
        "step on a batch that stays": updates_way(trainer.update, repeat(next(batches)), num_steps, setting),
        "DataLoader loop, bf16 autocast": plain_way(net, torch.bfloat16, batch_size, num_steps, setting),
        "DataLoader loop, fp32": plain_way(net, torch.float32, batch_size, num_steps, setting),
    }
    if on_path("nnet-train-frmshuff", "nnet-initialize"):
        others["Kaldi nnet1 (nnet-train-frmshuff)"] = nnet1_way(net, batch_size, 16 * batch_size, setting)
    ours = updates_way(trainer.update, batches, num_steps, setting)
    return [compare(f"train_{precision}", "frames/s", ours, others, setting)]
