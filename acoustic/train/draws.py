"""Random draws that depend on nothing but a seed and the number of an update."""

from __future__ import annotations

import torch


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed the default generators that a computation on `device` draws from, as torch.manual_seed does.

    That one also leaves word for devices which were never used, with a trace of the stack for each: two milliseconds,
    as long as an update of a small network.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
