"""Defines one block of IFNet: what it is given, its layers as every release has them, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..ops.conv import convolve, fold_residual, inference_on_cpu, multiplied_dtype, transposed_conv
from ..ops.tracing import is_tracing
from ..ops.warp import conv_of_upsampled
from .config import IFNetConfig
from .multiscale import BlockOutput
from .refine import conv, deconv


class ResConv(nn.Module):
    """Computes LeakyReLU(conv(x) * beta + x), the trunk of 4.5 and later."""

    def __init__(self, c: int, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, c, 1, 1))
        self.relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        # A host that loads models partly moves leaf modules; beta sits on a module with children: cast at use.
        """Returns (B,C,h,w) of x (B,C,h,w)."""
        beta, conv = self.beta.to(x.device), self.conv
        # In half precision, as GPUs mostly run it, and in TF32 1 + weight would be rounded. Folded anew each time, in
        # 4 ms of a frame's 230: training, and hosts that patch or move weights, would have to be noticed.
        if inference_on_cpu(x) and conv.weight.dtype == torch.float32:
            bias = cast(Tensor, conv.bias)
            if x.dtype != torch.float32:
                weight, bias = conv.weight * beta.view(-1, 1, 1, 1), bias * beta.flatten()
                return self.relu(convolve(x, weight, bias, groups=conv.groups, plus=x))
            weight, bias = fold_residual(conv.weight, bias, beta, conv.groups)
            return convolve(x, weight, bias, groups=conv.groups, slope=self.relu.negative_slope)
        wider = multiplied_dtype(x) != x.dtype
        made = convolve(x, conv.weight, conv.bias, groups=conv.groups) if wider else conv(x)
        return self.relu(torch.addcmul(x, made, beta.to(x.dtype)))


class Head(nn.Module):
    """Finds features of each frame at full resolution, in the spelling of 4.13 and later."""

    def __init__(self, mid: int, c_out: int):
        super().__init__()
        self.cnn0 = nn.Conv2d(3, mid, 3, 2, 1)
        self.cnn1 = nn.Conv2d(mid, mid, 3, 1, 1)
        self.cnn2 = nn.Conv2d(mid, mid, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(mid, c_out, 4, 2, 1)
        self.relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the features (B,c_out,H,W) of a frame x (B,3,H,W), H and W even."""
        for cnn in (self.cnn0, self.cnn1, self.cnn2):
            x = convolve(x, cnn.weight, cnn.bias, cnn.stride, slope=self.relu.negative_slope)
        return transposed_conv(x, self.cnn3) if inference_on_cpu(x) else self.cnn3(x)


