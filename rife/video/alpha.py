"""Brings colours into the relation to alpha that a target stores: multiplied by it or not, and those that nobody sees.

Encoders that store one chroma for several pixels mix what hides in transparent pixels into the edges of what is seen:
of red on hidden green, edges came out of VP9 and WebP brown, a quarter of the range off.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


def multiplied(image: np.ndarray) -> np.ndarray:
    """Returns float32 (H,W,3 or 4) whose colours are multiplied by alpha, where there is one."""
    return image if image.shape[-1] < 4 else np.dstack((image[..., :3] * image[..., 3:], image[..., 3:]))


def divided(image: np.ndarray) -> np.ndarray:
    """Undoes `multiplied`. Light where alpha is 0, which a picture with premultiplied colours adds to what is behind
    it, stays as it is."""
    if image.shape[-1] < 4:
        return image
    alpha = image[..., 3:]
    return np.dstack((image[..., :3] / np.where(alpha > 0, alpha, 1), alpha))


def spread_colours(image: np.ndarray) -> np.ndarray:
    """Returns (H,W,4), uint8 or uint16, in which colours of alpha 0 are those of the nearest that are seen, roughly; as
    it is where all or nothing is seen."""
    hidden = image[..., 3] == 0
    if not hidden.any() or hidden.all():
        return image
    values = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
    values[:3] *= values[3]
    around = _filled(_squares(values)).round_().numpy()
    rows, columns = np.nonzero(hidden)
    spread = image.copy()
    spread[rows, columns, :3] = around[:, rows // 2, columns // 2].T
    return spread


def _filled(values: Tensor) -> Tensor:
    """Of colours times their weights, and these, (4,H,W): the colours (3,H,W), where there are none those of squares of
    twice the side."""
    weights = values[3:]
    own = values[:3] / torch.where(weights > 0, weights, 1)
    height, width = weights.shape[1:]
    if max(height, width) == 1 or bool((weights > 0).all()):
        return own
    larger = _filled(_squares(values)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return torch.where(weights > 0, own, larger[:, :height, :width])


def _squares(values: Tensor) -> Tensor:
    """Means of (C,H,W) over squares of two pixels, smaller ones at the right and below."""
    return avg_pool2d(values[None], 2, ceil_mode=True, count_include_pad=False)[0]
