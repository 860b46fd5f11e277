"""Computes the losses of RIFE's training. Images B C H W in 0..1, flows in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.prediction import Prediction
from ..ops.ssim import ssim as structural_similarity


def _gauss_kernel(x: Tensor) -> Tensor:
    """5x5 binomial kernel, one per channel, as in ECCV2022-RIFE model/laplacian.py."""
    row = x.new_tensor((1.0, 4.0, 6.0, 4.0, 1.0)) / 16
    return (row[:, None] * row[None, :]).expand(x.shape[1], 1, 5, 5)


def _blur(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


def laplacian_pyramid(x: Tensor, levels: int = 5) -> list[Tensor]:
    """Returns the band-pass levels of x (B,C,H,W), finest first; fewer than `levels` once a side is too small to be
    blurred.

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
    """Sums the mean absolute difference over the pyramid's levels (RIFE paper, equation 6; scalar)."""
    # The pyramid is linear, so that of the difference is the difference of the pyramids.
    pyramid = laplacian_pyramid(image - target, levels) or [image - target]
    return sum((level.abs().mean() for level in pyramid), image.new_zeros(()))


def distillation_loss(prediction: Prediction, gt: Tensor, margin: float = 0.01, mean: bool = True) -> Tensor:
    """Returns the distance of every stage's flow to each teacher's, where the teacher's frame is better by `margin`
    (scalar).

    RIFE paper section 3.4, ECCV2022-RIFE model/IFNet.py: root of the mean of the four squared differences, or of
    their sum where `mean` is off, as 4.25 was trained. The epsilon keeps the root's gradient finite where teacher and
    student agree exactly, as they do in half precision.
    """
    total = gt.new_zeros(())
    for flow_tea, merged_tea in prediction.teachers:
        error_tea = (merged_tea - gt).abs().mean(1, True)
        for flow, merged in zip(prediction.flows, prediction.merged, strict=True):
            worse = ((merged - gt).abs().mean(1, True) > error_tea + margin).float().detach()
            squared = (flow_tea.detach() - flow) ** 2
            distance = squared.mean(1, True) if mean else squared.sum(1, True)
            total = total + ((distance + 1e-12) ** 0.5 * worse).mean()
    return total


def flow_loss(flows: Sequence[Tensor], target: Tensor, gamma: float = 0.8) -> Tensor:
    """Returns the mean end-point error in pixels of each stage's flow (B,4,H,W), stage i of n weighted gamma^(n-1-i).

    The sequence loss of RAFT (arXiv:2003.12039, equation 7), with the Euclidean distance per direction.
    """
    total = target.new_zeros(())
    for i, flow in enumerate(flows):
        squared = ((flow - target) ** 2).unflatten(1, (2, 2)).sum(2)
        total = total + gamma ** (len(flows) - 1 - i) * torch.sqrt(squared + 1e-6).mean()
    return total


def epe(flow: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns the end-point error in pixels (B,1,H,W) of a flow (B,2,H,W), 0 where `valid` (B,1,H,W) is 0.

    `EPE` of ECCV2022-RIFE model/loss.py, epsilon included.
    """
    error = (((target.detach() - flow) ** 2).sum(1, True) + 1e-6).sqrt()
    return error if valid is None else error * valid


def time_loss(guess: Tensor, timestep: float | Tensor) -> Tensor:
    """Returns the squared error of guessed timesteps (B,1,1,1), 0 where the true one (float or (B,)) is 0.5 (scalar).

    So in 4.25: a middle frame looks the same played backward, and tells no time.
    """
    true = torch.as_tensor(timestep, dtype=guess.dtype, device=guess.device).reshape(-1, 1, 1, 1)
    return ((guess - true) ** 2 * (true != 0.5)).mean()


def sobel_loss(image: Tensor, target: Tensor) -> Tensor:
    """Returns the absolute difference of horizontal and vertical Sobel edges, summed over both, (B,C,H,W).

    `SOBEL` of ECCV2022-RIFE model/loss.py: channel by channel, zeros beyond the border.
    """
    across = image.new_tensor(((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)))
    kernels = torch.stack((across, across.T))[:, None].repeat(image.shape[1], 1, 1, 1)
    # Linear: the difference of the edges is the edges of the difference.
    edges = F.conv2d(image - target, kernels, padding=1, groups=image.shape[1])
    return edges.abs().unflatten(1, (-1, 2)).sum(2)


def census_loss(image: Tensor, target: Tensor, patch: int = 7) -> Tensor:
    """Returns the soft Hamming distance of the ternary census transforms of two RGB frames, (B,1,H,W), 0 on the
    outermost pixels.

    `Ternary` of ECCV2022-RIFE model/loss.py, after UnFlow (arXiv:1711.07837, section 3.2): the difference d of each of
    the patch x patch neighbours to the centre, in grey, becomes d / sqrt(0.81 + d^2), and two of them differ by
    e^2 / (0.1 + e^2). Brightness counts little. Zeros lie beyond the border.
    """
    squared = (_census(image, patch) - _census(target, patch)) ** 2
    distance = (squared / (0.1 + squared)).mean(1, True)
    return F.pad(distance[:, :, 1:-1, 1:-1], (1, 1, 1, 1))


def _census(image: Tensor, patch: int) -> Tensor:
    """(B,patch^2,H,W)"""
    grey = (image * image.new_tensor((0.2989, 0.5870, 0.1140)).view(1, 3, 1, 1)).sum(1, True)
    difference = F.unfold(grey, patch, padding=patch // 2).unflatten(2, grey.shape[2:]) - grey
    return difference / torch.sqrt(0.81 + difference**2)


def ssim(image: Tensor, target: Tensor, size: int = 11, stride: int = 1, padding: int = 0) -> Tensor:
    """Returns the mean structural similarity, channel by channel, over a Gaussian of sigma 1.5, 11x11 (scalar;
    differentiable).

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, equation 13; without
    padding (with zeros) only windows that lie in the frame count. Smaller frames get a smaller window. 4.25 was trained
    with 3x3 windows, every third one, and padding 1.
    """
    return structural_similarity(image, target, "gaussian", size, stride, padding)
