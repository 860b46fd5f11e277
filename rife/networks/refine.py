"""Defines Contextnet and Unet: the residual refinement of the paper's networks and (optional there) of 3.9 to 4.4.

ECCV2022-RIFE model/refine.py; `full_resolution` is refine_2R.py. Names are keys of released files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ..ops.conv import ConvAct
from ..ops.warp import SamplingGrid, resize, warp

_WIDTH = 16


def activation(kind: str, channels: int) -> nn.Module:
    """Returns PReLU with one slope per channel, or LeakyReLU with slope 0.2; kind: "prelu" or "leaky"."""
    return nn.PReLU(channels) if kind == "prelu" else nn.LeakyReLU(0.2, inplace=True)


def conv(
    c_in: int, c_out: int, act: str, stride: int = 1, padding: Literal["zeros", "replicate"] = "zeros"
) -> ConvAct:
    """Builds a 3x3 convolution with padding 1, from c_in to c_out channels, and its activation."""
    return ConvAct(nn.Conv2d(c_in, c_out, 3, stride, 1, padding_mode=padding), activation(act, c_out))


def deconv(c_in: int, c_out: int, act: str) -> nn.Sequential:
    """Builds a 4x4 transposed convolution that doubles the size, from c_in to c_out channels, and its activation."""
    return nn.Sequential(nn.ConvTranspose2d(c_in, c_out, 4, 2, 1), activation(act, c_out))


class Conv2(nn.Module):
    """Runs two convolutions, the first with `stride`."""

    def __init__(self, c_in: int, c_out: int, act: str, stride: int = 2):
        super().__init__()
        self.conv1 = conv(c_in, c_out, act, stride)
        self.conv2 = conv(c_out, c_out, act)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B,c_out,h,w) of x (B,c_in,H,W)."""
        return self.conv2(self.conv1(x))


class Contextnet(nn.Module):
    """Finds four levels of features of one frame, each warped by the flow at its size."""

    def __init__(self, act: str = "prelu", full_resolution: bool = False):
        super().__init__()
        c = _WIDTH
        self.full_resolution = full_resolution
        self.conv1 = Conv2(3, c, act, 1 if full_resolution else 2)
        self.conv2 = Conv2(c, 2 * c, act)
        self.conv3 = Conv2(2 * c, 4 * c, act)
        self.conv4 = Conv2(4 * c, 8 * c, act)

    def forward(
        self, x: Tensor, flow: Tensor, grid_of: Callable[[Tensor], SamplingGrid] | None = None
    ) -> list[Tensor]:
        """Returns four levels of warped features, finest first: (B,16,H/2,W/2) to (B,128,H/16,W/16), twice that size in
        2R.

        x: (B,3,H,W); flow: (B,2,H,W) in pixels. grid_of: gives the grid of features, where somebody has it already.
        """
        levels = []
        for i, block in enumerate((self.conv1, self.conv2, self.conv3, self.conv4)):
            x = block(x)
            if i > 0 or not self.full_resolution:
                flow = resize(flow, 0.5) * 0.5
            levels.append(warp(x, flow, grid_of and grid_of(x)))
        return levels


class Unet(nn.Module):
    """Finds a residual from frames, warped frames, mask, flow and both contexts; output in 0..1, where 0.5
    means none."""

    def __init__(self, act: str = "prelu", full_resolution: bool = False):
        super().__init__()
        c = _WIDTH
        self.down0 = Conv2(17, 2 * c, act, 1 if full_resolution else 2)
        self.down1 = Conv2(4 * c, 4 * c, act)
        self.down2 = Conv2(8 * c, 8 * c, act)
        self.down3 = Conv2(16 * c, 16 * c, act)
        self.up0 = deconv(32 * c, 8 * c, act)
        self.up1 = deconv(16 * c, 4 * c, act)
        self.up2 = deconv(8 * c, 2 * c, act)
        self.up3 = deconv(4 * c, c, act)
        self.conv = nn.Conv2d(c, 3, 3, 2 if full_resolution else 1, 1)

    def forward(self, x: Tensor, c0: list[Tensor], c1: list[Tensor]) -> Tensor:
        """Returns (B,3,H,W) in 0..1, of which twice less 1 is the residual.

        x: (B,17,H,W): img0, img1, both warped, mask logits, flow. c0, c1: what Contextnet gives for both frames.
        """
        s0 = self.down0(x)
        s1 = self.down1(torch.cat((s0, c0[0], c1[0]), 1))
        s2 = self.down2(torch.cat((s1, c0[1], c1[1]), 1))
        s3 = self.down3(torch.cat((s2, c0[2], c1[2]), 1))
        x = self.up0(torch.cat((s3, c0[3], c1[3]), 1))
        x = self.up1(torch.cat((x, s2), 1))
        x = self.up2(torch.cat((x, s1), 1))
        x = self.up3(torch.cat((x, s0), 1))
        return torch.sigmoid(self.conv(x))
