"""Over-relaxation on a chess board: the solution of the linear equations, at any size, from tensors half as wide."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rife.ops.red_black_sor import coupling, pack, pad_to_even, sor, unpack

SIZES = [(6, 8), (5, 8), (6, 7), (5, 7), (1, 1), (1, 4), (3, 1)]


def system(height: int, width: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Positive definite equations (B,5,h,w), and how much pixels are bound to the right and below."""
    draw = torch.Generator().manual_seed(100 * height + width)
    xx, yy, mixed, xd, yd = torch.rand(5, batch, height, width, generator=draw)
    equations = torch.stack((xx, yy, 0.9 * mixed * (xx * yy).sqrt(), xd - 0.5, yd - 0.5), 1)
    right = 5 * torch.rand(batch, 1, height, width - 1, generator=draw)
    return equations, right, 5 * torch.rand(batch, 1, height - 1, width, generator=draw)


def solution(equations: Tensor, right: Tensor, below: Tensor) -> Tensor:
    """(2,h,w) of one sample, from the whole matrix."""
    height, width = equations.shape[1:]
    number = torch.arange(height * width).view(height, width)
    xx, yy, xy, xd, yd = equations.double().flatten(1)
    bound = torch.zeros(height * width, height * width, dtype=torch.float64)
    bound[number[:, :-1].flatten(), number[:, 1:].flatten()] = right.double().flatten()
    bound[number[:-1].flatten(), number[1:].flatten()] = below.double().flatten()
    bound = bound + bound.T
    smooth = bound.sum(1).diag() - bound
    rows = torch.cat((smooth + xx.diag(), xy.diag()), 1), torch.cat((xy.diag(), smooth + yy.diag()), 1)
    return torch.linalg.solve(torch.cat(rows), torch.cat((xd, yd))).view(2, height, width).float()


def relaxed(equations: Tensor, right: Tensor, below: Tensor, sweeps: int, border: float = 0.0) -> Tensor:
    height, width = equations.shape[2:]
    motion = F.pad(pack(pad_to_even(torch.zeros_like(equations[:, :2]))), (1, 1, 1, 1), value=border)
    motion = sor(motion, pack(pad_to_even(equations)), coupling(right, below), sweeps)
    return unpack(motion[..., 1:-1, 1:-1])[..., :height, :width]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_comes_to_the_solution(height, width):
    equations, right, below = system(height, width)
    true = torch.stack(
        [solution(*sample) for sample in zip(equations, right[:, 0], below[:, 0], strict=True)]
    )
    error = [(relaxed(equations, right, below, sweeps) - true).abs().max() for sweeps in (0, 5, 40)]
    assert error[0] > 5 * error[1] and error[2] < 1e-5
    # Nothing comes from beyond the border.
    torch.testing.assert_close(
        relaxed(equations, right, below, 5, border=9.0), relaxed(equations, right, below, 5)
    )


def test_a_pixel_that_nothing_is_known_of_stays():
    nothing = torch.zeros(1, 5, 4, 4)
    assert relaxed(nothing, torch.zeros(1, 1, 4, 3), torch.zeros(1, 1, 3, 4), 3).abs().max() == 0


def test_each_colour_has_every_second_pixel_of_a_row():
    board = torch.arange(24.0).view(1, 1, 4, 6)
    red, black = pack(board)[0, 0]
    assert red.tolist() == [[0, 2, 4], [7, 9, 11], [12, 14, 16], [19, 21, 23]]
    assert black.tolist() == [[1, 3, 5], [6, 8, 10], [13, 15, 17], [18, 20, 22]]
    assert unpack(pack(board)).equal(board)
