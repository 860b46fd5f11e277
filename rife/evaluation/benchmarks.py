"""Reads the published benchmarks of frame interpolation, in the layout in which their authors give them out.

Which frames, padded how, which figures, averaged over what: as in the code named at each entry of `PROTOCOLS`. Nothing
is downloaded; docs/measuring.md says where the sets are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..video.frames import read_picture, reduced
from ..video.images import pictures_in
from .metrics import psnr, ssim
from .scoring import METRICS, Metric, Sample

_HALF = (Fraction(1, 2),)
_QUARTERS = tuple(Fraction(k, 4) for k in (1, 2, 3))

# skimage.color.rgb2yuv: full-range values, BT.601's weights.
_YUV_FROM_RGB = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]],
    dtype=torch.float64,
)


@dataclass(frozen=True)
class Protocol:
    """Says how a set is scored. `samples` reads a folder; `count`: how many it has; `of_groups`: means of
    clips' means."""

    title: str
    samples: Callable[[Path], Iterator[Sample]]
    metrics: dict[str, Metric]
    count: int
    of_groups: bool = False
    published: str = ""  # what RIFE reaches, for orientation


def psnr_y(made: Tensor, true: Tensor, *_: Tensor) -> float:
    """Returns the PSNR in dB of luma (skimage's rgb2yuv) of two (3,H,W) in 0..1, both rounded to 8 bit; ECCV2022-RIFE
    benchmark/HD.py."""
    weights = _YUV_FROM_RGB[0].view(3, 1, 1).to(made.device)
    ours, theirs = (((x * 255).round() / 255 * weights).sum(0) for x in (made.double(), true.double()))
    return psnr(ours, theirs, rounded=False)


def _file(path: Path, whose: str) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}, which {whose} has. Give the folder that holds it.")
    return path


def _planes(path: Path) -> Tensor:
    return rearrange(read_picture(path), "h w c -> c h w")


def _triplet(set_name: str, name: str, first: Path, middle: Path, last: Path, **more: Any) -> Sample:
    img0, true, img1 = (_planes(_file(path, set_name)) for path in (first, middle, last))
    return Sample(set_name, name, img0, img1, _HALF, true[None], **more)


def _ucf101(root: Path) -> Iterator[Sample]:
    root = _within(root, "ucf101_interp_ours")
    for folder in _numbered(root):
        files = (folder / f"{name}.png" for name in ("frame_00", "frame_01_gt", "frame_02"))
        yield _triplet("UCF101", folder.name, *files, bgr=True)


def _vimeo(root: Path) -> Iterator[Sample]:
    listed = _file(root / "tri_testlist.txt", "Vimeo90K")
    # The test set alone has target/, the whole set sequences/.
    pictures = root / ("target" if (root / "target").is_dir() else "sequences")
    for name in listed.read_text(encoding="utf-8").split():
        yield _triplet("Vimeo90K", name, *(pictures / name / f"im{k}.png" for k in (1, 2, 3)), bgr=True)


MIDDLEBURY = (
    "Beanbags Dimetrodon DogDance Grove2 Grove3 Hydrangea MiniCooper RubberWhale Urban2 Urban3 Venus Walking"
).split()


def _middlebury(root: Path) -> Iterator[Sample]:
    for name in MIDDLEBURY:
        # As the site's archives unpack; or all three in one folder, as some repositories hold them.
        folder = root / "other-data" / name if (root / "other-data").is_dir() else root / name
        truth = root / "other-gt-interp" / name if (root / "other-gt-interp").is_dir() else folder
        files = folder / "frame10.png", truth / "frame10i11.png", folder / "frame11.png"
        height, width = _planes(_file(files[0], "Middlebury OTHER")).shape[1:]
        if height > 480 or width > 640:
            raise ValueError(f"{files[0]} is {width}x{height}, Middlebury OTHER has at most 640x480.")
        padding = 0, 640 - width, 0, 480 - height
        yield _triplet("Middlebury OTHER", name, *files, padding=padding, pad_mode="constant", bgr=True)


_HD = {
    "HD720p_GT": ((720, 1280), "parkrun_1280x720_50 shields_1280x720_60 stockholm_1280x720_60"),
    "HD1080p_GT": ((1080, 1920), "BlueSky Kimono1_1920x1080_24 ParkScene_1920x1080_24 sunflower_1080p25"),
    "HD544p_GT": (
        (544, 1280),
        "Sintel_Alley2_1280x544 Sintel_Market5_1280x544 Sintel_Temple1_1280x544 Sintel_Temple2_1280x544",
    ),
}
_HD_ROWS = {720: 24, 1080: 4, 544: 16}  # repeated above and below


def _hd(factor: int) -> Callable[[Path], Iterator[Sample]]:
    """The first 100 frames of each clip, every `factor`-th given."""

    def samples(root: Path) -> Iterator[Sample]:
        root = _within(root, "HD_dataset")
        for folder, ((height, width), clips) in _HD.items():
            for clip in clips.split():
                path = _file(root / folder / f"{clip}.yuv", "HD")
                rows = _HD_ROWS[height]
                for start in range(0, 100, factor):
                    found = (read_yuv(path, height, width, start + k) for k in range(factor + 1))
                    frames = [frame for frame in found if frame is not None]
                    if len(frames) <= factor:  # the file ends
                        break
                    yield Sample(
                        f"HD {factor}x" if factor == 2 else f"HD {factor}x, {height}p", str(start),
                        frames[0], frames[-1], _HALF if factor == 2 else _QUARTERS, torch.stack(frames[1:-1]),
                        group=clip, padding=(0, 0, rows, rows),
                    )  # fmt: skip

    return samples


