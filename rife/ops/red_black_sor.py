"""Solves for two unknowns per pixel, each coupled to its four neighbours, by red-black over-relaxation (SOR).

The pixels are coloured as a chess board. A red pixel depends on black neighbours only, so all red pixels are updated at
once and then all black ones (Young 1954; the two unknowns of a pixel are solved for together). Each colour lies in a
tensor of half the width, so that no operation touches a pixel that it does not change; and the operations are few,
since on a GPU each costs a launch.

Packed layout: (...,2,h,w/2), red first. A row's red pixels are its even ones in even rows, its odd ones in odd rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .tracing import is_tracing

_OVER_RELAXATION = 1.6  # 1 is Gauss-Seidel; SOR diverges from 2 on
_MIN_DETERMINANT = 1e-12  # of a pixel without data and without neighbours, which must not divide by zero


class Coupling(NamedTuple):
    """Says how strongly neighbouring pixels are coupled, packed; the weights are zero across the border."""

    same: Tensor  # (B,1,h,w/2) red and black pixel at the same place of their packed tensors
    other: Tensor  # (B,1,h,w/2+1) each pixel and its other neighbour in the row
    above: Tensor  # (B,1,2,h,w/2)
    below: Tensor  # (B,1,2,h,w/2)
    total: Tensor  # (B,1,2,h,w/2) sum of a pixel's four


def pad_to_even(x: Tensor) -> Tensor:
    """Returns x (...,h,w) with a row and a column of zeros added where their number is odd."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


