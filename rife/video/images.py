"""Clips without a container that FFmpeg reads: pictures in files of their own, animated WebP. It decodes each picture.

A reel knows when each of its pictures is shown without decoding one, and begins at any of them.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import av.error
import numpy as np

from .codecs import PICTURES, VideoError

log = logging.getLogger(__name__)

_PATTERN = re.compile(r"(.*?)%(0?)(\d*)d(.*)")
_USUAL_RATE = Fraction(24)
_BT601 = 5  # FFmpeg's numbers of a matrix and of ranges
LIMITED, FULL = 1, 2


class Reel(Protocol):
    """Pictures with their times: `ticks` of `time_base` seconds each, the last picture shown for `last` of them."""

    files: Sequence[Path]
    kind: str
    rate: Fraction | None  # where it is said
    time_base: Fraction
    ticks: array
    last: int

    def frames(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """Pictures from `start` on, their ticks as pts; what cannot be decoded is left out."""


def find_reel(source, rate: Fraction | None = None) -> Reel | None:
    """The reel that a path stands for: a folder or glob of pictures, frames/%05d.png, an animated WebP; None where it
    stands for something else. rate: pictures per second, default 24. Raises VideoError."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(source)
    if path.is_file():
        return AnimatedWebP(path) if is_animated(path) else None
    files = picture_files(path)
    return PictureFiles(files, rate or _USUAL_RATE) if files else None


