"""Splats: brings each pixel to where its flow points, where `warp` fetches from there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Sums are taken of whole numbers, which come out the same in whatever order a GPU adds them up.
_ONE = 1 << 20  # of 2,047 pixels on one place the sum still fits
_AROUND = 2  # pixels around the picture in which all lands that leaves it


def splat(x: Tensor, flow: Tensor) -> Tensor:
    """Returns (B,1,h,w) float32: how much of `x` (B,1,h,w), 0..1, lands on each pixel, to a millionth.

    flow: (B,2,h,w) float32, in pixels, x first, from the pixel to where it lands; between pixels it is shared as in
    bilinear sampling, and what leaves the picture is lost.
    """
    height, width = x.shape[2:]
    stride = width + 2 * _AROUND
    right = flow[:, 0] + torch.arange(width, device=x.device, dtype=torch.float32)
    down = flow[:, 1] + torch.arange(height, device=x.device, dtype=torch.float32)[:, None]
    left, top = right.floor(), down.floor()
    beside, below = right.sub_(left), down.sub_(top)
    # What is no number leaves the picture, too. Of a clamp at both ends a trace would not follow the size.
    column = left.nan_to_num_(-_AROUND).clamp_min_(-_AROUND).clamp_max_(width).int()
    row = top.nan_to_num_(-_AROUND).clamp_min_(-_AROUND).clamp_max_(height).int()
    first = row.add_(_AROUND).mul_(stride).add_(column).add_(_AROUND).flatten(1).long()
    landed = torch.zeros(x.shape[0], (height + 2 * _AROUND) * stride, dtype=torch.int32, device=x.device)
    lower = (x[:, 0] * _ONE).mul_(below)
    upper = torch.sub(x[:, 0] * _ONE, lower)
    for offset, values in ((0, upper), (stride, lower)):
        of_next = values * beside
        landed.scatter_add_(1, first + offset if offset else first, _whole(values - of_next))
        landed.scatter_add_(1, first + (offset + 1), _whole(of_next))
    inside = landed.view(-1, 1, height + 2 * _AROUND, stride)
    return F.pad(inside, (-_AROUND,) * 4).float().div_(_ONE)


def _whole(values: Tensor) -> Tensor:
    return values.round_().int().flatten(1)
