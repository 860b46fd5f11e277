"""Estimates how much of a device's memory a network's passes take."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..ops.row_strips import STRIP_PIXELS, is_large
from .config import IFNetConfig
from .strips import ends_in_strips, ends_in_strips_when_coarse, strips_fit

ENCODED_SINGLY = 1 << 21  # pixels; frames of more are encoded one at a time


class MemoryEstimate(NamedTuple):
    """Says what a network takes, in bytes per pixel of a (padded) frame."""

    source: float  # what a pass wants of one frame: the frame and its features
    encode: float  # at the peak of making that for one frame
    forward: float  # at the peak of a pass, beyond its two sources
    image: float  # the frame that a pass makes
    lean: float | None = None  # at the peak of a pass of which only the frame is wanted, where that is less

    def peak(
        self, pixels: int, batch: int = 1, tta: bool = False, reverse: bool = False, maps: int = 0,
        only_image: bool = False,
    ) -> int:  # fmt: skip
        """Returns the bytes for `batch` new frames of so many pixels made in one pass of the engine, what is uploaded
        included.

        tta, reverse: whether frames turned by 180 degrees, and in reversed order, make one more pass each; maps:
        channels behind the colours; only_image: whether passes give no flow (`IFNet.image_from`).
        """
        beyond = self.lean if only_image and self.lean is not None else self.forward
        # A pair; in a batch the frames of which pairs are put together, besides.
        frames = 2 if batch == 1 else 3 + 1 / batch
        source = self.source + 4 * maps
        # What the first pass gave waits for the second.
        forward = beyond + self.image * (tta + reverse) + 28 * maps
        new, encode = 1 + 1 / batch, 4 * source + 24 if tta else self.encode + 8 * maps
        if pixels > ENCODED_SINGLY:
            encode = encode / batch + new * (12 + (1 + tta) * source)
        else:
            encode *= new
        return int(1.08 * batch * pixels * max(frames * (1 + tta) * source + forward, encode))


def estimate_memory(
    cfg: IFNetConfig, height: int, width: int, dtype: torch.dtype, scale: float = 1.0, ensemble: bool = False
) -> MemoryEstimate:
    """Estimates the memory for frames of that (padded) size in pixels; `scale` and `ensemble` as in `Model.inference`.

    The terms are those of the moment at which most is alive: the finest block's input (float32 warped frames, their
    copies in the network's dtype, concatenated) and its stem, or the last warp. In strips the block needs its stem
    only. Held to the bytes counted in tests/test_memory.py, where each version, scale and option is.
    """
    size, frame = dtype.itemsize, 3 + cfg.head_channels
    # Of the finest trunk, by its resolution and by its tail, which may be of two networks.
    share = 1.5 if cfg.stem_stride == 1 else 0.3 if cfg.tail.startswith("split") else 0.25
    trunk = size * cfg.channels[-1] * share
    block = (56 if cfg.head else 30) + 16 * frame + trunk + size * 1.3 * cfg.tail_channels
    block += 36 * cfg.raw_inputs
    # With the solver what counts is decided before it is enlarged (`ending`).
    last_warp = 4 * (1.5 * frame + (10.5 if cfg.variational else 15.5) + 6 * cfg.dissolve)
    bidirectional = cfg.bidirectional(ensemble)
    lean = None
    finest = scale / cfg.scales[-1]  # of the frame's sides is what the finest block sees
    if finest > 1:
        forward = 0.8 * block * finest**2
    elif finest < 1:
        forward = last_warp + 0.25 * block * finest**2
        if ends_in_strips_when_coarse(cfg) and not bidirectional and is_large(height, width):
            lean = 17.0 + 7 * frame  # in strips; frames are halved for that block, or more
    elif strips_fit(cfg) and not bidirectional and is_large(height, width):
        share = STRIP_PIXELS / (height * width)
        forward = last_warp + trunk + block * 0.2 * share
        if ends_in_strips(cfg) and not cfg.adaptive:  # which makes the whole of either pyramid
            lean = _of_image_only(cfg, size, block * share)
    else:
        forward = block
    if bidirectional:
        forward += 44 * finest**2
    if cfg.variational:  # the equations of its finest level
        solver = 228 / max(1.0, 2 / scale) ** 2
        forward, lean = max(forward, solver), lean and max(lean, solver)
    if cfg.refine:  # contexts and the Unet's skips, whatever the scale
        forward = max(forward, 160 + size * (370 if cfg.refine == "unet2r" else 95))
    if cfg.adaptive:  # samples of either pyramid are put together anew
        forward += 8 * frame + 16
    encode = 48 + 10 * cfg.head_channels if cfg.head else 40
    return MemoryEstimate(4 * frame, encode, forward, 12, lean)


def _of_image_only(cfg: IFNetConfig, size: int, strip: float) -> float:
    """Bytes per pixel at the peak of `IFNet.image_from`, beyond both sources; strip: of the finest block's input, in
    one strip.

    That is in a strip, while frames are halved for the block before the finest, in that block's input, or in the finest
    trunk.
    """
    frame, features = 3 + cfg.head_channels, 1.4 * cfg.feat_channels
    halves = 18 + (6 if size < 4 else 4) * frame
    before = size * (cfg.later_inputs / 4 + cfg.channels[-2] / 32) + 2 * frame + 19 + features
    trunk = 24 + 6.5 * size + size * cfg.channels[-1] / 8
    return max(45 + 0.95 * strip, halves, before + 9 * cfg.variational, trunk)
