"""IFNet: every single-network RIFE, from the paper's to 4.26.heavy, as one parametrised module.

B C H W throughout, RGB in 0..1. `flow` has four channels, in pixels: 0-1 point from the frame at time t into
img0, 2-3 into img1. `mask` is a logit until the end; its sigmoid is the weight of the warped img0.
Attribute names (`block0`, `convblock`, `lastconv`, `encode`, `block_tea` ...) are the keys of released files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import IFNetConfig
from .refine import Contextnet, Unet, conv, deconv
from .warp import resize, sampling_grid, warp


@dataclass(frozen=True)
class Prediction:
    """What one forward pass knows."""

    image: Tensor  # (B,3,H,W), the frame at time t
    flow: Tensor  # (B,4,H,W) pixels: t->0, t->1
    mask: Tensor  # (B,1,H,W) in 0..1, weight of the warped img0
    flows: list[Tensor] = field(default_factory=list)  # of every block, coarse to fine; only if asked for
    merged: list[Tensor] = field(
        default_factory=list
    )  # the frame after every block, before refinement, likewise
    flow_tea: Tensor | None = None  # of the privileged teacher, which saw the true frame
    merged_tea: Tensor | None = None


class ResConv(nn.Module):
    """LeakyReLU(conv(x) * beta + x), the trunk of 4.5 and later."""

    def __init__(self, c: int, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, c, 1, 1))
        self.relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        # A host that loads models partly moves leaf modules; beta sits on a module with children: cast at use.
        return self.relu(torch.addcmul(x, self.conv(x), self.beta.to(x)))


class Head(nn.Module):
    """Per-frame features at full resolution, in the spelling of 4.13 and later."""

    def __init__(self, mid: int, c_out: int):
        super().__init__()
        self.cnn0 = nn.Conv2d(3, mid, 3, 2, 1)
        self.cnn1 = nn.Conv2d(mid, mid, 3, 1, 1)
        self.cnn2 = nn.Conv2d(mid, mid, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(mid, c_out, 4, 2, 1)
        self.relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        for cnn in (self.cnn0, self.cnn1, self.cnn2):
            x = self.relu(cnn(x))
        return self.cnn3(x)


def _build_head(cfg: IFNetConfig) -> nn.Module:
    mid, c_out = cfg.head_mid, cfg.head_channels
    if cfg.head == "cnn":
        return Head(mid, c_out)
    if cfg.head == "seq2":
        return nn.Sequential(nn.Conv2d(3, mid, 3, 2, 1), nn.ConvTranspose2d(mid, c_out, 4, 2, 1))
    layers: list[nn.Module] = [nn.Conv2d(3, mid, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for _ in range(2):
        layers += [nn.Conv2d(mid, mid, 3, 1, 1), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(mid, c_out, 4, 2, 1))


class Output(NamedTuple):
    """What one block finds, at 1/scale of the frames' size."""

    flow: Tensor  # (B,4,h,w) float32, change of flow in full-resolution pixels
    mask: Tensor  # (B,1,h,w) logits
    feat: Tensor | None  # (B,8,h,w) for the next block
    scale: float


