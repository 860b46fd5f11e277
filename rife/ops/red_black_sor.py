"""Two unknowns at each pixel, bound to what it says itself and to its four neighbours: solved by over-relaxation.

As on a chess board: what is red depends on black neighbours alone, so all red pixels are set at once, then all black
ones (Young 1954, with the two unknowns of a pixel together). Each colour lies packed in a tensor of half the width, so
that no operation touches a pixel that it does not change; and there are few, since on a GPU each costs a launch.

Packed: (...,2,h,w/2), red first; a row's red pixels are its even ones in even rows, its odd ones in odd rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_OVER = 1.6  # beyond where a pixel's neighbours pull it; stable below 2
_LEAST = 1e-12  # determinant of a pixel that neither says anything nor is bound


class Links(NamedTuple):
    """How much neighbours are bound to each other, packed, and for each pixel to all four of them."""

    same: Tensor  # (B,1,h,w/2) red and black pixel at the same place of their tensors
    other: Tensor  # (B,1,h,w/2+1) each pixel to its other neighbour in the row
    above: Tensor  # (B,1,2,h,w/2)
    below: Tensor  # (B,1,2,h,w/2)
    total: Tensor  # (B,1,2,h,w/2)


def even(x: Tensor) -> Tensor:
    """(...,h,w) with a row and a column of zeros added where their number is odd."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


def packed(board: Tensor) -> Tensor:
    """(...,h,w) of even sides -> (...,2,h,w/2)."""
    *others, height, width = board.shape
    out = board.new_empty(*others, 2, height, width // 2)
    for field, place in _fields(board, out):
        place.copy_(field)
    return out


def unpacked(colours: Tensor) -> Tensor:
    """(...,2,h,w/2) -> (...,h,w)."""
    *others, _, height, half = colours.shape
    out = colours.new_empty(*others, height, 2 * half)
    for field, place in _fields(out, colours):
        field.copy_(place)
    return out


def _fields(board: Tensor, colours: Tensor):
    board, colours = board.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2)), colours.unflatten(-2, (-1, 2))
    for colour in (0, 1):
        for row in (0, 1):
            yield board[..., row, :, (colour + row) % 2], colours[..., colour, :, row, :]


def links(right: Tensor, below: Tensor) -> Links:
    """Of how much each pixel is bound to the next one: right (B,1,h,w-1), below (B,1,h-1,w); any h, w."""
    height, width = below.shape[2] + 1, right.shape[3] + 1
    rows, columns = height % 2, width % 2
    across = F.pad(right, (1, 1 + columns, 0, rows))  # before each pixel of a row, and behind the last
    down = F.pad(below, (0, columns, 1, 1 + rows))
    total = across[..., 1:] + across[..., :-1] + down[..., 1:, :] + down[..., :-1, :]
    three = packed(torch.cat((down[..., :-1, :], down[..., 1:, :], total), 1))
    return Links(across[..., 1::2].contiguous(), across[..., ::2].contiguous(), *three.split(1, 1))


def relax(motion: Tensor, equations: Tensor, bound: Links, sweeps: int) -> Tensor:
    """`motion`, moved towards the solution.

    For x = (u, v) of a pixel: (xx + n, xy; xy, yy + n) x = (xd, yd) + sum of link * x over its neighbours, n being the
    sum of its links. motion: packed with a border of one, (B,2,2,h+2,w/2+2); what the border holds does not matter.
    equations: xx, yy, xy, xd, yd, packed, (B,5,2,h,w/2).
    """
    own, mixed, free = equations[:, :2] + bound.total, equations[:, 2:3], equations[:, 3:]
    determinant = torch.addcmul(own[:, :1] * own[:, 1:], mixed, mixed, value=-1).clamp_min_(_LEAST)
    straight, crossed = own.flip(1) / determinant, mixed / determinant
    half, motion = motion.shape[4] - 2, motion.clone()
    for colour in (0, 1) * sweeps:
        around = motion[:, :, 1 - colour]
        pulled = torch.addcmul(free[:, :, colour], bound.same, around[..., 1:-1, 1:-1])
        pulled.addcmul_(bound.above[:, :, colour], around[..., :-2, 1:-1])
        pulled.addcmul_(bound.below[:, :, colour], around[..., 2:, 1:-1])
        for row in (0, 1):
            # The other neighbour in the row is at the left or, in every second row, at the right.
            at = (colour + row) % 2
            link, neighbour = (
                bound.other[..., row::2, at : at + half],
                around[..., 1 + row : -1 : 2, 2 * at :],
            )
            pulled[..., row::2, :].addcmul_(link, neighbour[..., :half])
        solved = (straight[:, :, colour] * pulled).addcmul_(crossed[:, :, colour], pulled.flip(1), value=-1)
        motion[:, :, colour, 1:-1, 1:-1].lerp_(solved, _OVER)
    return motion
