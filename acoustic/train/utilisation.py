"""How busy the device is: the CPU by this process's own clock, an NVIDIA GPU by what its driver says."""

from __future__ import annotations

import ctypes
import os
import time

import torch


class CpuUtilisation:
    """The share of its threads' time that this process computed since the last look."""

    def __init__(self) -> None:
        self._last = time.monotonic(), _cpu_seconds()

    def look(self) -> float | None:
        """Between 0 and 1; None if no time has passed."""
        now = time.monotonic(), _cpu_seconds()
        seconds, busy = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return min(1.0, busy / (seconds * torch.get_num_threads())) if seconds > 0 else None


class _Rates(ctypes.Structure):
    """nvmlUtilization_t: per cent of the last second in which the GPU computed, and in which its memory was used."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class GpuUtilisation:
    """What the NVIDIA driver's library says of one GPU; None where there is no such library."""

    def __init__(self, device: torch.device) -> None:
        self._handle = ctypes.c_void_p()
        try:
            self._library: ctypes.CDLL | None = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            self._library = None
            return
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        if self._library.nvmlInit_v2() or self._library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(self._handle)):
            self._library = None

    def look(self) -> float | None:
        """Between 0 and 1, over about the last second; None if the driver does not say."""
        rates = _Rates()
        if self._library is None or self._library.nvmlDeviceGetUtilizationRates(self._handle, ctypes.byref(rates)):
            return None
        return float(rates.gpu) / 100


def make_utilisation(device: torch.device) -> CpuUtilisation | GpuUtilisation:
    """What tells how busy `device` is."""
    return GpuUtilisation(device) if device.type == "cuda" else CpuUtilisation()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system
