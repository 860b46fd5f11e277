"""The teachers of training: networks or mixtures that see more than the student, and that it learns from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ops.warp import resize, warp
from .config import IFNetConfig
from .ifblock import IFBlock
from .multiscale import Pass, blend


def teach(block: IFBlock, run: Pass, cfg: IFNetConfig, flow: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (B,4,H,W) and frame (B,3,H,W) of the privileged teacher; paper section 3.4.

    block: the teacher's, which sees the true frame gt (B,3,H,W) and corrects the student's flow and mask.
    At scale 1 as in ECCV2022-RIFE, at scale 2 as 4.25 was trained (`IFNetConfig.late_teacher`).
    """
    scale = 2 if cfg.late_teacher else 1
    frames = (run.src0, run.src1)
    raw = frames if cfg.raw_inputs else ()
    src = run.sources_at(scale) if scale > 1 else run.warped()
    seen = (run.rest_at(scale), run.flow_at(scale), resize(gt, 1 / scale))
    inputs = block.inputs(src, raw, run.timestep_at(scale), *seen)
    out = block(block.begin(inputs), scale, last=True)
    flow_tea = flow + resize(out.flow, out.scale)
    mask_d = resize(out.rest[:, :1], out.scale)
    mask_tea = run.rest_at(1)[:, :1] + mask_d if cfg.mask_add else mask_d
    warped0, warped1 = (
        warp(x[:, :3], f, run.geometry.grid)
        for x, f in zip(frames, (flow_tea[:, :2], flow_tea[:, 2:4]), strict=True)
    )
    return flow_tea, blend(warped0, warped1, mask_tea)


def mix_blocks(run: Pass, flows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Flow (B,4,H,W) and frame (B,3,H,W) of 4.25's second teacher: the flows and masks of all blocks, averaged.

    flows: of all blocks, at full size. Each pixel trusts a block by the first of the block's features.
    """
    found = [resize(out.rest[:, :2].float(), out.scale) for out in run.outputs if out.rest is not None]
    trust = torch.cat([x[:, 1:] for x in found], 1).clamp(0.1, 1)
    trust = (trust / (trust.sum(1, True) + 1e-3)).split(1, 1)
    flow = sum(share * x for share, x in zip(trust, flows, strict=True))
    mask = sum(share * x[:, :1] for share, x in zip(trust, found, strict=True))
    return flow, blend(*run.warped(3, flow=flow), mask)
