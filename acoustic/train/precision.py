"""Where and in which arithmetic a run computes, with the reason in the log."""

from __future__ import annotations

import ctypes
import gc
import os
import sys

import torch

from acoustic import log
from acoustic.errors import ConfigError

logger = log.get_logger(__name__)


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA when there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"device {name!r}: choose cpu or cuda")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """float32, or bfloat16 for autocast over float32 master weights.

    `auto` decides by what the hardware has, not by timing, so that a resumed run computes as it began. CPUs with AMX or
    AVX512-BF16 multiply bfloat16 matrices three to five times as fast as float32 ones.

    Raises:
        ConfigError: tf32 asked for where there is none.
    """
    if precision == "tf32":
        if device.type != "cuda":
            raise ConfigError("runtime.precision=tf32 needs a CUDA device")
        # Not torch.backends.cuda.matmul.fp32_precision, after which whoever asks for the precision this way meets an
        # error: torch.compile does.
        torch.set_float32_matmul_precision("high")
        return torch.float32
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):  # of which torch asks; emulation is slow
            fast, reason = torch.cuda.is_bf16_supported(including_emulation=False), "this GPU"
    else:
        fast, reason = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(), "this CPU"
    name = "bf16" if fast else "fp32"
    logger.info("precision %s: %s %s multiply bfloat16 matrices fast", name, reason, "can" if fast else "cannot")
    return torch.bfloat16 if fast else torch.float32


def keep_freed_memory() -> None:
    """Have large tensors in huge pages and freed memory kept by the C library; for verbs that compute on CPUs.

    The library would give tens of megabytes of gradients back to the system and ask for them again, which clears every
    page: a tenth of the time of an update of a large network (bfloat16, 4 x 2048 units), a twentieth of that of filter
    banks. Huge pages, which many systems only give to those that ask, are worth another twentieth of the update. torch
    looks once, at the first tensor of a process, whether it shall ask; glibc alone can be told to keep memory.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    library, trim_threshold, mmap_threshold = _glibc(), -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    if library is not None:
        library.mallopt(trim_threshold, 1 << 30)
        library.mallopt(mmap_threshold, 1 << 30)


def release_free_memory() -> None:
    """Collect cyclic garbage and give free memory back to the system: after an evaluation or a checkpoint.

    Without this memory creeps up over thousands of them, by what each leaves behind in other places.
    """
    gc.collect()
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, where it is glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def set_up_torch(device: torch.device, num_threads: int | None, deterministic: bool) -> None:
    """Set what a process that trains sets once: threads, memory, and whether only reproducible operations are allowed.

    Args:
        device: where it computes.
        num_threads: of the CPU; None: torch's own choice.
        deterministic: as of RuntimeConfig.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    # CUBLAS_WORKSPACE_CONFIG is left unset: torch gives cuBLAS a workspace for each stream, with which products are
    # reproducible, and no longer asks for it; torch 2.11 would parse it at every product, for longer than many take.
    # Not torch.use_deterministic_algorithms, which also imports the compiler to tell it, for seconds (see `compiled`).
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time
