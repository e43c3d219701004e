"""A store for corpora beyond memory: while batches come from one window of shards, the next one is read."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from acoustic import log
from acoustic.data.batches import Block, FrameStore, Store
from acoustic.data.cache import FramesCache
from acoustic.data.order import Order, WindowOrder
from acoustic.data.pool import FramePool
from acoustic.data.prefetch import one_core
from acoustic.errors import ConfigError
from acoustic.features.frontend import Frontend

logger = log.get_logger(__name__)
WINDOW_SHARDS = 16


class WindowedStore(Store):
    """Two windows of shards in the memory of the device, the one in use and the next; shuffled by `WindowOrder`.

    Memory is constant however large the cache. One pass over the batches at a time.

    Args:
        cache, frontend, device, dtype: as of `Store`.
        window_shards: shards in a window; more make the shuffle better and take more memory.
    """

    def __init__(
        self,
        cache: FramesCache,
        frontend: Frontend,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        window_shards: int = WINDOW_SHARDS,
    ) -> None:
        super().__init__(cache, frontend, device, dtype)
        self._window_shards = window_shards
        largest = sorted(cache.shard_num_frames.tolist())[-window_shards:]
        self._slots = [_Slot(sum(largest), cache, self.device) for _ in range(2)]
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="acoustic-window")

    def order(self, seed: int | None, epoch: int) -> WindowOrder:
        """As `Store.order`."""
        return WindowOrder(seed, epoch, self.cache.shard_num_frames.tolist(), self._window_shards)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """As `Store.batch`, of any frames of the cache: the shards they stand in are read one by one."""
        slot = _Slot(int(self.cache.shard_num_frames.max()), self.cache, self.device)
        shards = slot.shards_of(index)
        inputs = torch.empty(len(index), self.frontend.input_dim, dtype=self.dtype, device=self.device)
        targets = torch.empty(len(index), dtype=torch.int64, device=self.device)
        for shard in shards.unique().tolist():
            here = shards == shard
            slot.load([shard], self._given())
            inputs[here], targets[here] = slot.batch(self.frontend, index[here], self.dtype)
        return inputs, targets

    def _gather(self, order: Order, block: Block) -> tuple[Tensor, Tensor]:
        """As `Store._gather`, window by window."""
        assert isinstance(order, WindowOrder)
        parts = order.parts(block.positions(self.device), block.begin, block.end)
        gathered = [self._window(order, window).batch(self.frontend, index, self.dtype) for window, index in parts]
        return torch.cat([inputs for inputs, _ in gathered]), torch.cat([targets for _, targets in gathered])

    def _window(self, order: WindowOrder, window: int) -> _Slot:
        """The slot that holds a window of an order; the window after it is on its way into the other slot."""
        slot = next((slot for slot in self._slots if slot.key == (order.key, window)), None)
        if slot is None:
            slot = self._slots[0]
            self._start_loading(slot, order, window)
        slot.wait()
        other = self._slots[1 - self._slots.index(slot)]
        if window + 1 < len(order.windows) and other.key != (order.key, window + 1):
            self._start_loading(other, order, window + 1)
        return slot

    def _start_loading(self, slot: _Slot, order: WindowOrder, window: int) -> None:
        """Have the loader's thread fill a slot, once what it still does and what the device still computes is done."""
        slot.key = (order.key, window)
        slot.loading = self._loader.submit(slot.load, order.windows[window], self._given())

    def _given(self) -> torch.cuda.Event | None:
        """What comes to pass when a GPU has done all it was given so far."""
        return torch.cuda.current_stream(self.device).record_event() if self.device.type == "cuda" else None


class _Slot:
    """Room for the frames of one window.

    Attributes:
        key: which window of which order it holds, or is being filled with.
        loading: the filling, until it was waited for.
    """

    def __init__(self, num_rows: int, cache: FramesCache, device: torch.device) -> None:
        self.key: tuple[str, int] | None = None
        self.loading: Future[None] | None = None
        self._cache, self._device = cache, device
        self._pool = FramePool(num_rows, cache.base_dim, cache.torch_dtype, device)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        ends = torch.tensor(cache.shard_num_frames.cumsum())
        self._shard_begins = (ends - torch.tensor(cache.shard_num_frames)).tolist()
        self._shard_ends = ends.to(device)
        # Added to a frame's index it gives its row, for frames of the shards that are here.
        self._shifts = torch.zeros(cache.num_shards, dtype=torch.int64, device=device)

    def load(self, shards: list[int], used: torch.cuda.Event | None = None) -> None:
        """Fill with some shards, after `used`, the last use of what was here."""
        if used is not None:
            used.synchronize()
        shifts = torch.zeros(len(self._shard_begins), dtype=torch.int64)
        # A stream of its own, so that copies to a GPU go on while the GPU trains.
        with one_core(), torch.cuda.stream(self._stream):
            row = 0
            for shard in shards:
                shifts[shard] = row - self._shard_begins[shard]
                row = self._pool.fill(row, self._cache, shard)
            self._shifts.copy_(shifts)
        if self._stream is not None:
            self._stream.synchronize()

    def wait(self) -> None:
        """Wait until filled; an error of the loading thread is raised here."""
        if self.loading is not None:
            try:
                self.loading.result()
            except BaseException:
                self.key = None
                raise
            finally:
                self.loading = None

    def shards_of(self, index: Tensor) -> Tensor:
        """The shard that each frame of the cache stands in."""
        return torch.searchsorted(self._shard_ends, index, right=True)

    def batch(self, frontend: Frontend, index: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Network inputs and targets of frames of the cache that are here."""
        return self._pool.batch(frontend, index + self._shifts[self.shards_of(index)], dtype)


def open_store(
    cache: FramesCache,
    frontend: Frontend,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kind: str = "auto",
    max_bytes: float = math.inf,
    window_shards: int = WINDOW_SHARDS,
) -> Store:
    """A store for a cache; which one it is and why goes into the log.

    Args:
        cache, frontend, device, dtype: as of `Store`.
        kind: memory, windowed, or auto: memory when the frames take at most `max_bytes`. Not decided by the memory that
            is free, since it decides the order of the frames, and a run must go on in the order it began with.
        max_bytes: how much memory of the device the frames may take.
        window_shards: as of WindowedStore.

    Raises:
        ConfigError: the frames are to be in memory, and there is not enough of it.
    """
    needed = FramePool.num_bytes(cache.num_frames, cache.base_dim, cache.torch_dtype)
    size = f"{cache.directory.name} frames: {needed / 1e9:.3g} GB"
    if kind == "windowed" or (kind == "auto" and needed > max_bytes):
        reason = "as asked for" if kind == "windowed" else f"more than the {max_bytes / 1e9:.3g} GB allowed in memory"
        logger.info("%s, %s: read in windows of %d shards", size, reason, window_shards)
        return WindowedStore(cache, frontend, device, dtype, window_shards)
    available = available_bytes(torch.device(device))
    if needed > available:
        raise ConfigError(
            f"{size}, but {device} has {available / 1e9:.3g} GB free: "
            "set data.store=windowed, or data.memory_gb lower, to read them in windows"
        )
    logger.info("%s, all in memory", size)
    return FrameStore(cache, frontend, device, dtype)


def available_bytes(device: torch.device) -> float:
    """Memory of a device that is free; infinite where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), math.inf)
