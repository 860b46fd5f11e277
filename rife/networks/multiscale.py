"""The pyramid of one forward pass: what the blocks found, and what the next one gets to see, at its resolution.

B C H W throughout; flow is in pixels of the full size, mask a logit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops.warp import SamplingGrid, resize, resize_rows, sampling_grid, warp


class Output(NamedTuple):
    """What one block finds, at 1/scale of the frames' size."""

    flow: Tensor | None  # (B,4,h,w) float32, change of flow in full-resolution pixels
    rest: Tensor | None  # (B,1,h,w) mask logits; (B,9,h,w) with the 8 features for the next block
    scale: float


class Geometry:
    """Where the pixels of frames of one size lie, whole, smaller and for the coarse blocks.

    Made once, used by every pass.
    """

    def __init__(self, height: int, width: int, device: torch.device):
        self.size, self.device = (height, width), device
        self._grids: dict[tuple[int, int], SamplingGrid] = {}
        self._sparse: dict[int, tuple[SamplingGrid, Tensor, Tensor]] = {}
        self._matrices: dict[tuple[int, int, int], Tensor] = {}

    def fits(self, frames: Tensor) -> bool:
        """Whether this is the geometry of frames (B,C,H,W)."""
        return self.size == tuple(frames.shape[-2:]) and self.device == frames.device

    @property
    def grid(self) -> SamplingGrid:
        """Of all pixels."""
        return self._grid(*self.size)

    def grid_of(self, image: Tensor) -> SamplingGrid:
        """Of all pixels of a smaller picture (B,C,h,w) that is made of these frames."""
        return self._grid(*image.shape[-2:])

    def _grid(self, height: int, width: int) -> SamplingGrid:
        if (height, width) not in self._grids:
            self._grids[height, width] = sampling_grid(height, width, self.device)
        return self._grids[height, width]

    def sparse(self, scale: int) -> SamplingGrid:
        """Of the central 2x2 pixels of each cell of `scale` pixels."""
        return self._central(scale)[0]

    def sparse_flow(self, output: Output, scale: int) -> Tensor:
        """A block's flow, (B,4,2H/scale,2W/scale), at those pixels only."""
        _, rows, cols = self._central(scale)
        down, right = (
            self._linear(scale, axis, output.flow.shape[2 + axis], points)
            for axis, points in enumerate((rows, cols))
        )
        with _not_rounded(self.device):
            return down @ output.flow @ right.T

    def _central(self, scale: int) -> tuple[SamplingGrid, Tensor, Tensor]:
        if scale not in self._sparse:
            rows, cols = (_central(side, scale, self.device) for side in self.size)
            self._sparse[scale] = self.grid.at(rows, cols), rows, cols
        return self._sparse[scale]

    def _linear(self, scale: int, axis: int, side: int, points: Tensor) -> Tensor:
        key = scale, axis, side
        if key not in self._matrices:
            self._matrices[key] = _linear(side, self.size[axis] / side, points)
        return self._matrices[key]


class Ways(NamedTuple):
    """Other ways to do parts of a pass in inference, where those are faster; None: the plain one."""

    assemble: Callable[..., Tensor] | None = None  # a block's input in one go: `kernels.warp_and_concatenate`
    solve: Callable[..., Tensor] | None = None  # `variational.motion_flow`, to `finest`


PLAIN = Ways()


