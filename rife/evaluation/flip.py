"""Computes FLIP: how different two pictures look when they are flipped between, 0 (the same) to 1, without weights.

Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström, Fairchild: "FLIP: A Difference Evaluator for Alternating Images",
HPG 2020, for pictures of standard dynamic range; constants and equations are the paper's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# 0.7 m before a screen 0.7 m wide with 3840 pixels.
PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * math.pi / 180
# Linear RGB of sRGB's primaries to XYZ under D65, and that white.
_TO_XYZ = torch.tensor(
    (
        (10135552 / 24577794, 8788810 / 24577794, 4435075 / 24577794),
        (2613072 / 12288897, 8788810 / 12288897, 887015 / 12288897),
        (1425312 / 73733382, 8788810 / 73733382, 70074185 / 73733382),
    )
)
_WHITE = _TO_XYZ.sum(1)
# Contrast sensitivity of achromatic, red-green and blue-yellow: a1, b1, a2, b2 of two Gaussians.
_SENSITIVITY = ((1.0, 0.0047, 0.0, 1e-5), (1.0, 0.0053, 0.0, 1e-5), (34.1, 0.04, 13.5, 0.025))
_FEATURE_WIDTH = 0.082  # degrees
_COLOUR_POWER, _FEATURE_POWER = 0.7, 0.5
_KNEE, _AT_KNEE = 0.4, 0.95  # differences beyond 0.4 of the largest share the last twentieth


def flip(image: Tensor, target: Tensor, pixels_per_degree: float = PIXELS_PER_DEGREE) -> float:
    """Returns the mean FLIP of two pictures (3,H,W), sRGB in 0..1; lower is better."""
    return float(flip_map(image, target, pixels_per_degree).mean())


def flip_map(image: Tensor, target: Tensor, pixels_per_degree: float = PIXELS_PER_DEGREE) -> Tensor:
    """Returns FLIP at each pixel, (H,W), of two pictures (3,H,W), sRGB in 0..1; pixels_per_degree: of the
    viewer's eye."""
    opponents = [_opponent(_linear(x.float().clamp(0, 1))) for x in (image, target)]
    colour = _colour_difference(*(_perceived(x, pixels_per_degree) for x in opponents))
    lightness, lightness_of_target = ((x[0] + 16) / 116 for x in opponents)
    feature = _feature_difference(lightness, lightness_of_target, pixels_per_degree)
    return colour ** (1 - feature)


def _linear(rgb: Tensor) -> Tensor:
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ij,jhw->ihw", matrix.to(x), x)


def _opponent(linear: Tensor) -> Tensor:
    """YCxCz of linear RGB."""
    x, y, z = _mixed(_TO_XYZ, linear) / _WHITE.to(linear)[:, None, None]
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def _from_opponent(ycc: Tensor) -> Tensor:
    y = (ycc[0] + 16) / 116
    xyz = torch.stack((y + ycc[1] / 500, y, y - ycc[2] / 200)) * _WHITE.to(ycc)[:, None, None]
    return _mixed(torch.linalg.inv(_TO_XYZ), xyz)


def _filtered(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """(H,W) filtered along its rows, then its columns, edges continued; all of FLIP's kernels are such products."""
    radius = len(across) // 2
    padded = F.pad(x[None, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, across.to(x)[None, None, None]), down.to(x)[None, None, :, None])[0, 0]


def _perceived(ycc: Tensor, pixels_per_degree: float) -> Tensor:
    """What the eye resolves of it, as Hunt-adjusted L*a*b*."""
    widest = max(row[1] for row in _SENSITIVITY)
    radius = math.ceil(3 * math.sqrt(widest / (2 * math.pi**2)) * pixels_per_degree)
    squared = (torch.arange(-radius, radius + 1) / pixels_per_degree) ** 2
    filtered = []
    for channel, (a1, b1, a2, b2) in zip(ycc, _SENSITIVITY, strict=True):
        gaussians = [torch.exp(-(math.pi**2) * squared / b) for b in (b1, b2)]
        shares = [
            a * math.sqrt(math.pi / b) * gaussian.sum() ** 2
            for a, b, gaussian in zip((a1, a2), (b1, b2), gaussians, strict=True)
        ]
        blurred = [
            _filtered(channel, gaussian / gaussian.sum(), gaussian / gaussian.sum()) for gaussian in gaussians
        ]
        filtered.append((shares[0] * blurred[0] + shares[1] * blurred[1]) / (shares[0] + shares[1]))
    return _hunt(_lab(_from_opponent(torch.stack(filtered)).clamp(0, 1)))


def _lab(linear: Tensor) -> Tensor:
    ratio = _mixed(_TO_XYZ, linear) / _WHITE.to(linear)[:, None, None]
    delta = 6 / 29
    x, y, z = torch.where(
        ratio > delta**3, ratio.clamp_min(1e-12) ** (1 / 3), ratio / (3 * delta**2) + 4 / 29
    )
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def _hunt(lab: Tensor) -> Tensor:
    """Colours look more colourful where it is bright."""
    return torch.cat((lab[:1], 0.01 * lab[:1] * lab[1:]))


def _hyab(a: Tensor, b: Tensor) -> Tensor:
    difference = a - b
    return difference[0].abs() + difference[1:].norm(dim=0)


def _colour_difference(a: Tensor, b: Tensor) -> Tensor:
    """0 to 1 of the largest difference there is, that of green and blue."""
    ends = torch.tensor(((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))).to(a)[:, :, None, None]
    largest = _hyab(*(_hunt(_lab(end)) for end in ends)) ** _COLOUR_POWER
    difference = _hyab(a, b) ** _COLOUR_POWER
    knee = _KNEE * largest
    beyond = _AT_KNEE + (difference - knee) / (largest - knee) * (1 - _AT_KNEE)
    return torch.where(difference < knee, _AT_KNEE / knee * difference, beyond).clamp(0, 1)


def _feature_difference(a: Tensor, b: Tensor, pixels_per_degree: float) -> Tensor:
    """Edges and points that one of two luminances (H,W) has and the other has not, 0 to 1."""
    deviation = 0.5 * _FEATURE_WIDTH * pixels_per_degree
    radius = math.ceil(3 * deviation)
    x = torch.arange(-radius, radius + 1).float()
    gaussian = torch.exp(-(x**2) / (2 * deviation**2))
    gaussian = gaussian / gaussian.sum()
    found = []
    for kernel in (-x * gaussian, (x**2 / deviation**2 - 1) * gaussian):
        # Where it is positive it sums to 1, where negative to -1.
        kernel = torch.where(
            kernel > 0, kernel / kernel.clamp_min(0).sum(), kernel / -kernel.clamp_max(0).sum()
        )
        strengths = [
            torch.hypot(_filtered(y, kernel, gaussian), _filtered(y, gaussian, kernel)) for y in (a, b)
        ]
        found.append((strengths[0] - strengths[1]).abs())
    return (torch.maximum(*found) / math.sqrt(2)).clamp_max(1) ** _FEATURE_POWER