def pack(board: Tensor) -> Tensor:
    """Packs a board (...,h,w) of even sides into (...,2,h,w/2), red pixels first."""
    if is_tracing():
        return _traced_pack(board)
    *others, height, width = board.shape
    out = board.new_empty(*others, 2, height, width // 2)
    for field, place in _fields(board, out):
        place.copy_(field)
    return out


def unpack(colours: Tensor) -> Tensor:
    """Unpacks colours (...,2,h,w/2) into a board (...,h,w): the inverse of `pack`."""
    if is_tracing():
        return _traced_unpack(colours)
    *others, _, height, half = colours.shape
    out = colours.new_empty(*others, height, 2 * half)
    for field, place in _fields(out, colours):
        field.copy_(place)
    return out


def _fields(board: Tensor, colours: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of the same pixels in both layouts, for each colour in even and in odd rows."""
    board, colours = board.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2)), colours.unflatten(-2, (-1, 2))
    for colour in (0, 1):
        for row in (0, 1):
            yield board[..., row, :, (colour + row) % 2], colours[..., colour, :, row, :]


def coupling(right: Tensor, below: Tensor) -> Coupling:
    """Packs the weights of each pixel with the one at its right (B,1,h,w-1) and below (B,1,h-1,w); any h and w."""
    height, width = below.shape[2] + 1, right.shape[3] + 1
    rows, columns = height % 2, width % 2
    across = F.pad(right, (1, 1 + columns, 0, rows))  # before each pixel of a row, and behind the last
    down = F.pad(below, (0, columns, 1, 1 + rows))
    total = across[..., 1:] + across[..., :-1] + down[..., 1:, :] + down[..., :-1, :]
    three = pack(torch.cat((down[..., :-1, :], down[..., 1:, :], total), 1))
    return Coupling(across[..., 1::2].contiguous(), across[..., ::2].contiguous(), *three.split(1, 1))


def sor(x: Tensor, equations: Tensor, weights: Coupling, sweeps: int) -> Tensor:
    """Returns `x` after so many sweeps. They lead to the solution of, for each pixel with unknowns (u, v):

        (xx + n, xy; xy, yy + n) (u, v) = (xd, yd) + sum of weight * (u, v) over its four neighbours

    where n is the sum of its weights. x: packed with a border of one, (B,2,2,h+2,w/2+2), whose values do not matter,
    since weights across the border are zero; it is not changed. equations: xx, yy, xy, xd, yd, packed (B,5,2,h,w/2).
    """
    diagonal, off_diagonal, rhs = equations[:, :2] + weights.total, equations[:, 2:3], equations[:, 3:]
    determinant = torch.addcmul(
        diagonal[:, :1] * diagonal[:, 1:], off_diagonal, off_diagonal, value=-1
    ).clamp_min_(_MIN_DETERMINANT)
    # The inverse of each pixel's 2x2 matrix, once for all sweeps.
    inverse_diagonal, inverse_off_diagonal = diagonal.flip(1) / determinant, off_diagonal / determinant
    if is_tracing():
        return _traced_sor(x, rhs, weights, inverse_diagonal, inverse_off_diagonal, sweeps)
    half, x = x.shape[4] - 2, x.clone()
    for colour in (0, 1) * sweeps:
        neighbours = x[:, :, 1 - colour]
        total = torch.addcmul(rhs[:, :, colour], weights.same, neighbours[..., 1:-1, 1:-1])
        total.addcmul_(weights.above[:, :, colour], neighbours[..., :-2, 1:-1])
        total.addcmul_(weights.below[:, :, colour], neighbours[..., 2:, 1:-1])
        for row in (0, 1):
            # The other neighbour in the row is at the left or, in every second row, at the right.
            at = (colour + row) % 2
            weight, in_row = (
                weights.other[..., row::2, at : at + half],
                neighbours[..., 1 + row : -1 : 2, 2 * at :],
            )
            total[..., row::2, :].addcmul_(weight, in_row[..., :half])
        # The 2x2 equations, solved: the inverse times the right side.
        solved = (inverse_diagonal[:, :, colour] * total).addcmul_(
            inverse_off_diagonal[:, :, colour], total.flip(1), value=-1
        )
        x[:, :, colour, 1:-1, 1:-1].lerp_(solved, _OVER_RELAXATION)
    return x


# The same without writing into parts of tensors, which exporters do not follow; slower, since each part is copied.


def _traced_pack(board: Tensor) -> Tensor:
    cells = board.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2))
    colours = [
        torch.stack([cells[..., row, :, (colour + row) % 2] for row in (0, 1)], -2).flatten(-3, -2)
        for colour in (0, 1)
    ]
    return torch.stack(colours, -3)


def _traced_unpack(colours: Tensor) -> Tensor:
    cells = colours.unflatten(-2, (-1, 2))  # (...,2,h/2,2,w/2)
    rows = [
        torch.stack([cells[..., (row + column) % 2, :, row, :] for column in (0, 1)], -1).flatten(-2)
        for row in (0, 1)
    ]
    return torch.stack(rows, -2).flatten(-3, -2)


def _traced_sor(
    x: Tensor,
    rhs: Tensor,
    weights: Coupling,
    inverse_diagonal: Tensor,
    inverse_off_diagonal: Tensor,
    sweeps: int,
) -> Tensor:
    fields = list(x.unbind(2))
    for colour in (0, 1) * sweeps:
        neighbours = fields[1 - colour]
        total = rhs[:, :, colour] + weights.same * neighbours[..., 1:-1, 1:-1]
        total = total + weights.above[:, :, colour] * neighbours[..., :-2, 1:-1]
        total = total + weights.below[:, :, colour] * neighbours[..., 2:, 1:-1]
        rows = []
        for row in (0, 1):
            at = (colour + row) % 2
            weight = weights.other[..., row::2, 1:] if at else weights.other[..., row::2, :-1]
            beside = neighbours[..., 1 + row : -1 : 2, 2:] if at else neighbours[..., 1 + row : -1 : 2, :-2]
            rows.append(total[..., row::2, :] + weight * beside)
        total = torch.stack(rows, -2).flatten(-3, -2)
        solved = inverse_diagonal[:, :, colour] * total - inverse_off_diagonal[:, :, colour] * total.flip(1)
        previous = fields[colour][..., 1:-1, 1:-1]
        fields[colour] = F.pad(previous + _OVER_RELAXATION * (solved - previous), (1, 1, 1, 1))
    return torch.stack(fields, 2)
