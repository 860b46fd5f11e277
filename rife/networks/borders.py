"""Says what a motion brings in from outside of a frame: the other frame alone shows that.

Warping repeats a frame's border, so that where a camera pans half of the border's smear was in each new frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.warp import SamplingGrid

_LOGIT = 3.0  # of the mask, where one frame does not show a pixel: of two that count alike, one counts 1 in 20 then
_OVER = 3.0  # pixels beyond the border until that is reached


@torch.no_grad()
def outside(flow: Tensor, grid: SamplingGrid, over: float = 1.0) -> Tensor:
    """Returns how far a pixel's place in a frame lies outside of it, (B,1,h,w) float32: 0 inside, 1 from `over` pixels
    beyond the border on. Without gradients.

    flow: (B,2,h,w), into that frame, in its pixels. grid: of the pixels, or of some rows of them.
    """
    # From -1 to 1 is inside, whatever the size.
    points = torch.addcmul(grid.base, flow.float(), grid.pixel)
    beyond = points.abs_().sub_(1) if grid.ends is None else torch.maximum(points - grid.ends, -1 - points)
    return beyond.div_(grid.pixel).amax(1, True).div_(over).clamp_(0, 1)


def shown_by_one(motion: Tensor, timestep: Tensor, grid: SamplingGrid) -> Tensor:
    """Returns which frame alone shows a pixel that moves by `motion` (B,2,h,w) from frame to frame: (B,1,h,w) float32,
    1 where that is the first, -1 where it is the second, 0 where both do or neither.

    timestep: broadcasts to (B,1,h,w). grid: as for `outside`.
    """
    t = timestep.to(motion)
    return outside(motion * (1 - t), grid, _OVER) - outside(motion * -t, grid, _OVER)


def with_borders(mask: Tensor, one: Tensor) -> Tensor:
    """Returns the mask's logit (B,1,h,w) with what `shown_by_one` says of it."""
    return mask + _LOGIT * one
