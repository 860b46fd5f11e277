"""Runs the finest block's first convolution strip by strip, where it would take most of a large frame's memory."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import IFNetConfig
from .ifblock import IFBlock
from .multiscale import ForwardState

STRIP_PIXELS = 1 << 20  # of a strip, in frames of more than twice that: half a 1080p frame


def strips_fit(cfg: IFNetConfig) -> bool:
    """Tells whether the finest block of such a network can begin strip by strip."""
    return not cfg.raw_inputs and cfg.stem_stride == 2 and cfg.stem_padding == "zeros"


def wants_strips(cfg: IFNetConfig, state: ForwardState, scale: float, bidirectional: bool) -> bool:
    """Tells whether the block at this scale is to begin strip by strip: at full size, of large frames.

    state: the pass so far; bidirectional: whether the block runs backward in time, too.
    """
    large = state.size[0] * state.size[1] > 2 * STRIP_PIXELS
    plain = not bidirectional and not torch.is_grad_enabled() and state.upsampled
    return scale == 1 and large and plain and strips_fit(cfg) and state.started


def stem_in_strips(block: IFBlock, state: ForwardState) -> Tensor:
    """Computes `block.stem` at full size, (B,c/2,H/2,W/2), with warped frames and inputs of one strip of rows at a
    time.

    Without seams: a row of the first convolution (stride 2) reads three rows of the input, so each strip but the
    first begins two rows early, and the row that saw padding in their place is dropped.
    """
    height, width = state.size
    step = max(2, STRIP_PIXELS // width // 2 * 2)
    parts = []
    for start in range(0, height, step):
        early = 2 if start else 0
        stem_out = _stem_of_rows(block, state, start - early, min(start + step, height))
        parts.append(stem_out[:, :, early // 2 :])
    return torch.cat(parts, 2)


def _stem_of_rows(block: IFBlock, state: ForwardState, start: int, stop: int) -> Tensor:
    if (fused := state.fused_input_rows(start, stop, block.dtype)) is not None:
        return block.conv0[0](fused)
    src, mask_feat, flow, t = state.rows(start, stop)
    return block.stem(block.inputs(src, (), t, mask_feat, flow))
