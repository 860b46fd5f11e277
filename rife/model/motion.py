"""Defines what `Model.motion` returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Motion(NamedTuple):
    """Holds what a frame is made of, float32 on the model's device: warped0 * mask + warped1 * (1 - mask), then
    refined."""

    flow0: Tensor  # (B,2,H,W) pixels, x first, from the new frame into img0
    flow1: Tensor  # the same into img1
    mask: Tensor  # (B,1,H,W), weight of warped0
    warped0: Tensor  # (B,3,H,W), img0 as seen at the new frame's time
    warped1: Tensor

    def occlusion(self) -> Tensor:
        """Returns (B,1,H,W) in 0..1: how much the warped frames disagree, 1 from a tenth of white on.

        There one of the frames hides what the other shows, or the flow is wrong. The networks tell no occlusion; their
        mask only says which of the two to believe.
        """
        return ((self.warped0 - self.warped1).abs().mean(1, True) * 10).clamp(max=1)
