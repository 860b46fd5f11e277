"""Converts picture values to light and back: transfer characteristics as files tag them (ITU-T H.273, table 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Transfer(NamedTuple):
    """to_linear and from_linear map tensors in 0..1, elementwise; light is relative to the brightest value."""

    to_linear: Callable[[Tensor], Tensor]
    from_linear: Callable[[Tensor], Tensor]


def _power(gamma: float) -> Transfer:
    return Transfer(lambda v: v.clamp(min=0) ** gamma, lambda x: x.clamp(min=0) ** (1 / gamma))


def _with_toe(a: float, slope: float, power: float, begin: float) -> Transfer:
    """value = (1+a) * light^power - a, below `begin` light * slope: BT.709 and sRGB."""

    def to_linear(v: Tensor) -> Tensor:
        return torch.where(v < slope * begin, v / slope, ((v.clamp(min=0) + a) / (1 + a)) ** (1 / power))

    def from_linear(x: Tensor) -> Tensor:
        return torch.where(x < begin, x * slope, (1 + a) * x.clamp(min=0) ** power - a)

    return Transfer(to_linear, from_linear)


def _pq() -> Transfer:
    """SMPTE ST 2084, light in 0..1 of 10000 cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128

    def to_linear(v: Tensor) -> Tensor:
        p = v.clamp(min=0) ** (1 / m2)
        return ((p - c1).clamp(min=0) / (c2 - c3 * p)) ** (1 / m1)

    def from_linear(x: Tensor) -> Tensor:
        p = x.clamp(min=0) ** m1
        return ((c1 + c2 * p) / (1 + c3 * p)) ** m2

    return Transfer(to_linear, from_linear)


def _hlg() -> Transfer:
    """ARIB STD-B67: scene light."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073

    def to_linear(v: Tensor) -> Tensor:
        return torch.where(v <= 0.5, v * v / 3, (torch.exp((v - c) / a) + b) / 12)

    def from_linear(x: Tensor) -> Tensor:
        x = x.clamp(min=0)
        return torch.where(x <= 1 / 12, (3 * x).sqrt(), a * torch.log((12 * x - b).clamp(min=1e-6)) + c)

    return Transfer(to_linear, from_linear)


SRGB, BT709, LINEAR = (
    _with_toe(0.055, 12.92, 1 / 2.4, 0.0031308),
    _with_toe(0.099, 4.5, 0.45, 0.018),
    _power(1.0),
)
# FFmpeg's numbers (AVCOL_TRC_*), those of H.273. What is not tagged is taken for BT.709, as players do.
TRANSFERS = {1: BT709, 4: _power(2.2), 5: _power(2.8), 6: BT709, 8: LINEAR, 13: SRGB, 14: BT709, 15: BT709, 16: _pq(),
             17: _power(2.6), 18: _hlg()}  # fmt: skip


def transfer_of(tag: int) -> Transfer:
    """Returns the transfer of a file that is tagged so; tag: a number of H.273, table 3, of which unknown ones are
    taken for BT.709."""
    return TRANSFERS.get(tag, BT709)
