"""Makes no motion where nothing changes: stills come out as they went in, noise is averaged.

Motion of less than a quarter of a pixel is none either, and of less than one it counts in part: sampling between pixels
and a flow that is off by a tenth cost more than the cross-fade, which then blurs by an eighth. What rests beside what
moves, and is given the motion of that, is told by comparing both frames there as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.warp import resize, resize_rows
from ..ops.window_sums import sum_3x3
from .prediction import cross_fade_mask

_NOISE = (2 / 255) ** 2  # mean square by which frames differ at rest, too
_CELL = 8  # pixels; changes are averaged over cells, so that noise does not look like motion


def motion_of_cells(img0: Tensor, img1: Tensor, radius: int) -> Tensor:
    """Says how far motion counts at the middle of each cell of 8x8 pixels, (B,1,H/8,W/8) in 0..1: 0 where the frames
    (B,C,H,W) in 0..1 are equal all around.

    radius: in pixels. Height and width are multiples of 8.

    Equal: no cell within `radius` pixels changes by more than one level of 255 in the mean; 1 from two and a half on.
    What moves by less than twice the radius is within it half-way, also where both frames show only the background.
    """
    levels = F.avg_pool2d((img0 - img1).abs_().mean(1, True).float() * 255, _CELL)
    reach = radius // _CELL
    side = 2 * reach + 1
    # Along one axis and then the other, in an eighth of the time.
    around = F.max_pool2d(F.max_pool2d(levels, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
    return ((around - 1.0) / 1.5).clamp(0, 1)


def weight_of_cells(cells: Tensor, scale: int = 1) -> Tensor:
    """Returns how far motion counts, (B,1,H/scale,W/scale), of the cells (B,1,H/8,W/8) of `motion_of_cells`."""
    return resize(cells, _CELL / scale)


def weight_of_rows(cells: Tensor, start: int, stop: int) -> Tensor:
    """Returns rows `start` to `stop` of `weight_of_cells` at full size."""
    return resize_rows(cells, _CELL, start, stop)


def damp_static(flow: Tensor, mask: Tensor, weight: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """Returns flow (B,4,H,W) and mask logits (B,1,H,W) where they count; no flow and a cross-fade where nothing moves.

    flow: or the motion (B,2,H,W) that it is along. weight: of `weight_of_cells`; timestep: broadcasts to (B,1,H,W).
    Motion between the frames counts from a quarter of a pixel on, from a pixel on fully, and the mask by the square of
    that: where frames are not aligned by the flow, choosing between them moves the picture.
    """
    # On a CPU Tensor.norm takes fifty times as long.
    motion = flow[:, 2:4] - flow[:, :2] if flow.shape[1] == 4 else flow
    speed = motion.square().sum(1, True).sqrt()
    weight = weight * ((speed - 0.25) / 0.75).clamp(0, 1)
    fade = cross_fade_mask(timestep).to(mask.dtype)
    return flow * weight, torch.lerp(fade.expand_as(mask), mask, (weight * weight).to(mask.dtype))


@torch.no_grad()
def share_at_rest(img0: Tensor, img1: Tensor, warped0: Tensor, warped1: Tensor) -> Tensor:
    """Says how much better than the motion rest explains what lies around a pixel, (B,1,h,w) in 0..1: the share of the
    difference of both warped frames that the frames (B,3,h,w), as they are, do not have. Without gradients.

    For frames of half the size, where it was chosen: averaged over 3x3 pixels before and after. The background beside
    what moves is given its motion, up to some 16 pixels away, and so are letters upon it.

    Of that difference counts what the frames as they are can make when moved: two places of a texture differ by twice
    its variance. Where they are plain, something thin passes that neither shows there, and the motion is right.
    """
    counts = sum_3x3(torch.ones_like(img0[:1, :1], dtype=torch.float32))  # fewer at the sides

    def around(x: Tensor) -> Tensor:
        return sum_3x3(x).div_(counts)

    pairs = (warped0, warped1), (img0, img1)
    moved, rested = (around((a.float() - b.float()).square_().mean(1, True)) for a, b in pairs)
    mean = (img0.float() + img1.float()).div_(2)
    variance = (around(mean.square()) - around(mean).square_()).mean(1, True).clamp_(min=0)
    explained = torch.minimum(moved, 2 * variance) - rested
    return around(((explained - _NOISE) / (moved + 1e-9)).clamp_(0, 1))
