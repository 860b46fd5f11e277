"""Chooses how images lie in memory, planar or channels last: as convolutions are fastest on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F

_TRUNKS = ((192, 32, 48), (64, 128, 192))  # channels, height, width inside of blocks, of 4 pairs at a time
_RUNS, _CALLS = 3, 4


def memory_format(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """Returns the format for images and weights of `dtype` on `device`; weights in another one get converted at each
    call.

    On CPUs channels last is twice as fast. MPS and DirectML compute planar. On other GPUs it is measured, since no rule
    holds: tensor cores want channels last, but float32 uses them on some cards only; of AMD's, data centre GPUs gain
    by it and Radeons lose much (pytorch#170947).
    """
    if device.type == "cpu":
        return torch.channels_last
    if device.type not in ("cuda", "xpu"):
        return torch.contiguous_format
    return _faster(torch.empty(0, device=device).device, dtype)  # that names its index, too


@cache
def _faster(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The format in which the convolutions of a coarse and of a fine block take less time, measured once per process.

    That is a tenth of a second, besides loading what the first pass would load; on ROCm more at the first time on a
    machine, when MIOpen makes its kernels.
    """
    formats = torch.contiguous_format, torch.channels_last
    return min(formats, key=lambda form: sum(_seconds(device, dtype, form, *shape) for shape in _TRUNKS))


def _seconds(
    device: torch.device,
    dtype: torch.dtype,
    form: torch.memory_format,
    channels: int,
    height: int,
    width: int,
) -> float:
    """What a few 3x3 convolutions take, at best; the first run chooses and loads kernels."""
    x = torch.zeros(4, channels, height, width, device=device, dtype=dtype).to(memory_format=form)
    weight = x.new_zeros(channels, channels, 3, 3).to(memory_format=form)

    def convolve() -> None:
        for _ in range(_CALLS):
            F.conv2d(x, weight, padding=1)

    return min(seconds(device, convolve) for _ in range(1 + _RUNS))


def seconds(device: torch.device, run: Callable[[], object]) -> float:
    """Measures what `run` takes, in seconds: from an idle `device` until that has done all it was told to.

    GPUs are only told what to do and do it later, so both ends wait for the device.
    """
    wait = torch.get_device_module(device).synchronize
    wait(device)
    begun = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begun
