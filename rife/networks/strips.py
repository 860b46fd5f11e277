"""The finest block's first convolution strip by strip, where nearly all of a large frame's memory would go at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import IFNetConfig
from .ifblock import IFBlock
from .multiscale import Pass

STRIP_PIXELS = 1 << 20  # of a strip, in frames of more than twice that: half a 1080p frame


def strips_fit(cfg: IFNetConfig) -> bool:
    """Whether the finest block of such a network can begin strip by strip."""
    return not cfg.raw_inputs and cfg.stem_stride == 2 and cfg.stem_padding == "zeros"


def wants_strips(cfg: IFNetConfig, run: Pass, scale: float, both: bool) -> bool:
    """Whether the block at this scale, of a pass as far as `run`, is to begin strip by strip: large frames at scale 1.

    both: whether it runs backward in time, too.
    """
    large = run.size[0] * run.size[1] > 2 * STRIP_PIXELS
    plain = not both and not torch.is_grad_enabled() and all(o.scale >= 1 for o in run.outputs)
    return scale == 1 and large and plain and strips_fit(cfg) and bool(run.outputs)


def begin_in_strips(block: IFBlock, run: Pass) -> Tensor:
    """`block.begin` at full size: warped frames and concatenated inputs of one strip of rows at a time.

    Without seams: a row of the first convolution (stride 2) reads three rows of the input, so each strip but the
    first begins two rows early, and the row that saw padding in their place is dropped.
    """
    height, width = run.size
    step = max(2, STRIP_PIXELS // width // 2 * 2)
    parts = []
    for start in range(0, height, step):
        early = 2 if start else 0
        begun = _begin_strip(block, run, start - early, min(start + step, height))
        parts.append(begun[:, :, early // 2 :])
    return torch.cat(parts, 2)


def _begin_strip(block: IFBlock, run: Pass, start: int, stop: int) -> Tensor:
    if run.ways.assemble is not None:
        return block.conv0[0](run.assembled_strip(start, stop, block.dtype))
    src, rest, flow, t = run.strip(start, stop)
    return block.begin(block.inputs(src, (), t, rest, flow))
