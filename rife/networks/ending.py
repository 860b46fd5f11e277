"""Ends a pass: what all blocks found together, as far as it counts, and the frame that it makes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..ops.warp import SamplingGrid, resize, resize_rows
from .borders import shown_by_one, with_borders
from .config import IFNetConfig
from .linear_motion import flow_along
from .multiscale import DISSOLVE_CHANNEL, ForwardState, blend
from .static_regions import damp_static, motion_of_cells, weight_of_cells


class Ending(NamedTuple):
    """Says how each pixel of a frame, or of some of its rows, is made."""

    flow: Tensor  # (B,4,h,w), with the solver the motion (B,2,h,w) that it is along; pixels of the full size
    mask: Tensor  # (B,1,h,w), a logit
    fade: Tensor | None  # (B,1,h,w) in 0..1: how much of it is the cross-fade, of networks that dissolve

    def flow_at(self, timestep: Tensor) -> Tensor:
        """Returns the flow (B,4,h,w) at the timestep, (B,1,1,1) or (B,1,h,w)."""
        return flow_along(self.flow, timestep) if self.flow.shape[1] == 2 else self.flow

    def together(self) -> Tensor:
        """Returns all maps side by side, (B,C,h,w)."""
        return torch.cat([x for x in self if x is not None], 1)

    def split(self, maps: Tensor) -> Ending:
        """Returns the ending whose maps, `together`, are these."""
        parts = maps.split([x.shape[1] for x in self if x is not None], 1)
        return Ending(*parts, *[None] * (3 - len(parts)))


def ending(
    cfg: IFNetConfig,
    flow: Tensor,
    mask_feat: Tensor,
    weight: Tensor | None,
    at_rest: Tensor | None,
    grid: SamplingGrid,
    t: Tensor,
) -> Ending:
    """Makes it of what the blocks found, as far as it counts.

    flow: as `Ending.flow`; mask_feat: (B,1,h,w), or (B,C,h,w) with the last block's features. weight: of
    `static_regions.weight_of_cells`, (B,1,h,w), where the network has that. at_rest: of `ForwardState.look_for_rest`,
    likewise. grid: of these pixels. t: their timestep, (B,1,1,1) or (B,1,h,w).
    """
    mask, fade = mask_feat[:, :1], None
    if weight is not None:
        flow, mask = damp_static(flow, mask, weight, t)
    if cfg.dissolve:
        fade = torch.sigmoid(mask_feat[:, DISSOLVE_CHANNEL : DISSOLVE_CHANNEL + 1].to(flow.dtype))
    if cfg.variational:
        one = shown_by_one(flow, t, grid)
        mask = with_borders(mask, one)
        # What one frame alone shows is no mixture.
        fade = fade * (1 - one.abs()) if fade is not None else None
        # There the motion shows a border's smear, than which rest fits better nearly anyhow: it has to be clearer.
        at_rest = at_rest if at_rest is None else torch.lerp(at_rest, at_rest**3, one.abs())
    if fade is not None and at_rest is not None:
        fade = fade + (1 - fade) * at_rest
    return Ending(flow, mask, fade)


class CoarseEnding(NamedTuple):
    """Is an ending at the `scale` at which the blocks found all of it."""

    ending: Ending
    maps: Tensor  # of it, `together`
    scale: int

    def whole(self) -> Ending:
        """Returns it at full size."""
        return self.ending.split(resize(self.maps, self.scale))

    def rows(self, start: int, stop: int) -> Ending:
        """Returns rows `start` to `stop` of `whole`."""
        return self.ending.split(resize_rows(self.maps, self.scale, start, stop))


def coarse_ending(cfg: IFNetConfig, state: ForwardState, cells: Tensor | None) -> CoarseEnding | None:
    """Returns the ending of a pass with the solver where blocks found all of it at half size, else None: deciding there
    what counts, and enlarging that, takes half of the time of the other way round (6 of a pass's 130 ms for 12).

    Not at less than half, where it costs a decibel of a pan. cells: of `static_regions.motion_of_cells`.
    """
    motion = state.coarse_motion() if cfg.variational else None
    mask_feat = state.mask_feats[-1]
    if motion is None or not motion.scale == mask_feat.scale == 2 or state.mask_add:
        return None
    scale = int(motion.scale)
    weight = None if cells is None else weight_of_cells(cells, scale)
    grid, t = state.grids.middles(scale), state.times_at(scale)
    found = ending(cfg, motion.values, mask_feat.values, weight, state.at_rest_at(scale), grid, t)
    return CoarseEnding(found, found.together(), scale)


def whole_ending(cfg: IFNetConfig, state: ForwardState) -> Ending:
    """Returns the ending of all pixels, after all blocks."""
    cells = cells_of(cfg, state)
    if (coarse := coarse_ending(cfg, state, cells)) is not None:
        return coarse.whole()
    flow = state.motion() if cfg.variational else state.full_flow()
    weight = None if cells is None else weight_of_cells(cells)
    at_rest = state.at_rest_at(1)
    return ending(cfg, flow, state.mask_feat_at(1), weight, at_rest, state.grids.grid, state.timestep)


def cells_of(cfg: IFNetConfig, state: ForwardState) -> Tensor | None:
    """Returns `static_regions.motion_of_cells` of a pass's frames, of networks that have that."""
    if not cfg.still_radius:
        return None
    return motion_of_cells(state.src0[:, :3], state.src1[:, :3], cfg.still_radius)


def dissolved(image: Tensor, ending: Ending, img0: Tensor, img1: Tensor, timestep: Tensor) -> Tensor:
    """Returns the frame `image` (B,3,h,w) as far as the `ending` says so, elsewhere the cross-fade of both frames
    (B,3,h,w) at the timestep."""
    if ending.fade is None:
        return image
    return torch.lerp(image, torch.lerp(img0, img1, timestep.to(img0)), ending.fade.to(image.dtype))


def rows_of_frame(cfg: IFNetConfig, state: ForwardState, ending: Ending, start: int, stop: int) -> Tensor:
    """Makes rows `start` to `stop` of the frame, (B,3,stop-start,W), as their `ending` says; without refinement."""
    image = blend(*state.warped_rows(ending.flow, start, stop, 3, cfg.sampling), ending.mask)
    img0, img1 = (x[:, :3, start:stop] for x in (state.src0, state.src1))
    return dissolved(image, ending, img0, img1, state.timestep_rows(start, stop))
