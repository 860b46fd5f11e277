"""Runs the teachers of training: networks or mixtures that see more than the student, and that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from ..ops.warp import resize
from .config import IFNetConfig
from .ifblock import IFBlock
from .multiscale import ForwardState, blend


def teach(
    block: IFBlock, state: ForwardState, cfg: IFNetConfig, flow: Tensor, gt: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns flow (B,4,H,W) and frame (B,3,H,W) of the privileged teacher (RIFE's paper, section 3.4).

    block: the teacher's; it sees the true frame gt (B,3,H,W) besides, and corrects the student's flow (B,4,H,W) and
    mask. It works at scale 1 in ECCV2022-RIFE, at scale 2 where 4.25 was trained (`IFNetConfig.late_teacher`).
    """
    scale = 2 if cfg.late_teacher else 1
    raw = (state.src0, state.src1) if cfg.raw_inputs else ()
    src = state.sources_at(scale) if scale > 1 else state.warped()
    seen = (state.mask_feat_at(scale), state.flow_at(scale), resize(gt, 1 / scale))
    inputs = block.inputs(src, raw, state.timestep_at(scale), *seen)
    out = block(block.begin(inputs), scale, last=True)
    flow_tea = flow + resize(out.flow, out.scale)
    mask_d = resize(out.mask_feat[:, :1], out.scale)
    mask_tea = state.mask_feat_at(1)[:, :1] + mask_d if cfg.mask_add else mask_d
    return flow_tea, blend(*state.warped(3, flow=flow_tea), mask_tea)


def mix_blocks(state: ForwardState, flows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns flow (B,4,H,W) and frame (B,3,H,W) of 4.25's second teacher: the flows and masks of all blocks, averaged.

    flows: of all blocks, at full size. Each pixel trusts a block by the first of the block's features.
    """
    found = [resize(x.values[:, :2].float(), x.scale) for x in state.mask_feats]
    trust = torch.cat([x[:, 1:] for x in found], 1).clamp(0.1, 1)
    trust = (trust / (trust.sum(1, True) + 1e-3)).split(1, 1)
    flow = reduce(torch.add, (share * x for share, x in zip(trust, flows, strict=True)))
    mask = reduce(torch.add, (share * x[:, :1] for share, x in zip(trust, found, strict=True)))
    return flow, blend(*state.warped(3, flow=flow), mask)
