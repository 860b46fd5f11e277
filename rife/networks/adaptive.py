"""The old releases whose pyramid follows the motion: 3.8, 4.0 and 4.1, and elexor; and the choice of a network's class.

Before the pass proper they run their first blocks once, to see how far things move. In training, and where the results
of all blocks are asked for, they work at the pyramid given, as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ops.warp import resize
from .config import IFNetConfig
from .ifnet import IFNet
from .multiscale import PLAIN, Geometry, Output, Pass, Ways
from .prediction import Prediction

_ELEXOR_PIXELS = 1920 * 1080 // 2


def build_network(config: IFNetConfig) -> IFNet:
    """The network of any single-file release, with fresh weights."""
    return AdaptiveIFNet(config) if config.adaptive else IFNet(config)


class AdaptiveIFNet(IFNet):
    """IFNet for a config with `adaptive`: "v38", "v40" or "elexor"."""

    def predict_from(
        self,
        src0: Tensor,
        src1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        *,
        refine: bool | None = None,
        gt: Tensor | None = None,
        keep_stages: bool = False,
        mix: bool = False,
        geometry: Geometry | None = None,
        ways: Ways = PLAIN,
    ) -> Prediction:
        """As `IFNet.predict_from`; samples of a batch that move far get another pyramid than those that do not."""
        if keep_stages or mix or gt is not None:
            training = {
                "refine": refine,
                "gt": gt,
                "keep_stages": keep_stages,
                "mix": mix,
                "geometry": geometry,
            }
            return super().predict_from(src0, src1, timestep, scale_list, ensemble, **training)
        scales = tuple(scale_list or self.config.scales)
        run = self._begin(src0, src1, timestep, geometry, ways)
        both = self.config.bidirectional(ensemble)
        if self.config.adaptive == "elexor":
            return self._predict_elexor(run, scales)
        doubled = self._doubles(run, scales, both)
        if not doubled.any():
            return self._run(run, scales, both, refine)
        return self._predict_doubled(doubled, run, scales, both, refine)

    def _run(
        self,
        run: Pass,
        scales: Sequence[float],
        both: bool,
        refine: bool | None = None,
        both_first: bool | None = None,
        instead: Tensor | None = None,
    ) -> Prediction:
        """All blocks at these scales.

        both_first: `both` of the first one, if it differs; instead: flow (B,4,H,W) in place of what that finds.
        """
        for i, (block, scale) in enumerate(zip(self.blocks, scales, strict=True)):
            backward = both if i or both_first is None else both_first
            out = self._block(block, run, scale, backward, last=i == len(scales) - 1)
            if instead is not None and i == 0:
                out = Output(instead, resize(out.rest, out.scale), 1)
            run.add(out)
        return self._prediction(run, refine)

    def _doubles(self, run: Pass, scales: Sequence[float], both: bool) -> Tensor:
        """Which samples (B,) move too far for the pyramid, by the rules of 4.0/4.1 and 3.8.

        The official code asks the whole batch at once; per sample the result does not depend on the batch.
        """
        probe, (block0, block1, *_) = run.again(), self.blocks
        if self.config.adaptive == "v38":
            out = self._block(block0, probe, scales[0] * 2, False)
            return resize(out.flow, out.scale).abs().amax((1, 2, 3)) > 16 * scales[0]
        probe.add(self._block(block0, probe, scales[0], both))
        out = self._block(block1, probe, scales[1], False)
        to0, to1 = resize(out.flow, out.scale).abs().unflatten(1, (2, 2)).amax((2, 3, 4)).unbind(1)
        return (to0 > 32) & (to1 > 32)

    def _predict_doubled(
        self, doubled: Tensor, run: Pass, scales: Sequence[float], both: bool, refine: bool | None
    ) -> Prediction:
        """Runs the samples in two groups, each with its pyramid, and puts them back in order."""
        order, parts = [], []
        for flag in (False, True):
            index = (doubled == flag).nonzero().flatten()
            if not len(index):
                continue
            pyramid = [s * 2 for s in scales] if flag else scales
            # 4.0 and 4.1 rerun the first block without the reversed pass once the pyramid has doubled.
            first = False if flag and self.config.adaptive == "v40" else None
            parts.append(self._run(run.again(index), pyramid, both, refine, first))
            order.append(index)
        return _joined(parts, torch.cat(order).argsort())

    def _predict_elexor(self, run: Pass, scales: Sequence[float]) -> Prediction:
        """elexor first looks for motion at four times the pyramid; where it is large, that replaces block0's flow.

        Large: more than half the pixels of a 1080p frame move further than 40 px, whatever the frame's size.
        """
        probe = run.again()
        for block, scale in zip(self.blocks[:2], scales, strict=False):
            probe.add(self._block(block, probe, scale * 4, False))
        motion = probe.full_flow()[:, :2].square().sum(1).sqrt()
        large = (motion > 40).sum((1, 2)) > _ELEXOR_PIXELS
        if not large.any():
            return self._run(run, scales, False)
        if large.all():
            return self._run(run, scales, False, instead=probe.full_flow())
        samples = [run.again(torch.tensor([i], device=large.device)) for i in range(len(large))]
        parts = [
            self._run(sample, scales, False, instead=probe.full_flow()[i : i + 1] if large[i] else None)
            for i, sample in enumerate(samples)
        ]
        return _joined(parts)


def _joined(parts: Sequence[Prediction], order: Tensor | None = None) -> Prediction:
    """One batch of the samples of all parts, at the indices of `order` where there is one."""
    image, flow, mask = (torch.cat([getattr(p, k) for p in parts]) for k in ("image", "flow", "mask"))
    return (
        Prediction(image, flow, mask) if order is None else Prediction(image[order], flow[order], mask[order])
    )
