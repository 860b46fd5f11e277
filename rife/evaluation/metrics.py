"""Measures a frame against the true one: PSNR, SSIM, interpolation error, the error where something moves, LPIPS.

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

from ..ops.ssim import WINDOWS as SSIM_WINDOWS  # noqa: F401 - the choices of `ssim` below
from ..ops.ssim import ssim as structural_similarity

MOVING = 8 / 255  # difference of the given frames from which a pixel counts as moving
_AROUND = 2  # and so many pixels around it


def psnr(image: Tensor, target: Tensor, rounded: bool = True) -> float:
    """Returns the peak signal-to-noise ratio in dB of two (…,H,W) in 0..1; infinite for equal ones.

    One mean over all channels and pixels, as in ECCV2022-RIFE's benchmarks.
    """
    image, target = _rounded(image, target, rounded)
    error = float(((image.double() - target.double()) ** 2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def interpolation_error(
    image: Tensor, target: Tensor, mask: Tensor | None = None, rounded: bool = True
) -> float:
    """Returns IE: the mean absolute difference in 8-bit levels, 0..255, of two (3,H,W); lower is better.

    This is what papers since SepConv list for Middlebury OTHER (ECCV2022-RIFE benchmark/MiddleBury_Other.py);
    Middlebury's own tables have `interpolation_error_rms`. mask: (H,W) bool, pixels that count; NaN if none does.
    """
    image, target = _rounded(image, target, rounded)
    return 255 * float(_counted((image.double() - target.double()).abs(), mask).mean())


def interpolation_error_rms(
    image: Tensor, target: Tensor, mask: Tensor | None = None, rounded: bool = True
) -> float:
    """Returns the root of the mean over pixels of the squared distance in RGB of two (3,H,W), in 8-bit levels; lower is
    better.

    Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011.
    """
    image, target = _rounded(image, target, rounded)
    squared = _counted((image.double() - target.double()) ** 2, mask).sum(0)
    return 255 * math.sqrt(float(squared.mean()))


def moving(img0: Tensor, img1: Tensor) -> Tensor:
    """Tells, (H,W) bool, where the given frames (3,H,W) differ by `MOVING` in some channel, and two pixels around.

    It looks at what was given, not at any flow, so all methods are measured on the same pixels.
    """
    differs = ((img0 - img1).abs().amax(0) > MOVING).float()
    return F.max_pool2d(differs[None, None], 2 * _AROUND + 1, 1, _AROUND)[0, 0] > 0


def ssim(image: Tensor, target: Tensor, window: str = "volume", rounded: bool = True) -> float:
    """Returns the structural similarity of two (3,H,W) in 0..1; 1 for equal ones.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, with K1 = 0.01,
    K2 = 0.03 and one of these windows:
    volume: 11x11x11, Gaussian of sigma 1.5, borders repeated, over the three channels as over a third dimension:
        `ssim_matlab` of ECCV2022-RIFE's and CAIN's benchmarks, which papers on interpolation list;
    gaussian: 11x11, Gaussian of sigma 1.5, of each channel, without the border: the paper's own, and scikit-image's
        with gaussian_weights=True, sigma=1.5, use_sample_covariance=False;
    uniform: 7x7 of each channel, sample covariance: scikit-image's default, which Niklaus's Xiph benchmark uses.
    Raises ValueError for another window.
    """
    x, y = (a.float()[None] for a in _rounded(image, target, rounded))
    return float(structural_similarity(x, y, window))


def lpips_metric(net: str = "alex") -> Callable[[Tensor, Tensor], float] | None:
    """Makes LPIPS (Zhang et al. 2018) of two (3,H,W) in 0..1, lower is better; None where the package `lpips` is
    missing.

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
