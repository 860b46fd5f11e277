"""Makes a block's input by a Triton kernel in one pass over memory, where PyTorch takes a dozen.

Triton is no dependency: it comes with PyTorch for CUDA and ROCm on Linux, and is imported at first use.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .config import IFNetConfig

tl: Any = None  # triton.language, from `_jitted` on: kernels find it among the globals of their module
_TILE_ROWS, _TILE_COLS = 4, 32  # pixels of one program: neighbours read neighbours
THREADS = _TILE_ROWS * _TILE_COLS  # one pixel each


def warp_and_concatenate(
    src0: Tensor,
    src1: Tensor,
    flow: Tensor,
    mask_feat: Tensor,
    t: Tensor,
    scale: int,
    dtype: torch.dtype,
    rows: tuple[int, int] | None = None,
) -> Tensor:
    """Makes a block's input (B,3+3+2f+1+r+4,h,w) in `dtype`: warped frames, their features, t, mask_feat and flow.

    src0, src1: (B,3+f,H,W) frames and features; flow: (B,4,kh,kw) pixels of the full size, float32, at all pixels
    (k = 1, scale 1) or at the central 2x2 of each cell of `scale` pixels (k = 2), of which the mean is taken, of the
    flow's, too. mask_feat: (B,r,h,w), t: (B,1,h,w), with any strides. rows: from, to; then h is their number, and
    mask_feat and t are of these only. Sampling as in `warp`: border clamped, in float32.
    """
    first, stop = rows or (0, mask_feat.shape[2])
    batch, height, width = mask_feat.shape[0], stop - first, mask_feat.shape[3]
    fixed = constants(src0.shape[1] - 3, mask_feat.shape[1], points=1 if scale == 1 else 2)
    # What convolutions of few channels want on GPUs (`memory_format`), and what the kernel is made for.
    shape = batch, fixed["COLUMNS"], height, width
    out = torch.empty(shape, dtype=dtype, device=src0.device, memory_format=torch.channels_last)
    src0, src1, flow = _planes(src0), _planes(src1), flow.contiguous()
    grid = -(-width // _TILE_COLS), -(-height // _TILE_ROWS), batch
    with _on(src0.device):
        _jitted()[grid](
            *(out, src0, src1, flow, mask_feat, t),
            *src0.shape[2:],
            *(height, width, first, scale, flow.shape[2] * flow.shape[3]),
            *(src0.stride(0), src1.stride(0), *mask_feat.stride(), t.stride(0), *t.stride()[2:]),
            **fixed,
            num_stages=1,
            num_warps=THREADS // _warp_size(src0.device),
        )
    return out


def fits(cfg: IFNetConfig) -> bool:
    """Tells whether the blocks of such a network take their inputs as `warp_and_concatenate` puts them."""
    if not cfg.timestep or cfg.raw_inputs:
        return False
    # A lean network's second block gets frames that are reduced before they are warped.
    return not (cfg.variational and cfg.scales[1:] == (2,))


def constants(features: int, channels: int, points: int) -> dict[str, int]:
    """Returns what the kernel is compiled for: channels of features and mask_feat, and 1 or 2 points a side per
    pixel."""
    columns = 6 + 2 * features + 1 + channels + 4
    return {
        "FEATURES": features,
        "MASK_FEAT": channels,
        "POINTS": points,
        "COLUMNS": columns,
        "PADDED": 1 << (columns - 1).bit_length(),
        "TILE_ROWS": _TILE_ROWS,
        "TILE_COLS": _TILE_COLS,
    }


def runs_on(device: torch.device) -> bool:
    """Tells whether Triton could have a backend for `device`: on CPUs only its interpreter, which tests use."""
    return device.type in ("cuda", "xpu") or os.environ.get("TRITON_INTERPRET") == "1"


def _planes(source: Tensor) -> Tensor:
    """With the planes of each sample one behind the other, wherever the samples lie."""
    return source if source[0].is_contiguous() else source.contiguous()


def _on(device: torch.device) -> contextlib.AbstractContextManager:
    """Triton launches on the current device."""
    return (
        contextlib.nullcontext() if device.type == "cpu" else torch.get_device_module(device).device(device)
    )


def _warp_size(device: torch.device) -> int:
    """Threads that go in step: 64 on AMD's data centre GPUs."""
    known = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return getattr(known, "warp_size", 32)


@cache
def _jitted() -> Any:
    global tl
    import triton
    import triton.language

    tl = triton.language
    return triton.jit(_warp_and_concatenate)