def picture_files(path: Path) -> list[Path]:
    """The pictures of a folder, a printf pattern or a glob, frame2 before frame10. Raises VideoError."""
    if path.is_dir():
        files = pictures_in(path)
    elif is_pattern(path):
        return _in_order(path)
    else:
        files = _pictures(map(Path, glob.glob(str(path), recursive=True)))
    endings = sorted({file.suffix.lower() for file in files})
    if len(endings) > 1:
        raise VideoError(
            f"{path} has pictures of kind {', '.join(endings)}, expected one kind. Give a pattern such as "
            "frames/%05d.png."
        )
    return files


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, frame2 before frame10. Raises VideoError where there are none."""
    files = _pictures(folder.iterdir())
    if not files:
        raise VideoError(
            f"{folder} holds no pictures ({', '.join(PICTURES)}). Give a folder of frames, or a video file."
        )
    return files


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return sorted((path for path in paths if path.suffix.lower() in PICTURES), key=_natural)


def _natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _in_order(pattern: Path) -> list[Path]:
    found = numbered(pattern)
    missing = max(found) - min(found) + 1 - len(found) if found else 0
    if missing:
        log.warning("%s: %d pictures are missing in between, the others follow on.", pattern, missing)
    return [found[number] for number in sorted(found)]


def is_pattern(path: Path) -> bool:
    """Whether a name such as %05d.png stands for many files; "50% off.mp4" does not."""
    return _PATTERN.fullmatch(path.name) is not None


def numbered(pattern: Path) -> dict[int, Path]:
    """The files of a printf pattern that are there, whatever number they begin with."""
    folder = pattern.parent
    before, zeros, width, after = _PATTERN.fullmatch(pattern.name).groups()
    digits = rf"\d{{{width},}}" if zeros and width else r"\d+"
    name = re.compile(f"{re.escape(before)}({digits}){re.escape(after)}")
    names = os.listdir(folder) if folder.is_dir() else []
    return {int(m[1]): folder / m[0] for m in map(name.fullmatch, names) if m}


class PictureFiles:
    """Pictures in files, at a constant rate."""

    last = 1

    def __init__(self, files: Sequence[Path], rate: Fraction):
        self.kind = files[0].suffix.lower().lstrip(".")
        self.files, self.rate = files, rate
        self.time_base = 1 / rate
        self.ticks = array("q", range(len(files)))

    def frames(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """See `Reel`."""
        for tick in range(start, len(self.files)):
            try:
                with av.open(str(self.files[tick])) as container:
                    frame = next(container.decode(video=0))
            except (av.error.FFmpegError, StopIteration, ValueError, OSError) as error:
                log.warning("%s cannot be read (%s).", self.files[tick], error)
                continue
            frame.pts, frame.time_base = tick, self.time_base
            yield frame


class _Part(NamedTuple):
    """A picture of an animation: where it goes, how it gets there, where its bytes are."""

    left: int
    top: int
    width: int
    height: int
    milliseconds: int
    overwrites: bool
    clears: bool  # its place, when it has been shown
    offset: int
    size: int


def is_animated(path: Path) -> bool:
    """Whether a file is an animated WebP."""
    with open(path, "rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


class AnimatedWebP:
    """An animated WebP: its frames are pictures that are laid over what is there.

    The format: https://developers.google.com/speed/webp/docs/riff_container
    """

    kind = "animated webp"
    rate = None
    time_base = Fraction(1, 1000)

    def __init__(self, path: Path):
        self.files = [path]
        with open(path, "rb") as file:
            head = file.read(30)
            self._alpha = bool(head[20] & 0x10)
            self._size = _three(head, 24) + 1, _three(head, 27) + 1
            self._parts = list(_animation_frames(file))
        if not self._parts:
            raise VideoError(
                f"{path} has no frames that can be decoded. It is empty or damaged; give another one."
            )
        lengths = [part.milliseconds for part in self._parts]
        self.ticks = array("q", accumulate(lengths[:-1], initial=0))
        self.last = lengths[-1]

    def frames(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """See `Reel`; all frames before it are decoded too."""
        width, height = self._size
        canvas = np.zeros((height, width, 4), np.uint8)
        place = None
        with open(self.files[0], "rb") as file:
            for i, (tick, part) in enumerate(zip(self.ticks, self._parts, strict=True)):
                if place is not None:
                    place[:] = 0
                try:
                    picture = _decoded(file, part)
                except (av.error.FFmpegError, StopIteration, ValueError):
                    return  # what is laid over it cannot be right
                place = canvas[part.top : part.top + part.height, part.left : part.left + part.width]
                place[:] = picture if part.overwrites else _over(picture, place)
                if i >= start:
                    kind = "rgba" if self._alpha else "rgb24"
                    shown = canvas if self._alpha else canvas[..., :3]
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format=kind)
                    frame.pts, frame.time_base = tick, self.time_base
                    yield frame
                place = place if part.clears else None


def _animation_frames(file) -> Iterator[_Part]:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size, begin = int.from_bytes(head[4:], "little"), file.tell()
        if head[:4] == b"ANMF":
            data = file.read(16)
            if len(data) < 16 or file.seek(0, os.SEEK_END) < begin + size:
                log.warning("%s breaks off within a frame.", file.name)
                return
            # Browsers show for 100 ms what asks for 10 or less.
            milliseconds = _three(data, 12)
            yield _Part(
                2 * _three(data, 0), 2 * _three(data, 3), _three(data, 6) + 1, _three(data, 9) + 1,
                milliseconds if milliseconds > 10 else 100, bool(data[15] & 2), bool(data[15] & 1),
                begin + 16, size - 16,
            )  # fmt: skip
        file.seek(begin + size + size % 2)


def _three(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _decoded(file, part: _Part) -> np.ndarray:
    """A frame's own picture (h,w,4), read as the still WebP that it is but for its head."""
    file.seek(part.offset)
    data = file.read(part.size)
    if data[:4] == b"ALPH":
        sides = ((side - 1).to_bytes(3, "little") for side in (part.width, part.height))
        data = b"VP8X\x0a\0\0\0\x10\0\0\0" + b"".join(sides) + data
    still = b"RIFF" + (4 + len(data)).to_bytes(4, "little") + b"WEBP" + data
    (frame,) = av.CodecContext.create("webp", "r").decode(av.Packet(still))
    return frame.to_ndarray(format="rgba") if frame.format.is_rgb else yuv_to_rgba(frame, _BT601, LIMITED)


def yuv_to_rgba(frame: av.VideoFrame, matrix: int, range_: int) -> np.ndarray:
    """A frame of 8-bit planes, the fourth one of them alpha, as (H,W,4).

    Not by FFmpeg's "rgba": for some widths, such as 852, that leaves the last columns as they were in memory.
    """
    options = {"src_colorspace": matrix, "src_color_range": range_, "dst_color_range": FULL}
    colours = frame.to_ndarray(format="rgb24", **options)
    alpha = np.full((*colours.shape[:2], 1), 255, np.uint8)
    if len(frame.planes) == 4:
        plane = frame.planes[3]
        alpha = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width, None]
    return np.concatenate((colours, alpha), -1)


def _over(picture: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`picture` laid over `below`, both (h,w,4) uint8, their colours not multiplied by alpha."""
    front = picture[..., 3:] / np.float32(255)
    back = below[..., 3:] / np.float32(255) * (1 - front)
    alpha = front + back
    colours = (picture[..., :3] * front + below[..., :3] * back) / np.maximum(alpha, 1e-6)
    return np.concatenate((colours, alpha * 255), -1).round().astype(np.uint8)
