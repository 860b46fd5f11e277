"""IFNet: every single-network RIFE, from the paper's to 4.26.heavy, as one parametrised module.

B C H W throughout, RGB in 0..1. `flow` has four channels, in pixels: 0-1 point from the frame at time t into
img0, 2-3 into img1. `mask` is a logit until the end; its sigmoid is the weight of the warped img0.
Attribute names (`block0`, `convblock`, `lastconv`, `encode`, `block_tea` ...) are the keys of released files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..ops.conv import convolve, double, inference_on_cpu, with_residual
from ..ops.memory_format import memory_format
from ..ops.warp import conv_of_doubled, resize, warp
from .config import IFNetConfig
from .memory_estimate import Need
from .multiscale import PLAIN, Geometry, Output, Pass, Ways, blend, swap
from .refine import Contextnet, Unet, conv, deconv
from .static_regions import change_around, settled
from .variational_flow import motion_flow


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
    flow_mix: Tensor | None = None  # of 4.25's second teacher, a mixture of all blocks; only if asked for
    merged_mix: Tensor | None = None
    time: Tensor | None = None  # (B,1,1,1), where a `TimePredictor` guesses the timestep

    @property
    def teachers(self) -> list[tuple[Tensor, Tensor]]:
        """Flow and frame of each teacher that there is."""
        pairs = ((self.flow_mix, self.merged_mix), (self.flow_tea, self.merged_tea))
        return [(flow, merged) for flow, merged in pairs if merged is not None]


_DISSOLVE = 2  # its channel behind the flow; the one before it tells 4.25's second teacher whom to trust
_ELEXOR_PIXELS = 1920 * 1080 // 2
_STRIP_PIXELS = 1 << 20  # of a strip, in frames of more than twice that: half a 1080p frame


class ResConv(nn.Module):
    """LeakyReLU(conv(x) * beta + x), the trunk of 4.5 and later."""

    def __init__(self, c: int, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, c, 1, 1))
        self.relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        # A host that loads models partly moves leaf modules; beta sits on a module with children: cast at use.
        beta, conv = self.beta.to(x), self.conv
        # In half precision, as GPUs mostly run it, and in TF32 1 + weight would be rounded. Folded anew each time, in
        # 4 ms of a frame's 230: training, and hosts that patch or move weights, would have to be noticed.
        if inference_on_cpu(x) and x.dtype == torch.float32:
            weight, bias = with_residual(conv.weight, conv.bias, beta, conv.groups)
            return convolve(x, weight, bias, groups=conv.groups, slope=self.relu.negative_slope)
        return self.relu(torch.addcmul(x, conv(x), beta))


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
            x = convolve(x, cnn.weight, cnn.bias, cnn.stride, slope=self.relu.negative_slope)
        return double(x, self.cnn3) if inference_on_cpu(x) else self.cnn3(x)


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


class IFBlock(nn.Module):
    """Refines flow and mask at one scale."""

    def __init__(self, cfg: IFNetConfig, c: int, first: bool = False, teacher: bool = False):
        super().__init__()
        act = cfg.act
        self.cfg = cfg
        self.columns = input_columns(cfg, first, teacher)
        c_in = sum(width for columns in self.columns.values() for _, width in columns)
        self.conv0 = nn.Sequential(
            conv(c_in, c // 2, act, cfg.stem_stride, cfg.stem_padding),
            conv(c // 2, c, act, 2, cfg.stem_padding),
        )
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

    def begin(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The first convolution over all inputs (see `input_columns`), which are concatenated, or not even that.

        On a CPU the concatenation costs more than the convolution: a sum of convolutions over the parts is the
        same, and channels_last is four times as fast as planar here (28 to 16 channels at 768x512: 11 ms, 51).
        """
        if next(iter(inputs.values())).device.type != "cpu" or self.cfg.stem_padding != "zeros":
            return self.conv0[0](self.concatenate(inputs))
        first, activation = self.conv0[0]
        total = first.bias.view(1, -1, 1, 1)
        for name, x in inputs.items():
            weight = torch.cat([first.weight[:, start : start + n] for start, n in self._columns_of(name)], 1)
            x = x.contiguous(memory_format=torch.channels_last)
            part = conv_of_doubled(x, weight) if name == "coarse" else convolve(x, weight, None, first.stride)
            total = part.add_(total)
        return activation(total)

    def _columns_of(self, name: str) -> list[tuple[int, int]]:
        return self.columns["rest"] + self.columns["t"] if name == "coarse" else self.columns[name]

    def concatenate(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B,C,h,w) in the order that the released weights expect."""
        parts = []
        for name, x in inputs.items():
            widths = [width for _, width in self.columns[name]]
            starts = [start for start, _ in self.columns[name]]
            parts += zip(starts, x.split(widths, 1), strict=True)
        return torch.cat([x for _, x in sorted(parts, key=lambda part: part[0])], 1)

    def _tail(self, x: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        """Change of flow, and mask with features, from the trunk's output."""
        if self.cfg.tail == "deconv":
            out = self.lastconv(x)
            return out[:, :4], out[:, 4:5]
        if self.cfg.tail != "shuffle":
            return self.conv1(x), self.conv2(x)
        # PixelShuffle makes one channel out of four. The finest block's features are read by nobody but `dissolve`:
        # 20 or 28 channels of 52 are computed there.
        conv, _ = self.lastconv
        used = 4 * (5 + (2 * self.cfg.dissolve if last else self.cfg.feat_channels))
        # A part is copied: MPS has read weights that are a view wrongly (pytorch#192212). The copy is not kept for the
        # next call: hosts move and patch weights in place, training changes them, and it is one small launch.
        weight = conv.weight[:, :used].clone() if used < conv.weight.shape[1] else conv.weight
        out = F.conv_transpose2d(x, weight, conv.bias[:used], conv.stride, conv.padding)
        # Flow planar, as warping wants it; the rest interleaved where x is, as convolutions want it.
        flow = rearrange(out[:, :16], "b (c i j) h w -> b c (h i) (w j)", i=2, j=2)
        rest = rearrange(out[:, 16:], "b (c i j) h w -> b (h i) (w j) c", i=2, j=2).movedim(-1, 1)
        return flow, rest

    def forward(self, begun: Tensor, scale: float, last: bool = False) -> Output:
        """What `begin` made of inputs at 1/scale, flow in their pixels -> what it finds."""
        flow, rest = self._tail(self._trunk(self.conv0[1](begun)), last)
        scale = scale * self.up
        return Output(flow.float() * scale if scale != 1 else flow.float(), rest, scale)


