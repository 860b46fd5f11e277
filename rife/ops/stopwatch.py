"""How long something takes on a device that is only told what to do, and does it later."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds(device: torch.device, run: Callable[[], object]) -> float:
    """From `device` with nothing left to do until it has done all that `run` asked for."""
    wait = torch.get_device_module(device).synchronize
    wait(device)
    begun = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begun
