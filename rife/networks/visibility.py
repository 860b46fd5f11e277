"""Says which of two frames shows a pixel of the frame between them, from where one motion takes all pixels.

Where two things land on one place, the one that looks the same in both frames is in front there, and what the other
one would show of that frame is hidden: softmax splatting (Niklaus and Liu, arXiv:2003.05534) with the frames'
difference as the importance, read backward. Nothing is learnt, and there are no gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.splat import splat
from ..ops.warp import SamplingGrid, warp
from ..ops.window import Side, window_mean

# Differences are means over colours and 3x3 pixels, of frames in 0..1.
_SOFTNESS = 0.008  # of the importance exp(-difference / softness)
_CERTAIN = 0.02  # a pixel that has less than this share of a place is as hidden as one that has none
# Frames that look the same need no choice; where they differ by more than the last two, no motion is right.
_SAME, _OTHER, _UNLIKE, _NO_MATCH = 0.01, 0.03, 0.08, 0.16
_SMOOTHING: Side = 7  # pixels, side of the window that the logit is averaged over
_LARGEST = 3.0  # logit
# Of the shares' logarithms. 1 gains 0.01 dB more, but steps of a disc come out a third less even.
_STRENGTH = 0.7


@torch.no_grad()
def visibility_logit(
    warped0: Tensor, warped1: Tensor, motion: Tensor, timestep: Tensor, grid: SamplingGrid | None = None
) -> Tensor:
    """Returns what to add to the mask's logit, (B,1,h,w) float32: above 0 where only the first frame shows the pixel.

    warped0, warped1: both frames (B,3,h,w) in 0..1 as `motion` (B,2,h,w), in pixels of this size, shows them at
    the timestep, which broadcasts to (B,1,h,w). grid: of these pixels, which saves making it anew.
    """
    frames = equally_bright(warped0.float(), warped1.float())
    difference = difference_around(*frames)
    first, second = shares_of_places(difference, motion.float(), timestep.float(), 1e-3, grid)
    evidence = first.add_(_CERTAIN).div_(second.add_(_CERTAIN)).log_()
    counts = ((difference - _SAME) / (_OTHER - _SAME)).clamp_(0, 1)
    counts *= _STRENGTH * ((_NO_MATCH - difference) / (_NO_MATCH - _UNLIKE)).clamp_(0, 1)
    return window_mean(evidence.mul_(counts), _SMOOTHING).clamp_(-_LARGEST, _LARGEST)


def shares_of_places(
    difference: Tensor, motion: Tensor, timestep: Tensor, least: float, grid: SamplingGrid | None = None
) -> tuple[Tensor, Tensor]:
    """Returns for each pixel of the frame between what share it has of its place in the first frame and in the second,
    each (B,1,h,w) in 0..1: 1 where it is alone there, 0 where something else is that matches far better.

    difference: of `difference_around`; motion, timestep, grid: as for `visibility_logit`. least: the importance of what
    matches worst, against 1: the larger, the less bad matches hide each other.
    """
    importance = torch.exp(difference / -_SOFTNESS) + least
    first, second = (
        (importance / warp(splat(importance, flow), flow, grid).clamp_min_(least)).clamp_(max=1)
        for flow in (motion * -timestep, motion * (1 - timestep))
    )
    return first, second


def difference_around(frame0: Tensor, frame1: Tensor) -> Tensor:
    """Returns by how much frames (B,3,h,w) differ around each pixel, (B,1,h,w)."""
    return window_mean((frame0 - frame1).abs_().mean(1, True), 3)


def equally_bright(frame0: Tensor, frame1: Tensor) -> tuple[Tensor, Tensor]:
    """Returns frames (B,3,h,w) whose colours have the same mean each: a fade hides nothing, and is no motion.

    Each frame takes half of the difference, as a factor.
    """
    gain = gain_between(frame0, frame1)
    return frame0 * gain, frame1 / gain


def gain_between(frame0: Tensor, frame1: Tensor) -> Tensor:
    """Returns the factor (B,3,1,1) by which to multiply the first frame (B,3,h,w), and divide the second, so that each
    colour has the same mean in both."""
    mean0, mean1 = (x.mean((2, 3), True).clamp_min_(1e-3) for x in (frame0, frame1))
    return (mean1 / mean0).clamp_(0.25, 4).sqrt_()
