"""Animated WebP, which FFmpeg writes but does not read: it decodes each frame, which is laid over those before."""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np

from .codecs import VideoError
from .colours import BT470BG, LIMITED, yuv_to_rgba

log = logging.getLogger(__name__)


class _AnimationFrame(NamedTuple):
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
        """See `ImageSequence`; all frames before it are decoded too."""
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


def _animation_frames(file) -> Iterator[_AnimationFrame]:
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
            yield _AnimationFrame(
                2 * _three(data, 0), 2 * _three(data, 3), _three(data, 6) + 1, _three(data, 9) + 1,
                milliseconds if milliseconds > 10 else 100, bool(data[15] & 2), bool(data[15] & 1),
                begin + 16, size - 16,
            )  # fmt: skip
        file.seek(begin + size + size % 2)


def _three(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _decoded(file, part: _AnimationFrame) -> np.ndarray:
    """A frame's own picture (h,w,4), read as the still WebP that it is but for its head."""
    file.seek(part.offset)
    data = file.read(part.size)
    if data[:4] == b"ALPH":
        sides = ((side - 1).to_bytes(3, "little") for side in (part.width, part.height))
        data = b"VP8X\x0a\0\0\0\x10\0\0\0" + b"".join(sides) + data
    still = b"RIFF" + (4 + len(data)).to_bytes(4, "little") + b"WEBP" + data
    (frame,) = av.CodecContext.create("webp", "r").decode(av.Packet(still))
    return frame.to_ndarray(format="rgba") if frame.format.is_rgb else yuv_to_rgba(frame, BT470BG, LIMITED)


def _over(picture: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`picture` laid over `below`, both (h,w,4) uint8, their colours not multiplied by alpha."""
    front = picture[..., 3:] / np.float32(255)
    back = below[..., 3:] / np.float32(255) * (1 - front)
    alpha = front + back
    colours = (picture[..., :3] * front + below[..., :3] * back) / np.maximum(alpha, 1e-6)
    return np.concatenate((colours, alpha * 255), -1).round().astype(np.uint8)
