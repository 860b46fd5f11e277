"""Fidelity of a frame against the true one: PSNR, SSIM, interpolation error, the error where something moves, LPIPS.

Frames are (3,H,W) in 0..1, RGB. As all interpolation benchmarks do, they are rounded to 8 bit first, unless `rounded`
is False: what a file cannot hold does not count.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MOVING = 8 / 255  # difference of the given frames from which a pixel counts as moving
_AROUND = 2  # and so many pixels around it

SSIM_WINDOWS = ("volume", "gaussian", "uniform")


def psnr(image: Tensor, target: Tensor, rounded: bool = True) -> float:
    """Peak signal-to-noise ratio in dB of two (…,H,W) in 0..1; infinite for equal ones.

    One mean over all channels and pixels, as in ECCV2022-RIFE's benchmarks.
    """
    image, target = _rounded(image, target, rounded)
    error = float(((image.double() - target.double()) ** 2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def interpolation_error(
    image: Tensor, target: Tensor, mask: Tensor | None = None, rounded: bool = True
) -> float:
    """IE: mean absolute difference in 8-bit levels, 0..255, of two (3,H,W); lower is better.

    This is what papers since SepConv list for Middlebury OTHER (ECCV2022-RIFE benchmark/MiddleBury_Other.py);
    Middlebury's own tables have `interpolation_error_rms`. mask: (H,W) bool, pixels that count; NaN if none does.
    """
    image, target = _rounded(image, target, rounded)
    return 255 * float(_counted((image.double() - target.double()).abs(), mask).mean())


def interpolation_error_rms(
    image: Tensor, target: Tensor, mask: Tensor | None = None, rounded: bool = True
) -> float:
    """Root of the mean over pixels of the squared distance in RGB, in 8-bit levels; lower is better.

    Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011.
    """
    image, target = _rounded(image, target, rounded)
    squared = _counted((image.double() - target.double()) ** 2, mask).sum(0)
    return 255 * math.sqrt(float(squared.mean()))


def moving(img0: Tensor, img1: Tensor) -> Tensor:
    """(H,W) bool: where the given frames (3,H,W) differ by `MOVING` in some channel, and two pixels around.

    It looks at what was given, not at any flow, so all methods are measured on the same pixels.
    """
    differs = ((img0 - img1).abs().amax(0) > MOVING).float()
    return F.max_pool2d(differs[None, None], 2 * _AROUND + 1, 1, _AROUND)[0, 0] > 0


def ssim(image: Tensor, target: Tensor, window: str = "volume", rounded: bool = True) -> float:
    """Structural similarity of two (3,H,W) in 0..1; 1 for equal ones.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, with K1 = 0.01,
    K2 = 0.03 and one of these windows:
    volume: 11x11x11, Gaussian of sigma 1.5, borders repeated, over the three channels as over a third dimension:
        `ssim_matlab` of ECCV2022-RIFE's and CAIN's benchmarks, which papers on interpolation list;
    gaussian: 11x11, Gaussian of sigma 1.5, of each channel, without the border: the paper's own, and scikit-image's
        with gaussian_weights=True, sigma=1.5, use_sample_covariance=False;
    uniform: 7x7 of each channel, sample covariance: scikit-image's default, which Niklaus's Xiph benchmark uses.
    Raises ValueError for another window.
    """
    if window not in SSIM_WINDOWS:
        raise ValueError(f"window is {window!r}, expected one of {', '.join(SSIM_WINDOWS)}.")
    x, y = (a.float() for a in _rounded(image, target, rounded))
    moments = torch.stack((x, y, x * x, y * y, x * y))
    mean_x, mean_y, xx, yy, xy = _windowed(moments, window)
    # Of 49 samples, divided by 48.
    unbiased = 49 / 48 if window == "uniform" else 1.0
    var_x, var_y, cov = ((a * unbiased) for a in (xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y))
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return float((likeness / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def lpips_metric(net: str = "alex") -> Callable[[Tensor, Tensor], float] | None:
    """LPIPS (Zhang et al. 2018) of two (3,H,W) in 0..1, lower is better; None where the package `lpips` is missing.

    Making it downloads the weights of torchvision's network if they are not there yet.
    """
    if importlib.util.find_spec("lpips") is None:
        return None
    import lpips

    network = lpips.LPIPS(net=net, verbose=False).eval()

    @torch.no_grad()
    def distance(image: Tensor, target: Tensor) -> float:
        image, target = _rounded(image, target, True)
        return float(network(2 * image[None] - 1, 2 * target[None] - 1))

    return distance


def _rounded(image: Tensor, target: Tensor, rounded: bool) -> tuple[Tensor, Tensor]:
    """Both on the CPU, since MPS has no float64, and to 8 bits if asked for."""
    image, target = image.cpu(), target.cpu()
    return ((image * 255).round() / 255, (target * 255).round() / 255) if rounded else (image, target)


def _counted(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.flatten(1) if mask is None else values[:, mask.cpu()]


def _windowed(x: Tensor, window: str) -> Tensor:
    """Local means of (B,C,H,W), separably."""
    if window == "uniform":
        return F.avg_pool2d(x, 7, 1)
    taps = torch.exp(-((torch.arange(11, dtype=x.dtype, device=x.device) - 5) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    if window == "volume":
        x = F.pad(x, (5, 5, 5, 5), mode="replicate")
        channels = torch.arange(x.shape[1], device=x.device)
        reached = (channels[:, None] + torch.arange(-5, 6, device=x.device)).clamp(0, x.shape[1] - 1)
        mix = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device)
        mix.scatter_add_(1, reached, taps.expand_as(reached))
        x = torch.einsum("dc,bchw->bdhw", mix, x)
    # Depthwise: a batch of one-channel pictures is ten times slower on CPUs.
    flat = x.flatten(0, 1)[None]
    count = flat.shape[1]
    flat = F.conv2d(flat, taps.view(1, 1, 11, 1).expand(count, -1, -1, -1), groups=count)
    flat = F.conv2d(flat, taps.view(1, 1, 1, 11).expand(count, -1, -1, -1), groups=count)
    return flat[0].unflatten(0, x.shape[:2])
