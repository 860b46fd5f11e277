"""Makes the bundled checkpoint: its network, its first weights, and what it sees when.

Flow does not emerge from pictures alone in a short training: the first layers start as matching costs
(`match_init`), known flow teaches on rendered motion whose largest displacement grows, then real frames join, whose
flow nobody knows (`Curriculum`). Further runs from the result teach what rests, what moves far, and to build on the
flow of `variational`.
tools/train_bundled.sh runs them all, docs/model_card.md says what each is for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

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


def lean_config(cfg: IFNetConfig) -> IFNetConfig:
    """Returns the config of what `made_lean` makes of a network of this config."""
    kept = (0, cfg.scales.index(2))
    channels, scales = (tuple(values[i] for i in kept) for values in (cfg.channels, cfg.scales))
    plain = replace(cfg, head="", head_mid=0, head_channels=0)
    return replace(plain, channels=channels, scales=scales, variational=True, dissolve=True, timed_mask=True)


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


@torch.no_grad()
def made_lean(network: IFNet) -> IFNet:
    """Returns what of a network with the solver is worth its time: the first block, which knows large motion, and the
    one at half of the size, which from now on says by itself what no flow explains; neither sees features.

    What the blocks behind the solver change of its flow gains 0.005 dB, in half of a pass (docs/model_card.md).
    Raises ValueError for any other network.
    """
    cfg = network.config
    if not (cfg.variational and 2 in cfg.scales[1:] and cfg.scales[0] > 2):
        raise ValueError(
            f"This network, with blocks at {cfg.scales} and variational {cfg.variational}, cannot be made lean: that "
            "wants the solver (--add variational) and a block at scale 2 behind the first."
        )
    kept = (0, cfg.scales.index(2))
    lean = IFNet(replace(lean_config(cfg), dissolve=False))
    for block, old in zip(lean.blocks, (network.blocks[i] for i in kept), strict=True):
        weights = old.state_dict()
        first = next(name for name in weights if name.endswith("weight"))
        # Of the columns that hold frames and features, the frames are first.
        columns = [
            column
            for name, parts in old.columns.items()
            for start, width in (parts[:1] if name in ("src0", "src1") else parts)
            for column in range(start, start + width)
        ]
        weights[first] = weights[first][:, sorted(columns)]
        block.load_state_dict(weights)
    lean.add_dissolve()
    tail = lean.blocks[-1].shuffle_conv
    for parameter in (tail.weight[:, 16:20], cast(Tensor, tail.bias)[16:20]):  # of the mask, at four pixels
        parameter.zero_()
    return lean


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