def build_head(cfg: IFNetConfig) -> nn.Module:
    """Builds the encoder of features of frames that the config names, in the spelling of its release."""
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
    """Refines flow and mask at one scale. A pass is `stem` of `inputs`, then `forward`.

    first: whether it is the coarsest block, which knows no flow yet; teacher: whether it sees the true frame besides.
    fine_dtype: what float32 convolutions behind the first two compute in, in inference on a CPU; None: as their weights
    are. The first two read frames and flow, of which half precision would keep too little.
    """

    fine_dtype: torch.dtype | None = None

    lastconv: nn.ConvTranspose2d | nn.Sequential  # tails "deconv" and "shuffle"
    conv1: nn.Sequential  # tails "split1" and "split2": the flow's head
    conv2: nn.Module  # and the mask's

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

    def trunk(self, x: Tensor) -> Tensor:
        """Returns what the tail is made of, of the same size as what `begin` made."""
        if self.cfg.trunk == "pair":
            for i in range(4):
                x = getattr(self, f"convblock{i}")(x) + x
            return x
        return self.convblock(x) + x if self.cfg.trunk_skip else self.convblock(x)

    @property
    def dtype(self) -> torch.dtype:
        """Is the dtype of the weights, of what the block wants to be given."""
        return self._first_conv.weight.dtype

    @property
    def trunk_dtype(self) -> torch.dtype:
        """Is the dtype that all convolutions but the first two compute in."""
        weight = self._first_conv.weight
        if self.fine_dtype and weight.dtype == torch.float32 and inference_on_cpu(weight):
            return self.fine_dtype
        return weight.dtype

    @property
    def _first_conv(self) -> nn.Conv2d:
        return cast(nn.Conv2d, cast(nn.Sequential, self.conv0[0])[0])

    @property
    def shuffle_conv(self) -> nn.ConvTranspose2d:
        """Is the transposed convolution before the PixelShuffle of tail "shuffle"."""
        return cast(nn.ConvTranspose2d, cast(nn.Sequential, self.lastconv)[0])

    def inputs(
        self,
        src: Sequence[Tensor],
        raw: Sequence[Tensor],
        t: Tensor | None,
        mask_feat: Tensor | None,
        flow: Tensor | None,
        gt: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns what `stem` takes: the parts that are there and wanted, in the block's dtype, by name (see
        `input_columns`).

        src: both warped frames with their features, (B,3+f,h,w); raw: both frames as they are. t: (B,1,h,w).
        mask_feat: (B,1,h,w) or (B,9,h,w). flow: (B,4,h,w), in pixels of this size. gt: the true frame.
        """
        named = {"mask_feat": mask_feat, "gt": gt, "flow": flow, "t": t if self.cfg.timestep else None}
        named |= dict(zip(("src0", "src1"), src, strict=False))
        named |= {name: x[:, :3] for name, x in zip(("raw0", "raw1"), raw, strict=False)}
        return {name: x.to(self.dtype) for name, x in named.items() if x is not None}

    def stem(self, inputs: dict[str, Tensor]) -> Tensor:
        """Runs the first convolution, with its activation, over all inputs (see `input_columns`): (B,c/2,h/2,w/2).

        On a CPU concatenating them would cost more than the convolution: a sum of convolutions over the parts is the
        same, and channels_last is four times as fast as planar here (28 to 16 channels at 768x512: 11 ms, 51).
        "coarse" among the inputs stands for mask_feat and t at half the size, whose up-sampling is folded in.
        Inputs are taken out of `inputs` as they are read: in a large frame they weigh more than all else.
        """
        on_cpu = next(iter(inputs.values())).device.type == "cpu" and not is_tracing()
        if not on_cpu or self.cfg.stem_padding != "zeros":
            x = self.concatenate(inputs)
            inputs.clear()
            return self.conv0[0](x)
        first, activation = self._first_conv, cast(nn.Sequential, self.conv0[0])[1]
        total = cast(Tensor, first.bias).view(1, -1, 1, 1)
        for name in list(inputs):
            x = inputs.pop(name)
            weight = torch.cat([first.weight[:, start : start + n] for start, n in self._columns_of(name)], 1)
            x = x.contiguous(memory_format=torch.channels_last)
            part = (
                conv_of_upsampled(x, weight) if name == "coarse" else convolve(x, weight, None, first.stride)
            )
            total = part.add_(total)
        return activation(total)

    def _columns_of(self, name: str) -> list[tuple[int, int]]:
        return self.columns["mask_feat"] + self.columns["t"] if name == "coarse" else self.columns[name]

    def concatenate(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Concatenates all inputs to one (B,C,h,w), in the order that the released weights expect."""
        parts: list[tuple[int, Tensor]] = []
        for name, x in inputs.items():
            widths = [width for _, width in self.columns[name]]
            starts = [start for start, _ in self.columns[name]]
            parts += zip(starts, x.split(widths, 1), strict=True)
        return torch.cat([x for _, x in sorted(parts, key=lambda part: part[0])], 1)

    def _tail(self, x: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        """Change of the flow, and mask with features, from the trunk's output (B,c,h,w)."""
        if self.cfg.tail == "deconv":
            out = self.lastconv(x)
            return out[:, :4], out[:, 4:5]
        if self.cfg.tail != "shuffle":
            return self.conv1(x), self.conv2(x)
        # PixelShuffle makes one channel out of four. The finest block's features are read by nobody but `dissolve`:
        # 20 or 28 channels of 52 are computed there.
        conv = self.shuffle_conv
        used = 4 * (5 + (2 * self.cfg.dissolve if last else self.cfg.feat_channels))
        # A part is copied: MPS has read weights that are a view wrongly (pytorch#192212). The copy is not kept for the
        # next call: hosts move and patch weights in place, training changes them, and it is one small launch.
        weight = conv.weight[:, :used].clone() if used < conv.weight.shape[1] else conv.weight
        bias = cast(Tensor, conv.bias)[:used]
        wide = multiplied_dtype(x)
        out = F.conv_transpose2d(x.to(wide), weight.to(wide), bias.to(wide), conv.stride, 1).to(x.dtype)
        if is_tracing():
            return F.pixel_shuffle(out[:, :16], 2), F.pixel_shuffle(out[:, 16:], 2)
        # Flow planar, as warping wants it; the rest interleaved where x is, as convolutions want it.
        flow = rearrange(out[:, :16], "b (c i j) h w -> b c (h i) (w j)", i=2, j=2)
        mask_feat = rearrange(out[:, 16:], "b (c i j) h w -> b (h i) (w j) c", i=2, j=2).movedim(-1, 1)
        return flow, mask_feat

    def begin(self, inputs: dict[str, Tensor]) -> Tensor:
        """Runs both strided convolutions over all inputs (see `stem`): what `forward` takes, (B,c,h/4,w/4)."""
        return self.conv0[1](self.stem(inputs)).to(self.trunk_dtype)

    def forward(self, begun: Tensor, scale: float, last: bool = False) -> BlockOutput:
        """Returns what the block finds.

        begun: (B,c,h/4,w/4), what `begin` made of inputs at 1/scale; of h/2 and w/2 where the first convolution keeps
        the size. last: nobody reads its features.
        """
        flow, mask_feat = self._tail(self.trunk(begun), last)
        scale = scale * self.up
        return BlockOutput(flow.float() * scale if scale != 1 else flow.float(), mask_feat, scale)

    def tail_rows(self, x: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Returns rows `start` to `stop` of the change of the flow, and of the mask, that the finest block finds at
        full size; multiples of 4, for tail "shuffle".

        x: (B,c,H/4,W/4), of `trunk`. A row of x reaches four rows of the transposed convolution, two of which are its
        own, so that one more on both sides is enough.
        """
        low, high = max(0, start // 4 - 1), min(x.shape[2], stop // 4 + 1)
        parts = self._tail(x[:, :, low:high], True)
        flow, mask_feat = (part[:, :, start - 4 * low : stop - 4 * low] for part in parts)
        return flow.float(), mask_feat


def input_columns(cfg: IFNetConfig, first: bool, teacher: bool = False) -> dict[str, list[tuple[int, int]]]:
    """Tells where a block's weights expect its inputs: name -> (first column, width) of the parts of its channels.

    src0, src1: warped frame and its features; raw0, raw1: frame; t: timestep; mask_feat: mask and features of
    the block before; gt: the true frame; flow. `first` and `teacher` blocks get less and more.
    """
    frame, features, timestep = 3, cfg.head_channels, int(cfg.timestep)
    later = not first or cfg.zero_init
    order = []
    if cfg.raw_inputs:
        order += [("raw0", frame), ("raw1", frame), ("t", timestep)]
    if later or not cfg.raw_inputs:
        order += [("src0", frame), ("src1", frame)]
        order += [("gt", frame)] if teacher and cfg.late_teacher else []
        order += [("src0", features), ("src1", features)]
    order += [("t", 0 if cfg.raw_inputs else timestep)]
    order += [("mask_feat", 1 + cfg.feat_channels)] if later else []
    order += [("gt", frame)] if teacher and not cfg.late_teacher else []
    order += [("flow", 4)] if later else []
    columns: dict[str, list[tuple[int, int]]] = {}
    start = 0
    for name, width in order:
        if width:
            columns.setdefault(name, []).append((start, width))
            start += width
    return columns
