"""Losses of RIFE's training. Images B C H W in 0..1, flows in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .ifnet import Prediction


def _gauss_kernel(x: Tensor) -> Tensor:
    """5x5 binomial kernel, one per channel, as in ECCV2022-RIFE model/laplacian.py."""
    row = x.new_tensor((1.0, 4.0, 6.0, 4.0, 1.0)) / 16
    return (row[:, None] * row[None, :]).expand(x.shape[1], 1, 5, 5)


def _blur(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


def laplacian_pyramid(x: Tensor, levels: int = 5) -> list[Tensor]:
    """Band-pass levels of x, finest first; fewer than `levels` once a side is too small to be blurred.

    Any size: where a side is odd, the up-sampled level is cropped.
    """
    kernel = _gauss_kernel(x)
    pyramid = []
    for _ in range(levels):
        if min(x.shape[-2:]) < 3:
            break
        down = _blur(x, kernel)[:, :, ::2, ::2]
        up = x.new_zeros(*x.shape[:2], down.shape[2] * 2, down.shape[3] * 2)
        up[:, :, ::2, ::2] = down
        if min(up.shape[-2:]) < 3:
            break
        up = _blur(up, 4 * kernel)[:, :, : x.shape[2], : x.shape[3]]
        pyramid.append(x - up)
        x = down
    return pyramid


def laplacian_loss(image: Tensor, target: Tensor, levels: int = 5) -> Tensor:
    """Sum over the pyramid's levels of the mean absolute difference (RIFE paper, equation 6; scalar)."""
    # The pyramid is linear, so that of the difference is the difference of the pyramids.
    pyramid = laplacian_pyramid(image - target, levels) or [image - target]
    return sum((level.abs().mean() for level in pyramid), image.new_zeros(()))


def distillation_loss(prediction: Prediction, gt: Tensor) -> Tensor:
    """Distance of every stage's flow to the teacher's, where the teacher's frame is better by 0.01 (scalar).

    RIFE paper section 3.4, ECCV2022-RIFE model/IFNet.py. The epsilon keeps the root's gradient finite where
    teacher and student agree exactly.
    """
    if prediction.merged_tea is None:
        return gt.new_zeros(())
    error_tea = (prediction.merged_tea - gt).abs().mean(1, True)
    total = gt.new_zeros(())
    for flow, merged in zip(prediction.flows, prediction.merged, strict=True):
        worse = ((merged - gt).abs().mean(1, True) > error_tea + 0.01).float().detach()
        distance = ((prediction.flow_tea.detach() - flow) ** 2).mean(1, True)
        total = total + ((distance + 1e-12) ** 0.5 * worse).mean()
    return total


def flow_loss(flows: Sequence[Tensor], target: Tensor, gamma: float = 0.8) -> Tensor:
    """Mean end-point error in pixels of each stage's flow (B,4,H,W), stage i of n weighted gamma^(n-1-i).

    The sequence loss of RAFT (arXiv:2003.12039, equation 7), with the Euclidean distance per direction.
    """
    total = target.new_zeros(())
    for i, flow in enumerate(flows):
        squared = ((flow - target) ** 2).unflatten(1, (2, 2)).sum(2)
        total = total + gamma ** (len(flows) - 1 - i) * torch.sqrt(squared + 1e-6).mean()
    return total
