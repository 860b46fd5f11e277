"""Says what a RIFE network is: one dataclass, and the table of everything that was ever released.

Code asks the config, never the version. A new release is one row of `RELEASES`.
Facts per row come from the released inference code (hzwer/ECCV2022-RIFE, hzwer/Practical-RIFE, HolyWu/vs-rife).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal


@dataclass(frozen=True)
class IFNetConfig:
    """Describes the architecture of a single-network RIFE. Block widths and scales go from coarse to fine."""

    family: str
    channels: tuple[int, ...]  # width of each block
    scales: tuple[int, ...]  # downscale of each block; cannot be read from a checkpoint
    act: str = "leaky"  # "prelu" | "leaky" (slope 0.2)
    trunk: str = "res"  # "plain": 8 convs | "res": 8 ResConv with beta | "pair": 4 x (2 convs + skip)
    trunk_skip: bool = False  # one skip around the whole plain trunk
    groups: int = 1
    stem_stride: int = 2  # stride of the first stem conv; 1 for RIFE_2R. Cannot be read from a checkpoint
    tail: str = "shuffle"  # "deconv" | "shuffle" | "split1", "split2": separate heads for flow and mask
    tail_channels: int = 13  # channels after PixelShuffle: flow 4, mask 1, then unused (1) or feat (8)
    head: str = ""  # per-frame feature encoder: "" | "seq2" | "seq4" | "cnn"
    head_mid: int = 0
    head_channels: int = 0
    timestep: bool = True
    raw_inputs: bool = False  # later blocks see the unwarped frames too
    mask_add: bool = False  # blocks add to the mask (before 4.7) rather than replace it
    zero_init: bool = False  # the first block gets a zero flow and mask (3.x)
    ensemble: str = "no"  # time-reversed second pass per block: "no" | "optional" | "always"
    # What large motion changes: "" | "v38", "v40": pyramid doubled | "elexor". Cannot be read from a checkpoint either.
    adaptive: str = ""
    refine: str = ""  # "" | "unet" | "unet2r": Contextnet + Unet residual
    refine_act: str = "prelu"
    refine_default: bool = False  # whether the reference implementation uses the refinement
    # Of the stem's convolutions. Cannot be read from a checkpoint.
    stem_padding: Literal["zeros", "replicate"] = "zeros"
    teacher: bool = False  # the file holds block_tea, the privileged teacher of training
    sampling: str = "bilinear"  # of the warp that makes the frame; "bicubic" blurs less. No release has it
    variational: bool = False  # the first block's flow is corrected by `variational_flow`. No release has it
    dissolve: bool = False  # the last block says how much of a frame is the cross-fade. No release has it
    timed_mask: bool = False  # the last block's mask is added to that of the cross-fade. No release has it
    still_radius: int = 0  # pixels around which frames must be equal for nothing to move (`static_regions`)
    pad: int = 32  # frames are padded to this multiple (divided by scale when scale < 1)

    @property
    def feat_channels(self) -> int:
        """Counts the channels that a block hands to the next one besides flow and mask: 8 or 0."""
        return 8 if self.tail == "shuffle" and self.tail_channels == 13 else 0

    @property
    def reach(self) -> tuple[float, float]:
        """Gives the motion between two frames, in pixels, up to which flow scale 1, and 0.5, make the best frame.

        Measured, not derived: on released weights with real windows (benchmarks/score_auto.py, up to 87 px) and pans
        (benchmarks/score_scale.py, up to 192 px). 3.6 stands for the pyramids of three blocks, 4.0 and 4.6 for those of
        four, 4.26 for those of five; the bundled network, whose solver follows less, is its own.
        """
        if self.variational:
            return 60.0, 160.0
        coarsest = max(self.scales)
        near = 60.0 if coarsest <= 4 else 100.0 if coarsest <= 8 else 130.0
        return near, 2 * near

    @property
    def later_inputs(self) -> int:
        """Counts the input channels of the later blocks, the four of the flow included."""
        frames = 12 if self.raw_inputs else 6
        return frames + 2 * self.head_channels + self.timestep + 1 + self.feat_channels + 4

    def bidirectional(self, ensemble: bool) -> bool:
        """Tells whether each block runs backward in time, too, and is averaged with itself: where the release always
        does, or where it can and `ensemble` is asked for."""
        return self.ensemble == "always" or (ensemble and self.ensemble == "optional")

    @property
    def late_teacher(self) -> bool:
        """Tells whether the teacher is of 4.25's kind: twice as wide as the last block, at scale 2, the true frame
        right behind the warped ones. The paper's and 3.x's is as wide as the last block, at scale 1."""
        return not (self.raw_inputs or self.zero_init)

    @property
    def versions(self) -> tuple[str, ...]:
        """Lists the released versions with this architecture; several share one, only their weights differ."""
        return tuple(name for name, row in RELEASES.items() if _same_network(row, self))

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types; `from_dict` gives the same config back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IFNetConfig:
        """Returns the config that `to_dict` wrote. Raises ValueError for fields that this version does not know."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"The checkpoint's rife_config has unknown fields {unknown}, known are {sorted(known)}: "
                "it was written by a newer version of this pack; update the pack."
            )
        fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fixed)


