"""Runs the old releases whose pyramid follows the motion (3.8, 4.0, 4.1, elexor), and chooses a network's class.

Before the pass proper they run their first blocks once, to see how far things move. In training, and where the results
of all blocks are asked for, they work at the pyramid given, as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ops.tracing import is_tracing
from ..ops.warp import resize
from .config import IFNetConfig
from .ifnet import IFNet
from .multiscale import NO_FAST_PATHS, BlockOutput, FastPaths, ForwardState, WarpGrids
from .prediction import MakesWholePredictions, Prediction, time_tensor

_ELEXOR_PIXELS = 1920 * 1080 // 2


def build_network(config: IFNetConfig) -> IFNet:
    """Builds the network of any single-file release, with fresh weights, on the CPU in float32."""
    return AdaptiveIFNet(config) if config.adaptive else IFNet(config)


class AdaptiveIFNet(MakesWholePredictions, IFNet):
    """Is an IFNet for a config with `adaptive`: "v38", "v40" or "elexor"."""

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
        grids: WarpGrids | None = None,
        fast_paths: FastPaths = NO_FAST_PATHS,
    ) -> Prediction:
        """Does what `IFNet.predict_from` does, with its arguments and shapes; samples of a batch that move far get
        another pyramid than those that do not."""
        if keep_stages or mix or gt is not None:
            return super().predict_from(
                src0, src1, timestep, scale_list, ensemble,
                refine=refine, gt=gt, keep_stages=keep_stages, mix=mix, grids=grids, fast_paths=fast_paths,
            )  # fmt: skip
        scales = tuple(scale_list or self.config.scales)
        t = time_tensor(timestep, src0)
        state = ForwardState(src0, src1, t, self.config.mask_add, grids, fast_paths)
        bidirectional = self.config.bidirectional(ensemble)
        if self.config.adaptive == "elexor":
            return self._predict_elexor(state, scales)
        doubled = self._doubles(state, scales, bidirectional)
        if is_tracing():
            plain = self._run(state.again(), scales, bidirectional, refine)
            return _select(doubled, self._run_doubled(state.again(), scales, bidirectional, refine), plain)
        if not doubled.any():
            return self._run(state, scales, bidirectional, refine)
        return self._predict_doubled(doubled, state, scales, bidirectional, refine)

    def _run(
        self,
        state: ForwardState,
        scales: Sequence[float],
        bidirectional: bool,
        refine: bool | None = None,
        bidirectional_first: bool | None = None,
        flow_override: Tensor | None = None,
    ) -> Prediction:
        """All blocks at these scales.

        bidirectional_first: whether the first one runs in both directions, if it differs from the others.
        flow_override: flow (B,4,H,W) in place of what the first one finds.
        """
        for i, (block, scale) in enumerate(zip(self.blocks, scales, strict=True)):
            in_both = bidirectional if i or bidirectional_first is None else bidirectional_first
            out = self._block(block, state, scale, in_both, last=i == len(scales) - 1)
            if flow_override is not None and i == 0:
                out = BlockOutput(flow_override, resize(out.mask_feat, out.scale), 1)
            state.add(out)
        return self._prediction(state, refine)

    def _doubles(self, state: ForwardState, scales: Sequence[float], bidirectional: bool) -> Tensor:
        """Which samples (B,) move too far for the pyramid, by the rules of 4.0/4.1 and 3.8.

        The official code asks the whole batch at once; per sample the result does not depend on the batch.
        """
        probe, (block0, block1, *_) = state.again(), self.blocks
        if self.config.adaptive == "v38":
            out = self._block(block0, probe, scales[0] * 2, False)
            return resize(out.flow, out.scale).abs().amax((1, 2, 3)) > 16 * scales[0]
        probe.add(self._block(block0, probe, scales[0], bidirectional))
        out = self._block(block1, probe, scales[1], False)
        to0, to1 = resize(out.flow, out.scale).abs().unflatten(1, (2, 2)).amax((2, 3, 4)).unbind(1)
        return (to0 > 32) & (to1 > 32)

    def _predict_doubled(
        self,
        doubled: Tensor,
        state: ForwardState,
        scales: Sequence[float],
        bidirectional: bool,
        refine: bool | None,
    ) -> Prediction:
        """Runs the samples in two groups, each with its pyramid, and puts them back in order."""
        order, parts = [], []
        for flag in (False, True):
            index = (doubled == flag).nonzero().flatten()
            if not len(index):
                continue
            run = self._run_doubled if flag else self._run
            parts.append(run(state.again(index), scales, bidirectional, refine))
            order.append(index)
        return _joined(parts, torch.cat(order).argsort())

    def _run_doubled(
        self, state: ForwardState, scales: Sequence[float], bidirectional: bool, refine: bool | None
    ) -> Prediction:
        """All blocks at twice these scales."""
        # 4.0 and 4.1 rerun the first block without the reversed pass once the pyramid has doubled.
        first = False if self.config.adaptive == "v40" else None
        return self._run(state, [s * 2 for s in scales], bidirectional, refine, first)

    def _predict_elexor(self, state: ForwardState, scales: Sequence[float]) -> Prediction:
        """elexor first looks for motion at four times the pyramid; where it is large, that replaces block0's flow.

        Large: more than half the pixels of a 1080p frame move further than 40 px, whatever the frame's size.
        """
        probe = state.again()
        for block, scale in zip(self.blocks[:2], scales, strict=False):
            probe.add(self._block(block, probe, scale * 4, False))
        motion = probe.full_flow()[:, :2].square().sum(1).sqrt()
        large = (motion > 40).sum((1, 2)) > _ELEXOR_PIXELS
        if is_tracing():
            replaced = self._run(state.again(), scales, False, flow_override=probe.full_flow())
            return _select(large, replaced, self._run(state.again(), scales, False))
        if not large.any():
            return self._run(state, scales, False)
        if large.all():
            return self._run(state, scales, False, flow_override=probe.full_flow())
        samples = [state.again(torch.tensor([i], device=large.device)) for i in range(len(large))]
        parts = [
            self._run(sample, scales, False, flow_override=probe.full_flow()[i : i + 1] if large[i] else None)
            for i, sample in enumerate(samples)
        ]
        return _joined(parts)


def _joined(parts: Sequence[Prediction], order: Tensor | None = None) -> Prediction:
    """One batch of the samples of all parts, at the indices of `order` where there is one."""
    image, flow, mask = (torch.cat([getattr(p, k) for p in parts]) for k in ("image", "flow", "mask"))
    return (
        Prediction(image, flow, mask) if order is None else Prediction(image[order], flow[order], mask[order])
    )


def _select(flags: Tensor, yes: Prediction, no: Prediction) -> Prediction:
    """Of each sample (B,) the one or the other, both of which are made: what is traced cannot branch."""
    flags = flags.view(-1, 1, 1, 1)
    image, flow, mask = (
        torch.where(flags, a, b) for a, b in ((yes.image, no.image), (yes.flow, no.flow), (yes.mask, no.mask))
    )
    return Prediction(image, flow, mask)