class Pass:
    """One forward pass: the frames, and what the blocks found so far, kept at the resolution they found it at.

    RIFE is written as: every block resamples its output to full size, the next one resamples it down again.
    Bilinear up by a and then down by b <= a/2 (powers of two, align_corners=False) is exactly up by a/b, so the
    detour through full size is left out (`_chain`). Up by a and then by b is not up by a*b: each block's flow is
    kept apart and the direct up-samplings are summed. Down by s reads only the central 2x2 pixels of each s x s
    cell, so for the coarse blocks only those are warped (`_sampled_flow`). Same frames to 5e-6.
    """

    def __init__(
        self,
        src0: Tensor,
        src1: Tensor,
        timestep: Tensor,
        mask_add: bool,
        geometry: Geometry | None = None,
        ways: Ways = PLAIN,
    ):
        self.src0, self.src1 = src0, src1  # (B,3+h,H,W) frames and their features
        self.timestep = timestep  # (B,1,1,1), or (B,1,H,W)
        self.mask_add = mask_add
        self.size = src0.shape[-2:]
        fits = geometry is not None and geometry.fits(src0)
        self.geometry = geometry if fits else Geometry(*self.size, src0.device)
        self.ways = ways
        self.outputs: list[Output] = []
        self._full: tuple[int, Tensor | None] = (0, None)

    def again(self, samples: Tensor | None = None) -> Pass:
        """A pass from the beginning over the same frames, or over those at these indices of the batch."""
        inputs = self.src0, self.src1, self.timestep
        if samples is not None:
            batch = self.src0.shape[0]
            inputs = (x.expand(batch, *x.shape[1:])[samples] for x in inputs)
        return Pass(*inputs, self.mask_add, self.geometry, self.ways)

    def add(self, output: Output) -> None:
        self.outputs.append(output)

    def restart(self, flow: Tensor, scale: float) -> None:
        """Puts the flow (B,4,H/scale,W/scale) in place of that so far; mask and features stay the last block's."""
        self.outputs = [Output(flow, None, scale), self.outputs[-1]._replace(flow=None)]
        self._full = (0, None)

    def _flows(self, first: int = 0) -> list[Output]:
        return [o for o in self.outputs[first:] if o.flow is not None]

    def _rests(self) -> list[Output]:
        return [o for o in self.outputs if o.rest is not None] if self.mask_add else self.outputs[-1:]

    def timestep_at(self, scale: float) -> Tensor:
        height, width = (int(side / scale) for side in self.size)
        if self.timestep.shape[-1] == 1:
            return self.timestep.expand(-1, 1, height, width)
        return resize(self.timestep, 1 / scale)

    def flow_at(self, scale: float) -> Tensor:
        """(B,4,H/scale,W/scale), in pixels of that size."""
        if self._full[0] == len(self.outputs) or scale == 1:
            flow = resize(self.full_flow(), 1 / scale)
        else:
            flow = _total(_chain(o.flow, o.scale, scale) for o in self._flows())
        return flow / scale if scale != 1 else flow

    def rest_at(self, scale: float) -> Tensor:
        """(B,1,H/scale,W/scale) mask so far, or (B,9,...) with the last block's features."""
        return _total(_chain(o.rest, o.scale, scale) for o in self._rests())

    def coarse_rest(self, scale: float) -> Tensor | None:
        """What `resize` by 2 makes `rest_at(scale)` of, where there is such a thing."""
        last = self.outputs[-1] if self.outputs else None
        if last is None or self.mask_add or last.scale != 2 * scale or min(last.rest.shape[-2:]) < 2:
            return None
        return last.rest

    def full_flow(self) -> Tensor:
        """(B,4,H,W) in pixels; the sum so far is kept for the next block."""
        count, total = self._full
        for o in self._flows(count):
            flow = resize(o.flow, o.scale)
            if total is None:
                total = flow
            else:
                # Into the fresh tensor, never into the sum that somebody else may hold.
                total = total + flow if flow is o.flow else flow.add_(total)
        self._full = (len(self.outputs), total)
        return total

    def sources_at(self, scale: float) -> tuple[Tensor, Tensor]:
        """Both frames and their features, warped by the flow so far, at 1/scale."""
        if not self.outputs:
            return resize(self.src0, 1 / scale), resize(self.src1, 1 / scale)
        if scale < 2 or (flow := self._sampled_flow(scale)) is None:
            return tuple(resize(x, 1 / scale) for x in self.warped())
        grid = self.geometry.sparse(int(scale)) if scale >= 4 else self.geometry.grid
        return self._warp_both(flow, grid, halve=True)

    def _sampled_flow(self, scale: float) -> Tensor | None:
        """The flow so far, (B,4,2H/scale,2W/scale), at the central 2x2 pixels of each cell; at scale 1 at all pixels.

        None where that is not all that the block reads.
        """
        if scale >= 4 and all(o.scale >= 1 for o in self.outputs):
            return _total(self.geometry.sparse_flow(o, int(scale)) for o in self._flows())
        # At scale 2 the central 2x2 pixels are all pixels, and the next block wants the full flow as well.
        return self.full_flow() if scale in (1, 2) else None

    def assembled(self, scale: float, dtype: torch.dtype) -> Tensor | None:
        """A block's whole input (B,C,H/scale,W/scale) by `assemble`; None where there is none, or it does not fit."""
        if self.ways.assemble is None or not self.outputs or torch.is_grad_enabled():
            return None
        if (flow := self._sampled_flow(scale)) is None:
            return None
        seen = self.rest_at(scale), self.timestep_at(scale)
        return self.ways.assemble(self.src0, self.src1, flow, *seen, int(scale), dtype)

    def assembled_strip(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows `start` to `stop` of `assembled` at full size."""
        seen = self._rest_rows(start, stop), self.timestep_at(1)[:, :, start:stop]
        return self.ways.assemble(self.src0, self.src1, self.full_flow(), *seen, 1, dtype, (start, stop))

    def strip(self, start: int, stop: int) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
        """Rows `start` to `stop` of the sources, the rest, the flow and the timestep at full size, and only those."""
        flow = self.full_flow()[:, :, start:stop]
        sources = self._warp_both(flow, self.geometry.grid.rows(start, stop))
        return sources, self._rest_rows(start, stop), flow, self.timestep_at(1)[:, :, start:stop]

    def _rest_rows(self, start: int, stop: int) -> Tensor:
        return _total(resize_rows(o.rest, int(o.scale), start, stop) for o in self._rests())

    def warped(
        self, channels: int | None = None, mode: str = "bilinear", flow: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both frames and their features (or the first `channels`), warped by `flow`, that so far, at full size."""
        return self._warp_both(self.full_flow() if flow is None else flow, self.geometry.grid, channels, mode)

    def _warp_both(
        self, flow: Tensor, grid: SamplingGrid, channels: int | None = None, mode="bilinear", halve=False
    ) -> tuple[Tensor, Tensor]:
        src0, src1 = self.src0[:, :channels], self.src1[:, :channels]
        return warp(src0, flow[:, :2], grid, mode, halve), warp(src1, flow[:, 2:4], grid, mode, halve)

    def blend(self, mode: str = "bilinear") -> Tensor:
        """The frame that flow and mask so far give."""
        return blend(*self.warped(3, mode), self.rest_at(1)[:, :1])


def blend(warped0: Tensor, warped1: Tensor, mask: Tensor) -> Tensor:
    """warped0 where the mask's logit is high, warped1 where it is low."""
    # Under autocast the mask is in half precision, the frames are not.
    return torch.lerp(warped1, warped0, torch.sigmoid(mask.to(warped0.dtype)))


def swap(flow: Tensor) -> Tensor:
    """The flow (B,4,H,W) with its two halves exchanged, as for the same frames in reversed order."""
    return torch.cat((flow[:, 2:4], flow[:, :2]), 1)


def _total(terms) -> Tensor:
    first, *others = terms
    for term in others:
        first = first + term
    return first


def _chain(x: Tensor, scale: float, target: float) -> Tensor:
    """x found at 1/scale, as it would be after going to full size and down (or up) to 1/target."""
    # Not for scale == target > 1: there the two pixels read lie on both sides of a kink.
    if scale == 1 or target == 1 or (target > 1 and scale >= 2 * target):
        return resize(x, scale / target)
    return resize(resize(x, scale), 1 / target)


def _central(side: int, scale: int, device: torch.device) -> Tensor:
    """Indices of the two central pixels of each cell of `scale` pixels: all that bilinear down-sampling reads."""
    start = torch.arange(scale // 2 - 1, side, scale, device=device)
    return torch.stack((start, start + 1), 1).flatten()


def _not_rounded(device: torch.device) -> AbstractContextManager:
    """Products in float32 where autocast, in training, would make them in half: flow of 64 px is off by 0.25 then."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _linear(side: int, factor: float, points: Tensor) -> Tensor:
    """Matrix (points, side) of linear up-sampling by `factor` (align_corners=False), at the given outputs only."""
    position = ((points.float() + 0.5) / factor - 0.5).clamp_(0, side - 1)
    distance = position[:, None] - torch.arange(side, device=points.device)[None, :]
    return (1 - distance.abs()).clamp_(min=0)