def _same_network(a: IFNetConfig, b: IFNetConfig) -> bool:
    """Equal but for parts that a released file may hold or lack without changing the inference."""
    optional: dict[str, Any] = {"teacher": False, "refine": "", "refine_act": "", "refine_default": False}
    return replace(a, **optional) == replace(b, **optional)


_PAPER = IFNetConfig(
    family="v1",
    channels=(240, 150, 90),
    scales=(4, 2, 1),
    act="prelu",
    trunk="plain",
    trunk_skip=True,
    tail="deconv",
    tail_channels=5,
    timestep=False,
    raw_inputs=True,
    mask_add=True,
    refine="unet",
    refine_default=True,
    teacher=True,
)
_V36 = IFNetConfig(
    family="v3",
    channels=(90, 90, 90),
    scales=(4, 2, 1),
    act="prelu",
    trunk="pair",
    tail="split2",
    tail_channels=5,
    timestep=False,
    mask_add=True,
    zero_init=True,
    ensemble="always",
    teacher=True,
)
_V40 = IFNetConfig(
    family="v4",
    channels=(192, 128, 96, 64),
    scales=(8, 4, 2, 1),
    act="prelu",
    trunk="plain",
    trunk_skip=True,
    tail="deconv",
    tail_channels=5,
    mask_add=True,
    ensemble="optional",
    adaptive="v40",
    pad=64,  # 32 crashes when the pyramid doubles
)
_V42 = replace(_V40, act="leaky", trunk_skip=False, adaptive="", refine_act="leaky", pad=32)
_V45 = replace(_V42, trunk="res", tail="shuffle", refine_act="prelu")
_V46 = replace(_V45, tail_channels=6)
_V47 = replace(_V46, mask_add=False, head="seq2", head_mid=16, head_channels=4)
_V410 = replace(_V47, head="seq4", head_mid=32, head_channels=8)
_V412_LITE = replace(_V410, channels=(128, 96, 64, 48), head_channels=4)
_V413 = replace(_V410, head="cnn")
_V415_LITE = replace(_V413, channels=(128, 96, 64, 48), head_mid=16, head_channels=4)
_V421 = replace(_V413, channels=(256, 192, 96, 48), tail_channels=13, ensemble="no")
_V425 = replace(
    _V421, channels=(192, 128, 96, 64, 32), scales=(16, 8, 4, 2, 1), head_mid=16, head_channels=4, pad=64
)

RELEASES: dict[str, IFNetConfig] = {
    "RIFE": _PAPER,
    "RIFE_m": replace(_PAPER, family="m", timestep=True),
    "RIFE_2R": replace(_PAPER, family="2R", stem_stride=1, refine="unet2r"),
    "3.5": replace(_V36, tail="split1"),
    "3.6": _V36,
    "3.8": replace(_V36, ensemble="optional", adaptive="v38", teacher=False),
    # No code of it was published: rebuilt from its graph, in which all convolutions agree.
    "3.9": replace(_V40, channels=(100,) * 4, raw_inputs=True, adaptive="", pad=32),
    "4.0": _V40,
    "4.1": _V40,
    **dict.fromkeys(("4.2", "4.3", "4.4"), _V42),
    "4.5": _V45,
    "4.6": _V46,
    **dict.fromkeys(("4.7", "4.8", "4.9"), _V47),
    # Not the author's: "rife_elexor" of TheAnimeScripter.
    "elexor": replace(_V47, ensemble="no", stem_padding="replicate", adaptive="elexor", pad=128),
    **dict.fromkeys(("4.10", "4.11", "4.12"), _V410),
    **dict.fromkeys(("4.12.lite", "4.13.lite"), _V412_LITE),
    **dict.fromkeys(("4.13", "4.14", "4.15", "4.17", "4.18", "4.19", "4.24"), _V413),
    "4.14.lite": replace(_V413, groups=2),
    **dict.fromkeys(("4.15.lite", "4.16.lite", "4.17.lite"), _V415_LITE),
    "4.20": replace(_V413, channels=(384, 192, 96, 48)),
    **dict.fromkeys(("4.21", "4.22", "4.23"), _V421),
    "4.22.lite": replace(_V421, channels=(192, 128, 64, 32), head_mid=16, head_channels=4),
    **dict.fromkeys(("4.25", "4.26"), _V425),
    # The official code and the ncnn graph agree on this pyramid; other tools run it with that of 4.25.
    "4.25.lite": replace(_V425, channels=(192, 128, 96, 64, 24), scales=(32, 16, 8, 4, 1), pad=128),
    "4.25.heavy": replace(_V425, channels=(384, 256, 192, 128, 64)),
    "4.26.heavy": replace(_V425, head_channels=16),
}

# Twins: same tensors, different computation. The first of each group is what tensors alone are taken for.
AMBIGUOUS: tuple[tuple[str, ...], ...] = (("RIFE", "RIFE_2R"), ("3.6", "3.8"), ("4.7", "elexor"))
