"""Checks what comes into a `Model`, frames and times, and pads frames; every error comes before any work."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def colour_channels(channels: int) -> int:
    """Counts those of a frame's channels that are its picture (1 for grey, 3 for RGB); what is behind them are maps."""
    return 1 if channels < 3 else 3


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Grows (B,C,H,W) right and down to multiples of `multiple` pixels: mirrored, or repeated where it is too small."""
    height, width = x.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not (down or right):
        return x
    mode = "reflect" if down < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, down), mode=mode)


def check_finite(images: Tensor, name: str) -> None:
    """Raises ValueError, which calls them `name`, where `images` of any shape hold a NaN."""
    # A single one makes the sum NaN: one pass over memory, and no mask as large as the frames.
    if torch.isnan(images.sum(dtype=torch.float32)):
        raise ValueError(
            f"{name} contains NaN, expected values in 0..1. The step that made the frames failed "
            "(often a VAE decode in half precision): repair that first."
        )


def check_images(img0: Tensor, img1: Tensor) -> None:
    """Raises ValueError unless both are (B,C,H,W) of one shape, not empty, in a floating dtype."""
    if img0.ndim != 4 or img0.shape != img1.shape:
        raise ValueError(
            f"img0 is {tuple(img0.shape)} and img1 {tuple(img1.shape)}, expected two equal (B,C,H,W). "
            "Resize one, or add the missing dimension."
        )
    if 0 in img0.shape:
        raise ValueError(
            f"the frames are {tuple(img0.shape)}, expected at least one, and no empty side. Check the step before."
        )
    if not (img0.is_floating_point() and img1.is_floating_point()):
        raise ValueError(
            f"the frames are {img0.dtype} and {img1.dtype}, expected floating point in 0..1. Divide bytes by 255."
        )


def checked_times(timestep: float | Tensor, batch: int) -> list[float]:
    """Returns the time of each of `batch` pairs, from one for all or (B,). Raises ValueError outside of 0 < t < 1."""
    if isinstance(timestep, Tensor):
        times = [float(t) for t in timestep.flatten().tolist()]
    else:
        times = [float(timestep)]
    if len(times) == 1:
        times = times * batch
    if len(times) != batch or not all(0 < t < 1 for t in times):
        raise ValueError(
            f"timestep is {times[:4]} for a batch of {batch}, expected one value or one per pair, each between "
            "0 and 1 exclusive: 0 and 1 are the frames themselves."
        )
    return times
