"""Defines the three-network RIFEs: flownet, contextnet, fusionnet (released as unet.pkl); all know only t = 0.5.

1.0 to 1.4 (late 2020, with their 2F and 2F1.5C), 1.5 to 1.8 (HD, UHD, anime), 2.0 to 2.4, 3.0 and 3.1, and the arXiv
models of spring 2021. Behaviour after hzwer/ECCV2022-RIFE's history (1.0 to 1.4: d223ee2; later ones: 6ff1745) and
HolyWu/vs-rife's (67cb5c5). The flow is found at half resolution (2F of 1.x: on frames of half the size), in pixels of
that resolution, and kept in float32 whatever the networks run in.

`scale` of the official `inference` resizes the frames that the flow network sees, and its flow back; contexts and
fusion always work on the frames as they are. The pyramid is fixed. The code of 1.0 to 1.4 and of the arXiv models has
no `scale`; here it gets the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.warp import SamplingGrid, resize, warp
from .memory_estimate import MemoryEstimate
from .multiscale import WarpGrids
from .prediction import MakesWholePredictions, Prediction, require_middle
from .refine import Conv2, conv, deconv

GridOf = Callable[[Tensor], SamplingGrid]


@dataclass(frozen=True)
class LegacyConfig:
    """Describes the architecture of a three-network RIFE."""

    family: str  # "1.0" (to 1.4) | "1.x" (1.5 to 1.8) | "2.x" | "3.x" | "arXiv"
    channels: tuple[int, ...]  # width of each flow block's trunk, coarse to fine
    scales: tuple[int, ...]
    context: int  # width of the finest context features
    full_resolution: bool = False  # 2F: one halving less in the stem, context at full size
    pad: int = 32
    timestep: bool = False
    ensemble: str = "no"

    @property
    def attention(self) -> bool:
        """Tells whether it is made of residual blocks with channel attention, and finds one flow for both
        directions."""
        return self.family in ("1.0", "1.x")

    @property
    def shallow(self) -> bool:
        """Tells whether context and fusion begin at the frames themselves, without a halving convolution before."""
        return self.family in ("1.0", "arXiv")

    @property
    def versions(self) -> tuple[str, ...]:
        """Lists the released versions with this architecture."""
        shared = {
            "1.4": ("1.0", "1.1", "1.2", "1.3", "1.4"),
            "1.8": ("1.5", "1.6", "1.7", "1.8"),
            "2.4": ("2.0", "2.1", "2.2", "2.3", "2.4"),
            "3.1": ("3.0", "3.1"),
        }
        return next((shared.get(name, (name,)) for name, row in LEGACY_RELEASES.items() if row == self), ())

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types; `from_dict` gives the same config back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LegacyConfig:
        """Returns the config that `to_dict` wrote. Raises TypeError for unknown fields."""
        fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fixed)


LEGACY_RELEASES: dict[str, LegacyConfig] = {
    "1.4": LegacyConfig("1.0", (192, 128, 64), (4, 2, 1), 16),
    "1.4-2F": LegacyConfig("1.0", (192, 128, 64), (4, 2, 1), 16, full_resolution=True),
    "1.4-2F1.5C": LegacyConfig("1.0", (288, 192, 96), (4, 2, 1), 24, full_resolution=True),
    "1.8": LegacyConfig("1.x", (192, 128, 96, 48), (8, 4, 2, 1), 32),
    "2.4": LegacyConfig("2.x", (384, 256, 192, 96), (8, 4, 2, 1), 32),
    "3.1": LegacyConfig("3.x", (160, 160, 160), (4, 2, 1), 32),
    "arXiv-RIFE": LegacyConfig("arXiv", (240, 150, 90), (4, 2, 1), 16),
    "arXiv-1.5C": LegacyConfig("arXiv", (320, 225, 135), (4, 2, 1), 24),
    "arXiv-2F": LegacyConfig("arXiv", (240, 150, 90), (4, 2, 1), 16, full_resolution=True),
    "arXiv-2F1.5C": LegacyConfig("arXiv", (360, 225, 135), (4, 2, 1), 24, full_resolution=True),
}


class ResBlock(nn.Module):
    """Is the residual block with channel attention (squeeze and excitation) of 1.x.

    flow_kernel: in the flow network, which alone has batch norm, the size of its first convolution.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 2, flow_kernel: int = 0):
        super().__init__()
        keep = c_in == c_out and stride == 1
        self.conv0 = nn.Identity() if keep else nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        if flow_kernel:
            self.conv1 = _conv_norm(c_in, c_out, flow_kernel, stride)
            self.conv2 = nn.Sequential(nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out))
        else:
            self.conv1 = conv(c_in, c_out, "prelu", stride)
            self.conv2 = nn.Sequential(nn.Conv2d(c_out, c_out, 3, 1, 1))
        self.relu1 = nn.PReLU(1)
        self.relu2 = nn.PReLU(c_out)
        self.fc1 = nn.Conv2d(c_out, 16, 1, bias=False)
        self.fc2 = nn.Conv2d(16, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B,c_out,h,w) of x (B,c_in,H,W)."""
        y = self.conv2(self.conv1(x))
        weight = torch.sigmoid(self.fc2(self.relu1(self.fc1(y.mean((2, 3), keepdim=True)))))
        return self.relu2(y * weight + self.conv0(x))


def _conv_norm(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Sequential:
    layer = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out), nn.PReLU(c_out))


class FlowBlock(nn.Module):
    """Finds flow at one scale; input and output are at the flow network's own resolution."""

    conv1: nn.Conv2d | nn.ConvTranspose2d

    def __init__(self, cfg: LegacyConfig, c_in: int, c: int):
        super().__init__()
        self.cfg = cfg
        if cfg.attention:
            kernel = 3 if cfg.family == "1.0" else 5
            self.conv0 = _conv_norm(c_in, c, kernel, 1 if cfg.full_resolution else 2)
            for i in range(6):
                setattr(self, f"res{i}", ResBlock(c, c, 1, kernel))
            self.conv1 = nn.Conv2d(c, 2 if cfg.full_resolution else 8, 3, 1, 1)
            return
        if cfg.full_resolution:
            self.conv0 = nn.Sequential(conv(c_in, c, "prelu", 2))
            self.conv1 = nn.Conv2d(c, 4, 3, 1, 1)
        else:
            self.conv0 = nn.Sequential(conv(c_in, c // 2, "prelu", 2), conv(c // 2, c, "prelu", 2))
            self.conv1 = nn.ConvTranspose2d(c, 4, 4, 2, 1)
        if cfg.family == "3.x":
            for i in range(3):
                setattr(self, f"convblock{i}", nn.Sequential(conv(c, c, "prelu"), conv(c, c, "prelu")))
        else:
            depth = 6 if cfg.family == "2.x" else 8
            self.convblock = nn.Sequential(*(conv(c, c, "prelu") for _ in range(depth)))

    def _trunk(self, x: Tensor) -> Tensor:
        if self.cfg.attention:
            for i in range(6):
                x = getattr(self, f"res{i}")(x)
            return x
        if self.cfg.family == "3.x":
            for i in range(3):
                x = getattr(self, f"convblock{i}")(x) + x
            return x
        return self.convblock(x) + x if self.cfg.family == "arXiv" else self.convblock(x)

    def forward(self, x: Tensor, flow: Tensor | None, scale: float) -> Tensor:
        """Returns the change of the half-resolution flow, (B,4,h,w), or (B,2,h,w) in 1.x.

        x: both warped frames, (B,6,h,w); flow: that so far, in their pixels, None before the first block.
        """
        # Only 3.x gives flow in the pixels of the scale it works at; the others never convert it.
        unit = scale if self.cfg.family == "3.x" else 1
        if flow is not None:
            x = torch.cat((x, (flow / unit).to(x.dtype)), 1)
        x = self.conv1(self._trunk(self.conv0(resize(x, 1 / scale))))
        if self.cfg.attention and not self.cfg.full_resolution:
            x = nn.functional.pixel_shuffle(x, 2)
        return resize(x.float(), scale) * unit


class FlowNet(nn.Module):
    """Finds the flow (B,4,H/2,W/2), t->0 and t->1, of img0 and img1 (B,3,H,W), in pixels of the flow's own size."""

    def __init__(self, cfg: LegacyConfig):
        super().__init__()
        self.cfg = cfg
        later = 8 if cfg.attention else 10
        for i, c in enumerate(cfg.channels):
            setattr(self, f"block{i}", FlowBlock(cfg, later if i else 6, c))

    def forward(self, img0: Tensor, img1: Tensor, scale: float, grid_of: GridOf) -> Tensor:
        """Looks at the frames resized by `scale`; the flow is float32 and that of the frames as they came."""
        half_size = (
            self.cfg.attention
        )  # works on frames of half the size; the others shrink them in their stems
        img0, img1 = (resize(x, scale / 2 if half_size else scale) for x in (img0, img1))
        total = torch.empty(0)  # until the first block has run
        seen: Tensor | None = None
        warped0, warped1 = img0, img1
        for i, pyramid in enumerate(self.cfg.scales):
            if seen is not None:
                to0, to1 = (seen, -seen) if half_size else (seen[:, :2], seen[:, 2:4])
                warped0, warped1 = warp(img0, to0, grid_of(img0)), warp(img1, to1, grid_of(img1))
            change = getattr(self, f"block{i}")(torch.cat((warped0, warped1), 1), seen, pyramid)
            total = change if seen is None else total + change
            # What the next block gets: the flow in the pixels of its images.
            seen = total if half_size else resize(total, 2) * 2
        flow = torch.cat((total, -total), 1) if half_size else total
        return resize(flow, 1 / scale) / scale


def _block(cfg: LegacyConfig) -> Callable[..., nn.Module]:
    """What context and fusion are made of: (channels in, out, stride 2 unless given) -> module."""
    return ResBlock if cfg.attention else lambda a, b, stride=2: Conv2(a, b, "prelu", stride)


class ContextNet(nn.Module):
    """Finds four levels of features of one frame, warped."""

    def __init__(self, cfg: LegacyConfig):
        super().__init__()
        c = cfg.context
        self.shallow = cfg.shallow
        block = _block(cfg)
        if not cfg.shallow:
            self.conv0 = conv(3, c, "prelu", 2) if cfg.attention else block(3, c)
        self.conv1 = block(3 if cfg.shallow else c, c, 1 if cfg.full_resolution else 2)
        self.conv2 = block(c, 2 * c)
        self.conv3 = block(2 * c, 4 * c)
        self.conv4 = block(4 * c, 8 * c)

    def forward(self, x: Tensor, flow: Tensor, grid_of: GridOf) -> list[Tensor]:
        """Returns four levels of warped features, finest first.

        x: (B,3,H,W); flow: (B,2,...) in pixels, at the resolution of the finest level, or twice that with conv0.
        """
        if not self.shallow:
            x = self.conv0(x)
        levels = []
        for i, block in enumerate((self.conv1, self.conv2, self.conv3, self.conv4)):
            x = block(x)
            if i > 0 or not self.shallow:
                flow = resize(flow, 0.5) * 0.5
            levels.append(warp(x, flow, grid_of(x)))
        return levels


class FusionNet(nn.Module):
    """Finds residual (3) and mask (1), before their sigmoids, from the warped frames and both contexts."""

    conv0: nn.Module
    conv: nn.Conv2d | nn.ConvTranspose2d

    def __init__(self, cfg: LegacyConfig):
        super().__init__()
        c = cfg.context
        self.cfg = cfg
        block = _block(cfg)
        stride = 1 if cfg.full_resolution else 2
        # Warped frames, and one flow, the frames as they are, or both flows.
        seen = 8 if cfg.attention else 12 if cfg.shallow else 10
        if cfg.shallow:
            self.conv = nn.Conv2d(c, 4, 3, 3 - stride, 1)
        elif cfg.attention:
            self.conv0 = conv(seen, c, "prelu", 2)
            self.conv = nn.Conv2d(c, 16, 3, 1, 1)
        else:
            self.conv0 = block(seen, c)
            self.conv = nn.ConvTranspose2d(c, 4, 4, 2, 1)
        self.down0 = block(seen if cfg.shallow else c, 2 * c, stride)
        self.down1 = block(4 * c, 4 * c)
        self.down2 = block(8 * c, 8 * c)
        self.down3 = block(16 * c, 16 * c)
        self.up0 = deconv(32 * c, 8 * c, "prelu")
        self.up1 = deconv(16 * c, 4 * c, "prelu")
        self.up2 = deconv(8 * c, 2 * c, "prelu")
        self.up3 = deconv(4 * c, c, "prelu")

    def forward(
        self, frames: Tensor, warped: Tensor, flow: Tensor, c0: list[Tensor], c1: list[Tensor]
    ) -> Tensor:
        """Returns (B,4,H,W): residual (3 channels) and mask (1), both before their sigmoids.

        frames, warped: (B,6,H,W), both frames one behind the other, as they are and warped. flow: (B,4,H,W) in pixels.
        c0, c1: what ContextNet gives for both frames.
        """
        cfg = self.cfg
        if cfg.family == "arXiv":
            x = torch.cat((frames, warped), 1)
        else:
            x = torch.cat((warped, flow[:, :2] if cfg.attention else flow), 1)
        s0 = self.down0(x if cfg.shallow else self.conv0(x))
        s1 = self.down1(torch.cat((s0, c0[0], c1[0]), 1))
        s2 = self.down2(torch.cat((s1, c0[1], c1[1]), 1))
        s3 = self.down3(torch.cat((s2, c0[2], c1[2]), 1))
        x = self.up0(torch.cat((s3, c0[3], c1[3]), 1))
        x = self.up1(torch.cat((x, s2), 1))
        x = self.up2(torch.cat((x, s1), 1))
        x = self.conv(self.up3(torch.cat((x, s0), 1)))
        return nn.functional.pixel_shuffle(x, 2) if cfg.attention and not cfg.shallow else x


class LegacyRIFE(MakesWholePredictions, nn.Module):
    """Holds the three networks as one module; H and W must be multiples of `pad_multiple(scale_list)`.

    Batch norm (1.0 to 1.8) always uses the released statistics: there is no training of these networks, and in training
    mode one pair of frames would shift them.
    """

    def __init__(self, config: LegacyConfig):
        super().__init__()
        self.config = config
        self.flownet = FlowNet(config)
        self.contextnet = ContextNet(config)
        self.fusionnet = FusionNet(config)

    def predict(
        self,
        img0: Tensor,
        img1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        *,
        grids: WarpGrids | None = None,
    ) -> Prediction:
        """Predicts the middle frame of img0 and img1 (B,3,H,W), with flow (B,4,H,W) float32 in pixels and mask
        (B,1,H,W).

        timestep: 0.5, the only one these networks know. ensemble: for the common signature, without effect.
        scale_list: the config's scales, all divided by one factor, by which the flow network then sees the frames
        resized. grids: saves making the grids anew. Raises ValueError for any other timestep or pyramid.
        """
        require_middle(timestep)
        grid_of = WarpGrids.of(img0, grids).grid_of
        half_flow = self.flownet(img0, img1, self._scale(scale_list), grid_of)
        flow = resize(half_flow, 2) * 2

        context_flow = flow if self.config.full_resolution else half_flow
        c0 = self.contextnet(img0, context_flow[:, :2], grid_of)
        c1 = self.contextnet(img1, context_flow[:, 2:4], grid_of)
        warped0, warped1 = (
            warp(x, f, grid_of(x)) for x, f in zip((img0, img1), flow.split(2, 1), strict=True)
        )
        frames, warped = torch.cat((img0, img1), 1), torch.cat((warped0, warped1), 1)
        out = self.fusionnet(frames, warped, flow.to(img0.dtype), c0, c1)

        mask = torch.sigmoid(out[:, 3:4])
        residual = torch.sigmoid(out[:, :3]) * 2 - 1
        image = (torch.lerp(warped1, warped0, mask) + residual).clamp(0, 1)
        return Prediction(image, flow, mask)

    def source(self, img: Tensor) -> Tensor:
        """Returns the frame img (B,3,H,W) itself, in the network's dtype: these networks share nothing between
        pairs."""
        return img.to(self.get_dtype())

    def predict_from(
        self,
        src0: Tensor,
        src1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        *,
        grids: WarpGrids | None = None,
    ) -> Prediction:
        """Does `predict` from the `source` of both frames, (B,3,H,W), which may have lain beside maps in
        another dtype."""
        src0, src1 = src0.to(self.get_dtype()), src1.to(self.get_dtype())
        return self.predict(src0, src1, timestep, scale_list, ensemble, grids=grids)

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        timestep: float | Tensor = 0.5,
        scale_list: Sequence[float] | None = None,
        ensemble: bool = False,
        cache: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Returns the middle frame, (B,3,H,W); arguments as in `IFNet.forward`, of which these networks use three."""
        return self.predict(img0, img1, timestep, scale_list, ensemble).image

    def pad_multiple(self, scale_list: Sequence[float] | None = None) -> int:
        """Returns what height and width, in pixels, must be multiples of. Raises ValueError as `predict`."""
        return int(self.config.pad / min(1.0, self._scale(scale_list)))

    def _scale(self, scale_list: Sequence[float] | None) -> float:
        """The factor by which `scale_list` asks for larger frames than the config's scales."""
        scales = self.config.scales
        if scale_list is None:
            return 1.0
        factors = {own / asked for own, asked in zip(scales, scale_list, strict=False)}
        if len(scale_list) != len(scales) or len(factors) != 1:
            raise ValueError(
                f"scale_list is {list(scale_list)}, expected {list(scales)} divided by one factor: the pyramid of a "
                "three-network RIFE is fixed. Use scale (0.25, 0.5, 1, 2 or 4) instead."
            )
        return factors.pop()

    def train(self, mode: bool = True) -> LegacyRIFE:
        """Sets the mode as in any module, except for batch norm, which stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    # What ComfyUI's own FrameInterpolate node expects of a network.

    @property
    def pad_align(self) -> int:
        """Is the padding multiple at scale 1, in pixels."""
        return self.pad_multiple()

    def extract_features(self, img: Tensor) -> Tensor:
        """Returns (B,0,H,W): these networks share nothing between pairs."""
        return img[:, :0]

    def get_dtype(self) -> torch.dtype:
        """Returns the dtype of the weights."""
        return next(self.parameters()).dtype

    def memory_used_forward(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Estimates the bytes of activations for one forward pass of images shaped (B,H,W,C)."""
        return self._memory_estimate(dtype.itemsize, 1.0).peak(shape[1] * shape[2])

    def estimate_memory(
        self, height: int, width: int, scale: float = 1.0, ensemble: bool = False
    ) -> MemoryEstimate:
        """Estimates the memory for frames of that (padded) size in pixels; held to the bytes counted in
        tests/test_memory.py, and to what a process grew by on a CPU, which has workspace for convolutions besides."""
        return self._memory_estimate(self.get_dtype().itemsize, scale)

    def _memory_estimate(self, size: int, scale: float) -> MemoryEstimate:
        """Most is alive in the fusion network, by the width of its contexts and the area of its first level: the full
        one in 2F, a quarter in the others without `conv0`, a sixteenth in those with it; or, for frames that were
        enlarged, in the finest flow block."""
        cfg = self.config
        fusion = cfg.context * size * (29 if cfg.full_resolution else 9.5 if cfg.shallow else 2.7) + 24
        share = (0.45 if cfg.attention else 0.6) + 0.72 * cfg.full_resolution
        block = cfg.channels[-1] * size * share + (8 if cfg.attention else 24)
        return MemoryEstimate(3 * size, 24, max(fusion, block * scale**2 if scale > 1 else 0), 3 * size)


_FILES = {"flownet": "flownet.pkl", "contextnet": "contextnet.pkl", "fusionnet": "unet.pkl"}


def detect_legacy(state_dict: Mapping[str, Tensor]) -> LegacyConfig:
    """Detects the architecture of a merged state dict (flownet.*, contextnet.*, fusionnet.*) by names and shapes.

    Raises ValueError with what was found and what was expected, in particular for a flownet.pkl that lies alone
    (whose keys may come without the prefix).
    """
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    flow = {k.removeprefix("flownet."): s for k, s in shapes.items() if k.startswith(("flownet.", "block"))}
    others = {key.split(".")[0] for key in shapes if not key.startswith(("flownet.", "block"))}
    _check_parts(others | ({"flownet"} if flow else set()))
    for row in LEGACY_RELEASES.values():
        if all(shapes.get(k) == s for k, s in _wanted(row).items()):
            return row
    raise ValueError(_nearest(shapes))


def _check_parts(found: set[str]) -> None:
    """Raises ValueError unless all three networks are there."""
    missing = [file for part, file in _FILES.items() if part not in found]
    if missing:
        raise ValueError(
            f"this is a part of a three-network RIFE (1.x to 3.1, arXiv): found {', '.join(sorted(found))}, but "
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing. "
            "Put flownet.pkl, contextnet.pkl and unet.pkl into one folder and give the folder."
        )


@cache
def _wanted(config: LegacyConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights. Batch norm's step counter is no weight: not every file has it."""
    with torch.device("meta"):
        state_dict = LegacyRIFE(config).state_dict()
    return {k: tuple(v.shape) for k, v in state_dict.items() if not k.endswith("num_batches_tracked")}


def _nearest(shapes: dict[str, tuple[int, ...]]) -> str:
    """What keeps these tensors from being the released model that they resemble most."""
    row = max(LEGACY_RELEASES.values(), key=lambda r: sum(shapes.get(k) == s for k, s in _wanted(r).items()))
    wrong = [
        f"{k} {shapes.get(k, 'missing')}, expected {s}" for k, s in _wanted(row).items() if shapes.get(k) != s
    ]
    return (
        f"this is a three-network RIFE of no released shape. Nearest is {'/'.join(row.versions)}, but {len(wrong)} of "
        f"{len(_wanted(row))} tensors differ: {'; '.join(wrong[:3])}. Download the files again and keep those of one "
        "version together in a folder; networks of forks are not supported."
    )