def _warp_and_concatenate(  # type: ignore[no-untyped-def]  # Triton takes no annotations but its own
    out, src0, src1, flow, mask_feat, t,
    height, width,  # of the sources
    rows, cols, first, scale,  # of the output
    flow_plane,  # strides, too: _b from sample to sample, _c channel, _y row, _x column
    src0_b, src1_b, mask_feat_b, mask_feat_c, mask_feat_y, mask_feat_x, t_b, t_y, t_x,
    FEATURES: tl.constexpr, MASK_FEAT: tl.constexpr, POINTS: tl.constexpr, COLUMNS: tl.constexpr, PADDED: tl.constexpr,
    TILE_ROWS: tl.constexpr, TILE_COLS: tl.constexpr,
):  # fmt: skip
    """See `warp_and_concatenate`. A program makes a tile of pixels, a thread all columns of one of them.

    That is how Triton lays out values of (pixels, columns) that are gathered: what each column is is then known when
    the kernel is compiled, sources are read along their rows, and threads exchange values for the store only.
    """
    SAMPLED: tl.constexpr = 6 + 2 * FEATURES
    b = tl.program_id(2).to(tl.int64)
    pixel = tl.arange(0, TILE_ROWS * TILE_COLS)[:, None]
    y = tl.program_id(1) * TILE_ROWS + pixel // TILE_COLS
    x = tl.program_id(0) * TILE_COLS + pixel % TILE_COLS
    inside = (y < rows) & (x < cols)
    c = tl.arange(0, PADDED)[None, :]

    # Columns: img0, img1, features0, features1, t, mask_feat, flow (`ifblock.input_columns`).
    second = ((c >= 3) & (c < 6)) | (c >= 6 + FEATURES)
    channel = tl.where(c < 3, c, tl.where(c < 6 + FEATURES, c - 3, c - 3 - FEATURES))
    # Not one pointer chosen from two: AMD's compiler knows for each pointer the tensor it points into.
    plane = channel.to(tl.int64) * height * width
    plane0, plane1 = src0 + b * src0_b + plane, src1 + b * src1_b + plane
    wanted0 = inside & (c < SAMPLED) & ~second
    wanted1 = inside & (c < SAMPLED) & second

    value = tl.zeros((TILE_ROWS * TILE_COLS, PADDED), tl.float32)
    flows = flow + b * 4 * flow_plane
    margin = (scale - 1) // 2
    # Not unrolled: all loads of four points at once do not fit into the registers.
    for point in range(POINTS * POINTS):
        i, j = point // POINTS, point % POINTS
        at = flows + (POINTS * (first + y) + i) * (POINTS * cols) + POINTS * x + j
        u0 = tl.load(at, mask=inside, other=0.0)
        v0 = tl.load(at + flow_plane, mask=inside, other=0.0)
        u1 = tl.load(at + 2 * flow_plane, mask=inside, other=0.0)
        v1 = tl.load(at + 3 * flow_plane, mask=inside, other=0.0)
        u = tl.where(second, u1, u0) + (scale * x + margin + j).to(tl.float32)
        v = tl.where(second, v1, v0) + (scale * (first + y) + margin + i).to(tl.float32)
        # A flow of NaN goes to 0, not out of the picture.
        u = tl.minimum(tl.where(u > 0, u, 0.0), width - 1.0)
        v = tl.minimum(tl.where(v > 0, v, 0.0), height - 1.0)
        left, above = u.to(tl.int32), v.to(tl.int32)
        right, below = tl.minimum(left + 1, width - 1), tl.minimum(above + 1, height - 1)
        du, dv = u - left.to(tl.float32), v - above.to(tl.float32)
        for corner in range(4):
            place = tl.where(corner < 2, above, below) * width + tl.where(corner % 2 == 0, left, right)
            share = tl.where(corner < 2, 1 - dv, dv) * tl.where(corner % 2 == 0, 1 - du, du)
            value += share * tl.load(plane0 + place, mask=wanted0, other=0.0).to(tl.float32)
            value += share * tl.load(plane1 + place, mask=wanted1, other=0.0).to(tl.float32)
        moved = c - (SAMPLED + 1 + MASK_FEAT)
        pixels = tl.where(moved == 0, u0, tl.where(moved == 1, v0, tl.where(moved == 2, u1, v1)))
        value += tl.where(moved >= 0, pixels * (1.0 / scale), 0.0)
    value *= 1.0 / (POINTS * POINTS)

    time = tl.load(t + b * t_b + y * t_y + x * t_x, mask=inside, other=0.0).to(tl.float32)
    value = tl.where(c == SAMPLED, time, value)
    k = c - (SAMPLED + 1)
    at = (
        mask_feat
        + b * mask_feat_b
        + k.to(tl.int64) * mask_feat_c
        + y.to(tl.int64) * mask_feat_y
        + x * mask_feat_x
    )
    value += tl.load(at, mask=inside & (k >= 0) & (k < MASK_FEAT), other=0.0).to(tl.float32)

    at = out + ((b * rows + y) * cols + x) * COLUMNS + c
    tl.store(at, value.to(out.dtype.element_ty), mask=inside & (c < COLUMNS))
