"""What the machine itself can do: matrix products, copies in memory, the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from measure import Result, Setting, Way

SQUARE = 4096
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Net:
    """Shape of a network: every product of its training or forward pass follows from it."""

    input_dim: int = 440
    hidden_layers: int = 4
    hidden_dim: int = 2048
    num_pdfs: int = 3034

    @property
    def dims(self) -> list[int]:
        """Values between its layers."""
        return [self.input_dim, *[self.hidden_dim] * self.hidden_layers, self.num_pdfs]

    def forward_products(self, batch_size: int) -> list[tuple[int, int, int]]:
        """(rows, inner, columns) of each product of the forward pass."""
        return [(batch_size, inner, columns) for inner, columns in pairwise(self.dims)]

    def training_products(self, batch_size: int) -> list[tuple[int, int, int]]:
        """Those of an update: forward, gradients of the weights, gradients of the layers' inputs but the first's."""
        forward = self.forward_products(batch_size)
        weights = [(columns, rows, inner) for rows, inner, columns in forward]
        return forward + weights + [(rows, columns, inner) for rows, inner, columns in forward[1:]]


def num_operations(products: Sequence[tuple[int, int, int]]) -> float:
    """Additions and multiplications."""
    return 2.0 * sum(rows * inner * columns for rows, inner, columns in products)


def products_way(
    products: Sequence[tuple[int, int, int]], dtype: torch.dtype, setting: Setting, amount: float, repeats: int
) -> Way:
    """The rate of nothing but some matrix products, as linear layers have them; `amount` is what they all count for."""
    operands = []
    for rows, inner, columns in products:
        left = torch.randn(rows, inner, device=setting.device).to(dtype)
        right = torch.randn(columns, inner, device=setting.device).to(dtype).t()
        operands.append((left, right, torch.empty(rows, columns, dtype=dtype, device=setting.device)))

    def way() -> float:
        setting.wait()
        start = time.perf_counter()
        for _ in range(repeats):
            for left, right, out in operands:
                torch.mm(left, right, out=out)
        setting.wait()
        return repeats * amount / (time.perf_counter() - start)

    return way


def square_way(dtype: torch.dtype, setting: Setting) -> Way:
    """GFLOP/s of one big square product."""
    size = SQUARE // 2 if setting.quick and not setting.on_gpu else SQUARE
    products = [(size, size, size)]
    return products_way(products, dtype, setting, 1e-9 * num_operations(products), 100 if setting.on_gpu else 4)


def best_of(way: Way, num_rounds: int) -> float:
    """The highest rate of several rounds: a ceiling."""
    return max(way() for _ in range(num_rounds + 1))


def copy_way(setting: Setting) -> Way:
    """GB/s of a copy in the device's memory, bytes read and written both counted."""
    source = torch.zeros(1 << (28 if setting.on_gpu else 25), device=setting.device)
    target = torch.empty_like(source)

    def way() -> float:
        setting.wait()
        start = time.perf_counter()
        for _ in range(4):
            target.copy_(source)
        setting.wait()
        return 4 * 2e-9 * source.numel() * source.itemsize / (time.perf_counter() - start)

    return way


def forget_file(path: Path) -> None:
    """Bring a file to the disk and drop it from the system's memory, so that reading it means reading the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_rates(setting: Setting) -> tuple[float, float]:
    """MB/s of writing a file to the disk and of reading it back."""
    path, size = setting.directory / "disk", (1 << 27 if setting.quick else 1 << 30)
    block = os.urandom(1 << 24)
    start = time.perf_counter()
    with open(path, "wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    written = time.perf_counter() - start
    forget_file(path)
    buffer = bytearray(len(block))
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    read = time.perf_counter() - start
    path.unlink()
    return 1e-6 * size / written, 1e-6 * size / read


def ceilings(setting: Setting) -> list[Result]:
    """All of them."""
    results = [
        Result(f"ceiling_{name}", best_of(square_way(dtype, setting), setting.num_rounds), "GFLOP/s")
        for name, dtype in DTYPES.items()
    ]
    results.append(Result("ceiling_copy", best_of(copy_way(setting), setting.num_rounds), "GB/s"))
    written, read = disk_rates(setting)
    results += [Result("ceiling_disk_write", written, "MB/s"), Result("ceiling_disk_read", read, "MB/s")]
    return results
