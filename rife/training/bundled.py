"""Makes the bundled checkpoint: its network, its first weights, and what it sees when.

Flow does not emerge from pictures alone in a short training: the first layers start as matching costs
(`match_init`), known flow teaches on rendered motion whose largest displacement grows, then real frames join, whose
flow nobody knows (`Curriculum`). Further runs from the result teach what rests, what moves far, and to build on the
flow of `variational`.
tools/train_bundled.sh runs them all, docs/model_card.md says what each is for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..networks.config import IFNetConfig
from ..networks.ifnet import IFNet
from .datasets import RealFrames
from .samples import Sample
from .synthetic import RenderedMotion

# The bundled network: a 4.25-shaped IFNet, narrow enough for a CPU to train and to run.
BUNDLED_CONFIG = IFNetConfig(
    family="comfy1",
    channels=(96, 80, 64, 40),
    scales=(8, 4, 2, 1),
    tail="shuffle",
    tail_channels=13,
    head="cnn",
    head_mid=16,
    head_channels=4,
    sampling="bicubic",
    still_radius=64,
    pad=32,
)

# Offsets at which the two frames are compared by `match_init`: symmetric steps of two pixels, then single ones.
_AXIS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_DIAGONAL = ((1, 1), (-1, -1), (1, -1), (-1, 1))
_MATCHES = (
    ((0, 0), (0, 0)),
    *(((-x, -y), (x, y)) for x, y in _AXIS),
    *(((0, 0), (x, y)) for x, y in _AXIS),
    *(((-x, -y), (x, y)) for x, y in _DIAGONAL),
    *(((-x, -y), (0, 0)) for x, y in _AXIS),
)


@torch.no_grad()
def match_init(network: IFNet, gain: float = 3.0) -> None:
    """Starts every block's first layer as a matching cost, so that flow emerges at once.

    Each pair of filters subtracts the grey of one frame at one offset from that of the other at another, once with
    either sign: behind the activation their sum grows with the absolute difference, a cost volume of one pixel
    around. From random filters nothing left zero flow within 500 steps of batch 12; from these, the end-point
    error of translations of 2 to 8 px falls by 29% in 100 steps of batch 16. gain: of the differences, against weights
    of a convolution.
    """
    for block in network.blocks:
        layer = next(m for m in block.conv0.modules() if isinstance(m, nn.Conv2d))
        count = min(len(_MATCHES), (layer.out_channels - 4) // 2)  # at least four filters stay free
        for k, ((x0, y0), (x1, y1)) in enumerate(_MATCHES[:count]):
            difference = torch.zeros_like(layer.weight[0])
            difference[0:3, 1 + y0, 1 + x0] += gain / 3
            difference[3:6, 1 + y1, 1 + x1] -= gain / 3
            layer.weight[2 * k], layer.weight[2 * k + 1] = difference, -difference
            if layer.bias is not None:
                layer.bias[2 * k : 2 * k + 2] = 0


@dataclass
class Curriculum:
    """Renders motion that grows, then gives real frames every second step; a `Source`.

    All shares are of the steps of the run. timestep: None for random ones, 0.5 for networks that only know that.
    """

    scenes: RenderedMotion
    real: RealFrames | None = None
    crop: int = 128
    max_motion: float = 24.0  # largest displacement of rendered motion, pixels
    curriculum: float = 0.4  # share over which rendered motion grows to it, from 4 pixels
    small_until: float = 0.5  # share with crops of half the side, four times as fast
    real_from: float = 0.5  # share after which every second step uses real frames
    timestep: float | None = None

    def example(self, seed: int, step: int, progress: float) -> Sample:
        """Gives one example, as `Source` says; `progress` is 0..1."""
        if self.real is not None and progress >= self.real_from and step % 2 == 1:
            return self.real.example(seed, step, progress)
        growth = min(1.0, progress / self.curriculum) if self.curriculum else 1.0
        crop = self.crop // 2 if progress < self.small_until else self.crop
        motion = 4.0 * (self.max_motion / 4.0) ** growth
        return self.scenes.again(seed, crop, crop, motion).sample(1, self.timestep)