class IFBlock(nn.Module):
    """Refines flow and mask at one scale."""

    def __init__(self, cfg: IFNetConfig, c_in: int, c: int):
        super().__init__()
        act = cfg.act
        self.cfg = cfg
        self.conv0 = nn.Sequential(conv(c_in, c // 2, act, cfg.stem_stride), conv(c // 2, c, act, 2))
        if cfg.trunk == "res":
            self.convblock = nn.Sequential(*(ResConv(c, cfg.groups) for _ in range(8)))
        elif cfg.trunk == "plain":
            self.convblock = nn.Sequential(*(conv(c, c, act) for _ in range(8)))
        else:
            for i in range(4):
                setattr(self, f"convblock{i}", nn.Sequential(conv(c, c, act), conv(c, c, act)))
        self._build_tail(c)
        # The stem halves once or twice; what the tail does not undo is left to the resampling of the output.
        tail_up = 2 if cfg.tail in ("deconv", "split1") else 4
        self.up = cfg.stem_stride * 2 // tail_up

    def _build_tail(self, c: int) -> None:
        cfg = self.cfg
        if cfg.tail == "deconv":
            self.lastconv = nn.ConvTranspose2d(c, cfg.tail_channels, 4, 2, 1)
        elif cfg.tail == "shuffle":
            up = nn.ConvTranspose2d(c, 4 * cfg.tail_channels, 4, 2, 1)
            self.lastconv = nn.Sequential(up, nn.PixelShuffle(2))
        elif cfg.tail == "split1":
            self.conv1 = nn.Sequential(nn.ConvTranspose2d(c, 4, 4, 2, 1))
            self.conv2 = nn.ConvTranspose2d(c, 1, 4, 2, 1)
        else:
            self.conv1 = nn.Sequential(*deconv(c, c // 2, cfg.act), nn.ConvTranspose2d(c // 2, 4, 4, 2, 1))
            self.conv2 = nn.Sequential(*deconv(c, c // 2, cfg.act), nn.ConvTranspose2d(c // 2, 1, 4, 2, 1))

    def _trunk(self, x: Tensor) -> Tensor:
        if self.cfg.trunk == "pair":
            for i in range(4):
                x = getattr(self, f"convblock{i}")(x) + x
            return x
        return self.convblock(x) + x if self.cfg.trunk_skip else self.convblock(x)

    def _tail(self, x: Tensor, last: bool) -> Tensor:
        """Flow, mask and, unless this is the last block, whose features nobody reads, the rest."""
        if self.cfg.tail == "deconv":
            return self.lastconv(x)
        if self.cfg.tail != "shuffle":
            return torch.cat((self.conv1(x), self.conv2(x)), 1)
        if not last:
            return self.lastconv(x)
        # PixelShuffle makes its first five channels from the first twenty: 60% less work at the finest scale.
        up, shuffle = self.lastconv
        return shuffle(F.conv_transpose2d(x, up.weight[:, :20], up.bias[:20], up.stride, up.padding))

    def forward(self, x: Tensor, scale: float, last: bool = False) -> Output:
        """Inputs (B,C,h,w) at 1/scale, flow last and in their pixels -> what it finds, at its own resolution."""
        out = self._tail(self._trunk(self.conv0(x)), last)
        scale = scale * self.up
        feat = out[:, 5:] if self.cfg.feat_channels and not last else None
        return Output(out[:, :4].float() * scale, out[:, 4:5], feat, scale)


def _swap(flow: Tensor) -> Tensor:
    return torch.cat((flow[:, 2:4], flow[:, :2]), 1)


class _Pass:
    """One forward pass: the frames, and what the blocks found so far, kept at the resolution they found it at.

    RIFE is written as: every block resamples its output to full size, the next one resamples it down again.
    Bilinear up by a and then down by b <= a/2 (powers of two, align_corners=False) is exactly up by a/b, so the
    detour through full size is left out (`_chain`). Up by a and then by b is not up by a*b: each block's flow is
    kept apart and the direct up-samplings are summed. Down by s reads only the central 2x2 pixels of each s x s
    cell, so for the coarse blocks only those are warped (`_warp_sparse`). Same frames to 5e-6.
    """

    def __init__(self, src0: Tensor, src1: Tensor, timestep: Tensor, mask_add: bool):
        self.src0, self.src1 = src0, src1  # (B,3+h,H,W) frames and their features
        self.timestep = timestep  # (B,1,1,1), or (B,1,H,W)
        self.mask_add = mask_add
        self.size = src0.shape[-2:]
        self.grid = sampling_grid(*self.size, src0.device)
        self.outputs: list[Output] = []
        self._full: tuple[int, Tensor] | None = None

    def add(self, output: Output) -> None:
        self.outputs.append(output)

    def timestep_at(self, scale: float) -> Tensor:
        height, width = (int(side / scale) for side in self.size)
        if self.timestep.shape[-1] == 1:
            return self.timestep.expand(-1, 1, height, width)
        return resize(self.timestep, 1 / scale)

    def flow_at(self, scale: float) -> Tensor:
        """(B,4,H/scale,W/scale), in pixels of that size."""
        return sum(_chain(o.flow, o.scale, scale) for o in self.outputs) / scale

    def mask_at(self, scale: float) -> Tensor:
        outputs = self.outputs if self.mask_add else self.outputs[-1:]
        return sum(_chain(o.mask, o.scale, scale) for o in outputs)

    def feat_at(self, scale: float) -> Tensor | None:
        last = self.outputs[-1]
        return None if last.feat is None else _chain(last.feat, last.scale, scale)

    def full_flow(self) -> Tensor:
        """(B,4,H,W) in pixels; the sum so far is kept for the next block."""
        count, total = self._full or (0, None)
        for o in self.outputs[count:]:
            flow = resize(o.flow, o.scale)
            total = flow if total is None else total + flow
        self._full = (len(self.outputs), total)
        return total

    def sources_at(self, scale: float) -> tuple[Tensor, Tensor]:
        """Both frames and their features, warped by the flow so far, at 1/scale."""
        if not self.outputs:
            return resize(self.src0, 1 / scale), resize(self.src1, 1 / scale)
        if scale >= 2 and all(o.scale >= 1 for o in self.outputs):
            return self._warp_sparse(int(scale))
        return tuple(resize(x, 1 / scale) for x in self.warped())

    def warped(self, channels: int | None = None, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
        """Both frames and their features (or the first `channels`), warped by the flow so far, at full size."""
        flow = self.full_flow()
        src0, src1 = self.src0[:, :channels], self.src1[:, :channels]
        return warp(src0, flow[:, :2], self.grid, mode), warp(src1, flow[:, 2:4], self.grid, mode)

    def _warp_sparse(self, scale: int) -> tuple[Tensor, Tensor]:
        rows, cols = (_central(side, scale, self.src0.device) for side in self.size)
        flow = sum(
            _linear(o.flow.shape[2], o.scale, rows) @ o.flow @ _linear(o.flow.shape[3], o.scale, cols).T
            for o in self.outputs
        )
        grid = self.grid._replace(base=self.grid.base[:, rows][:, :, cols])
        pair = warp(self.src0, flow[:, :2], grid), warp(self.src1, flow[:, 2:4], grid)
        return tuple(F.avg_pool2d(x, 2) for x in pair)

    def blend(self) -> Tensor:
        """The frame that flow and mask so far give."""
        warped0, warped1 = self.warped(3)
        return _blend(warped0, warped1, self.mask_at(1))


def _chain(x: Tensor, scale: float, target: float) -> Tensor:
    """x found at 1/scale, as it would be after going to full size and down (or up) to 1/target."""
    # Not for scale == target > 1: there the two pixels read lie on both sides of a kink.
    if scale == 1 or target == 1 or (target > 1 and scale >= 2 * target):
        return resize(x, scale / target)
    return resize(resize(x, scale), 1 / target)


def _central(side: int, scale: int, device: torch.device) -> Tensor:
    """Indices of the two central pixels of each cell of `scale` pixels: all that bilinear down-sampling reads."""
    start = torch.arange(scale // 2 - 1, side, scale, device=device)
    return torch.stack((start, start + 1), 1).flatten()


def _linear(side: int, factor: float, points: Tensor) -> Tensor:
    """Matrix (points, side) of linear up-sampling by `factor` (align_corners=False), at the given outputs only."""
    position = ((points.float() + 0.5) / factor - 0.5).clamp_(0, side - 1)
    distance = position[:, None] - torch.arange(side, device=points.device)[None, :]
    return (1 - distance.abs()).clamp_(min=0)


class IFNet(nn.Module):
    """RIFE's network for any `IFNetConfig`. H and W must be multiples of `pad_multiple(scale_list)`."""

    def __init__(self, config: IFNetConfig):
        super().__init__()
        self.config = config
        for i, c in enumerate(config.channels):
            c_in = config.later_inputs if i else config.first_inputs
            setattr(self, f"block{i}", IFBlock(config, c_in, c))
        if config.teacher:
            self.block_tea = IFBlock(config, config.later_inputs + 3, config.channels[-1])
        if config.head:
            self.encode = _build_head(config)
        if config.refine:
            full = config.refine == "unet2r"
            self.contextnet = Contextnet(config.refine_act, full)
            self.unet = Unet(config.refine_act, full)

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
    ) -> Prediction:
        """The frame at `timestep` between img0 and img1 (B,3,H,W), with flow and mask.

        timestep: float, or a tensor that broadcasts to (B,1,H,W); ignored by networks without one.
        scale_list: downscale of each block; default is the config's. ensemble: time-reversed second pass in
        each block, where the config has it. features: `encode_frame` of both frames, if already there.
        gt: the true frame, for the teacher (training). keep_stages: fill `flows` and `merged`.
        """
        cfg = self.config
        scales = tuple(scale_list or cfg.scales)
        f0, f1 = features or (self.encode_frame(img0), self.encode_frame(img1))
        src0, src1 = torch.cat((img0, f0), 1), torch.cat((img1, f1), 1)
        t = _time_tensor(timestep, img0)
        reverse = cfg.ensemble == "always" or (ensemble and cfg.ensemble == "optional")
        if cfg.adaptive:
            doubled = self._doubles(src0, src1, t, scales, reverse)
            if doubled.any():
                return self._predict_doubled(doubled, src0, src1, t, scales, reverse, refine)
        return self._run(src0, src1, t, scales, reverse, refine, gt, keep_stages)

    def _run(
        self,
        src0: Tensor,
        src1: Tensor,
        t: Tensor,
        scales: Sequence[float],
        reverse: bool,
        refine: bool | None = None,
        gt: Tensor | None = None,
        keep_stages: bool = False,
        reverse_first: bool | None = None,
    ) -> Prediction:
        cfg = self.config
        keep_stages = keep_stages or gt is not None
        run = _Pass(src0, src1, t, cfg.mask_add)
        flows, merged = [], []

        for i, (block, scale) in enumerate(zip(self.blocks, scales, strict=True)):
            both = reverse if i or reverse_first is None else reverse_first
            run.add(self._block(block, run, scale, both))
            if keep_stages:
                flows.append(run.full_flow())
                merged.append(run.blend())

        flow, mask = run.full_flow(), run.mask_at(1)
        warped = run.warped(3, cfg.sampling)
        image = _blend(*warped, mask)
        flow_tea = merged_tea = None
        if gt is not None and cfg.teacher:
            flow_tea, merged_tea = self._teach(run, flow, mask, gt)
        if cfg.refine and (cfg.refine_default if refine is None else refine):
            image = self._refine(src0, src1, *warped, flow, mask, image)
        return Prediction(image, flow, torch.sigmoid(mask), flows, merged, flow_tea, merged_tea)

    def _block(self, block: IFBlock, run: _Pass, scale: float, both: bool) -> Output:
        """One block, forward in time and, for the ensemble, averaged with the same block run backward."""
        src = run.sources_at(scale)
        t = run.timestep_at(scale)
        raw = tuple(resize(x, 1 / scale) for x in (run.src0, run.src1)) if self.config.raw_inputs else ()
        if run.outputs:
            flow, mask, feat = run.flow_at(scale), run.mask_at(scale), run.feat_at(scale)
        else:
            flow, mask, feat = self._initial(t)
        last = len(run.outputs) == len(self.config.channels) - 1
        out = block(self._inputs(*src, raw, t, mask, feat, flow), scale, last)
        if both:
            back_mask = None if mask is None else -mask
            back_flow = None if flow is None else _swap(flow)
            back = block(self._inputs(*src[::-1], raw[::-1], 1 - t, back_mask, feat, back_flow), scale, last)
            out = out._replace(flow=(out.flow + _swap(back.flow)) / 2, mask=(out.mask - back.mask) / 2)
        return out

    def _initial(self, t: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Flow, mask and features before the first block: none, or zeros in 3.x."""
        if not self.config.zero_init:
            return None, None, None
        zero = torch.zeros_like(t)
        return zero.float().repeat(1, 4, 1, 1), zero, None

    def _inputs(self, src0, src1, raw, t, mask, feat, flow, gt=None) -> Tensor:
        """Concatenates in the order that the released weights expect; the flow is last."""
        cfg = self.config
        parts = []
        if cfg.raw_inputs:
            parts += [x[:, :3] for x in raw]
            parts += [t] if cfg.timestep else []
        if not cfg.raw_inputs or mask is not None:
            parts += [src0[:, :3], src1[:, :3]]
        if cfg.head:
            parts += [src0[:, 3:], src1[:, 3:]]
        if cfg.timestep and not cfg.raw_inputs:
            parts.append(t)
        dtype = src0.dtype
        parts += [x.to(dtype) for x in (mask, feat, gt, flow) if x is not None]
        return torch.cat(parts, 1)

    def _teach(self, run: _Pass, flow: Tensor, mask: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher sees the true frame (last input, scale 1) and corrects flow and mask; paper section 3.4."""
        src = run.warped()
        raw = (run.src0, run.src1)
        out = self.block_tea(self._inputs(*src, raw, run.timestep_at(1), mask, run.feat_at(1), flow, gt), 1)
        flow_tea = flow + resize(out.flow, out.scale)
        mask_d = resize(out.mask, out.scale)
        mask_tea = mask + mask_d if self.config.mask_add else mask_d
        warped0, warped1 = (
            warp(x[:, :3], f, run.grid) for x, f in zip(raw, (flow_tea[:, :2], flow_tea[:, 2:4]), strict=True)
        )
        return flow_tea, _blend(warped0, warped1, mask_tea)

    def _refine(self, src0, src1, warped0, warped1, flow, mask, image) -> Tensor:
        img0, img1 = src0[:, :3], src1[:, :3]
        c0 = self.contextnet(img0, flow[:, :2])
        c1 = self.contextnet(img1, flow[:, 2:4])
        parts = (img0, img1, warped0, warped1, mask, flow.to(mask.dtype))
        return (image + self.unet(torch.cat(parts, 1), c0, c1) * 2 - 1).clamp(0, 1)

    def _doubles(
        self, src0: Tensor, src1: Tensor, t: Tensor, scales: Sequence[float], reverse: bool
    ) -> Tensor:
        """Which samples (B,) move too far for the pyramid, by the rules of 4.0/4.1 and 3.8.

        The official code asks the whole batch at once; per sample the result does not depend on the batch.
        """
        probe = _Pass(src0, src1, t, self.config.mask_add)
        if self.config.adaptive == "v38":
            out = self._block(self.block0, probe, scales[0] * 2, False)
            return resize(out.flow, out.scale).abs().amax((1, 2, 3)) > 16 * scales[0]
        probe.add(self._block(self.block0, probe, scales[0], reverse))
        out = self._block(self.block1, probe, scales[1], False)
        to0, to1 = resize(out.flow, out.scale).abs().unflatten(1, (2, 2)).amax((2, 3, 4)).unbind(1)
        return (to0 > 32) & (to1 > 32)

    def _predict_doubled(self, doubled, src0, src1, t, scales, reverse, refine) -> Prediction:
        """Runs the samples in two groups, each with its pyramid, and puts them back in order."""
        t = t.expand(src0.shape[0], *t.shape[1:])
        order, parts = [], []
        for flag in (False, True):
            index = (doubled == flag).nonzero().flatten()
            if not len(index):
                continue
            pyramid = [s * 2 for s in scales] if flag else scales
            # 4.0 and 4.1 rerun the first block without the reversed pass once the pyramid has doubled.
            first = False if flag and self.config.adaptive == "v40" else None
            parts.append(
                self._run(src0[index], src1[index], t[index], pyramid, reverse, refine, reverse_first=first)
            )
            order.append(index)
        back = torch.cat(order).argsort()
        image, flow, mask = (
            torch.cat([getattr(p, k) for p in parts])[back] for k in ("image", "flow", "mask")
        )
        return Prediction(image, flow, mask)

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
        return activation_bytes(self.config, shape[1], shape[2], dtype)

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
            _only_half(timestep)
        return self.predict(img0, img1, timestep, scale_list, ensemble, features=features).image


def _only_half(timestep: float | Tensor) -> None:
    half = bool((timestep == 0.5).all()) if isinstance(timestep, Tensor) else timestep == 0.5
    if not half:
        raise ValueError(
            "This RIFE network has no timestep input and only knows the middle (0.5), another one was asked for. "
            "Use multiplier 2, or RIFEInterpolate, which reaches quarters and eighths by recursion."
        )


def _time_tensor(timestep: float | Tensor, img: Tensor) -> Tensor:
    """(B,1,1,1) in the image's dtype, or (B,1,H,W) where a map was given."""
    if not isinstance(timestep, Tensor):
        return img.new_full((img.shape[0], 1, 1, 1), timestep)
    if timestep.ndim <= 1:
        timestep = timestep.reshape(-1, 1, 1, 1)
    return timestep.to(img).expand(img.shape[0], -1, -1, -1)


def _blend(warped0: Tensor, warped1: Tensor, mask: Tensor) -> Tensor:
    return torch.lerp(warped1, warped0, torch.sigmoid(mask))


def activation_bytes(cfg: IFNetConfig, height: int, width: int, dtype: torch.dtype) -> int:
    """Activations alive at the peak of one forward pass of one frame pair, in bytes.

    At the last block, at full resolution: the sources and their warped versions, the float32 copies and grid
    of the warp, the block's concatenated input and its output, the flow; then a stem at a quarter of the area.
    Against the growth of the process at 1920x1088 in float32 on a CPU: 4.25 1.32 GB, measured 1.31; 4.26.heavy 2.42,
    2.33; 4.6 1.03, 0.78; RIFE 2.24, 1.48; RIFE_2R 4.08, 4.01.
    """
    size = torch.empty((), dtype=dtype).element_size()
    sources = 4 * (3 + cfg.head_channels)
    network = sources + 2 * cfg.later_inputs + cfg.tail_channels + cfg.channels[-1]
    if cfg.refine:
        network += 330 if cfg.refine == "unet2r" else 110  # contexts and the Unet's skips
    float32 = 4 + 2 * 2 + 3 * (3 + cfg.head_channels)
    return int(height * width * (network * size + float32 * 4))
