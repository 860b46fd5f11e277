"""Makes grid_sample the same on every device: what a device lacks of it is made of plain operations."""

from __future__ import annotations

from functools import cache, reduce

import torch
import torch.nn.functional as F
from torch import Tensor

# Devices whose grid_sample has every mode and padding, and its gradient.
_COMPLETE = ("cpu", "cuda", "xpu", "meta")


def sample(image: Tensor, points: Tensor, mode: str) -> Tensor:
    """Does F.grid_sample with border padding and align_corners=True, by what the device has of it.

    image: (B,C,H,W); points: (B,h,w,2), x first, -1 and 1 at the centres of the corner pixels; mode: bilinear or
    bicubic; all float32. Returns (B,C,h,w).
    """
    if image.device.type in _COMPLETE:
        return F.grid_sample(image, points, mode, padding_mode="border", align_corners=True)
    learns = torch.is_grad_enabled() and (image.requires_grad or points.requires_grad)
    # MPS has been wrong about interleaved pictures and about grids that are views (pytorch#174339, #171602).
    image, points = image.contiguous(), points.contiguous()
    if _samples(image.device, mode, "border", learns):
        return F.grid_sample(image, points, mode, padding_mode="border", align_corners=True)
    if mode == "bilinear" and _samples(image.device, mode, "zeros", learns):
        # The same bits with align_corners=True.
        return F.grid_sample(image, points.clamp(-1.0, 1.0), mode, padding_mode="zeros", align_corners=True)
    return sample_by_gather(image, points, mode)


@cache
def _samples(device: torch.device, mode: str, padding: str, learns: bool) -> bool:
    """Whether grid_sample does this on the device, and, where it `learns`, backward too: one pixel is tried.

    MPS had neither border padding nor bicubic nor a gradient, and gets them one after the other.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            image = torch.zeros(1, 1, 2, 2, device=device, requires_grad=learns)
            points = torch.zeros(1, 1, 1, 2, device=device, requires_grad=learns)
            pixel = F.grid_sample(image, points, mode=mode, padding_mode=padding, align_corners=True)
            if learns:
                pixel.sum().backward()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def sample_by_gather(image: Tensor, points: Tensor, mode: str) -> Tensor:
    """Does F.grid_sample with border padding and align_corners=True in operations that every device has, backward too.

    Arguments as in `sample`; the same to 1e-5. As there, image is (B,C,H,W), points are (B,h,w,2), and the result is
    (B,C,h,w).
    """
    channels, height, width = image.shape[1:]
    columns, rows = (
        _taps((points[..., i] + 1) / 2 * (n - 1), n, mode) for i, n in enumerate((width, height))
    )
    pixels = image.flatten(2)

    def read(row: Tensor, column: Tensor) -> Tensor:
        places = (row * width + column).flatten(1)[:, None].expand(-1, channels, -1)
        return pixels.gather(2, places).unflatten(2, points.shape[1:3])

    lines = (
        reduce(torch.add, (read(row, column) * across[:, None] for column, across in columns)) * down[:, None]
        for row, down in rows
    )
    return reduce(torch.add, lines)


def _taps(at: Tensor, side: int, mode: str) -> list[tuple[Tensor, Tensor]]:
    """Index and weight of each pixel of a line of `side` pixels that a sample at position `at` reads, in pixels."""
    # Beyond, all taps read the pixel at the border.
    at = at.clamp(0, side - 1) if mode == "bilinear" else at.clamp(-2, side + 1)
    first = at.detach().floor()
    t = at - first
    weights = {0: 1 - t, 1: t} if mode == "bilinear" else {i: _cubic(t, i) for i in (-1, 0, 1, 2)}
    return [((first.long() + i).clamp(0, side - 1), weight) for i, weight in weights.items()]


def _cubic(t: Tensor, i: int) -> Tensor:
    """Weight of pixel `i` for a sample at position t, 0..1: Keys' cubic (1981) with a = -0.75, as PyTorch has it."""
    x = (t - i).abs()
    if i in (0, 1):
        return (1.25 * x - 2.25) * x * x + 1
    return ((-0.75 * x + 3.75) * x - 6) * x + 3
