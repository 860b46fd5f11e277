"""Says what a motion brings in from outside of a frame: the other frame alone shows that.

Warping repeats a frame's border, so that where a camera pans half of the border's smear was in each new frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.warp import SamplingGrid

_LOGIT = 3.0  # of the mask, where one frame does not show a pixel: of two that count alike, one counts 1 in 20 then
_OVER = 3.0  # pixels beyond the border until that is reached


def outside(flow: Tensor, grid: SamplingGrid, over: float = 1.0) -> Tensor:
    """Returns how far a pixel's place in a frame lies outside of it, (B,1,h,w) float32: 0 inside, 1 from `over` pixels
    beyond the border on.

    flow: (B,2,h,w), into that frame, in its pixels. grid: of the pixels, or of some rows of them.
    """
    # From -1 to 1 is inside, whatever the size.
    beyond = torch.addcmul(grid.base, flow.float(), grid.pixel).abs_().sub_(1).div_(grid.pixel)
    return beyond.amax(1, True).div_(over).clamp_(0, 1)


def border_logit(flow: Tensor, grid: SamplingGrid) -> Tensor:
    """Returns what to add to the mask's logit, (B,1,h,w) float32, by the flow (B,4,h,w): above 0 where only the first
    frame shows the pixel, below where only the second does.

    grid: as for `outside`.
    """
    return (outside(flow[:, 2:4], grid, _OVER) - outside(flow[:, :2], grid, _OVER)).mul_(_LOGIT)
