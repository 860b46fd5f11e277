"""Sums an image over the window around each pixel, as far as there are pixels; on CPUs faster than avg_pool2d."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .tracing import is_tracing


def sum_3x3(x: Tensor) -> Tensor:
    """Sums x (B,C,h,w) over 3x3 pixels."""
    for axis in (2, 3):
        side = x.shape[axis]
        x = F.pad(x, (0, 0, 1, 1) if axis == 2 else (1, 1))
        x = (x.narrow(axis, 0, side) + x.narrow(axis, 1, side)).add_(x.narrow(axis, 2, side))
    return x


def sum_7x7(x: Tensor) -> Tensor:
    """Sums x (B,C,h,w) over 7x7 pixels."""
    if x.device.type != "cpu" or is_tracing():
        return F.avg_pool2d(x, 7, 1, 3).mul_(49)
    # Sums of two, of four and of seven, which take a twelfth of the time of avg_pool2d there.
    for axis in (2, 3):
        side = x.shape[axis]
        x = F.pad(x, (0, 0, 3, 3) if axis == 2 else (3, 3))
        two = x.narrow(axis, 0, side + 5) + x.narrow(axis, 1, side + 5)
        four = two.narrow(axis, 0, side) + two.narrow(axis, 2, side)
        x = four.add_(two.narrow(axis, 4, side)).add_(x.narrow(axis, 6, side))
    return x
