"""Warps backward and resamples: this is the one place where flow meets pixels.

Flow is in pixels, x first, and points from the output into the source. Tensors are B C H W.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .conv import convolve
from .grid_sample import sample
from .tracing import is_tracing


class SamplingGrid(NamedTuple):
    """Holds the pixels' own positions in frames of one size, made once per forward pass and shared by its warps.

    Planar, as flow is: on a CPU grid_sample reads a planar grid as fast as an interleaved one, which would first
    have to be made.
    """

    base: Tensor  # (1,2,H,W) float32, x first, -1 and 1 at the centres of the corner pixels
    pixel: Tensor  # (2,1,1) float32, the size of one pixel in grid units
    # (2,1,1), where the picture ends at the right and below, in grid units; None: where the frames do, at 1.
    ends: Tensor | None = None

    def at(self, rows: Tensor, cols: Tensor) -> SamplingGrid:
        """Returns the grid of these rows and columns only, given as indices; flow stays in pixels of the full size."""
        return self._replace(base=self.base[:, :, rows][:, :, :, cols])

    def rows(self, start: int, stop: int) -> SamplingGrid:
        """Returns the grid of the rows from index `start` up to, but without, `stop`; flow stays in pixels of the full
        size."""
        return self._replace(base=self.base[:, :, start:stop])

    def along(self, share: Tensor) -> SamplingGrid:
        """Returns the grid for `warp` by a share of what it is given as flow, (B,1,1,1) or (B,1,H,W)."""
        return self._replace(pixel=self.pixel * share)

    def coarser(self, factor: float) -> SamplingGrid:
        """Returns the grid of the middles of cells of `factor` x `factor` pixels; flow stays in pixels of the full
        size."""
        return self._replace(base=resize(self.base, 1 / factor))


def sampling_grid(height: int, width: int, device: torch.device) -> SamplingGrid:
    """Makes the grid of all pixels of frames of `height` x `width`, on `device`."""
    y = torch.linspace(-1.0, 1.0, height, device=device).view(1, 1, height, 1).expand(1, 1, height, width)
    x = torch.linspace(-1.0, 1.0, width, device=device).view(1, 1, 1, width).expand(1, 1, height, width)
    # A side of one pixel has no extent: any finite step does. A tensor made on the host would make a GPU wait for it.
    pixel = [x.new_full((1, 1, 1), 2.0 / max(side - 1, 1)) for side in (width, height)]
    return SamplingGrid(torch.cat((x, y), 1), torch.cat(pixel))


def warp(
    image: Tensor,
    flow: Tensor,
    grid: SamplingGrid | None = None,
    mode: str = "bilinear",
    halve: bool = False,
    interleaved: bool = False,
) -> Tensor:
    """Samples `image` (B,C,H,W) at each pixel displaced by `flow` (B,2,h,w), in pixels: (B,C,h,w) in its dtype.

    grid: where the h x w samples lie without flow, by default all pixels of the image. Outside, the border repeats.

    The grid is float32 whatever the image is: a half-precision grid places samples up to 0.23 px off at
    1920 wide, 0.47 px at 3840. align_corners=True and, by default, bilinear, as RIFE's warplayer
    (hzwer/ECCV2022-RIFE). mode "bicubic" blurs less; PyTorch's kernel (a = -0.75) moves a ramp by up to 0.05 px.
    halve: the result is averaged over cells of 2x2, as `resize` by 0.5 does. interleaved: it is for a convolution, so
    that it may be channels_last where that costs nothing; else it is planar where the image is.
    """
    if grid is None:
        height, width = image.shape[-2:]
        grid = sampling_grid(height, width, image.device)
    points = torch.addcmul(grid.base, flow.float(), grid.pixel).permute(0, 2, 3, 1)
    image_dtype, image = image.dtype, image.float()
    strips = _strips(image, points, 2 if halve else 1)
    if strips > 1:
        points = points.unflatten(1, (strips, -1)).squeeze(0)
        image = image.expand(strips, -1, -1, -1)
    warped = sample(image, points, mode)
    if halve:
        warped = resize(warped, 0.5)
    if strips > 1 and interleaved:
        warped = warped.permute(0, 2, 3, 1).flatten(0, 1)[None].permute(0, 3, 1, 2)
    elif strips > 1:
        warped = warped.transpose(0, 1).flatten(1, 2)[None]
    return warped.to(image_dtype)


def _strips(image: Tensor, points: Tensor, rows: int) -> int:
    """Into how many strips of whole `rows` to cut one image's samples: on a CPU grid_sample uses a thread per
    sample."""
    if is_tracing() or image.device.type != "cpu" or image.shape[0] > 1:
        return 1
    if image.requires_grad or points.requires_grad:
        return 1
    return math.gcd(points.shape[1] // rows, 2 ** (torch.get_num_threads() - 1).bit_length())


def resize(x: Tensor, factor: float) -> Tensor:
    """Resamples (B,C,H,W) bilinearly by `factor` (align_corners=False, no antialiasing, as RIFE does)."""
    if factor == 1:
        return x
    if is_tracing():
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    step = round(1 / factor)
    fits = step * factor == 1 and step % 2 == 0 and not (x.shape[2] % step or x.shape[3] % step)
    if fits and x.device.type == "cpu" and (step > 2 or not torch.is_grad_enabled()):
        # All that it reads is the central 2x2 of each cell. F.interpolate takes 1.7 times as long for a half of a
        # planar picture, 30 times for a 16th.
        first, second = slice(step // 2 - 1, None, step), slice(step // 2, None, step)
        rows = x[..., first, :] + x[..., second, :]
        return (rows[..., first] + rows[..., second]).mul_(0.25)
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def resize_rows(x: Tensor, factor: int, start: int, stop: int) -> Tensor:
    """Returns rows `start` to `stop` of `resize(x, factor)`, x being (B,C,h,w), the same to the bit, without the
    others; factor is 1, 2, 4, ..."""
    low, high = max(0, start // factor - 1), min(x.shape[2], -(-stop // factor) + 1)
    return resize(x[:, :, low:high], factor)[:, :, start - low * factor : stop - low * factor]


def conv_of_upsampled(x: Tensor, weight: Tensor) -> Tensor:
    """Computes the 3x3 convolution (stride 2, zero padding 1, no bias) of `resize(x, 2)`, without making that.

    x: (B,C,h,w); weight: (D,C,3,3). Returns (B,D,h,w). Both steps are linear and read, around output i, only the
    pixels i-1, i, i+1 of x: f[2i-1] = (3 x[i-1] + x[i])/4, f[2i] = (x[i-1] + 3 x[i])/4, f[2i+1] = (3 x[i] + x[i+1])/4.
    So they are one 3x3 convolution, but for the border, where up-sampling repeats and convolution pads with zeros.
    """
    combine = weight.new_tensor([[0.75, 0.25, 0.0], [0.25, 0.75, 0.75], [0.0, 0.0, 0.25]])
    out = convolve(x, combine @ weight @ combine.T)
    for axis in (2, 3):
        for begin, edge in ((0, 0), (x.shape[axis] - 2, -1)):
            strip = convolve(resize(x.narrow(axis, begin, 2), 2), weight, stride=(2, 2))
            out.select(axis, edge).copy_(strip.select(axis, edge))
    return out
