"""What comes in from outside of a frame: the other frame alone shows it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import rife
from rife.evaluation.metrics import psnr
from rife.networks.borders import outside, shown_by_one
from rife.networks.multiscale import WarpGrids
from rife.networks.variational_flow import PyramidLevel
from rife.ops.warp import sampling_grid


def test_how_far_outside_a_place_is():
    grid = sampling_grid(5, 8, torch.device("cpu"))
    flow = torch.zeros(1, 2, 5, 8)
    flow[0, 0, 2] = -2.5  # to the left
    flow[0, 1, 4, 7] = 0.25  # below the corner
    found = outside(flow, grid)[0, 0]
    assert found[2].tolist() == pytest.approx([1, 1, 0.5, 0, 0, 0, 0, 0], abs=1e-5)
    assert float(found[4, 7]) == pytest.approx(0.25, abs=1e-5) and found[[0, 1, 3]].abs().max() < 1e-5
    wide = outside(flow, grid, over=5.0)[0, 0]
    assert wide[2].tolist() == pytest.approx([0.5, 0.3, 0.1, 0, 0, 0, 0, 0], abs=1e-5)
    torch.testing.assert_close(outside(flow[:, :, 1:4], grid.rows(1, 4))[0, 0], found[1:4])


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_the_mask_takes_the_frame_that_shows_a_pixel(t):
    """Everything moves right by 16 pixels: the left border is only in the second frame, the right one in the first."""
    v = torch.zeros(1, 2, 8, 64)
    v[:, 0] = 16
    grids = WarpGrids(8, 64, torch.device("cpu"))
    found = shown_by_one(v, torch.full((1, 1, 1, 1), t), grids.grid)[0, 0]
    left, right = round(16 * t), round(16 * (1 - t))
    assert (found[:, : left - 3] == -1).all() and (found[:, 64 - right + 3 :] == 1).all()
    assert found[:, left:-right].abs().max() < 1e-5
    level = PyramidLevel(torch.rand(2, 3, 8, 64), torch.full((1, 1, 1, 1), t), grids)
    assert float(level.seen) == 1
    level.leave_out(v)
    assert level.seen[..., : left - 1].max() < 0.03 and level.seen[..., left : 63 - right].min() > 0.999


def pan(by: float, height: int = 96, width: int = 160) -> list[torch.Tensor]:
    """Three frames of a picture that moves right by `by` pixels from each to the next."""
    random = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    whole = F.interpolate(random, scale_factor=8, mode="bicubic").clamp(0, 1)
    starts = [round(200 - i * by) for i in range(3)]
    return [whole[..., 40 : 40 + height, start : start + width] for start in starts]


@pytest.mark.parametrize("size", [(96, 160), (90, 150)])  # the latter is padded
@pytest.mark.parametrize("flip", [False, True])
def test_a_pan_has_no_smear_of_the_border(flip, size):
    """By 12 pixels: where half of the new frame was the border's smear it had 19 dB on the left, 22 on the right."""
    first, middle, last = pan(6, *size)
    if flip:
        first, last = last, first
    made = rife.load_model(device="cpu").inference(first, last)
    assert psnr(made[..., :6], middle[..., :6]) > 26
    # Next to padding, of which nothing counts, the motion is known less well.
    assert psnr(made[..., -6:], middle[..., -6:]) > (30 if size == (96, 160) else 25)
    assert psnr(made[..., 16:-16], middle[..., 16:-16]) > 38


def test_padding_is_outside_and_a_turned_frame_has_none_at_its_end():
    grids = WarpGrids(64, 96, torch.device("cpu"), (50, 90))
    flow = torch.zeros(1, 2, 64, 96)
    found = outside(flow, grids.grid)[0, 0]
    assert found[:50, :90].max() < 1e-4 and found[50:].min() > 0.999 and found[:, 90:].min() > 0.999
    half = outside(flow[:, :, ::2, ::2], grids.grid_of(flow[:, :, ::2, ::2]))[0, 0]
    assert half[:25, :45].max() < 1e-4 and half[25:].min() > 0.99 and half[:, 45:].min() > 0.99
    model = rife.load_model(device="cpu")
    first, middle, last = pan(6, 90, 150)
    for scale in (1, 2):
        made = model.inference(first, last, TTA=True, scale=scale)
        assert psnr(made[..., -6:], middle[..., -6:]) > 20 and psnr(made[..., :6], middle[..., :6]) > 20
    assert len(model._passes._grids) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_frames_are_made_of_half_frames(dtype):
    """As ComfyUI's own node calls a network, without the model's padding and float32."""
    network = rife.load_model(device="cpu").net.to(dtype)
    first, middle, last = (frame.to(dtype) for frame in pan(6))
    with torch.no_grad():
        made = network(first, last, 0.5)
    assert made.dtype == dtype and psnr(made.float(), middle.float()) > 25
