"""Reads animated WebP, which FFmpeg writes but does not read: times from its headers, pictures from Pillow.

Pillow hands the file to libwebp, whose blending and disposal are those that browsers show. Held against a compositor
of our own over FFmpeg's decoder of still WebP it gave the same pixels for lossless frames, better ones for lossy
(colours are enlarged smoothly: 1.2 levels brighter on the mean, as encoded), and took a third to a sixth of the time.
"""

from __future__ import annotations

import io
import logging
import os
from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image

from .canvas import check_size
from .codecs import VideoError
from .colours import see_through

log = logging.getLogger(__name__)

_HEAD = 30  # bytes of the RIFF header and the VP8X chunk, which says how large the canvas is


def is_animated(path: Path) -> bool:
    """Tells whether a file is an animated WebP. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


class AnimatedWebP:
    """Is an animated WebP as an `ImageSequence`: each frame's own time, to the millisecond.

    Raises VideoError. The format: https:

    developers.google.com/speed/webp/docs/riff_container
    """

    kind = "animated webp"
    rate = None
    time_base = Fraction(1, 1000)

    def __init__(self, path: Path):
        self.files = [path]
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            self._alpha = bool(head[20] & 0x10)
            canvas = _uint24(head, 24) + 1, _uint24(head, 27) + 1
            check_size(path, *canvas)
            lengths, self._end = _lengths(file, canvas)
        if not lengths:
            raise VideoError(
                f"{path} has no frames that can be decoded. It is empty or damaged; give another one."
            )
        self.ticks = array("q", accumulate(lengths[:-1], initial=0))
        self.last = lengths[-1]
        # Many programs say so of opaque ones, too.
        self._alpha = self._alpha and any(map(see_through, self.frames()))

    def frames(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """Yields the pictures, as `ImageSequence` says; all frames before `start` are decoded too, since each is laid
        over the last."""
        kind, mode = ("rgba", "RGBA") if self._alpha else ("rgb24", "RGB")
        with Image.open(self._whole()) as image:
            for i in range(start, len(self.ticks)):
                try:
                    image.seek(i)
                    shown = np.asarray(image.convert(mode))
                except (EOFError, OSError, ValueError):
                    return  # what is laid over it cannot be right
                frame = av.VideoFrame.from_ndarray(shown, format=kind)
                frame.pts, frame.time_base = self.ticks[i], self.time_base
                yield frame

    def _whole(self) -> io.BytesIO:
        """The file up to its last whole frame, since libwebp takes none that is longer than it says or shorter."""
        data = self.files[0].read_bytes()[: self._end]
        return io.BytesIO(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])


def _uint24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _lengths(file: BinaryIO, canvas: tuple[int, int]) -> tuple[list[int], int]:
    """How many milliseconds each frame is shown, and where in the file the last whole frame ends."""
    size = file.seek(0, os.SEEK_END)
    lengths: list[int] = []
    at, end = 12, size
    while True:
        file.seek(at)
        head = file.read(8 + 16)
        if len(head) < 8:
            return lengths, end
        after = at + 8 + int.from_bytes(head[4:8], "little")
        if head[:4] == b"ANMF":
            if after > size:
                log.warning("%s breaks off within a frame.", file.name)
                return lengths, at
            left, top, width, height = (
                2 * _uint24(head, 8),
                2 * _uint24(head, 11),
                _uint24(head, 14) + 1,
                _uint24(head, 17) + 1,
            )
            if left + width > canvas[0] or top + height > canvas[1]:
                raise VideoError(
                    f"{file.name}: a frame of {width}x{height} at {left},{top} lies outside of the canvas of "
                    f"{canvas[0]}x{canvas[1]}. It is damaged; give another one."
                )
            milliseconds = _uint24(head, 20)
            # Browsers show for 100 ms what asks for 10 or less.
            lengths.append(milliseconds if milliseconds > 10 else 100)
        at = after + after % 2  # chunks begin at even places
