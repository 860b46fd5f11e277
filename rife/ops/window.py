"""Sums and means over the square window around each pixel, for the two sizes that flow is judged by."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from .tracing import is_tracing

Side = Literal[3, 7]


def window_sum(x: Tensor, side: Side) -> Tensor:
    """Returns the sums of x (B,C,h,w) over `side` x `side` pixels, as far as there are pixels: (B,C,h,w)."""
    reach = side // 2
    if _pools(x, side):
        return F.avg_pool2d(x, side, 1, reach).mul_(side**2)
    for axis, sides in ((2, (0, 0, reach, reach)), (3, (reach, reach))):
        x = _sum_along(F.pad(x, sides), axis, side)
    return x


def window_mean(x: Tensor, side: Side) -> Tensor:
    """Returns the means of x (B,C,h,w) over `side` x `side` pixels, with the border repeated: (B,C,h,w)."""
    reach = side // 2
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    if _pools(x, side):
        return F.avg_pool2d(x, side, 1)
    return _sum_along(_sum_along(x, 2, side), 3, side).div_(side**2)


def _pools(x: Tensor, side: Side) -> bool:
    """Whether one operation is to do it. On a CPU that takes twelve times as long as the sums."""
    return side == 7 and (x.device.type != "cpu" or is_tracing())


def _sum_along(x: Tensor, axis: int, side: Side) -> Tensor:
    """Sums of `side` neighbours along an axis, only where all are there."""
    length = x.shape[axis] - side + 1
    if side == 3:
        two = x.narrow(axis, 0, length) + x.narrow(axis, 1, length)
        return two.add_(x.narrow(axis, 2, length))
    # Sums of two, of four and of seven.
    two = x.narrow(axis, 0, length + 5) + x.narrow(axis, 1, length + 5)
    four = two.narrow(axis, 0, length) + two.narrow(axis, 2, length)
    return four.add_(two.narrow(axis, 4, length)).add_(x.narrow(axis, 6, length))
