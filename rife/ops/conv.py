"""3x3 convolutions with bias, residual and activation in one pass over the pixels, where PyTorch has one: on x86 CPUs.

Everywhere else, and in training, they are the plain operations that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def has_onednn() -> bool:
    """Whether this PyTorch has oneDNN's fused convolutions, those that torch.compile uses too."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


_ONEDNN = has_onednn()


def inference_on_cpu(x: Tensor) -> bool:
    """Whether speed on a CPU is all that is wanted of what is done to x."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    groups: int = 1,
    slope: float | None = None,
) -> Tensor:
    """Convolution of (B,C,H,W) with zero padding 1, then LeakyReLU of `slope` if there is one; in a new tensor.

    oneDNN is called by its name, since F.conv2d goes without it where a single input has 20480 values or less, at 0.6
    of the speed (192 channels of 8x12, two threads). torch.compile fuses the plain ones by itself.
    """
    by_name = _ONEDNN and not torch.compiler.is_compiling()
    if by_name and inference_on_cpu(x) and x.dtype in (torch.float32, torch.bfloat16):
        after = ("none", []) if slope is None else ("leaky_relu", [slope])
        sides = [1, 1], list(stride), [1, 1]
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *sides, groups, *after, "")
    x = F.conv2d(x, weight, bias, stride, 1, 1, groups)
    return x if slope is None else F.leaky_relu_(x, slope)


def with_residual(weight: Tensor, bias: Tensor, beta: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Weight (D,C,3,3) and bias (D,) of the convolution that is x + beta * conv(x); beta has D values."""
    weight, bias = weight * beta.view(-1, 1, 1, 1), bias * beta.flatten()
    weight[:, :, 1, 1].unflatten(0, (groups, -1)).diagonal(dim1=1, dim2=2).add_(1)
    return weight, bias


def double(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """`layer` (kernel 4, stride 2, padding 1) of x (B,C,h,w): (B,D,2h,2w), planar.

    For few channels a third faster than oneDNN's transposed convolution. An output at 2h + i reads x at h + d, d of
    -1, 0, 1, through the kernel's element i + 1 - 2d where it has that one: a convolution for each of 2x2 places i.
    """
    element = torch.tensor([[3, 1, -1], [-1, 2, 0]])
    pick = (element[..., None] == torch.arange(4)).to(x)  # (i, d, element)
    weight = torch.einsum("cokl,idk,jel->oijcde", layer.weight, pick, pick).flatten(0, 2)
    phases = convolve(x, weight, layer.bias.repeat_interleave(4))
    return rearrange(phases, "b (o i j) h w -> b o (h i) (w j)", i=2, j=2)


class ConvAct(nn.Sequential):
    """nn.Sequential(3x3 convolution with padding 1, activation)."""

    def forward(self, x: Tensor) -> Tensor:
        conv, act = self
        if conv.padding_mode != "zeros":
            return act(conv(x))
        slope = act.negative_slope if isinstance(act, nn.LeakyReLU) else None
        x = convolve(x, conv.weight, conv.bias, conv.stride, conv.groups, slope)
        return x if slope is not None else act(x)
