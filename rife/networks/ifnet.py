"""IFNet: every single-network RIFE, from the paper's to 4.26.heavy, as one parametrised module.

B C H W throughout, RGB in 0..1. `flow` has four channels, in pixels: 0-1 point from the frame at time t into
img0, 2-3 into img1. `mask` is a logit until the end; its sigmoid is the weight of the warped img0.
Attribute names (`block0`, `convblock`, `lastconv`, `encode`, `block_tea` ...) are the keys of released files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..ops.memory_format import memory_format
from ..ops.warp import resize
from .config import IFNetConfig
from .ifblock import IFBlock, build_head
from .memory_estimate import Need, need
from .multiscale import PLAIN, Geometry, Output, Pass, Ways, blend, swap
from .prediction import Prediction, require_middle, time_tensor
from .refine import Contextnet, Unet
from .static_regions import change_around, settled
from .strips import begin_in_strips, wants_strips
from .teacher import mix_blocks, teach
from .variational_flow import motion_flow

_DISSOLVE = 2  # its channel behind the flow; the one before it tells 4.25's second teacher whom to trust


class IFNet(nn.Module):
    """RIFE's network for any `IFNetConfig`. H and W must be multiples of `pad_multiple(scale_list)`."""

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
        """Gives a network that has none the privileged teacher of its kind, with fresh weights decided by `seed`."""
        if self.config.teacher:
            return
        like = next(self.parameters())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.config = replace(self.config, teacher=True)
            self._build_teacher()
        form = memory_format(like.device, like.dtype)
        self.block_tea.to(like.device, like.dtype, memory_format=form)

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
        conv, _ = self.blocks[-1].lastconv
        channels = slice(4 * (4 + _DISSOLVE), 4 * (5 + _DISSOLVE))
        conv.weight[:, channels] = 0
        conv.bias[channels] = -3

    @property
    def blocks(self) -> list[IFBlock]:
        """The student blocks, coarse to fine."""
        return [getattr(self, f"block{i}") for i in range(len(self.config.channels))]

    def encode_frame(self, img: Tensor) -> Tensor:
        """Features (B,h,H,W) of a frame (B,3,H,W), usable for both pairs that it belongs to; h may be 0."""
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
        """The frame at `timestep` between img0 and img1 (B,3,H,W), with flow and mask.

        timestep: float, or a tensor that broadcasts to (B,1,H,W); ignored by networks without one.
        scale_list: downscale of each block; default is the config's. ensemble: time-reversed second pass in
        each block, where the config has it. features: `encode_frame` of both frames, if already there.
        gt: the true frame, for the teacher (training). keep_stages: fill `flows` and `merged`. mix: also 4.25's second
        teacher, where blocks pass features on.
        """
        if features is None:
            src0, src1 = self.source(img0), self.source(img1)
        else:
            src0, src1 = (torch.cat(pair, 1) for pair in zip((img0, img1), features, strict=True))
        return self.predict_from(
            src0, src1, timestep, scale_list, ensemble, refine=refine, gt=gt, keep_stages=keep_stages, mix=mix
        )

    def source(self, img: Tensor) -> Tensor:
        """(B,3+h,H,W): a frame and its features in the frame's dtype, usable for both pairs that it belongs to.

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
        geometry: Geometry | None = None,
        ways: Ways = PLAIN,
    ) -> Prediction:
        """`predict` from the `source` of both frames; `geometry` saves making the grids anew.

        ways: faster ones, for inference; that of `assemble` only for networks that it fits (`triton_kernels.fits`).
        """
        cfg = self.config
        scales = tuple(scale_list or cfg.scales)
        run = self._begin(src0, src1, timestep, geometry, ways)
        both = cfg.bidirectional(ensemble)
        mix = mix and bool(cfg.feat_channels)
        keep_stages = keep_stages or mix or gt is not None
        gt = gt if cfg.teacher else None
        flows: list[Tensor] = []
        merged: list[Tensor] = []
        for i, (block, scale) in enumerate(zip(self.blocks, scales, strict=True)):
            unread = i == len(scales) - 1 and not mix and gt is None
            out = self._block(block, run, scale, both, unread)
            run.add(out)
            if keep_stages:
                flows.append(run.full_flow())
                merged.append(run.blend())
            if cfg.variational and i == 0:
                self._correct(run, out, scales)
        found = self._prediction(run, refine)
        if not keep_stages:
            return found
        flow_tea, merged_tea = (None, None) if gt is None else teach(self.block_tea, run, cfg, found.flow, gt)
        mixture = mix_blocks(run, flows) if mix else (None, None)
        return Prediction(found.image, found.flow, found.mask, flows, merged, flow_tea, merged_tea, *mixture)

    def _begin(
        self, src0: Tensor, src1: Tensor, timestep: float | Tensor, geometry: Geometry | None, ways: Ways
    ) -> Pass:
        return Pass(src0, src1, time_tensor(timestep, src0), self.config.mask_add, geometry, ways)

    def _prediction(self, run: Pass, refine: bool | None) -> Prediction:
        """What all blocks together found: flow, mask and the frame that they give."""
        cfg = self.config
        flow, rest = run.full_flow(), run.rest_at(1)
        mask = rest[:, :1]
        if cfg.still_radius:
            change = change_around(run.src0[:, :3], run.src1[:, :3], cfg.still_radius)
            flow, mask = settled(flow, mask, change, run.timestep)
        image = self._frame(run, flow, mask, rest, cfg.refine_default if refine is None else refine)
        return Prediction(image, flow, torch.sigmoid(mask))

    def _frame(self, run: Pass, flow: Tensor, mask: Tensor, rest: Tensor, refine: bool) -> Tensor:
        """The frame of the final flow and mask, and of what else the network has for it."""
        warped = run.warped(3, self.config.sampling, flow)
        image = blend(*warped, mask)
        if self.config.refine and refine:
            image = self._refine(run, *warped, flow, mask, image)
        if self.config.dissolve:
            del warped  # as large as all that follows
            fade = torch.lerp(run.src0[:, :3], run.src1[:, :3], run.timestep.to(run.src0))
            image = torch.lerp(image, fade, torch.sigmoid(rest[:, _DISSOLVE : _DISSOLVE + 1].to(image.dtype)))
        return image

    def _correct(self, run: Pass, out: Output, scales: Sequence[float]) -> None:
        """What the first block found, followed where it matches better, and measured to a fraction of a pixel."""
        finest = max(1, int(2 * scales[-1]))
        coarse = resize(out.flow.detach(), out.scale / (4 * finest))
        given = run.src0[:, :3], run.src1[:, :3], run.timestep, coarse, finest
        solve = run.ways.solve
        run.restart(solve(*given) if solve else motion_flow(*given, run.geometry), finest)

    def _block(self, block: IFBlock, run: Pass, scale: float, both: bool, last: bool = False) -> Output:
        """One block, forward in time and, for the ensemble, averaged with the same block run backward.

        last: nobody reads its features.
        """
        if wants_strips(self.config, run, scale, both):
            return block(begin_in_strips(block, run), scale, last)
        if not both and (assembled := run.assembled(scale, block.dtype)) is not None:
            return block(block.conv0[0](assembled), scale, last)
        src = run.sources_at(scale) if run.outputs or not self.config.raw_inputs else ()
        t = run.timestep_at(scale)
        raw = tuple(resize(x, 1 / scale) for x in (run.src0, run.src1)) if self.config.raw_inputs else ()
        coarse = None if both else self._coarse(run, scale, t)
        if coarse is not None:
            inputs = block.inputs(src, raw, None, None, run.flow_at(scale)) | {"coarse": coarse}
            return block(block.begin(inputs), scale, last)
        rest, flow = (run.rest_at(scale), run.flow_at(scale)) if run.outputs else self._initial(t)
        out = block(block.begin(block.inputs(src, raw, t, rest, flow)), scale, last)
        if both:
            # Only networks without features have an ensemble: the rest is the mask.
            back = (None, None) if rest is None else (-rest, swap(flow))
            back = block(block.begin(block.inputs(src[::-1], raw[::-1], 1 - t, *back)), scale, last)
            out = out._replace(flow=(out.flow + swap(back.flow)) / 2, rest=(out.rest - back.rest) / 2)
        return out

    def _coarse(self, run: Pass, scale: float, t: Tensor) -> Tensor | None:
        """Rest and timestep before their last doubling, for `IFBlock.begin` to fold that into its convolution."""
        rest = run.coarse_rest(scale)
        # A timestep that differs from pixel to pixel (stride) is not a doubled one.
        if rest is None or rest.device.type != "cpu" or torch.is_grad_enabled() or t.stride(-1):
            return None
        if self.config.stem_padding != "zeros":
            return None
        return torch.cat((rest, t[:, :, : rest.shape[2], : rest.shape[3]].to(rest)), 1)

    def _initial(self, t: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Mask and flow before the first block: none, or zeros in 3.x."""
        if not self.config.zero_init:
            return None, None
        zero = torch.zeros_like(t)
        return zero, zero.float().repeat(1, 4, 1, 1)

    def _refine(self, run: Pass, warped0, warped1, flow, mask, image) -> Tensor:
        dtype, grid_of = self.get_dtype(), run.geometry.grid_of
        img0, img1 = run.src0[:, :3].to(dtype), run.src1[:, :3].to(dtype)
        c0 = self.contextnet(img0, flow[:, :2], grid_of)
        c1 = self.contextnet(img1, flow[:, 2:4], grid_of)
        parts = (img0, img1, *(x.to(dtype) for x in (warped0, warped1, mask, flow)))
        return (image + self.unet(torch.cat(parts, 1), c0, c1) * 2 - 1).clamp(0, 1)

    def pad_multiple(self, scale_list: Sequence[float] | None = None) -> int:
        """Frames must be padded to a multiple of this for the given pyramid."""
        scales = scale_list or self.config.scales
        return int(self.config.pad * max(1.0, max(scales) / max(self.config.scales)))

    # What ComfyUI's own FrameInterpolate node expects of a network; nothing of ComfyUI is needed for it.

    @property
    def pad_align(self) -> int:
        """Padding multiple at scale 1."""
        return self.pad_multiple()

    def extract_features(self, img: Tensor) -> Tensor:
        """See `encode_frame`."""
        return self.encode_frame(img)

    def get_dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.block0.conv0[0][0].weight.dtype

    def memory_used_forward(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Bytes of activations for one forward pass of images shaped (B,H,W,C)."""
        height, width = shape[1:3]
        return need(self.config, height, width, dtype).peak(height * width)

    def need(self, height: int, width: int, scale: float = 1.0, ensemble: bool = False) -> Need:
        """See `need`."""
        return need(self.config, height, width, self.get_dtype(), scale, ensemble)

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        cache: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The frame at `timestep`, (B,3,H,W); `cache` may hold the features of both frames as img0, img1."""
        features = None
        if cache and "img0" in cache and "img1" in cache:
            b = img0.shape[0]
            features = tuple(cache[k].expand(b, -1, -1, -1) for k in ("img0", "img1"))
        if not self.config.timestep:
            require_middle(timestep)
        return self.predict(img0, img1, timestep, scale_list, ensemble, features=features).image