def read_yuv(path: Path, height: int, width: int, index: int) -> Tensor | None:
    """Reads frame `index` of a raw 4:2:0 file of height x width pixels as (3,H,W) uint8, None past its end.

    As benchmark/yuv_frame_io.py of ECCV2022-RIFE: chroma resized as Pillow does (bicubic), all three taken for full
    range, RGB cut off to integers.
    """
    luma, chroma = height * width, height * width // 4
    with path.open("rb") as file:
        file.seek(index * (luma + 2 * chroma))
        data = file.read(luma + 2 * chroma)
    if len(data) < luma + 2 * chroma:
        return None
    values = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    y = values[:luma].view(1, 1, height, width)
    uv = values[luma:].view(1, 2, height // 2, width // 2)
    uv = F.interpolate(uv.float(), (height, width), mode="bicubic", antialias=True).round().clamp(0, 255)
    yuv = torch.cat((y, uv), 1)[0].double() / 255
    yuv[1:] -= 0.5
    rgb = torch.einsum("dc,chw->dhw", torch.linalg.inv(_YUV_FROM_RGB), yuv)
    return (rgb.clamp(0, 1) * 255).byte()


def _snu_film(level: str) -> Callable[[Path], Iterator[Sample]]:
    def samples(root: Path) -> Iterator[Sample]:
        listed = _file(root / f"test-{level}.txt", "SNU-FILM")
        for line in listed.read_text(encoding="utf-8").splitlines():
            if line.strip():
                # The lists say data/SNU-FILM/test/..., from wherever their authors stood.
                files = [root / "test" / part.split("/test/", 1)[-1] for part in line.split()]
                yield _triplet(f"SNU-FILM {level}", "/".join(files[1].parts[-2:]), *files)

    return samples


XIPH = (
    "BoxingPractice Crosswalk DrivingPOV FoodMarket FoodMarket2 RitualDance SquareAndTimelapse Tango".split()
)


def _xiph(cropped: bool) -> Callable[[Path], Iterator[Sample]]:
    """Frames 1 to 99 of each 4096x2160 clip as CLIP-001.png ...; halved, or the middle quarter."""

    def picture(path: Path) -> Tensor:
        frame = read_picture(_file(path, "Xiph"))
        if frame.shape[:2] != (2160, 4096):
            height, width = frame.shape[:2]
            raise ValueError(f"{path} is {width}x{height}, expected 4096x2160. Extract the frames unscaled.")
        frame = frame[540:-540, 1024:-1024] if cropped else reduced(frame, 2)
        return rearrange(frame, "h w c -> c h w")

    def samples(root: Path) -> Iterator[Sample]:
        root = _within(root, "netflix")
        name = 'Xiph "4K"' if cropped else "Xiph 2K"
        for clip in XIPH:
            for k in range(2, 99, 2):
                img0, true, img1 = (picture(root / f"{clip}-{i:03d}.png") for i in (k - 1, k, k + 1))
                yield Sample(name, f"{clip}-{k:03d}", img0, img1, _HALF, true[None], group=clip)

    return samples


def _atd12k(root: Path) -> Iterator[Sample]:
    root = _within(root, "test_2k_540p")
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        files = pictures_in(folder)
        if len(files) != 3:
            raise ValueError(f"{folder} holds {len(files)} pictures, expected frame1, frame2 and frame3.")
        yield _triplet("ATD12K", folder.name, *files, padding=(0, 0, 2, 2), bgr=True)


def _within(root: Path, name: str) -> Path:
    """The set's own folder, whether it was given or the one that holds it."""
    return root / name if (root / name).is_dir() else root


def _numbered(root: Path) -> list[Path]:
    folders = [path for path in root.iterdir() if path.is_dir()]
    if not folders:
        raise FileNotFoundError(f"{root} holds no folders, expected one per triplet. Give the unpacked set.")
    return sorted(folders, key=lambda path: (int(path.name) if path.name.isdigit() else math.inf, path.name))


def _chosen(*names: str) -> dict[str, Metric]:
    return {name: METRICS[name] for name in names}


_PSNR_SSIM = _chosen("psnr", "ssim")
_NIKLAUS = _chosen("psnr") | {"ssim": lambda made, true, *_: ssim(made, true, "uniform")}

# UCF101 to ATD12K: ECCV2022-RIFE benchmark/*.py. SNU-FILM: CAIN data/snufilm.py and utils.py. Xiph: softmax-splatting
# benchmark_xiph.py.
PROTOCOLS = {
    "ucf101": Protocol("UCF101", _ucf101, _PSNR_SSIM, 379, published="RIFE 35.282 dB, 0.9688"),
    "vimeo90k": Protocol("Vimeo90K", _vimeo, _PSNR_SSIM, 3782, published="RIFE 35.615 dB, 0.9779"),
    "middlebury": Protocol("Middlebury OTHER", _middlebury, _chosen("ie", "ie_rms"), 12, published="RIFE IE 1.956"),
    "hd": Protocol("HD 2x", _hd(2), {"psnr_y": psnr_y}, 11 * 50, True, "RIFE 32.14 dB"),
    "hd4x": Protocol(
        "HD 4x", _hd(4), {"psnr_y": psnr_y}, 11 * 25, True, "RIFE_m 22.96 (544p), 31.87 (720p), 34.25 (1080p) dB"
    ),
    "atd12k": Protocol("ATD12K", _atd12k, _PSNR_SSIM, 2000),
    **{
        f"snufilm-{level}": Protocol(f"SNU-FILM {level}", _snu_film(level), _PSNR_SSIM, 310)
        for level in ("easy", "medium", "hard", "extreme")
    },
    "xiph2k": Protocol("Xiph 2K", _xiph(False), _NIKLAUS, 8 * 49),
    "xiph4k": Protocol('Xiph "4K"', _xiph(True), _NIKLAUS, 8 * 49),
}  # fmt: skip
