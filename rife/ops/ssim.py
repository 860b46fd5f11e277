"""Computes structural similarity of two pictures: one formula for the metric, the loss and CogVideo's decisions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOWS = ("volume", "gaussian", "uniform")
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # (K1 * range)^2, (K2 * range)^2 of frames in 0..1


def ssim(
    image: Tensor, target: Tensor, window: str = "volume", size: int = 11, stride: int = 1, padding: int = 0
) -> Tensor:
    """Returns the mean structural similarity of two (B,C,H,W) in 0..1 over all windows (scalar, differentiable); 1 for
    equal ones.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, equation 13, with
    K1 = 0.01, K2 = 0.03 and one of these windows:
    volume: 11x11x11, Gaussian of sigma 1.5, borders repeated, over the channels as over a third dimension;
    gaussian: size x size (smaller in smaller frames), Gaussian of sigma 1.5, of each channel, every `stride`-th one,
    beyond `padding` rows of zeros;
    uniform: 7x7 of each channel, sample covariance.
    Raises ValueError for another window.
    """
    if window not in WINDOWS:
        raise ValueError(f"window is {window:.60}, expected one of {', '.join(WINDOWS)}.")
    moments = torch.cat((image, target, image * image, target * target, image * target))
    if window == "volume":
        means = _gaussian(_over_channels(F.pad(moments, (5, 5, 5, 5), mode="replicate"), 11), 11)
    elif window == "gaussian":
        means = _gaussian(moments, min(size, *image.shape[-2:]), stride, padding)
    else:
        means = F.avg_pool2d(moments, 7, 1)
    mean0, mean1, square0, square1, product = means.chunk(5)
    unbiased = 49 / 48 if window == "uniform" else 1.0  # of 49 samples, divided by 48
    variances = unbiased * (square0 - mean0**2 + square1 - mean1**2)
    covariance = unbiased * (product - mean0 * mean1)
    likeness = (2 * mean0 * mean1 + _C1) * (2 * covariance + _C2)
    return (likeness / ((mean0**2 + mean1**2 + _C1) * (variances + _C2))).mean()


def _taps(size: int, like: Tensor) -> Tensor:
    """(size,), a Gaussian that sums to 1."""
    offsets = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    taps = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    return taps / taps.sum()


def _over_channels(x: Tensor, size: int) -> Tensor:
    """Gaussian means of (B,C,H,W) along C, the first and the last channel repeated beyond them."""
    channels = torch.arange(x.shape[1], device=x.device)
    reached = (channels[:, None] + torch.arange(size, device=x.device) - size // 2).clamp(0, x.shape[1] - 1)
    mix = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device)
    mix.scatter_add_(1, reached, _taps(size, x).expand_as(reached))
    return torch.einsum("dc,bchw->bdhw", mix, x)


def _gaussian(x: Tensor, size: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Gaussian means of (B,C,H,W) over H and W, separably."""
    taps = _taps(size, x)
    # Depthwise: a batch of one-channel pictures is ten times slower on CPUs.
    flat = x.flatten(0, 1)[None]
    count = flat.shape[1]
    down, across = taps.view(1, 1, size, 1), taps.view(1, 1, 1, size)
    flat = F.conv2d(flat, down.expand(count, -1, -1, -1), None, (stride, 1), (padding, 0), groups=count)
    flat = F.conv2d(flat, across.expand(count, -1, -1, -1), None, (1, stride), (0, padding), groups=count)
    return flat[0].unflatten(0, x.shape[:2])
