"""Frames that are all equally sharp: what is left of the softness that the way to the nearer given frame makes.

Made frames are softer the farther they are from the given ones. At twice the rate a steady plan has all of them equally
far; at other rates it cannot, since even steps of which more than two lie in a period are at more than one distance.
There each frame's finest detail is brought to what the given frames around it have.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 2  # of Newton's method
_MOST = 0.5  # of a frame's detail, that may be added to it in a step
_PARTS = 4  # of a frame's shorter side, in windows that detail is compared in
_FLAT = 0.5 / 255  # detail of what is flat


def even_detail(made: Tensor, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
    """Gives `made` (B,C,H,W) at times `timestep` (B,) with as much fine detail as both frames (B,3 or 1,H,W).

    Detail is what a blur of 3x3 pixels takes away, in the mean of a window as large as a quarter of the frame, so that
    it does not matter where in it things are at each time. What stands still has all of its detail and stays as it is.
    A sample does not depend on its batch.
    """
    colours = frame0.shape[1]
    seen = made[:, :colours].float()
    t = timestep.to(seen).view(-1, 1, 1, 1)
    wanted = torch.lerp(_amount(frame0.float()), _amount(frame1.float()), t)
    for _ in range(_STEPS):
        fine = seen - _blurred(seen)
        # How much of added detail counts: what a blur takes away of it.
        counts = _around(fine.sign() * (fine - _blurred(fine)))
        more = ((wanted - _around(fine.abs())) / (counts + _FLAT)).clamp_(0, _MOST)
        more = F.interpolate(more, size=seen.shape[2:], mode="bilinear", align_corners=False)
        seen = torch.addcmul(seen, fine, more)
    evened = seen.to(made.dtype)
    return evened if made.shape[1] == colours else torch.cat((evened, made[:, colours:]), 1)


def _blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _amount(frame: Tensor) -> Tensor:
    """(B,1,h,w): how much detail there is in each window of a frame (B,C,H,W)."""
    return _around((frame - _blurred(frame)).abs())


def _around(fine: Tensor) -> Tensor:
    """(B,1,h,w): the mean of (B,C,H,W) in each window."""
    side = max(2, min(fine.shape[2:]) // _PARTS // 2 * 2)
    return F.avg_pool2d(
        fine.abs().mean(1, True), side, side // 2, side // 4, ceil_mode=True, count_include_pad=False
    )
