"""Decides what CogVideo's demo decides about a clip, so that results can be compared with its own.

Its `ssim_interpolation_rife` (inference/gradio_composite_demo/rife_model.py, Apache-2.0) shrinks each two frames to
32x32, padding included, and takes their structural similarity: below 0.2 it holds the frame for a cut, above 0.996 it
makes the frame again from itself, which shows it once more. Both are Scenes here, and frames come out as of any other
plan: `plan(Clock(n, rate), multiplier=2**exp, cuts=scenes.cuts, repeats=scenes.repeats)`, with keep_duration as many
as there, n * 2**exp. What the demo does wrong besides is not repeated: frames are cropped, not squeezed with their
padding into their size, given frames pass untouched, the last one is not made anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from ..ops.ssim import ssim
from .scenes import Scenes

CUT, STATIC = 0.2, 0.996
_SIDE = 32  # of the small pictures, and of what the demo pads to


def cogvideo_scenes(frames: Iterable[Tensor]) -> Scenes:
    """Returns the demo's cuts and static frames (as repeats) of frames (N,H,W,C) in 0..1 or uint8, C of 1, 3 or 4."""
    scenes, last = Scenes(), None
    for index, frame in enumerate(frames):
        small = _small(frame)
        if last is not None:
            alike = float(ssim(last, small))
            if alike < CUT:
                scenes.cuts.add(index)
            elif alike > STATIC:
                scenes.repeats.add(index)
        last = small
    return scenes


def _small(frame: Tensor) -> Tensor:
    """(H,W,C) -> (1,3,32,32), with the black that the demo pads with right and below."""
    image = frame[..., :3].float() / (1 if frame.is_floating_point() else 255)
    image = image.permute(2, 0, 1)[None].expand(-1, 3, -1, -1)
    height, width = image.shape[2:]
    image = F.pad(image, (0, -width % _SIDE, 0, -height % _SIDE))
    return F.interpolate(image, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
