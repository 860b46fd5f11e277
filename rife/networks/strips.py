"""Begins and ends the finest block strip by strip, where the whole would take most of a large frame's memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.row_strips import is_large, row_strips, strip_pixels
from .config import IFNetConfig
from .ending import cells_of, coarse_ending, ending, rows_of_frame
from .ifblock import IFBlock
from .linear_motion import motion_of
from .multiscale import ForwardState, add_timed_mask
from .static_regions import weight_of_rows


def strips_fit(cfg: IFNetConfig) -> bool:
    """Tells whether the finest block of such a network can begin strip by strip."""
    return not cfg.raw_inputs and cfg.stem_stride == 2 and cfg.stem_padding == "zeros"


def wants_strips(cfg: IFNetConfig, state: ForwardState, scale: float, bidirectional: bool) -> bool:
    """Tells whether the block at this scale is to begin strip by strip: at full size, of large frames.

    state: the pass so far; bidirectional: whether the block runs backward in time, too.
    """
    plain = not bidirectional and not torch.is_grad_enabled() and state.upsampled
    height, width = state.size
    large = is_large(height, width, state.src0.is_cpu)
    return scale == 1 and large and plain and strips_fit(cfg) and state.started


def begin_in_strips(block: IFBlock, state: ForwardState) -> Tensor:
    """Computes `block.begin` at full size, (B,c,H/4,W/4), with warped frames and inputs of one strip of rows at a time.

    Without seams: a row of each convolution (stride 2, padding 1) reads the row above its own two, so each strip but
    the first begins four rows early, and the row of the result that saw padding in their place is dropped.
    """
    height, width = state.size
    parts = []
    for start, stop in row_strips(height, width, strip_pixels(state.src0.is_cpu), 4):
        early = 4 if start else 0
        begun = _begun_rows(block, state, start - early, stop)
        parts.append(begun[:, :, early // 4 :])
    return torch.cat(parts, 2)


def _begun_rows(block: IFBlock, state: ForwardState, start: int, stop: int) -> Tensor:
    if (fused := state.fused_input_rows(start, stop, block.dtype)) is not None:
        return block.conv0(fused)
    src, mask_feat, flow, t = state.rows(start, stop)
    return block.begin(block.inputs(src, (), t, mask_feat, flow))


def wants_to_end_in_strips(cfg: IFNetConfig, state: ForwardState, scale: float, bidirectional: bool) -> bool:
    """Tells whether the frame is to be made strip by strip: from the finest block's trunk on where that is at full
    size, else from what it found."""
    if scale == 1:
        return ends_in_strips(cfg) and wants_strips(cfg, state, scale, bidirectional)
    height, width = state.size
    plain = not bidirectional and not torch.is_grad_enabled() and state.upsampled and scale > 1
    fits = ends_in_strips_when_coarse(cfg) and state.started
    return plain and fits and is_large(height, width, state.src0.is_cpu)


def ends_in_strips(cfg: IFNetConfig) -> bool:
    """Tells whether the frame of such a network can be made strip by strip."""
    return strips_fit(cfg) and cfg.tail == "shuffle" and not cfg.refine


def ends_in_strips_when_coarse(cfg: IFNetConfig) -> bool:
    """Tells whether it can be where the finest block sees less than full size."""
    return cfg.variational and not cfg.refine


def frame_in_strips(block: IFBlock, state: ForwardState, cfg: IFNetConfig, scale: float) -> Tensor:
    """Runs the finest `block`, which is at `scale`, after the pass so far, and makes the frame (B,3,H,W); of what lies
    between its trunk and the frame, at full size, there is only a strip of rows at a time.

    That is what `IFNet` makes of the whole. `state` is to keep no full flow.
    """
    height, width = state.size
    x = _trunk_in_strips(block, state) if scale == 1 else None
    cells = cells_of(cfg, state)
    coarse = coarse_ending(cfg, state, cells) if x is None else None
    image = torch.empty_like(state.src0[:, :3], memory_format=torch.contiguous_format)
    for start, stop in row_strips(height, width, strip_pixels(state.src0.is_cpu), 4):
        if coarse is not None:
            end = coarse.rows(start, stop)
        else:
            grid, t = state.grids.grid.rows(start, stop), state.timestep_rows(start, stop)
            weight = None if cells is None else weight_of_rows(cells, start, stop)
            at_rest = state.at_rest_rows(start, stop)
            end = ending(cfg, *_found_rows(block, state, x, start, stop), weight, at_rest, grid, t)
        image[:, :, start:stop] = rows_of_frame(cfg, state, end, start, stop)
    return image


def _found_rows(
    block: IFBlock, state: ForwardState, x: Tensor | None, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    """Rows `start` to `stop` of the flow (with the solver, of its one motion), and of the mask with the last block's
    features.

    x: of `_trunk_in_strips`; None: the state has what the block found.
    """
    solver = block.cfg.variational
    if x is None:
        found = state.motion_rows if solver else state.flow_rows
        return found(start, stop), state.mask_feat_rows(start, stop)
    change, mask_feat = block.tail_rows(x, start, stop)
    if block.cfg.timed_mask:
        mask_feat = add_timed_mask(mask_feat, state.timestep_at(1)[:, :, start:stop])
    if state.mask_add:
        mask_feat = mask_feat + state.mask_feat_rows(start, stop)
    flow = change.add_(state.flow_rows(start, stop))
    return motion_of(flow, state.timestep_rows(start, stop)) if solver else flow, mask_feat


def _trunk_in_strips(block: IFBlock, state: ForwardState) -> Tensor:
    """What the trunk of the block at full size makes, (B,c,H/4,W/4)."""
    begun = begin_in_strips(block, state)
    if not state.mask_add:
        state.mask_feats.clear()  # they were inputs, and weigh as much as the frame
    return block.trunk(begun)
