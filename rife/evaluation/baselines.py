"""Makes what a network has to beat: frame averaging, and warping by classical optical flow (OpenCV, optional).

Frames are (3,H,W) in 0..1; a baseline is a method of `rife.evaluation.scoring`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops.luma import LUMA
from ..ops.warp import warp


def average(img0: Tensor, img1: Tensor, times: Sequence[float]) -> Tensor:
    """Returns the cross-fade (T,3,H,W): each frame weighs what it is near to the time."""
    return torch.stack([torch.lerp(img0, img1, t) for t in times])


class FlowWarping:
    """Warps both frames to the time by flow in both directions, and blends them by nearness in time.

    Flow at the time is that of Super SloMo (Jiang et al., CVPR 2018, equation 4), in which the flows of both
    directions at one pixel are mixed: it did better on our clips than flow taken as it stands or carried along itself.
    Nothing is decided about occlusion: each frame weighs 1 - t and t everywhere, as in averaging.
    """

    def __init__(self, flow_of: Callable[[Tensor, Tensor], Tensor]):
        self.flow_of = flow_of

    def __call__(self, img0: Tensor, img1: Tensor, times: Sequence[float]) -> Tensor:
        ahead, back = self.flow_of(img0, img1), self.flow_of(img1, img0)
        frames = []
        for t in times:
            to0 = -(1 - t) * t * ahead + t * t * back
            to1 = (1 - t) ** 2 * ahead - t * (1 - t) * back
            frames.append(torch.lerp(warp(img0[None], to0[None]), warp(img1[None], to1[None]), t))
        return torch.cat(frames)


def dis(img0: Tensor, img1: Tensor) -> Tensor:
    """Returns the flow (2,H,W) in pixels from img0 to img1 by Dense Inverse Search (Kroeger et al. 2016), medium
    preset. Raises RuntimeError without OpenCV."""
    cv2 = _opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _flow(search.calc(*_grey(img0, img1), None), img0)


def farneback(img0: Tensor, img1: Tensor) -> Tensor:
    """Returns the flow (2,H,W) in pixels from img0 to img1 by polynomial expansion (Farnebäck 2003), five-level
    pyramid. Raises RuntimeError without OpenCV."""
    cv2 = _opencv()
    flow = cv2.calcOpticalFlowFarneback(
        *_grey(img0, img1), None, pyr_scale=0.5, levels=5, winsize=15, iterations=5, poly_n=7, poly_sigma=1.5,
        flags=cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
    )  # fmt: skip
    return _flow(flow, img0)


BASELINES = {"dis": FlowWarping(dis), "farneback": FlowWarping(farneback)}


def motion_size(img0: Tensor, img1: Tensor) -> float:
    """Measures how far the faster parts of img0 move, in pixels: 95th percentile of the length of DIS flow. Raises
    RuntimeError without OpenCV."""
    return float(torch.quantile(dis(img0, img1).norm(dim=0)[::2, ::2].flatten(), 0.95))


def has_opencv() -> bool:
    """Tells whether the flow baselines and `motion_size` can run."""
    return importlib.util.find_spec("cv2") is not None


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise RuntimeError(
            "The baselines dis and farneback need OpenCV, which is not installed. "
            "pip install opencv-python-headless, or leave them out."
        ) from error
    return cv2


def _grey(*images: Tensor) -> list:
    luma = torch.tensor(LUMA).view(3, 1, 1)
    return [((image.cpu() * luma).sum(0) * 255).round().byte().numpy() for image in images]


def _flow(flow: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(flow).permute(2, 0, 1).to(like)
