"""Defines IFNet: every single-network RIFE, from the paper's to 4.26.heavy, as one parametrised module.

B C H W throughout, RGB in 0..1. `flow` has four channels, in pixels: 0-1 point from the frame at time t into
img0, 2-3 into img1. `mask` is a logit until the end; its sigmoid is the weight of the warped img0.
Attribute names (`block0`, `convblock`, `lastconv`, `encode`, `block_tea` ...) are the keys of released files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from ..ops.conv import inference_on_cpu
from ..ops.memory_format import memory_format
from ..ops.warp import resize
from .config import IFNetConfig
from .ending import Ending, dissolved, rows_of_frame, whole_ending
from .ifblock import IFBlock, build_head
from .memory_estimate import MemoryEstimate, estimate_memory
from .multiscale import (
    DISSOLVE_CHANNEL,
    NO_FAST_PATHS,
    BlockOutput,
    FastPaths,
    ForwardState,
    WarpGrids,
    add_timed_mask,
    blend,
    swap,
)
from .prediction import Prediction, require_middle, time_tensor
from .refine import Contextnet, Unet
from .strips import begin_in_strips, frame_in_strips, wants_strips, wants_to_end_in_strips
from .teacher import mix_blocks, teach
from .variational_flow import motion_flow


class IFNet(nn.Module):
    """Is RIFE's network for any `IFNetConfig`. H and W must be multiples of `pad_multiple(scale_list)`.

    training_parts: weights of networks that only training has and that its file held, `block_tea.` and `caltime.` of
    4.25's kind; no part of the state dict. Training of that kind goes on with them.
    """

    training_parts: Mapping[str, Tensor] = {}  # never changed in place: models are deep-copied

    def __init__(self, config: IFNetConfig):
        super().__init__()
        self.config = config
        for i, c in enumerate(config.channels):
            setattr(self, f"block{i}", IFBlock(config, c, first=i == 0))
        if config.teacher:
            self._build_teacher()
        if config.head:
            self.encode = build_head(config)
        if config.refine:
            full = config.refine == "unet2r"
            self.contextnet = Contextnet(config.refine_act, full)
            self.unet = Unet(config.refine_act, full)

    def _build_teacher(self) -> None:
        width = self.config.channels[-1] * (2 if self.config.late_teacher else 1)
        self.block_tea = IFBlock(self.config, width, teacher=True)

    def add_teacher(self, seed: int = 0) -> None:
        """Gives a network that has none the privileged teacher of its kind: its file's, where that held one that fits,
        else with fresh weights decided by `seed`."""
        if self.config.teacher:
            return
        like = next(self.parameters())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.config = replace(self.config, teacher=True)
            self._build_teacher()
        if kept := self.training_part("block_tea"):
            self.block_tea.load_state_dict(kept)
        form = memory_format(like.device, like.dtype)
        self.block_tea.to(like.device, like.dtype, memory_format=form)  # type: ignore[call-overload]

    def training_part(self, name: str) -> dict[str, Tensor]:
        """Returns the weights of one of `training_parts`, by their names in it; empty where the file held none."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): value
            for key, value in self.training_parts.items()
            if key.startswith(prefix)
        }

    def drop_teacher(self) -> None:
        """Takes the teacher away: inference does not need it, and other tools do not expect it."""
        if self.config.teacher:
            self.config = replace(self.config, teacher=False)
            del self.block_tea

    @torch.no_grad()
    def add_dissolve(self) -> None:
        """Lets the last block say, from now on, how much of a frame is the cross-fade: at first a twentieth."""
        if self.config.dissolve:
            return
        self.config = replace(self.config, dissolve=True)
        for block in self.blocks:
            block.cfg = self.config
        conv = self.blocks[-1].shuffle_conv
        channels = slice(4 * (4 + DISSOLVE_CHANNEL), 4 * (5 + DISSOLVE_CHANNEL))
        conv.weight[:, channels] = 0
        cast(Tensor, conv.bias)[channels] = -3  # the sigmoid of which is 0.05

    @property
    def blocks(self) -> list[IFBlock]:
        """Lists the student's blocks, coarse to fine."""
        return [getattr(self, f"block{i}") for i in range(len(self.config.channels))]

    @property
    def fine_dtype(self) -> torch.dtype | None:
        """Is what trunks of the last blocks compute in, in inference on a CPU, where weights are float32; None: as all
        else."""
        return self.blocks[-1].fine_dtype

    @fine_dtype.setter
    def fine_dtype(self, dtype: torch.dtype | None) -> None:
        for block in self._fine_blocks:
            block.fine_dtype = dtype

    @property
    def _fine_blocks(self) -> list[IFBlock]:
        """The blocks that change a flow that is nearly found by little: what they round moves no pixel far."""
        if self.config.variational:
            return self.blocks[1:][-2:]  # all that stand behind the solver
        # As measured on the real 4.6 and 4.26 (docs/speed.md): one more, and single pixels are off by 10 to 15 of 255.
        # Older trunks have PReLU, which takes no mixture of precisions.
        two = len(self.config.scales) == 5 and self.config.scales[-2] == 2
        return self.blocks[-2 if two else -1 :] if self.config.trunk == "res" else []

    def encode_frame(self, img: Tensor) -> Tensor:
        """Returns the features (B,h,H,W) of a frame (B,3,H,W), usable for both pairs that it belongs to; h may be 0."""
        return self.encode(img) if self.config.head else img[:, :0]

    def predict(
        self,
        img0: Tensor,
        img1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        *,
        features: tuple[Tensor, Tensor] | None = None,
        refine: bool | None = None,
        gt: Tensor | None = None,
        keep_stages: bool = False,
        mix: bool = False,
    ) -> Prediction:
        """Predicts the frame at `timestep` between img0 and img1 (B,3,H,W), with flow and mask.

        timestep: float, or a tensor that broadcasts to (B,1,H,W); ignored by networks without one.
        scale_list: downscale of each block; default is the config's. ensemble: time-reversed second pass in
        each block, where the config has it. features: `encode_frame` of both frames, if somebody has it.
        gt: the true frame (B,3,H,W), for the teacher (training). keep_stages: fill `flows` and `merged`. mix: also
        4.25's second teacher, where blocks pass features on.
        Raises ValueError if scale_list has another length than the config's.
        """
        if features is None:
            src0, src1 = self.source(img0), self.source(img1)
        else:
            src0, src1 = (torch.cat(pair, 1) for pair in zip((img0, img1), features, strict=True))
        return self.predict_from(
            src0, src1, timestep, scale_list, ensemble, refine=refine, gt=gt, keep_stages=keep_stages, mix=mix
        )

    def source(self, img: Tensor) -> Tensor:
        """Returns (B,3+h,H,W): a frame and its features in the frame's dtype, usable for both pairs that it belongs to.

        Give float32 frames to half networks, too: sampling is done in float32, and the picture is not rounded.
        """
        if not self.config.head:
            return img.contiguous()
        # Convolutions want it interleaved; sampling, which there is more of, planar (9.3 and 7.3 ms for 7 x 512 x 768).
        dtype = self.get_dtype()
        features = self.encode_frame(img.to(dtype, memory_format=memory_format(img.device, dtype)))
        return torch.cat((img.contiguous(), features.to(img.dtype).contiguous()), 1)

    def predict_from(
        self,
        src0: Tensor,
        src1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        *,
        refine: bool | None = None,
        gt: Tensor | None = None,
        keep_stages: bool = False,
        mix: bool = False,
        grids: WarpGrids | None = None,
        fast_paths: FastPaths = NO_FAST_PATHS,
    ) -> Prediction:
        """Does `predict` from the `source` of both frames, (B,3+f,H,W): the entry for whoever encodes frames once.

        grids: of frames of this size, which saves making them anew. fast_paths: for inference; `fused_input` only where
        `triton_kernels.fits`.
        """
        cfg = self.config
        scales = tuple(scale_list or cfg.scales)
        state = ForwardState(src0, src1, time_tensor(timestep, src0), cfg.mask_add, grids, fast_paths)
        bidirectional = cfg.bidirectional(ensemble)
        mix = mix and bool(cfg.feat_channels)
        keep_stages = keep_stages or mix or gt is not None
        gt = gt if cfg.teacher else None
        flows: list[Tensor] = []
        merged: list[Tensor] = []
        for i, (block, scale) in enumerate(zip(self.blocks, scales, strict=True)):
            features_unread = i == len(scales) - 1 and not mix and gt is None
            out = self._block(block, state, scale, bidirectional, features_unread)
            state.add(out)
            if keep_stages:
                flows.append(state.full_flow())
                merged.append(state.blend())
            self._correct(i, state, out, scales)
        found = self._prediction(state, refine)
        if not keep_stages:
            return found
        flow_tea, merged_tea = (
            (None, None) if gt is None else teach(self.block_tea, state, cfg, found.flow, gt)
        )
        mixture = mix_blocks(state, flows) if mix else (None, None)
        return Prediction(found.image, found.flow, found.mask, flows, merged, flow_tea, merged_tea, *mixture)

    def image_from(
        self,
        src0: Tensor,
        src1: Tensor,
        timestep: float | Tensor,
        scale_list: Sequence[float],
        ensemble: bool = False,
        *,
        grids: WarpGrids | None = None,
    ) -> Tensor:
        """Returns the frame (B,3,H,W) of `predict_from`, for those who want neither flow nor mask: of large frames, in
        inference, these are never there as a whole."""
        cfg = self.config
        state = ForwardState(src0, src1, time_tensor(timestep, src0), cfg.mask_add, grids)
        bidirectional = cfg.bidirectional(ensemble)
        *coarse, finest = zip(self.blocks, scale_list, strict=True)
        for i, (block, scale) in enumerate(coarse):
            out = self._block(block, state, scale, bidirectional)
            state.add(out)
            self._correct(i, state, out, scale_list)
            state.keeps_full_flow = not wants_to_end_in_strips(cfg, state, finest[1], bidirectional)
            del out  # only the state may hold it: it is large, and let go of on the way
        block, scale = finest
        if scale != 1 or state.keeps_full_flow:
            state.add(self._block(block, state, scale, bidirectional, True))
        if not state.keeps_full_flow:
            return frame_in_strips(block, state, cfg, scale)
        return self._frame(state, whole_ending(cfg, state))

    def _prediction(self, state: ForwardState, refine: bool | None) -> Prediction:
        """What all blocks together found: flow, mask and the frame that they give."""
        end = whole_ending(self.config, state)
        mask = torch.sigmoid(end.mask.to(state.src0.dtype))  # as blending takes it
        return Prediction(self._frame(state, end, refine), end.flow_at(state.timestep), mask)

    def _frame(self, state: ForwardState, end: Ending, refine: bool | None = None) -> Tensor:
        """The frame of what was found in the end, and of what else the network has for it."""
        cfg = self.config
        if not (cfg.refine and (cfg.refine_default if refine is None else refine)):
            return rows_of_frame(cfg, state, end, 0, state.size[0])
        flow = end.flow_at(state.timestep)
        warped = state.warped(3, cfg.sampling, flow)
        image = self._refine(state, *warped, flow, end.mask, blend(*warped, end.mask))
        return dissolved(image, end, state.src0[:, :3], state.src1[:, :3], state.timestep)

    def _correct(self, block: int, state: ForwardState, out: BlockOutput, scales: Sequence[float]) -> None:
        """Puts the variational flow in place of the first block's, which it follows where that matches better, where
        the network has it; after any other `block` nothing happens."""
        if block != 0 or not self.config.variational:
            return
        # Half of the size at the scale that is asked for, whatever the pyramid.
        finest = max(1, int(2 * scales[-1] / self.config.scales[-1]))
        coarse = resize(out.flow.detach(), out.scale / (4 * finest))
        img0, img1, solve = state.src0[:, :3], state.src1[:, :3], state.fast_paths.solve_flow
        if solve is not None:
            flow = solve(img0, img1, state.timestep, coarse, finest)
        else:
            flow = motion_flow(img0, img1, state.timestep, coarse, finest, state.grids)
        state.replace_flow(flow, finest)
        if self.config.dissolve:
            state.look_for_rest()

    def _block(
        self, block: IFBlock, state: ForwardState, scale: float, bidirectional: bool, last: bool = False
    ) -> BlockOutput:
        """One block's pass at `scale`; bidirectional: averaged with the same block's pass backward in time.

        last: nobody reads its features.
        """
        if wants_strips(self.config, state, scale, bidirectional):
            out = block(begin_in_strips(block, state), scale, last)
        elif bidirectional:
            out = self._both_ways(block, state, scale, last)
        else:
            out = block(self._begun(block, state, scale), scale, last)
        if self.config.timed_mask and block is self.blocks[-1]:
            return out._replace(mask_feat=add_timed_mask(out.mask_feat, state.timestep_at(scale)))
        return out

    def _both_ways(self, block: IFBlock, state: ForwardState, scale: float, last: bool) -> BlockOutput:
        """The mean of a block's passes forward and backward in time, of a network without features: there mask_feat is
        the mask, whose logit changes its sign."""
        src, raw, t = self._warped_and_raw(state, scale)
        mask, flow = self._seen(state, scale, t)
        seen = (None, None) if mask is None or flow is None else (-mask, swap(flow))
        out = block(block.begin(block.inputs(src, raw, t, mask, flow)), scale, last)
        back = block(block.begin(block.inputs(src[::-1], raw[::-1], 1 - t, *seen)), scale, last)
        mask = (out.mask_feat - back.mask_feat) / 2
        return BlockOutput((out.flow + swap(back.flow)) / 2, mask, out.scale)

    def _begun(self, block: IFBlock, state: ForwardState, scale: float) -> Tensor:
        """What a block's first convolutions make of its inputs, which are let go of then: they weigh more than the
        trunk."""
        if (fused := state.fused_input(scale, block.dtype)) is not None:
            return block.conv0(fused)
        src, raw, t = self._warped_and_raw(state, scale)
        if (coarse := self._coarse(state, scale, t)) is not None:
            inputs = block.inputs(src, raw, None, None, state.flow_at(scale)) | {
                "coarse": coarse.to(block.dtype)
            }
        else:
            inputs = block.inputs(src, raw, t, *self._seen(state, scale, t))
        del src, raw, coarse
        return block.begin(inputs)

    def _warped_and_raw(
        self, state: ForwardState, scale: float
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Both warped sources, both frames as they are, where the network wants them, and the timestep."""
        src = state.sources_at(scale) if state.started or not self.config.raw_inputs else ()
        t = state.timestep_at(scale)
        raw = tuple(resize(x, 1 / scale) for x in (state.src0, state.src1)) if self.config.raw_inputs else ()
        return src, raw, t

    def _seen(self, state: ForwardState, scale: float, t: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Mask, with features, and flow so far."""
        return (state.mask_feat_at(scale), state.flow_at(scale)) if state.started else self._initial(t)

    def _coarse(self, state: ForwardState, scale: float, t: Tensor) -> Tensor | None:
        """Mask_feat and timestep before their last up-sampling by 2, which `IFBlock.stem` folds into its convolution.

        None where that cannot be, or would not be faster.
        """
        mask_feat = state.coarse_mask_feat(scale)
        # A timestep that differs from pixel to pixel (stride) is not an up-sampled one.
        if mask_feat is None or not inference_on_cpu(mask_feat) or t.stride(-1):
            return None
        if self.config.stem_padding != "zeros":
            return None
        return torch.cat((mask_feat, t[:, :, : mask_feat.shape[2], : mask_feat.shape[3]].to(mask_feat)), 1)

    def _initial(self, t: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Mask and flow before the first block: none, or zeros in 3.x."""
        if not self.config.zero_init:
            return None, None
        zero = torch.zeros_like(t)
        return zero, zero.float().repeat(1, 4, 1, 1)

    def _refine(
        self, state: ForwardState, warped0: Tensor, warped1: Tensor, flow: Tensor, mask: Tensor, image: Tensor
    ) -> Tensor:
        """`image` with the residual of Contextnet and Unet added (RIFE's paper, section 3.2)."""
        dtype, grid_of = self.get_dtype(), state.grids.grid_of
        img0, img1 = state.src0[:, :3].to(dtype), state.src1[:, :3].to(dtype)
        c0 = self.contextnet(img0, flow[:, :2], grid_of)
        c1 = self.contextnet(img1, flow[:, 2:4], grid_of)
        parts = (img0, img1, *(x.to(dtype) for x in (warped0, warped1, mask, flow)))
        return (image + self.unet(torch.cat(parts, 1), c0, c1) * 2 - 1).clamp(0, 1)

    def pad_multiple(self, scale_list: Sequence[float] | None = None) -> int:
        """Returns what height and width, in pixels, must be multiples of, for the given pyramid (default: the
        config's)."""
        scales = scale_list or self.config.scales
        return int(self.config.pad * max(1.0, max(scales) / max(self.config.scales)))

    # What ComfyUI's own FrameInterpolate node expects of a network; nothing of ComfyUI is needed for it.

    @property
    def pad_align(self) -> int:
        """Is the padding multiple at scale 1, in pixels."""
        return self.pad_multiple()

    def extract_features(self, img: Tensor) -> Tensor:
        """Returns the features (B,h,H,W) of a frame (B,3,H,W), as `encode_frame` does."""
        return self.encode_frame(img)

    def get_dtype(self) -> torch.dtype:
        """Returns the dtype of the weights."""
        return self.blocks[0].dtype

    def memory_used_forward(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Estimates the bytes of activations for one forward pass of images shaped (B,H,W,C)."""
        height, width = shape[1:3]
        return estimate_memory(self.config, height, width, dtype).peak(height * width)

    def estimate_memory(
        self, height: int, width: int, scale: float = 1.0, ensemble: bool = False
    ) -> MemoryEstimate:
        """Estimates what a pass takes for frames of that padded size, as `memory_estimate.estimate_memory` does."""
        return estimate_memory(self.config, height, width, self.get_dtype(), scale, ensemble)

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        cache: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Returns the frame at `timestep`, (B,3,H,W), between img0 and img1 (B,3,H,W); `cache` may hold the features of
        both frames as img0, img1. Raises ValueError for a timestep other than 0.5 where the network knows no other."""
        features = None
        if cache and "img0" in cache and "img1" in cache:
            batch = img0.shape[0]
            features = cache["img0"].expand(batch, -1, -1, -1), cache["img1"].expand(batch, -1, -1, -1)
        if not self.config.timestep:
            require_middle(timestep)
        return self.predict(img0, img1, timestep, scale_list, ensemble, features=features).image
