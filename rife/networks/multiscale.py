"""Runs the pyramid of one forward pass: what the blocks found, and what the next one sees, at its resolution.

Tensors are B C H W; flow is in pixels of the full size, the mask a logit. "At scale s" is at 1/s of the frames' size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.row_strips import row_strips, strip_pixels
from ..ops.tracing import is_tracing
from ..ops.warp import SamplingGrid, resize, resize_rows, sampling_grid, warp
from .linear_motion import motion_of
from .prediction import cross_fade_mask
from .static_regions import share_at_rest

# Of a block's mask and features; channel 1 tells 4.25's second teacher how far to trust the block.
DISSOLVE_CHANNEL = 2


class BlockOutput(NamedTuple):
    """Holds what one block finds, at `scale`."""

    flow: Tensor  # (B,4,h,w) float32, change of the flow
    mask_feat: Tensor  # (B,1,h,w) mask; (B,9,h,w) with the 8 features for the next block
    scale: float


class AtScale(NamedTuple):
    """Holds a map (B,C,h,w) and the scale that it lies at."""

    values: Tensor
    scale: float


class WarpGrids:
    """Keeps the sampling grids for frames of one size and for all smaller sizes that a pass warps at.

    Each is made at its first use and kept, so that the passes over a clip share them.
    shown: height and width of the picture, at the left and top of frames that were made larger; None: all of them.
    """

    def __init__(self, height: int, width: int, device: torch.device, shown: tuple[int, int] | None = None):
        self.size, self.device, self.shown = (height, width), device, shown
        self._grids: dict[tuple[int, int], SamplingGrid] = {}
        self._middles: dict[int, SamplingGrid] = {}
        self._centrals: dict[int, tuple[SamplingGrid, Tensor, Tensor]] = {}
        self._matrices: dict[tuple[int, int, int], Tensor] = {}

    @classmethod
    def of(cls, frames: Tensor, known: WarpGrids | None = None) -> WarpGrids:
        """Returns those of frames (B,C,H,W): the `known` ones where they fit, else new ones."""
        if known is not None and known.fits(frames):
            return known
        height, width = frames.shape[-2:]
        return cls(height, width, frames.device)

    def fits(self, frames: Tensor) -> bool:
        """Tells whether these are the grids of frames (B,C,H,W): of their size, on their device."""
        return self.size == tuple(frames.shape[-2:]) and self.device == frames.device

    @property
    def grid(self) -> SamplingGrid:
        """Is the grid of all pixels."""
        return self._grid(*self.size)

    def grid_of(self, image: Tensor) -> SamplingGrid:
        """Returns the grid of all pixels of a smaller image (B,C,h,w) that is made of these frames."""
        height, width = image.shape[-2:]
        return self._grid(height, width)

    def _grid(self, height: int, width: int) -> SamplingGrid:
        if (height, width) not in self._grids:
            grid = sampling_grid(height, width, self.device)
            if self.shown is not None:
                ends = (
                    grid.pixel.new_full((1, 1, 1), 2 * (part * side / whole - 1) / max(side - 1, 1) - 1)
                    for part, side, whole in zip(
                        self.shown[::-1], (width, height), self.size[::-1], strict=True
                    )
                )
                grid = grid._replace(ends=torch.cat(tuple(ends)))
            self._grids[height, width] = grid
        return self._grids[height, width]

    def middles(self, scale: int) -> SamplingGrid:
        """Returns the grid of the middles of cells of `scale` x `scale` pixels."""
        if scale not in self._middles:
            self._middles[scale] = self.grid.coarser(scale)
        return self._middles[scale]

    def central(self, scale: int) -> SamplingGrid:
        """Returns the grid of the central 2x2 pixels of each cell of `scale` x `scale` pixels."""
        return self._central(scale)[0]

    def central_flow(self, flow: AtScale, scale: int) -> Tensor:
        """Up-samples a flow at any coarser scale to those pixels only: (B,4,2H/scale,2W/scale)."""
        _, rows, cols = self._central(scale)
        down, right = (
            self._matrix(scale, axis, flow.values.shape[2 + axis], points)
            for axis, points in enumerate((rows, cols))
        )
        with _without_autocast(self.device):
            return down @ flow.values @ right.T

    def _central(self, scale: int) -> tuple[SamplingGrid, Tensor, Tensor]:
        if scale not in self._centrals:
            rows, cols = (_central_indices(side, scale, self.device) for side in self.size)
            self._centrals[scale] = self.grid.at(rows, cols), rows, cols
        return self._centrals[scale]

    def _matrix(self, scale: int, axis: int, side: int, points: Tensor) -> Tensor:
        key = scale, axis, side
        if key not in self._matrices:
            self._matrices[key] = _upsampling_matrix(side, self.size[axis] / side, points)
        return self._matrices[key]


class FastPaths(NamedTuple):
    """Names replacements for parts of a pass in inference, where those are faster; None: the plain operations."""

    fused_input: Callable[..., Tensor] | None = (
        None  # `triton_kernels.warp_and_concatenate`: a block's whole input
    )
    solve_flow: Callable[..., Tensor] | None = None  # `variational_flow.motion_flow`, as one operation


NO_FAST_PATHS = FastPaths()


class ForwardState:
    """Is one forward pass: the frames, and what the blocks found so far, kept at the resolution they found it at.

    RIFE is written as: every block resamples its output to full size, the next one resamples it down again.
    Bilinear up by a and then down by b <= a/2 (powers of two, align_corners=False) is exactly up by a/b, so the
    detour through full size is left out (`_rescaled`). Up by a and then by b is not up by a*b: each block's flow is
    kept apart and the direct up-samplings are summed. Down by s reads only the central 2x2 pixels of each s x s
    cell, so for the coarse blocks only those are warped (`_sampled_flow`). Same frames to 5e-6.
    """

    def __init__(
        self,
        src0: Tensor,
        src1: Tensor,
        timestep: Tensor,
        mask_add: bool,
        grids: WarpGrids | None = None,
        fast_paths: FastPaths = NO_FAST_PATHS,
    ):
        self.src0, self.src1 = src0, src1  # (B,3+f,H,W) frames and their features
        self.timestep = timestep  # (B,1,1,1), or (B,1,H,W)
        self.mask_add = mask_add  # whether the masks of all blocks are summed; else the last one counts
        self.size = src0.shape[-2:]
        self.grids = WarpGrids.of(src0, grids)
        self.fast_paths = fast_paths
        self.keeps_full_flow = True  # whether the next block gets `full_flow`'s sum from the last one
        self.flows: list[AtScale] = []
        self.mask_feats: list[AtScale] = []
        self._motion: AtScale | None = None  # that all of the flow is along, where that is known
        self._at_rest: AtScale | None = None  # `share_at_rest`, where it was looked for
        # Along which motion both were warped last for a block, reduced, and what came out.
        self._along: tuple[AtScale, tuple[Tensor, Tensor]] | None = None
        self._sum: tuple[int, Tensor | None] = (
            0,
            None,
        )  # how many flows are in `full_flow`'s last sum, and that

    @property
    def started(self) -> bool:
        """Tells whether a block has run."""
        return bool(self.flows)

    @property
    def upsampled(self) -> bool:
        """Tells whether no block worked at more than full size, so that all maps are up-sampled to that."""
        return all(x.scale >= 1 for x in (*self.flows, *self.mask_feats))

    def again(self, samples: Tensor | None = None) -> ForwardState:
        """Begins a pass anew over the same frames, or over those at these indices (N,) of the batch."""
        src0, src1, timestep = self.src0, self.src1, self.timestep
        if samples is not None:
            batch = src0.shape[0]
            src0, src1, timestep = (x.expand(batch, *x.shape[1:])[samples] for x in (src0, src1, timestep))
        return ForwardState(src0, src1, timestep, self.mask_add, self.grids, self.fast_paths)

    def add(self, output: BlockOutput) -> None:
        """Takes in what the next block found."""
        self.flows.append(AtScale(output.flow, output.scale))
        self.mask_feats.append(AtScale(output.mask_feat, output.scale))
        self._motion = None

    def replace_flow(self, flow: Tensor, scale: float) -> None:
        """Puts the flow (B,4,H/scale,W/scale), which is along one motion, in place of that so far; mask and features
        stay the last block's."""
        self.flows, self.mask_feats = [AtScale(flow, scale)], self.mask_feats[-1:]
        self._sum, self._motion = (0, None), None
        self.coarse_motion()  # is known from here on, until a block changes the flow

    def look_for_rest(self) -> None:
        """Finds out where both frames as they are fit better than by the motion so far (`share_at_rest`), which is
        known as such; at half of the size, or at less where the motion is."""
        if (motion := self.coarse_motion()) is None:
            return
        if motion.scale < 2:
            motion = AtScale(resize(motion.values, motion.scale / 2), 2)
        reduced = self._reduced(motion.scale)
        warped = self._reduced_along(motion, reduced)
        if self._reduced_by(2) is motion:  # the next block sees the same
            self._along = motion, warped
        self._at_rest = AtScale(share_at_rest(*(x[:, :3] for x in (*reduced, *warped))), motion.scale)

    def at_rest_at(self, scale: float) -> Tensor | None:
        """Returns what `look_for_rest` found, (B,1,H/scale,W/scale) in 0..1; None where nobody looked."""
        found = self._at_rest
        return None if found is None else resize(found.values, found.scale / scale)

    def at_rest_rows(self, start: int, stop: int) -> Tensor | None:
        """Returns rows `start` to `stop` of `at_rest_at` full size."""
        if self._at_rest is None:
            return None
        return resize_rows(self._at_rest.values, int(self._at_rest.scale), start, stop)

    def _counting_mask_feats(self) -> list[AtScale]:
        return self.mask_feats if self.mask_add else self.mask_feats[-1:]

    def timestep_at(self, scale: float) -> Tensor:
        """Returns the timestep of each pixel, (B,1,H/scale,W/scale)."""
        height, width = (int(side / scale) for side in self.size)
        times = self.times_at(scale)
        return times.expand(-1, 1, height, width) if times.shape[-1] == 1 else times

    def times_at(self, scale: float) -> Tensor:
        """Returns `timestep_at`, or (B,1,1,1) where all pixels have the same."""
        return self.timestep if self.timestep.shape[-1] == 1 else resize(self.timestep, 1 / scale)

    def timestep_rows(self, start: int, stop: int) -> Tensor:
        """Returns the timestep of rows `start` to `stop` at full size: (B,1,1,1), or (B,1,stop-start,W)."""
        return self.timestep if self.timestep.shape[2] == 1 else self.timestep[:, :, start:stop]

    def flow_at(self, scale: float) -> Tensor:
        """Returns the flow so far, (B,4,H/scale,W/scale), in pixels of that size."""
        if self._sum[0] == len(self.flows) or scale == 1:
            flow = resize(self.full_flow(), 1 / scale)
        else:
            flow = _add(_rescaled(x, scale) for x in self.flows)
        return flow / scale if scale != 1 else flow

    def mask_feat_at(self, scale: float) -> Tensor:
        """Returns the mask so far, (B,1,H/scale,W/scale), or (B,9,...) with the last block's features."""
        return _add(_rescaled(x, scale) for x in self._counting_mask_feats())

    def coarse_mask_feat(self, scale: float) -> Tensor | None:
        """Returns the map of which `mask_feat_at(scale)` is the up-sampling by 2; None where it is no such thing."""
        if not self.started or self.mask_add:
            return None
        last = self.mask_feats[-1]
        return last.values if last.scale == 2 * scale and min(last.values.shape[-2:]) >= 2 else None

    def full_flow(self) -> Tensor:
        """Returns the flow so far, (B,4,H,W); the sum is kept for the next block. Raises RuntimeError before the first
        block."""
        count, total = self._sum
        for x in self.flows[count:]:
            flow = resize(x.values, x.scale)
            if total is None:
                total = flow
            else:
                # Into the fresh tensor, never into the sum that somebody else may hold.
                total = total + flow if flow is x.values else flow.add_(total)
        if total is None:
            raise RuntimeError("There is no flow before the first block has run.")
        self._sum = (len(self.flows), total) if self.keeps_full_flow else (0, None)
        return total

    def motion(self) -> Tensor:
        """Returns the one motion (B,2,H,W) that the flow so far is nearest to (`linear_motion`)."""
        found = self.coarse_motion()
        return motion_of(self.full_flow(), self.timestep) if found is None else resize(*found)

    def motion_rows(self, start: int, stop: int) -> Tensor:
        """Returns rows `start` to `stop` of `motion`."""
        found = self.coarse_motion()
        if found is not None and found.scale >= 1:
            return resize_rows(found.values, int(found.scale), start, stop)
        return motion_of(self.flow_rows(start, stop), self.timestep_rows(start, stop))

    def coarse_motion(self) -> AtScale | None:
        """Returns `motion` at the scale that all flows lie at, since up-sampling them first gives the same; None where
        they lie at several."""
        scale = self.flows[0].scale
        if self._motion is None and all(x.scale == scale for x in self.flows):
            flow = _add(x.values for x in self.flows)
            self._motion = AtScale(motion_of(flow, self.times_at(scale)), scale)
        return self._motion

    def sources_at(self, scale: float) -> tuple[Tensor, Tensor]:
        """Warps both frames and their features by the flow so far: each (B,3+f,H/scale,W/scale)."""
        if not self.started:
            return self._reduced(scale)
        if (motion := self._reduced_by(scale)) is not None:
            known, self._along = self._along, None
            if known is not None and known[0] is motion:
                return known[1]
            return self._reduced_along(motion, self._reduced(scale))
        if scale == 2 and not self.keeps_full_flow:
            return self._halves_in_strips()
        if scale < 2 or (flow := self._sampled_flow(scale)) is None:
            warped0, warped1 = self.warped()
            return resize(warped0, 1 / scale), resize(warped1, 1 / scale)
        grid = self.grids.central(int(scale)) if scale >= 4 else self.grids.grid
        return self._warp_both(flow, grid, halve=True, interleaved=True)

    def _reduced(self, scale: float) -> tuple[Tensor, Tensor]:
        """Both frames and their features as they are, at the scale."""
        return resize(self.src0, 1 / scale), resize(self.src1, 1 / scale)

    def _reduced_by(self, scale: float) -> AtScale | None:
        """The motion along which frames are warped that were reduced to this scale first: for the block behind the
        solver, at half size, where all pixels count. Of less, reducing reads four pixels a cell, which warped do not
        match; None."""
        motion = self._motion
        return motion if motion is not None and motion.scale == scale == 2 else None

    def _reduced_along(self, motion: AtScale, reduced: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Both frames, `reduced` to the scale of the motion, warped there: for the block behind the solver, whose new
        frames are no worse for it, in an eighth of the time of warping first."""
        scale, t = motion.scale, self.times_at(motion.scale).float()
        src0, src1 = reduced
        grid = self.grids.grid_of(src0)
        step = motion.values / scale
        return warp(src0, step, grid.along(-t)), warp(src1, step, grid.along(1 - t))

    def _halves_in_strips(self) -> tuple[Tensor, Tensor]:
        """`sources_at(2)`, with a strip of rows at a time at full size."""
        height, width = self.size
        parts = []
        for start, stop in row_strips(height, width, strip_pixels(self.src0.is_cpu), 2):
            flow = self.flow_rows(start, stop)
            grid = self.grids.grid.rows(start, stop)
            parts.append(self._warp_both(flow, grid, halve=True, interleaved=True))
        first, second = zip(*parts, strict=True)
        return torch.cat(first, 2), torch.cat(second, 2)

    def _sampled_flow(self, scale: float) -> Tensor | None:
        """The flow so far, (B,4,2H/scale,2W/scale), at the central 2x2 pixels of each cell; at scale 1 at all pixels.

        None where that is not all that the block reads.
        """
        if scale >= 4 and self.upsampled and not is_tracing():
            return _add(self.grids.central_flow(x, int(scale)) for x in self.flows)
        # At scale 2 the central 2x2 pixels are all pixels, and the next block wants the full flow as well.
        return self.full_flow() if scale in (1, 2) else None

    def fused_input(self, scale: float, dtype: torch.dtype) -> Tensor | None:
        """Makes a block's whole input (B,C,H/scale,W/scale) by the fast path; None where there is none or it does not
        fit."""
        make = self.fast_paths.fused_input
        if make is None or not self.started or torch.is_grad_enabled() or self._reduced_by(scale):
            return None
        if (flow := self._sampled_flow(scale)) is None:
            return None
        seen = self.mask_feat_at(scale), self.timestep_at(scale)
        return make(self.src0, self.src1, flow, *seen, int(scale), dtype)

    def fused_input_rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor | None:
        """Makes rows `start` to `stop` of `fused_input` at full size, (B,C,stop-start,W); None where there is no such
        fast path."""
        make = self.fast_paths.fused_input
        if make is None:
            return None
        seen = self.mask_feat_rows(start, stop), self.timestep_at(1)[:, :, start:stop]
        return make(self.src0, self.src1, self.full_flow(), *seen, 1, dtype, (start, stop))

    def rows(self, start: int, stop: int) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
        """Returns rows `start` to `stop` of the warped sources, the mask with features, the flow and the timestep at
        full size.

        No others are made on the way.
        """
        flow = self.flow_rows(start, stop)
        sources = self.warped_rows(flow, start, stop)
        return sources, self.mask_feat_rows(start, stop), flow, self.timestep_at(1)[:, :, start:stop]

    def flow_rows(self, start: int, stop: int) -> Tensor:
        """Returns rows `start` to `stop` of `full_flow`, the same to the bit: of the whole where that is kept."""
        if self.keeps_full_flow:
            return self.full_flow()[:, :, start:stop]
        total = None
        for x in self.flows:
            flow = resize_rows(x.values, int(x.scale), start, stop)
            total = flow if total is None else flow + total
        if total is None:
            raise RuntimeError("There is no flow before the first block has run.")
        return total

    def mask_feat_rows(self, start: int, stop: int) -> Tensor:
        """Returns rows `start` to `stop` of the mask at full size, with the last block's features."""
        maps = self._counting_mask_feats()
        return _add(resize_rows(x.values, int(x.scale), start, stop) for x in maps)

    def warped_rows(
        self, flow: Tensor, start: int, stop: int, channels: int | None = None, mode: str = "bilinear"
    ) -> tuple[Tensor, Tensor]:
        """Warps rows `start` to `stop` of `warped` by their flow (B,4,stop-start,W), or along a motion of two
        channels."""
        grid, t = self.grids.grid.rows(start, stop), self.timestep_rows(start, stop)
        return self._warp_both(flow, grid, channels, mode, interleaved=channels is None, t=t)

    def warped(
        self, channels: int | None = None, mode: str = "bilinear", flow: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Warps both frames and their features, for a block, or their first `channels`, at full size: each (B,C,H,W).

        flow: (B,4,H,W), by default that so far. mode: "bilinear" or "bicubic".
        """
        flow = self.full_flow() if flow is None else flow
        return self._warp_both(flow, self.grids.grid, channels, mode, interleaved=channels is None)

    def _warp_both(
        self,
        flow: Tensor,
        grid: SamplingGrid,
        channels: int | None = None,
        mode: str = "bilinear",
        halve: bool = False,
        interleaved: bool = False,
        t: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Warps both by a flow (B,4,h,w), or along a motion (B,2,h,w) at the times `t` of its pixels."""
        src0, src1 = self.src0[:, :channels], self.src1[:, :channels]
        how = mode, halve, interleaved
        if t is not None and flow.shape[1] == 2:
            t = t.float()
            return warp(src0, flow, grid.along(-t), *how), warp(src1, flow, grid.along(1 - t), *how)
        return warp(src0, flow[:, :2], grid, *how), warp(src1, flow[:, 2:4], grid, *how)

    def blend(self, mode: str = "bilinear") -> Tensor:
        """Returns the frame (B,3,H,W) that flow and mask so far give."""
        return blend(*self.warped(3, mode), self.mask_feat_at(1)[:, :1])


def blend(warped0: Tensor, warped1: Tensor, mask: Tensor) -> Tensor:
    """Returns warped0 where the logit `mask` (B,1,H,W) is high, warped1 where it is low, and mixtures between: equation
    1 of RIFE's paper. Frames are (B,C,H,W)."""
    # Under autocast the mask is in half precision, the frames are not.
    return torch.lerp(warped1, warped0, torch.sigmoid(mask.to(warped0.dtype)))


def add_timed_mask(mask_feat: Tensor, timestep: Tensor) -> Tensor:
    """Adds the mask of the cross-fade at the timestep, (B,1,h,w), to that of `mask_feat` (B,C,h,w). In float32, planar:
    what follows is up-sampled."""
    mask = mask_feat[:, :1].float() + cross_fade_mask(timestep)
    return torch.cat((mask, mask_feat[:, 1:].float()), 1).contiguous()


def swap(flow: Tensor) -> Tensor:
    """Exchanges the two halves of the flow (B,4,H,W), as for the same frames in reversed order."""
    return torch.cat((flow[:, 2:4], flow[:, :2]), 1)


def _add(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _rescaled(x: AtScale, target: float) -> Tensor:
    """`x` as it would be after going to full size and down (or up) to the scale `target`."""
    values, scale = x
    if scale == target and scale > 1:
        return _there_and_back(values, 0.25 / scale)
    if min(scale, target) >= 1 or target == 1:
        return resize(values, scale / target)
    return resize(resize(values, scale), 1 / target)


def _there_and_back(x: Tensor, share: float) -> Tensor:
    """Returns x (B,C,h,w) as up-sampling and down-sampling by the same factor leaves it: the two pixels that are read
    lie on both sides of a kink, so that each pixel takes a share of a quarter of 1/factor from both its neighbours."""
    around = F.pad(x, (1, 1, 1, 1), mode="replicate")
    for axis in (2, 3):
        side = x.shape[axis]
        neighbours = around.narrow(axis, 0, side) + around.narrow(axis, 2, side)
        around = torch.add(around.narrow(axis, 1, side) * (1 - 2 * share), neighbours, alpha=share)
    return around


def _central_indices(side: int, scale: int, device: torch.device) -> Tensor:
    """Indices of the two central pixels of each cell of `scale` pixels: all that bilinear down-sampling reads."""
    start = torch.arange(scale // 2 - 1, side, scale, device=device)
    return torch.stack((start, start + 1), 1).flatten()


def _without_autocast(device: torch.device) -> AbstractContextManager:
    """Products in float32 where autocast, in training, would make them in half: flow of 64 px is off by 0.25 then."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _upsampling_matrix(side: int, factor: float, points: Tensor) -> Tensor:
    """Matrix (points, side) of linear up-sampling by `factor` (align_corners=False), at the given outputs only."""
    position = ((points.float() + 0.5) / factor - 0.5).clamp_(0, side - 1)
    distance = position[:, None] - torch.arange(side, device=points.device)[None, :]
    return (1 - distance.abs()).clamp_(min=0)