def input_columns(cfg: IFNetConfig, first: bool, teacher: bool = False) -> dict[str, list[tuple[int, int]]]:
    """Where a block's weights expect its inputs: name -> (first column, width) of the parts of its channels.

    src0, src1: warped frame and its features; raw0, raw1: frame; t: timestep; rest: mask and features of the
    block before; gt: the true frame; flow. `first` and `teacher` blocks get less and more.
    """
    frame, features, timestep = 3, cfg.head_channels, int(cfg.timestep)
    begun = not first or cfg.zero_init
    order = []
    if cfg.raw_inputs:
        order += [("raw0", frame), ("raw1", frame), ("t", timestep)]
    if begun or not cfg.raw_inputs:
        order += [("src0", frame), ("src1", frame)]
        order += [("gt", frame)] if teacher and cfg.late_teacher else []
        order += [("src0", features), ("src1", features)]
    order += [("t", 0 if cfg.raw_inputs else timestep)]
    order += [("rest", 1 + cfg.feat_channels)] if begun else []
    order += [("gt", frame)] if teacher and not cfg.late_teacher else []
    order += [("flow", 4)] if begun else []
    columns: dict[str, list[tuple[int, int]]] = {}
    start = 0
    for name, width in order:
        if width:
            columns.setdefault(name, []).append((start, width))
            start += width
    return columns


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
            self.encode = _build_head(config)
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

        ways: faster ones, for inference; that of `assemble` only for networks that it fits (`assembles`).
        """
        cfg = self.config
        scales = tuple(scale_list or cfg.scales)
        run = Pass(src0, src1, _time_tensor(timestep, src0), cfg.mask_add, geometry, ways)
        reverse = cfg.ensemble == "always" or (ensemble and cfg.ensemble == "optional")
        # Training wants every block's result at the pyramid given.
        training = keep_stages or mix or gt is not None
        if cfg.adaptive == "elexor" and not training:
            return self._predict_elexor(run, scales)
        if cfg.adaptive and not training:
            doubled = self._doubles(run, scales, reverse)
            if doubled.any():
                return self._predict_doubled(doubled, run, scales, reverse, refine)
        return self._run(run, scales, reverse, refine, gt, keep_stages, mix=mix)

    def _run(
        self,
        run: Pass,
        scales: Sequence[float],
        reverse: bool,
        refine: bool | None = None,
        gt: Tensor | None = None,
        keep_stages: bool = False,
        reverse_first: bool | None = None,
        instead: Tensor | None = None,
        mix: bool = False,
    ) -> Prediction:
        cfg = self.config
        mix = mix and bool(cfg.feat_channels)
        keep_stages = keep_stages or mix or gt is not None
        flows, merged = [], []
        for i, (block, scale) in enumerate(zip(self.blocks, scales, strict=True)):
            both = reverse if i or reverse_first is None else reverse_first
            last = i == len(scales) - 1 and not mix and not (cfg.teacher and gt is not None)
            out = self._block(block, run, scale, both, last)
            if instead is not None and i == 0:
                out = Output(instead, resize(out.rest, out.scale), 1)
            run.add(out)
            if keep_stages:
                flows.append(run.full_flow())
                merged.append(run.blend())
            if cfg.variational and i == 0:
                self._correct(run, out, scales)

        flow, rest = run.full_flow(), run.rest_at(1)
        mask = rest[:, :1]
        if cfg.still_radius:
            change = change_around(run.src0[:, :3], run.src1[:, :3], cfg.still_radius)
            flow, mask = settled(flow, mask, change, run.timestep)
        image = self._frame(run, flow, mask, rest, cfg.refine_default if refine is None else refine)
        flow_tea = merged_tea = None
        if gt is not None and cfg.teacher:
            flow_tea, merged_tea = self._teach(run, flow, gt)
        mixture = self._mix(run, flows) if mix else ()
        return Prediction(image, flow, torch.sigmoid(mask), flows, merged, flow_tea, merged_tea, *mixture)

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
        if self._wants_strips(run, scale, both):
            return block(self._begin_in_strips(block, run), scale, last)
        if not both and (assembled := run.assembled(scale, self.get_dtype())) is not None:
            return block(block.conv0[0](assembled), scale, last)
        src = run.sources_at(scale) if run.outputs or not self.config.raw_inputs else ()
        t = run.timestep_at(scale)
        raw = tuple(resize(x, 1 / scale) for x in (run.src0, run.src1)) if self.config.raw_inputs else ()
        coarse = None if both else self._coarse(run, scale, t)
        if coarse is not None:
            inputs = self._inputs(src, raw, None, None, run.flow_at(scale)) | {"coarse": coarse}
            return block(block.begin(inputs), scale, last)
        rest, flow = (run.rest_at(scale), run.flow_at(scale)) if run.outputs else self._initial(t)
        out = block(block.begin(self._inputs(src, raw, t, rest, flow)), scale, last)
        if both:
            # Only networks without features have an ensemble: the rest is the mask.
            back = (None, None) if rest is None else (-rest, swap(flow))
            back = block(block.begin(self._inputs(src[::-1], raw[::-1], 1 - t, *back)), scale, last)
            out = out._replace(flow=(out.flow + swap(back.flow)) / 2, rest=(out.rest - back.rest) / 2)
        return out

    def _wants_strips(self, run: Pass, scale: float, both: bool) -> bool:
        """Whether the block at full size, where nearly all the memory goes, is to begin strip by strip."""
        large = run.size[0] * run.size[1] > 2 * _STRIP_PIXELS
        plain = not both and not torch.is_grad_enabled() and all(o.scale >= 1 for o in run.outputs)
        return scale == 1 and large and plain and strips_fit(self.config) and bool(run.outputs)

    def _begin_in_strips(self, block: IFBlock, run: Pass) -> Tensor:
        """`block.begin` at full size: warped frames and concatenated inputs of one strip of rows at a time.

        Without seams: a row of the first convolution (stride 2) reads three rows of the input, so each strip but the
        first begins two rows early, and the row that saw padding in their place is dropped.
        """
        height, width = run.size
        step = max(2, _STRIP_PIXELS // width // 2 * 2)
        parts = []
        for start in range(0, height, step):
            early = 2 if start else 0
            begun = self._begin_strip(block, run, start - early, min(start + step, height))
            parts.append(begun[:, :, early // 2 :])
        return torch.cat(parts, 2)

    def _begin_strip(self, block: IFBlock, run: Pass, start: int, stop: int) -> Tensor:
        if run.ways.assemble is not None:
            return block.conv0[0](run.assembled_strip(start, stop, self.get_dtype()))
        src, rest, flow, t = run.strip(start, stop)
        return block.begin(self._inputs(src, (), t, rest, flow))

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

    def _inputs(self, src, raw, t, rest, flow, gt=None) -> dict[str, Tensor]:
        """What a block gets, by name (see `input_columns`), in the network's dtype."""
        named = {"rest": rest, "gt": gt, "flow": flow, "t": t if self.config.timestep else None}
        named |= dict(zip(("src0", "src1"), src, strict=False))
        named |= {name: x[:, :3] for name, x in zip(("raw0", "raw1"), raw, strict=False)}
        dtype = self.get_dtype()
        return {name: x.to(dtype) for name, x in named.items() if x is not None}

    def _teach(self, run: Pass, flow: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher sees the true frame and corrects flow and mask; paper section 3.4.

        At scale 1 as in ECCV2022-RIFE, at scale 2 as 4.25 was trained (`IFNetConfig.late_teacher`).
        """
        scale = 2 if self.config.late_teacher else 1
        frames = (run.src0, run.src1)
        raw = frames if self.config.raw_inputs else ()
        src = run.sources_at(scale) if scale > 1 else run.warped()
        seen = (run.rest_at(scale), run.flow_at(scale), resize(gt, 1 / scale))
        inputs = self._inputs(src, raw, run.timestep_at(scale), *seen)
        out = self.block_tea(self.block_tea.begin(inputs), scale, last=True)
        flow_tea = flow + resize(out.flow, out.scale)
        mask_d = resize(out.rest[:, :1], out.scale)
        mask_tea = run.rest_at(1)[:, :1] + mask_d if self.config.mask_add else mask_d
        warped0, warped1 = (
            warp(x[:, :3], f, run.geometry.grid)
            for x, f in zip(frames, (flow_tea[:, :2], flow_tea[:, 2:4]), strict=True)
        )
        return flow_tea, blend(warped0, warped1, mask_tea)

    def _mix(self, run: Pass, flows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """4.25's second teacher: the flows and masks of all blocks, each pixel trusting the first of their features."""
        found = [resize(out.rest[:, :2].float(), out.scale) for out in run.outputs if out.rest is not None]
        trust = torch.cat([x[:, 1:] for x in found], 1).clamp(0.1, 1)
        trust = (trust / (trust.sum(1, True) + 1e-3)).split(1, 1)
        flow = sum(share * x for share, x in zip(trust, flows, strict=True))
        mask = sum(share * x[:, :1] for share, x in zip(trust, found, strict=True))
        return flow, blend(*run.warped(3, flow=flow), mask)

    def _refine(self, run: Pass, warped0, warped1, flow, mask, image) -> Tensor:
        dtype, grid_of = self.get_dtype(), run.geometry.grid_of
        img0, img1 = run.src0[:, :3].to(dtype), run.src1[:, :3].to(dtype)
        c0 = self.contextnet(img0, flow[:, :2], grid_of)
        c1 = self.contextnet(img1, flow[:, 2:4], grid_of)
        parts = (img0, img1, *(x.to(dtype) for x in (warped0, warped1, mask, flow)))
        return (image + self.unet(torch.cat(parts, 1), c0, c1) * 2 - 1).clamp(0, 1)

    def _doubles(self, run: Pass, scales: Sequence[float], reverse: bool) -> Tensor:
        """Which samples (B,) move too far for the pyramid, by the rules of 4.0/4.1 and 3.8.

        The official code asks the whole batch at once; per sample the result does not depend on the batch.
        """
        probe = run.again()
        if self.config.adaptive == "v38":
            out = self._block(self.block0, probe, scales[0] * 2, False)
            return resize(out.flow, out.scale).abs().amax((1, 2, 3)) > 16 * scales[0]
        probe.add(self._block(self.block0, probe, scales[0], reverse))
        out = self._block(self.block1, probe, scales[1], False)
        to0, to1 = resize(out.flow, out.scale).abs().unflatten(1, (2, 2)).amax((2, 3, 4)).unbind(1)
        return (to0 > 32) & (to1 > 32)

    def _predict_elexor(self, run: Pass, scales: Sequence[float]) -> Prediction:
        """elexor first looks for motion at four times the pyramid; where it is large, that replaces block0's flow.

        Large: more than half the pixels of a 1080p frame move further than 40 px, whatever the frame's size.
        """
        probe = run.again()
        for block, scale in zip((self.block0, self.block1), scales, strict=False):
            probe.add(self._block(block, probe, scale * 4, False))
        motion = probe.full_flow()[:, :2].square().sum(1).sqrt()
        large = (motion > 40).sum((1, 2)) > _ELEXOR_PIXELS
        if not large.any():
            return self._run(run, scales, False)
        if large.all():
            return self._run(run, scales, False, instead=probe.full_flow())
        samples = [run.again(torch.tensor([i], device=large.device)) for i in range(len(large))]
        parts = [
            self._run(sample, scales, False, instead=probe.full_flow()[i : i + 1] if large[i] else None)
            for i, sample in enumerate(samples)
        ]
        return Prediction(*(torch.cat([getattr(p, k) for p in parts]) for k in ("image", "flow", "mask")))

    def _predict_doubled(self, doubled: Tensor, run: Pass, scales, reverse, refine) -> Prediction:
        """Runs the samples in two groups, each with its pyramid, and puts them back in order."""
        order, parts = [], []
        for flag in (False, True):
            index = (doubled == flag).nonzero().flatten()
            if not len(index):
                continue
            pyramid = [s * 2 for s in scales] if flag else scales
            # 4.0 and 4.1 rerun the first block without the reversed pass once the pyramid has doubled.
            first = False if flag and self.config.adaptive == "v40" else None
            parts.append(self._run(run.again(index), pyramid, reverse, refine, reverse_first=first))
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
        return need(self.config, *shape[1:3], dtype).peak(shape[1] * shape[2])

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


def strips_fit(cfg: IFNetConfig) -> bool:
    """Whether the finest block of such a network can begin strip by strip."""
    return not cfg.raw_inputs and cfg.stem_stride == 2 and cfg.stem_padding == "zeros"


def assembles(cfg: IFNetConfig) -> bool:
    """Whether the blocks of such a network take their inputs as `kernels.warp_and_concatenate` puts them."""
    return cfg.timestep and not cfg.raw_inputs


def need(
    cfg: IFNetConfig, height: int, width: int, dtype: torch.dtype, scale: float = 1.0, ensemble: bool = False
) -> Need:
    """Memory for frames of that (padded) size; `scale` and `ensemble` as in `Model.inference`.

    The terms are those of the moment at which most is alive: the finest block's input (float32 warped frames, their
    copies in the network's dtype, concatenated) and its stem, or the last warp. In strips the block needs its stem
    only. Held to the bytes counted in tests/test_memory.py, where each version, scale and option is.
    """
    size, frame = dtype.itemsize, 3 + cfg.head_channels
    # Of the finest trunk, by its resolution and by its tail, which may be of two networks.
    share = 1.5 if cfg.stem_stride == 1 else 0.3 if cfg.tail.startswith("split") else 0.25
    trunk = size * cfg.channels[-1] * share
    block = 56 + 16 * frame + trunk + size * 1.3 * cfg.tail_channels
    block += 40 * cfg.raw_inputs + size * cfg.later_inputs * (cfg.stem_padding != "zeros")
    last_warp = 4 * (1.5 * frame + 15.5 + 6 * cfg.dissolve)
    both = cfg.ensemble == "always" or (ensemble and cfg.ensemble == "optional")
    if scale > 1:
        forward = block * scale**2
    elif scale < 1:
        forward = last_warp + block * scale**2 / 4
    elif strips_fit(cfg) and not both and height * width > 2 * _STRIP_PIXELS:
        forward = last_warp + trunk + block * 0.2 * _STRIP_PIXELS / (height * width)
    else:
        forward = block
    if both:
        forward += 44 * scale**2
    if cfg.refine:  # contexts and the Unet's skips, whatever the scale
        forward = max(forward, 160 + size * (370 if cfg.refine == "unet2r" else 95))
    if cfg.adaptive:  # samples of either pyramid are put together anew
        forward += 8 * frame + 16
    return Need(4 * frame, 48 + 10 * cfg.head_channels, forward, 12)
