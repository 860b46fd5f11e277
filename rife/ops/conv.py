"""Convolves with bias, residual and activation in one pass over the pixels, where PyTorch can: on x86 CPUs.

Everywhere else, and in training, they are the plain operations that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .tracing import is_tracing


def has_onednn() -> bool:
    """Tells whether this PyTorch has oneDNN's fused convolutions, those that torch.compile uses too."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def onednn_dtypes() -> frozenset[torch.dtype]:
    """Returns what oneDNN's fused convolutions compute in here: float32, and bfloat16 on CPUs that multiply it, which
    it asks for by name (AVX-512, or avx_ne_convert). Elsewhere PyTorch has a slow way of its own."""
    if not has_onednn():
        return frozenset()
    return frozenset({torch.float32, torch.bfloat16}) - emulated_dtypes()


def emulated_dtypes() -> frozenset[torch.dtype]:
    """Returns the half precisions that this CPU does not multiply. PyTorch convolves in them all the same, in 7 to 17
    times the time of float32 (findings/torch_half_convolutions_crawl_without_avx512.sh)."""
    asked = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    able = (dtype for dtype, name in asked.items() if getattr(torch.ops.mkldnn, name, lambda: False)())
    return frozenset(asked) - frozenset(able)


_ONEDNN, _EMULATED = onednn_dtypes(), emulated_dtypes()


def multiplied_dtype(x: Tensor) -> torch.dtype:
    """Returns what to convolve x in: its dtype, but float32 where it lies on a CPU that does not multiply that one.
    Only in inference."""
    return torch.float32 if x.dtype in _EMULATED and inference_on_cpu(x) else x.dtype


def inference_on_cpu(x: Tensor) -> bool:
    """Tells whether x, of any shape, lies on a CPU and no gradient is wanted, so that operations may be reordered and
    fused for speed. Not while a network is traced: what is exported is the plain operations."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not is_tracing()


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    groups: int = 1,
    slope: float | None = None,
    plus: Tensor | None = None,
) -> Tensor:
    """Convolves x (B,C,H,W) 3x3 by weight (D,C/groups,3,3) and bias (D,) with zero padding 1: a new (B,D,h,w).

    slope: of the LeakyReLU that follows, if one does. plus: (B,D,h,w), added before the sum is rounded; not together
    with a slope, which oneDNN does not take then. Computes in x's dtype.

    oneDNN is called by its name, since F.conv2d goes without it where a single input has 20480 values or less, at 0.6
    of the speed (192 channels of 8x12, two threads). torch.compile fuses the plain ones by itself.
    """
    if (wide := multiplied_dtype(x)) != x.dtype and not torch.compiler.is_compiling():
        plus = None if plus is None else plus.to(wide)
        return convolve(x.to(wide), weight, bias, stride, groups, slope, plus).to(x.dtype)
    if weight.dtype != x.dtype:
        weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if x.dtype in _ONEDNN and inference_on_cpu(x) and not torch.compiler.is_compiling():
        sides = [1, 1], list(stride), [1, 1]
        if plus is not None:
            after_sum = torch.ops.mkldnn._convolution_pointwise.binary
            return after_sum(x, plus, weight, bias, *sides, groups, "add", 1.0, None, [], "")
        after = ("none", []) if slope is None else ("leaky_relu", [slope])
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *sides, groups, *after, "")
    x = F.conv2d(x, weight, bias, stride, 1, 1, groups)
    x = x if plus is None else x.add_(plus)
    return x if slope is None else F.leaky_relu_(x, slope)


def fold_residual(weight: Tensor, bias: Tensor, beta: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Returns weight and bias of the one convolution that equals x + beta * conv(x); beta has a value per output
    channel.

    weight: (D,C/groups,3,3) with D = C; bias: (D,). Adding x is adding 1 to the central tap of a channel's own kernel.
    """
    weight, bias = weight * beta.view(-1, 1, 1, 1), bias * beta.flatten()
    weight[:, :, 1, 1].unflatten(0, (groups, -1)).diagonal(dim1=1, dim2=2).add_(1)
    return weight, bias


def transposed_conv(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """Applies the transposed convolution `layer` (kernel 4, stride 2, padding 1) to x (B,C,h,w): (B,D,2h,2w), planar.

    By sub-pixel convolution, for few channels a third faster than oneDNN's transposed one: the output at 2h + i reads x
    at h + d, d of -1, 0, 1, through the kernel's element i + 1 - 2d where it has that one. So each of the 2x2 phases i
    is a 3x3 convolution, and all four are one with 4D outputs.
    """
    element = torch.tensor([[3, 1, -1], [-1, 2, 0]])  # by phase and d; the kernel has no element -1
    pick = (element[..., None] == torch.arange(4)).to(x)  # (i, d, element)
    weight = torch.einsum("cokl,idk,jel->oijcde", layer.weight, pick, pick).flatten(0, 2)
    bias = None if layer.bias is None else layer.bias.repeat_interleave(4)
    phases = convolve(x, weight, bias)
    return rearrange(phases, "b (o i j) h w -> b o (h i) (w j)", i=2, j=2)


class ConvAct(nn.Sequential):
    """Runs a 3x3 convolution with padding 1 and its activation, in one pass where that exists. As an nn.Sequential of
    both it has the keys of released files."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module):
        super().__init__(conv, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B,D,h,w) of x (B,C,H,W), after the activation."""
        conv, act = cast(nn.Conv2d, self[0]), self[1]
        if conv.padding_mode != "zeros":
            return act(conv(x))
        slope = act.negative_slope if isinstance(act, nn.LeakyReLU) else None
        x = convolve(x, conv.weight, conv.bias, conv.stride, conv.groups, slope)
        return x if slope is not None else act(x)
