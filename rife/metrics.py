"""Fidelity of a frame against the true one."""

from __future__ import annotations

import math

from torch import Tensor


def psnr(image: Tensor, target: Tensor, rounded: bool = True) -> float:
    """Peak signal-to-noise ratio in dB of two (…,H,W) in 0..1; infinite for equal ones.

    rounded: both are rounded to 8 bit first, as the RIFE benchmarks do.
    """
    if rounded:
        image, target = (image * 255).round() / 255, (target * 255).round() / 255
    error = float(((image.double() - target.double()) ** 2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)
